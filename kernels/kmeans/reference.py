"""Assignment and one Lloyd update in fp64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels.rvq import reference as rvq


def assign(x: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    """The nearest centroid ``[N, D]`` of every row ``[T, D]``; ties go to the lower index."""
    wide = centroids.astype(np.float64)
    rows = [int(np.argmin(rvq.scores(row, wide, cosine=False))) for row in rvq.clean(x)]
    return np.array(rows, np.int64)


def update(
    x: NDArray[np.float32], labels: NDArray[np.int64], centroids: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The mean of each centroid's rows; one without rows stays where it is."""
    moved = centroids.copy()
    for n in range(len(centroids)):
        mine = x[labels == n]
        if len(mine):
            moved[n] = mine.astype(np.float64).mean(0)
    return moved
