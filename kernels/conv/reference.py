"""Causal convolution of whole signals in fp64, channels last."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def causal(
    x: NDArray[np.floating],
    weight: NDArray[np.floating],
    bias: NDArray[np.floating] | None = None,
    *,
    stride: int = 1,
    dilation: int = 1,
) -> NDArray[np.float64]:
    """``[B, T / stride, C_out]`` of ``x`` ``[B, T, C_in]`` and ``weight`` ``[C_out, C_in, k]``.

    The newest tap of output ``j`` lies on input ``j * stride + stride - 1``; before the start there
    are
    zeros.
    """
    k = weight.shape[2]
    past = (k - 1) * dilation + 1 - stride
    padded = np.pad(x.astype(np.float64), ((0, 0), (past, 0), (0, 0)))
    w = weight.astype(np.float64)
    y = np.zeros((x.shape[0], x.shape[1] // stride, weight.shape[0]))
    for i in range(k):
        taken = padded[:, i * dilation :: stride][:, : y.shape[1]]
        y += taken @ w[:, :, i].T
    return y if bias is None else y + bias


def transposed(
    x: NDArray[np.floating],
    weight: NDArray[np.floating],
    bias: NDArray[np.floating] | None = None,
    *,
    stride: int,
) -> NDArray[np.float64]:
    """``[B, T * stride, C_out]``: each input adds ``weight`` ``[C_in, C_out, k]`` onwards."""
    k, T = weight.shape[2], x.shape[1]
    y = np.zeros((x.shape[0], T * stride + k, weight.shape[1]))
    w = weight.astype(np.float64)
    for t in range(T):
        for i in range(k):
            y[:, t * stride + i] += x[:, t].astype(np.float64) @ w[:, :, i]
    y = y[:, : T * stride]
    return y if bias is None else y + bias
