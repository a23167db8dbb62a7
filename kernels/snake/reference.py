"""Snake in fp64 (Ziyin et al. 2020, equation 3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EPSILON = 1e-9  # as in DAC: keeps a zero magnitude from dividing


def snake(
    x: NDArray[np.floating],
    alpha: NDArray[np.floating],
    beta: NDArray[np.floating] | None = None,
) -> NDArray[np.float64]:
    """``x + sin(alpha x)^2 / beta`` over ``[..., C]`` with ``alpha``, ``beta`` ``[C]``."""
    wide, a = x.astype(np.float64), alpha.astype(np.float64)
    b = a if beta is None else beta.astype(np.float64)
    return np.asarray(wide + np.sin(a * wide) ** 2 / (b + EPSILON))
