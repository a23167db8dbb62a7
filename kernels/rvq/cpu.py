"""Search without the compiled part: fp32 first pass (BLAS or numba), exact fp64 decision.

The scheme and the bound are those of ``cpp_ext/isa/search.cpp``: rows are centred on the book's
mean, the first pass is off by at most ``B``, so the best code scores at most ``2 B`` above the
first pass's best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels.rvq import reference

UNIT = 2.0**-24


@dataclass(frozen=True, slots=True)
class PlainLayer:
    """One book, centred for the first pass."""

    rows: NDArray[np.float32]  # [N, D], as given
    mean: NDArray[np.float64]  # [D]
    norm: NDArray[np.float64]  # [N], ones for l2
    half: NDArray[np.float32]  # [N]: |c'|^2 / 2, zeros for cosine
    turned: NDArray[np.float32]  # [D, N]: centred rows
    row_max: float
    mean_norm: float
    cosine: bool


def pack_layer(rows: NDArray[np.float32], cosine: bool) -> PlainLayer:
    """Centre one book ``[N, D]``."""
    wide = rows.astype(np.float64)
    norm = reference.norms(wide) if cosine else np.ones(len(rows))
    unit = np.divide(wide, norm[:, None], out=np.zeros_like(wide), where=norm[:, None] > 0)
    centre = unit.mean(0)
    shifted = unit - centre
    squares = (shifted**2).sum(-1)
    with np.errstate(over="ignore"):  # inf makes the bound inf: then everything is decided exactly
        half = (squares * (0.0 if cosine else 0.5)).astype(np.float32)
    return PlainLayer(
        rows=rows,
        mean=np.zeros_like(centre) if cosine else centre,
        norm=norm,
        half=half,
        turned=np.ascontiguousarray(shifted.T.astype(np.float32)),
        row_max=float(np.sqrt(squares.max())) * 1.0001,
        mean_norm=float(np.sqrt((centre**2).sum())),
        cosine=cosine,
    )


def bounds(layer: PlainLayer, centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """``B`` for each centred residual ``[T, D]``."""
    norm = np.sqrt((centred**2).sum(-1)) * 1.0001
    D = centred.shape[1]
    reach = norm * layer.row_max
    span = norm + layer.row_max
    rounding = UNIT * (D + 40.0) * (reach + layer.row_max**2)
    exact = 1.2e-16 * (D + 8.0) * span * span + 1e-15 * layer.mean_norm * span
    return np.asarray(1.001 * (rounding + exact) + 1e-30)


def nearest(layer: PlainLayer, residual: NDArray[np.float64]) -> NDArray[np.int64]:
    """The best row for every residual ``[T, D]``, decided exactly."""
    centred = residual - layer.mean
    with np.errstate(over="ignore", invalid="ignore"):
        low = layer.half - centred.astype(np.float32) @ layer.turned
        limit = low.min(-1) + 2.0 * bounds(layer, centred)
        maybe = low <= limit[:, None]
    maybe[~np.isfinite(limit)] = True
    best = np.argmax(maybe, -1)
    for t in np.flatnonzero(maybe.sum(-1) > 1):
        rows = np.flatnonzero(maybe[t])
        wide = layer.rows[rows].astype(np.float64)
        best[t] = rows[np.argmin(reference.scores(residual[t], wide, layer.cosine))]
    return np.asarray(best, np.int64)


@cache
def _numba_search() -> Callable[..., Any]:
    import numba  # optional, and slow to import

    @numba.njit(cache=False, nogil=True)
    def exact(r, row, norm, cosine):  # type: ignore[no-untyped-def]
        a = np.zeros(8)
        for d in range(r.size):
            if cosine:
                a[d % 8] += r[d] * np.float64(row[d])
            else:
                e = r[d] - np.float64(row[d])
                a[d % 8] += e * e
        s = ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
        if not cosine:
            return s
        return -(s / norm) if norm > 0.0 else 0.0

    @numba.njit(cache=False, nogil=True)
    def search(  # type: ignore[no-untyped-def]
        residual, centred, slack, rows, half, turned, norm, cosine, out
    ):
        D, N = turned.shape
        scores = np.empty(N, np.float32)
        for t in range(residual.shape[0]):
            for n in range(N):
                scores[n] = half[n]
            for d in range(D):
                r = centred[t, d]
                line = turned[d]
                for n in range(N):
                    scores[n] -= r * line[n]
            low = scores[0]
            for n in range(1, N):
                low = min(low, scores[n])
            limit = low + slack[t]
            sure = np.isfinite(limit)
            best, best_score, scored = -1, 0.0, False
            for n in range(N):
                if sure and not scores[n] <= limit:
                    continue
                if best < 0:
                    best = n
                    continue
                if not scored:
                    best_score = exact(residual[t], rows[best], norm[best], cosine)
                    scored = True
                s = exact(residual[t], rows[n], norm[n], cosine)
                if s < best_score:
                    best, best_score = n, s
            out[t] = max(best, 0)

    return search


def nearest_numba(layer: PlainLayer, residual: NDArray[np.float64]) -> NDArray[np.int64]:
    """As :func:`nearest`, compiled by numba."""
    centred = residual - layer.mean
    out = np.empty(len(residual), np.int64)
    with np.errstate(over="ignore", invalid="ignore"):
        narrow, slack = centred.astype(np.float32), 2.0 * bounds(layer, centred)
    _numba_search()(
        residual, narrow, slack, layer.rows, layer.half, layer.turned, layer.norm, layer.cosine, out
    )
    return out
