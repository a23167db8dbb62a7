"""One interface for the quantisers of three families of codecs.

Residual VQ with wide books (this package's, EnCodec), residual VQ with many small books (Lyra:
46 of 16 codes), and one large k-means codebook (SemantiCodec: 8192 to 32768 centroids). Searching
is the kernels' business; here is what a transport needs to know: layers, codes, bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels import kmeans, rvq
from ossicle.runtime.errors import PacketError

Vectors = NDArray[np.float32]  # [T, D]
Codes = NDArray[np.int32]  # [K, T]


class Quantiser(Protocol):
    """Vectors to codes, coarse layers first, and back from any number of layers."""

    @property
    def books(self) -> tuple[int, ...]:
        """Codes in each layer."""
        ...

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        ...

    def encode(self, vectors: Vectors, layers: int | None = None) -> Codes:
        """Return the codes of the first ``layers`` layers (default: all)."""
        ...

    def decode(self, codes: Codes, layers: int | None = None) -> Vectors:
        """Return what ``codes`` stand for, using at most ``layers`` of them; ``-1`` is absent."""
        ...

    def bits_per_frame(self, layers: int | None = None) -> int:
        """Return what one vector costs."""
        ...


@dataclass(frozen=True)
class ResidualQuantiser:
    """Each layer names what the layers before it left over."""

    vectors: NDArray[np.float32]  # [K, N, D], coarse to fine
    _packed: rvq.PackedBooks = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.vectors.ndim != 3 or min(self.vectors.shape) < 1 or self.vectors.shape[1] < 2:
            raise PacketError(
                f"codebooks of shape {self.vectors.shape}; [K, N, D] with N >= 2 expected"
            )
        books = np.ascontiguousarray(self.vectors, np.float32)
        object.__setattr__(self, "_packed", rvq.pack(books))

    @property
    def books(self) -> tuple[int, ...]:
        """Codes in each layer."""
        return (int(self.vectors.shape[1]),) * int(self.vectors.shape[0])

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return int(self.vectors.shape[2])

    def encode(self, vectors: Vectors, layers: int | None = None) -> Codes:
        """Return ``[K, T]`` codes of ``[T, D]`` vectors; ties go to the lower code.

        Raises:
            PacketError: vectors of another width, or more layers than there are.
        """
        count = _count(layers, len(self.books))
        _check_vectors(vectors, self.width)
        return rvq.encode(np.ascontiguousarray(vectors), self._packed, count)

    def decode(self, codes: Codes, layers: int | None = None) -> Vectors:
        """Return ``[T, D]``, the sum of at most ``layers`` layers.

        Raises:
            PacketError: codes out of range.
        """
        count = min(_count(layers, len(self.books)), _check_codes(codes, self.books))
        return rvq.decode(np.ascontiguousarray(codes[:count], np.int32), self._packed)

    def bits_per_frame(self, layers: int | None = None) -> int:
        """Return what one vector costs."""
        return _bits(self.books[: _count(layers, len(self.books))])


@dataclass(frozen=True)
class SingleQuantiser:
    """One codebook, large: the nearest centroid names the vector."""

    centroids: NDArray[np.float32]  # [N, D]
    _packed: kmeans.PackedCentroids = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.centroids.ndim != 2 or len(self.centroids) < 2:
            raise PacketError(f"centroids of shape {self.centroids.shape}; [N >= 2, D] expected")
        packed = kmeans.pack(np.ascontiguousarray(self.centroids, np.float32))
        object.__setattr__(self, "_packed", packed)

    @property
    def books(self) -> tuple[int, ...]:
        """Codes in its one layer."""
        return (len(self.centroids),)

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return int(self.centroids.shape[1])

    def encode(self, vectors: Vectors, layers: int | None = None) -> Codes:
        """Return ``[1, T]`` codes of ``[T, D]`` vectors; ties go to the lower code."""
        _count(layers, 1)
        _check_vectors(vectors, self.width)
        return kmeans.assign(np.ascontiguousarray(vectors), self._packed).astype(np.int32)[None]

    def decode(self, codes: Codes, layers: int | None = None) -> Vectors:
        """Return the centroids ``[T, D]``; zeros where the code is ``-1``."""
        _count(layers, 1)
        _check_codes(codes, self.books)
        found: Vectors = self.centroids[codes[0]].astype(np.float32)
        found[codes[0] < 0] = 0.0
        return found

    def bits_per_frame(self, layers: int | None = None) -> int:
        """Return what one vector costs."""
        _count(layers, 1)
        return _bits(self.books)


def make_quantiser(books: NDArray[Any]) -> Quantiser:
    """Return the quantiser of ``[K, N, D]`` residual books or ``[N, D]`` centroids."""
    if books.ndim == 3 and len(books) == 1:
        return SingleQuantiser(np.asarray(books[0], np.float32))
    if books.ndim == 2:
        return SingleQuantiser(np.asarray(books, np.float32))
    return ResidualQuantiser(np.asarray(books, np.float32))


def fit_residual(vectors: Vectors, layers: int, codes: int, seed: int = 0) -> ResidualQuantiser:
    """Return books of ``codes`` codes fitted layer by layer with k-means to what is left over."""
    _check_vectors(vectors, vectors.shape[-1])
    left, books = vectors.astype(np.float32), []
    for layer in range(layers):
        book = kmeans.fit(left, codes, seed=seed + layer).centroids
        left = left - book[kmeans.assign(left, book)]
        books.append(book)
    return ResidualQuantiser(np.stack(books))


def _count(layers: int | None, most: int) -> int:
    if layers is None:
        return most
    if not 1 <= layers <= most:
        raise PacketError(f"{layers} layers asked for; this quantiser has 1 to {most}")
    return layers


def _bits(books: tuple[int, ...]) -> int:
    return sum((size - 1).bit_length() for size in books)


def _check_vectors(vectors: Vectors, width: int) -> None:
    if (
        vectors.ndim != 2
        or not len(vectors)
        or vectors.shape[1] != width
        or vectors.dtype != np.float32
    ):
        raise PacketError(
            f"vectors {vectors.dtype} {vectors.shape}; float32 [T >= 1, {width}] expected"
        )


def _check_codes(codes: Codes, books: tuple[int, ...]) -> int:
    """Return how many layers ``codes`` has; refuse what no book holds."""
    if codes.ndim != 2 or not codes.size or not 1 <= len(codes) <= len(books):
        raise PacketError(f"codes of shape {codes.shape}; [1..{len(books)}, T >= 1] expected")
    if codes.min() < -1 or codes.max() >= books[0]:
        raise PacketError(
            f"codes from {codes.min()} to {codes.max()}; -1 (absent) to {books[0] - 1} allowed"
        )
    return len(codes)
