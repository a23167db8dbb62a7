"""Residual vector quantisation between two graphs: latents to codes and back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from ossicle.runtime.errors import ManifestError
from ossicle.runtime.host.base import Array, HostState, Params, host_op
from ossicle.runtime.host.spectrum import Stateless

if TYPE_CHECKING:
    from ossicle.kernels.rvq import PackedBooks

_packed: WeakValueDictionary[bytes, PackedBooks] = WeakValueDictionary()  # by their bytes


class RvqEncode(Stateless):
    """``[B, T, D]`` -> int32 ``[B, K, T]``; with ``[B, 1]`` layers, -1 beyond each row's own.

    Layers below 1 or above K mean all of them. The first codes do not depend on how many follow.
    """

    def __init__(self, books: Array) -> None:
        from ossicle.kernels import rvq  # late: kernels may compile on import

        self.depth = len(books)
        self.packed = pack(books)
        self.encode = rvq.encode

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Return the codes of all layers, or of those that each row wants."""
        batch, frames, width = inputs[0].shape
        rows = np.ascontiguousarray(inputs[0].reshape(batch * frames, width), np.float32)
        wanted = self._wanted(inputs[1]) if len(inputs) > 1 else None
        most = self.depth if wanted is None else int(wanted.max())
        found = np.full((self.depth, len(rows)), -1, np.int32)
        self.encode(rows, self.packed, most, out=found[:most])  # given, so that only C++ checks
        codes: Array = found.reshape(self.depth, batch, frames).transpose(1, 0, 2)
        if wanted is not None and wanted.min() != most:
            unwanted = np.arange(self.depth)[None, :] >= wanted[:, None]  # [B, K]
            codes = np.where(unwanted[:, :, None], np.int32(-1), codes)
        return [np.ascontiguousarray(codes)]

    def _wanted(self, layers: Array) -> Array:
        counts = layers.reshape(-1)
        return np.where((counts < 1) | (counts > self.depth), self.depth, counts)


class RvqDecode(Stateless):
    """int32 ``[B, K, T]`` -> ``[B, T, D]``; code ``-1`` is a layer that did not arrive."""

    def __init__(self, books: Array) -> None:
        from ossicle.kernels import rvq

        self.depth, self.rows = books.shape[:2]
        self.packed = pack(books)
        self.decode = rvq.decode

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Return the sum of the codes' vectors."""
        codes = inputs[0]
        self.check(codes)
        batch, layers, frames = codes.shape
        turned = np.ascontiguousarray(codes.transpose(1, 0, 2).reshape(layers, -1), np.int32)
        if self.packed.compiled is None:
            return [self.decode(turned, self.packed).reshape(batch, frames, -1)]
        made = np.empty((batch, frames, self.packed.width), np.float32)
        self.packed.compiled.decode(turned, made.reshape(batch * frames, -1))  # checks no more
        return [made]

    def check(self, codes: Array) -> None:
        """Refuse codes that no book has.

        Raises:
            ManifestError: below -1, or not below N.
        """
        if codes.min() < -1 or codes.max() >= self.rows:
            raise ManifestError(
                f"codes from {codes.min()} to {codes.max()}; -1 to {self.rows - 1} expected"
            )


def pack(books: Array) -> PackedBooks:
    """Return ``[K, N, D]`` packed for search; equal books are packed once, whoever asks."""
    from ossicle.kernels import rvq

    key = hashlib.sha256(repr(books.shape).encode() + books.tobytes()).digest()
    made = _packed.get(key)
    if made is None:
        made = _packed[key] = rvq.pack(np.ascontiguousarray(books, np.float32))
    return made


def _books(params: Params) -> Array:
    books = params.array("books").astype(np.float32)
    if books.ndim != 3:
        raise ManifestError(f"{params.name}.books of shape {books.shape}; [K, N, D] expected")
    return books


@host_op("rvq_encode")
def _rvq_encode(params: Params) -> RvqEncode:
    return RvqEncode(_books(params))


@host_op("rvq_decode")
def _rvq_decode(params: Params) -> RvqDecode:
    return RvqDecode(_books(params))
