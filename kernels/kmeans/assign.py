"""Nearest centroids, by the exact search of :mod:`ossicle.kernels.rvq` with a single book."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels import check, paths, rvq


@dataclass(frozen=True, slots=True)
class PackedCentroids:
    """Centroids laid out for search; immutable."""

    books: rvq.PackedBooks

    @property
    def centroids(self) -> NDArray[np.float32]:
        """``[N, D]``."""
        rows: NDArray[np.float32] = self.books.books[0]
        return rows


def pack(centroids: NDArray[np.float32], path: paths.Path | None = None) -> PackedCentroids:
    """Centroids ``[N, D]`` ready for :func:`assign`; raises as :func:`ossicle.kernels.rvq.pack`."""
    check.array("centroids", centroids, np.float32, "[N, D]", None, None)
    return PackedCentroids(rvq.pack(centroids[None], path=path))


def assign(
    x: NDArray[np.float32],
    centroids: NDArray[np.float32] | PackedCentroids,
    *,
    out: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """The index ``[T]`` of the nearest centroid ``[N, D]`` of every row ``[T, D]``.

    Equal to the fp64 answer; ties go to the lower index; NaN and Inf count as 0.

    Raises:
        ShapeError, DtypeError, LayoutError: an array does not fit.
    """
    packed = centroids if isinstance(centroids, PackedCentroids) else pack(centroids)
    check.array("x", x, np.float32, "[T, D]", None, packed.books.width)
    labels = check.output("out", out, np.int64, "[T]", len(x))
    labels[:] = rvq.encode(x, packed.books)[0]
    return labels
