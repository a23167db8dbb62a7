"""How far two arrays are apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.errors import ExportError

Array = NDArray[Any]


def distance(got: Array, want: Array) -> float:
    """Get the largest difference, relative to the largest reference value (at least 1)."""
    if got.shape != want.shape:
        raise ExportError(f"shape {got.shape} came out where {want.shape} was expected")
    if not got.size:
        return 0.0
    if not np.isfinite(got.astype(np.float64)).all():
        return float("inf")
    scale = max(1.0, float(np.abs(want.astype(np.float64)).max()))
    return float(np.abs(got.astype(np.float64) - want.astype(np.float64)).max()) / scale
