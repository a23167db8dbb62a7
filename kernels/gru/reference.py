"""A gated recurrent unit in fp64 (Cho et al. 2014, in PyTorch's form and gate order r, z, n)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


def sigmoid(x: F64) -> F64:
    """Without overflow."""
    return np.asarray(0.5 * (np.tanh(0.5 * x) + 1.0))


def gru(
    x: NDArray[np.floating],
    h: NDArray[np.floating],
    w_ih: NDArray[np.floating],
    w_hh: NDArray[np.floating],
    b_ih: NDArray[np.floating],
    b_hh: NDArray[np.floating],
) -> tuple[F64, F64]:
    """Outputs ``[B, T, H]`` and the last state ``[B, H]`` of ``x`` ``[B, T, I]``."""
    state = h.astype(np.float64)
    H = h.shape[1]
    out = np.empty((*x.shape[:2], H))
    for t in range(x.shape[1]):
        xi = x[:, t].astype(np.float64) @ w_ih.astype(np.float64).T + b_ih
        hh = state @ w_hh.astype(np.float64).T + b_hh
        r, z = sigmoid(xi[:, :H] + hh[:, :H]), sigmoid(xi[:, H : 2 * H] + hh[:, H : 2 * H])
        n = np.tanh(xi[:, 2 * H :] + r * hh[:, 2 * H :])
        state = (1.0 - z) * n + z * state
        out[:, t] = state
    return out, state
