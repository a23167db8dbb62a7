"""Residual vector quantisation: vectors to codes and back.

``encode`` names, for each vector, the nearest row of the first book, then of the second book for
what is left over, and so on. Its codes equal those of :mod:`ossicle.kernels.rvq.reference` on every
path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels import check, paths
from ossicle.kernels.errors import RangeError, ShapeError
from ossicle.kernels.rvq import cpu, reference

Metric = Literal["l2", "cosine"]
Codes = NDArray[np.int32]
Books = NDArray[np.float32]

__all__ = ["Metric", "PackedBooks", "decode", "encode", "pack", "project"]


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class PackedBooks:
    """Codebooks laid out for search; immutable, shared by any number of streams and threads."""

    books: Books  # [K, N, D], a private copy
    metric: Metric
    path: paths.Path
    compiled: Any | None  # _core.Books
    layers: tuple[cpu.PlainLayer, ...]
    project_in: NDArray[np.float64] | None  # [K, D, W]
    project_out: NDArray[np.float64] | None  # [K, W, D]

    @property
    def width(self) -> int:
        """``D`` (or ``W``, where the books are projected) of the vectors to encode."""
        outer = self.books.shape[2] if self.project_in is None else self.project_in.shape[2]
        return int(outer)


def pack(
    books: Books,
    metric: Metric = "l2",
    *,
    project_in: NDArray[np.float32] | None = None,
    project_out: NDArray[np.float32] | None = None,
    path: paths.Path | None = None,
) -> PackedBooks:
    """Books ``[K, N, D]`` ready for :func:`encode`.

    Args:
        books: finite rows, coarse book first.
        metric: ``"l2"``, or ``"cosine"``: the row of largest cosine is taken, and subtracted as it
            is.
        project_in: ``[K, D, W]``; the residual of width ``W`` is searched through this map
            (factorised codes).
        project_out: ``[K, W, D]``; the row found goes through this map before it is subtracted.
        path: ``"core"``, ``"numba"`` or ``"numpy"``; the fastest installed by default.

    Raises:
        ShapeError, DtypeError, LayoutError: an array does not fit.
        RangeError: a book holds NaN or Inf, or the metric is unknown.
    """
    check.array("books", books, np.float32, "[K, N, D]", None, None, None)
    if metric not in ("l2", "cosine"):
        raise RangeError(f"metric is {metric!r}; it must be 'l2' or 'cosine'")
    if not np.isfinite(books).all():
        raise RangeError("books hold NaN or Inf; a book must be finite")
    if (project_in is None) != (project_out is None):
        raise ShapeError("project_in and project_out come together; one of them is missing")
    K, _, D = books.shape
    if project_in is not None and project_out is not None:
        check.array("project_in", project_in, np.float32, "[K, D, W]", K, D, None)
        W = project_in.shape[2]
        check.array("project_out", project_out, np.float32, "[K, W, D]", K, W, D)
    taken = paths.choose(path)
    own = books.copy()
    own.flags.writeable = False
    core = paths.core()
    compiled = None
    plain: tuple[cpu.PlainLayer, ...] = ()
    if taken == "core" and core is not None:
        split = [own] if project_in is None else [own[k : k + 1] for k in range(K)]
        made = [core.Books(part, metric == "cosine", core.integer_dot()) for part in split]
        compiled = made[0] if project_in is None else made
    else:
        plain = tuple(cpu.pack_layer(book, metric == "cosine") for book in own)
    return PackedBooks(
        own,
        metric,
        taken,
        compiled,
        plain,
        None if project_in is None else project_in.astype(np.float64),
        None if project_out is None else project_out.astype(np.float64),
    )


def encode(
    x: NDArray[np.float32],
    books: Books | PackedBooks,
    layers: int | None = None,
    *,
    out: Codes | None = None,
) -> Codes:
    """Codes ``[layers, T]`` (int32) of vectors ``[T, D]``.

    Ties go to the lower index; NaN and Inf in ``x`` count as 0. Hot paths pass :func:`pack`'s
    result and
    their own ``out``.

    Raises:
        ShapeError, DtypeError, LayoutError: an array does not fit.
        RangeError: more layers than books, or fewer than one.
    """
    packed = books if isinstance(books, PackedBooks) else pack(books)
    if packed.compiled is not None and packed.project_in is None and out is not None:
        # The compiled part checks as much before it touches anything; what it refuses is put into
        # words below.
        try:  # not `suppress`: met cold, in a stream, it takes as long as a book
            if out.size and len(out) == (len(packed.books) if layers is None else layers):
                packed.compiled.encode(x, out)
                return out
        except (TypeError, ValueError, AttributeError):
            pass
    check.array("x", x, np.float32, "[T, D]", None, packed.width)
    K = len(packed.books)
    count = K if layers is None else check.number("layers", layers, 1, K, "one per book")
    codes = check.output("out", out, np.int32, "[layers, T]", count, len(x))
    if packed.project_in is not None:
        _encode_projected(packed, x, codes)
    elif packed.compiled is not None:
        packed.compiled.encode(x, codes)
    else:
        find = cpu.nearest_numba if packed.path == "numba" else cpu.nearest
        residual = reference.clean(x)
        for k, layer in enumerate(packed.layers[:count]):
            codes[k] = find(layer, residual)
            residual -= layer.rows[codes[k]]
    return codes


def project(packed: PackedBooks, k: int, residual: NDArray[np.float64]) -> NDArray[np.float64]:
    """The residual ``[T, W]`` as book ``k`` sees it, ``[T, D]``; itself without a projection."""
    if packed.project_in is None:
        return residual
    # Row by row: a product of many rows adds in another order than one of a single row.
    return np.stack([packed.project_in[k] @ row for row in residual])


def _encode_projected(packed: PackedBooks, x: NDArray[np.float32], codes: Codes) -> None:
    assert packed.project_out is not None
    residual = reference.clean(x)
    for k in range(len(codes)):
        seen = project(packed, k, residual)
        if packed.compiled is not None:
            packed.compiled[k].encode64(seen, codes[k : k + 1])
        else:
            find = cpu.nearest_numba if packed.path == "numba" else cpu.nearest
            codes[k] = find(packed.layers[k], seen)
        found = packed.books[k][codes[k]].astype(np.float64)
        residual -= np.stack([packed.project_out[k] @ row for row in found])


def decode(
    codes: Codes, books: Books | PackedBooks, *, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Vectors ``[T, D]`` from codes ``[layers, T]``; fewer layers give a coarser vector.

    A code of -1 adds nothing.

    Raises:
        ShapeError, DtypeError, LayoutError: an array does not fit.
        RangeError: more layers than books, or a code that no book has.
    """
    rows = books.books if isinstance(books, PackedBooks) else books
    check.array("books", rows, np.float32, "[K, N, D]", None, None, None)
    check.array("codes", codes, np.int32, "[layers, T]", None, None)
    check.number("the layers of codes", len(codes), 1, len(rows), "one per book")
    N = rows.shape[1]
    if codes.min() < -1 or codes.max() >= N:
        bad = int(codes.min()) if codes.min() < -1 else int(codes.max())
        raise RangeError(
            f"codes hold {bad}; a code must be 0 to {N - 1}, or -1 for an absent layer"
        )
    width = books.width if isinstance(books, PackedBooks) else rows.shape[2]
    result = check.output("out", out, np.float32, "[T, D]", codes.shape[1], width)
    packed = books if isinstance(books, PackedBooks) else None
    if packed is not None and packed.project_out is not None:
        total = np.zeros((codes.shape[1], width))
        for k, row in enumerate(codes):
            found = np.where(row[:, None] >= 0, rows[k][np.maximum(row, 0)], 0.0)
            total += found.astype(np.float64) @ packed.project_out[k].T
        result[:] = total
    elif packed is not None and packed.compiled is not None:
        packed.compiled.decode(codes, result)
    else:
        result[:] = reference.decode(codes, rows)
    return result
