"""Lloyd's algorithm and mini-batch k-means (Sculley 2010, algorithm 1), rows read in runs.

Nothing here holds more than ``rows_at_once`` rows besides the centroids, so that a memory-mapped
file of millions of rows, or a function that makes runs of rows, is fitted as well as an array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels import check
from ossicle.kernels.errors import DtypeError, RangeError, ShapeError
from ossicle.kernels.kmeans.assign import assign, pack

Rows = NDArray[np.float32]
Source = Rows | Callable[[], Iterable[Rows]]


@dataclass(frozen=True, slots=True)
class Fit:
    """Fitted centroids and how well they fit."""

    centroids: Rows  # [N, D]
    counts: NDArray[np.int64]  # [N] rows of each at the last pass
    inertia: float  # mean squared distance of a row to its centroid, at the last pass
    passes: int


def fit(
    x: Source,
    n: int,
    *,
    passes: int = 20,
    mini_batch: int | None = None,
    start: Rows | None = None,
    tolerance: float = 1e-4,
    seed: int = 0,
    rows_at_once: int = 16384,
) -> Fit:
    """``n`` centroids of the rows of ``x``.

    Args:
        x: ``[T, D]``, which may be a ``numpy.memmap``, or a function that starts a new pass over
            runs of rows ``[any, D]``. There must be at least ``n`` rows.
        n: number of centroids.
        passes: over all rows at most.
        mini_batch: rows a step; ``None`` moves the centroids once a pass, from all rows (Lloyd).
        start: ``[N, D]`` to go on from; ``N`` may be less than ``n``, the rest is seeded.
        tolerance: a pass that lowers the inertia by less than this share ends the fit.
        seed: of everything drawn.
        rows_at_once: held in memory.

    Raises:
        ShapeError, DtypeError, LayoutError: rows do not fit.
        RangeError: fewer rows than centroids, or a count below 1.
    """
    check.number("n", n, 1, 1 << 24)
    check.number("passes", passes, 1, 1 << 20)
    check.number("rows_at_once", rows_at_once, 1, 1 << 30)
    if mini_batch is not None:
        check.number("mini_batch", mini_batch, 1, 1 << 30)
    rng = np.random.default_rng(seed)
    centroids = _seed(x, n, start, rng, rows_at_once)
    last = np.inf
    done = 0
    while done < passes:
        done += 1
        if mini_batch is None:
            centroids, counts, inertia = _lloyd(x, centroids, rng, rows_at_once)
        else:
            centroids, counts, inertia = _mini_batch(x, centroids, rng, mini_batch)
        if inertia == 0.0 or last - inertia < tolerance * inertia:
            break
        last = inertia
    return Fit(centroids, counts, inertia, done)


def runs(x: Source, rows_at_once: int) -> Iterator[Rows]:
    """Runs of rows, each a checked array in memory."""
    if isinstance(x, np.ndarray):
        if x.ndim != 2 or 0 in x.shape:
            raise ShapeError(f"x has shape {list(x.shape)}; it must be [T, D] = [>= 1, >= 1]")
        if x.dtype != np.float32:
            raise DtypeError(f"x is {x.dtype.name}; it must be float32")
        for i in range(0, len(x), rows_at_once):
            yield np.ascontiguousarray(x[i : i + rows_at_once])
    else:
        for run in x():
            check.array("a run of x", run, np.float32, "[T, D]", None, None)
            for i in range(0, len(run), rows_at_once):
                yield run[i : i + rows_at_once]


def _seed(x: Source, n: int, start: Rows | None, rng: np.random.Generator, at_once: int) -> Rows:
    """A uniform sample of up to ``8 n`` rows, thinned to ``n`` by k-means++."""
    want = min(8 * n, max(at_once, n))
    kept: list[NDArray[np.float32]] = []
    seen = 0
    for run in runs(x, at_once):  # reservoir sampling, Vitter's algorithm R
        for row in run if seen + len(run) <= want else _thin(run, seen, want, rng):
            if len(kept) < want:
                kept.append(row)
            else:
                kept[int(rng.integers(want))] = row
        seen += len(run)
    if seen < n:
        raise RangeError(f"x has {seen} rows for n = {n} centroids; give as many rows as centroids")
    sample = np.array(kept, np.float32)
    given = np.empty((0, sample.shape[1]), np.float32)
    if start is not None:
        check.array("start", start, np.float32, "[N, D]", None, sample.shape[1])
        check.number("the rows of start", len(start), 1, n)
        given = start
    return _plus_plus(sample, n, given, rng)


def _thin(run: Rows, seen: int, want: int, rng: np.random.Generator) -> Rows:
    """The rows of a run that enter a reservoir of ``want``."""
    index = seen + np.arange(len(run))
    enter = (index < want) | (rng.random(len(run)) < want / (index + 1.0))
    taken: Rows = run[enter]
    return taken


def _plus_plus(sample: Rows, n: int, given: Rows, rng: np.random.Generator) -> Rows:
    """``n`` rows drawn in proportion to their squared distance to those drawn before."""
    chosen = np.empty((n, sample.shape[1]), np.float32)
    chosen[: len(given)] = given
    wide = sample.astype(np.float64)
    near = np.full(len(sample), np.inf)
    for c in given.astype(np.float64):
        near = np.minimum(near, ((wide - c) ** 2).sum(-1))
    for i in range(len(given), n):
        if i == 0 or not near.sum() > 0.0:
            pick = int(rng.integers(len(sample)))
        else:
            pick = int(
                min(np.searchsorted(near.cumsum(), rng.random() * near.sum()), len(near) - 1)
            )
        chosen[i] = sample[pick]
        near = np.minimum(near, ((wide - wide[pick]) ** 2).sum(-1))
    return chosen


def _sums(
    run: Rows, labels: NDArray[np.int64], n: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Per centroid the sum ``[N, D]`` and the number of its rows."""
    counts = np.bincount(labels, minlength=n)
    order = np.argsort(labels, kind="stable")
    present = np.flatnonzero(counts)
    starts = np.concatenate([[0], counts[present].cumsum()[:-1]])
    sums = np.zeros((n, run.shape[1]))
    sums[present] = np.add.reduceat(run[order].astype(np.float64), starts, axis=0)
    return sums, counts


