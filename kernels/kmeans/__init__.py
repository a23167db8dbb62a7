"""k-means: nearest centroids, and centroids fitted to rows that need not fit into memory."""

from __future__ import annotations

from ossicle.kernels.kmeans.assign import PackedCentroids, assign, pack
from ossicle.kernels.kmeans.fit import Fit, Rows, fit

__all__ = ["Fit", "PackedCentroids", "Rows", "assign", "fit", "pack"]
