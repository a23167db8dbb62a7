"""Residual vector quantisation in fp64: what every faster path must equal, code for code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LANES = 8


def lane_sum(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the last axis in the order the compiled decision uses, so that even near ties agree.

    Element ``d`` goes to running sum ``d % 8``; the eight sums are folded as a tree.
    """
    missing = -terms.shape[-1] % LANES
    if missing:
        terms = np.concatenate([terms, np.zeros((*terms.shape[:-1], missing))], -1)
    total = np.zeros((*terms.shape[:-1], LANES))
    for d in range(0, terms.shape[-1], LANES):
        total += terms[..., d : d + LANES]
    a = [total[..., i] for i in range(LANES)]
    folded: NDArray[np.float64] = ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    return folded


def norms(book: NDArray[np.float64]) -> NDArray[np.float64]:
    """``|c|`` of every row ``[N, D]``."""
    return np.asarray(np.sqrt(lane_sum(book * book)))


def scores(r: NDArray[np.float64], book: NDArray[np.float64], cosine: bool) -> NDArray[np.float64]:
    """What is least for the best code: squared distance, or minus the dot with the unit row.

    ``r`` is ``[..., D]`` and ``book`` broadcasts against it as ``[..., N, D]``; a zero row has
    cosine 0.
    """
    if not cosine:
        e = r[..., None, :] - book
        return lane_sum(e * e)
    dot, norm = lane_sum(r[..., None, :] * book), norms(book)
    return -np.divide(dot, norm, out=np.zeros_like(dot), where=np.broadcast_to(norm > 0, dot.shape))


def clean(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """``x`` in fp64 with NaN and Inf read as 0: one bad sample costs one code and no more."""
    x64 = x.astype(np.float64)
    x64[~np.isfinite(x64)] = 0.0
    return x64


def encode(
    x: NDArray[np.float32],
    books: NDArray[np.float32],
    layers: int | None = None,
    *,
    cosine: bool = False,
) -> NDArray[np.int32]:
    """Codes ``[K, T]`` of vectors ``[T, D]``: the nearest row of each book to what is left over.

    Ties go to the lower index.
    """
    K = len(books) if layers is None else layers
    codes = np.empty((K, len(x)), np.int32)
    for t, row in enumerate(clean(x)):
        residual = row.copy()
        for k, book in enumerate(books[:K].astype(np.float64)):
            codes[k, t] = n = int(np.argmin(scores(residual, book, cosine)))
            residual -= book[n]
    return codes


def decode(codes: NDArray[np.int32], books: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sum ``[T, D]`` of the rows named by ``codes`` ``[layers, T]``; -1 adds nothing."""
    total = np.zeros((codes.shape[1], books.shape[2]))
    for book, row in zip(books.astype(np.float64), codes, strict=False):
        total += np.where(row[:, None] >= 0, book[np.maximum(row, 0)], 0.0)
    return total.astype(np.float32)