def _distances(run: Rows, centroids: Rows, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    e = run.astype(np.float64) - centroids[labels]
    return np.asarray((e * e).sum(-1))


def _lloyd(
    x: Source, centroids: Rows, rng: np.random.Generator, at_once: int
) -> tuple[Rows, NDArray[np.int64], float]:
    n = len(centroids)
    packed = pack(centroids)
    sums, counts = np.zeros(centroids.shape), np.zeros(n, np.int64)
    total, rows = 0.0, 0
    far: list[tuple[float, NDArray[np.float32]]] = []  # candidates for centroids left without rows
    for run in runs(x, at_once):
        labels = assign(run, packed)
        more, some = _sums(run, labels, n)
        sums += more
        counts += some
        distance = _distances(run, centroids, labels)
        total += float(distance.sum())
        rows += len(run)
        worst = np.argsort(-distance, kind="stable")[:n]
        far = sorted([*far, *((float(distance[i]), run[i]) for i in worst)], key=lambda p: -p[0])[
            :n
        ]
    moved = centroids.copy()
    full = counts > 0
    moved[full] = sums[full] / counts[full, None]
    for i, (distance_of, row) in zip(np.flatnonzero(~full), far, strict=False):
        if distance_of > 0.0:
            moved[i] = row
    return moved, counts, total / rows


def _mini_batch(
    x: Source, centroids: Rows, rng: np.random.Generator, size: int
) -> tuple[Rows, NDArray[np.int64], float]:
    wide, n = centroids.astype(np.float64), len(centroids)
    counts = np.zeros(n, np.int64)
    total, rows = 0.0, 0
    for run in runs(x, size):
        now = wide.astype(np.float32)
        labels = assign(run, pack(now))
        total += float(_distances(run, now, labels).sum())
        rows += len(run)
        sums, some = _sums(run, labels, n)
        counts += some
        hit = some > 0
        # The mean of all rows a centroid has had this pass, in one step for the whole batch.
        wide[hit] += (sums[hit] - some[hit, None] * wide[hit]) / counts[hit, None]
    return wide.astype(np.float32), counts, total / rows
