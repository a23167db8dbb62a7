"""How far a kernel may lie from its fp64 reference: one table, used by every test and benchmark.

The error is taken relative to the largest magnitude of the reference, since single elements may
cancel.
Codes and counts have no row: they are equal or wrong.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

TOLERANCE: Final[dict[tuple[str, str], float]] = {
    ("conv", "float32"): 2e-6,
    # For sums of 48 products and more: a weight is kept to 2^-23 of its row's largest, less than
    # what the sums round. Fewer products may cancel to where that shows; against the weights as
    # they are kept the row of float32 holds for them too.
    ("conv", "fixed24"): 2e-6,
    ("conv", "float16"): 4e-3,
    ("conv", "bfloat16"): 1.2e-2,
    ("conv", "int8"): 2e-2,  # against the unquantised sum; against its own integers it is exact
    ("attention", "float32"): 3e-6,
    ("attention", "float16"): 4e-3,
    ("gru", "float32"): 5e-6,
    ("gru", "fixed24"): 5e-6,
    ("gru", "float16"): 8e-3,
    ("snake", "float32"): 2e-6,
    ("snake", "float16"): 2e-3,
    ("logmel", "float32"): 2e-5,
    ("sampler", "float32"): 1e-6,
    ("sampler", "float16"): 2e-3,
    ("rvq.decode", "float32"): 2e-7,
    ("kmeans.fit", "float32"): 1e-5,
    ("step", "float32"): 5e-5,  # a whole graph against ONNX Runtime, states of several hops on
    ("step", "bfloat16"): 4e-2,  # weights alone
}


def error(got: NDArray[np.generic], want: NDArray[np.generic]) -> float:
    """Largest difference over the largest magnitude wanted; infinite if ``got`` is not finite."""
    if got.shape != want.shape:
        raise ValueError(f"shapes differ: got {got.shape}, want {want.shape}")
    g, w = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if not np.isfinite(g).all():
        return float("inf")
    return float(np.abs(g - w).max(initial=0.0) / max(np.abs(w).max(initial=0.0), 1e-30))


def allowed(operator: str, dtype: str) -> float:
    """The row for one operator and dtype."""
    return TOLERANCE[operator, dtype]


def close(
    operator: str, got: NDArray[np.generic], want: NDArray[np.generic], dtype: str = "float32"
) -> bool:
    """Whether ``got`` is within the row of the table."""
    return error(got, want) <= allowed(operator, dtype)
