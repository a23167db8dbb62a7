"""Recurrent cells as single steps of matrix products: one row per stream."""

from __future__ import annotations

import numpy as np

from ossicle.export.graph import StepWriter
from ossicle.export.importers.source import Array


def lstm_cell(g: StepWriter, x: str, h: str, c: str, kernel: Array, bias: Array) -> tuple[str, str]:
    """Get the next ``h`` and ``c`` (``[B, H]``) of an LSTM.

    ``kernel`` ``[I + H, 4H]`` and ``bias`` ``[4H]`` hold the gates in the order input, forget,
    output, cell, so that one Sigmoid serves three of them.
    """
    width = kernel.shape[1] // 4
    joined = g.concat(x, h, axis=1)
    gates = g.node("Gemm", joined, g.weight(kernel), g.weight(bias))
    three = g.ints(3 * width, width)
    soft, cell = g.nodes("Split", gates, three, outputs=2, axis=1)
    soft, cell = g.node("Sigmoid", soft), g.node("Tanh", cell)
    i, f, o = g.nodes("Split", soft, outputs=3, axis=1, num_outputs=3)
    c_next = g.node("Add", g.node("Mul", f, c), g.node("Mul", i, cell))
    return g.node("Mul", o, g.node("Tanh", c_next)), c_next


def gates_in_order(weight: Array, have: str, want: str = "ifoc") -> Array:
    """Get ``weight`` ``[..., 4H]`` with its gates in the order ``want``; ``have`` is theirs."""
    parts = dict(zip(have, np.split(weight, 4, axis=-1), strict=True))
    return np.ascontiguousarray(np.concatenate([parts[k] for k in want], axis=-1))


def gru_cell(g: StepWriter, x: str, h: str, w: Array, r: Array, bias: Array, rbias: Array) -> str:
    """Get the next ``h`` (``[B, H]``) of a GRU whose reset gate acts after the product.

    ``w`` ``[3H, I]``, ``r`` ``[3H, H]`` with gates in the order update, reset, new (ONNX
    ``linear_before_reset = 1``, torch with reset and update exchanged).
    """
    width, size = r.shape[1], w.shape[1]
    kernel = np.zeros((size + width, 4 * width), np.float32)
    both = np.concatenate([w, r], axis=1).T  # [I + H, 3H]
    kernel[:, : 2 * width] = both[:, : 2 * width]
    kernel[:size, 2 * width : 3 * width] = w[2 * width :].T
    kernel[size:, 3 * width :] = r[2 * width :].T
    total = np.concatenate(
        [bias[: 2 * width] + rbias[: 2 * width], bias[2 * width :], rbias[2 * width :]]
    )
    gates = g.node("Gemm", g.concat(x, h, axis=1), g.weight(kernel), g.weight(total))
    soft, new, held = g.nodes("Split", gates, g.ints(2 * width, width, width), outputs=3, axis=1)
    z, reset = g.nodes("Split", g.node("Sigmoid", soft), outputs=2, axis=1, num_outputs=2)
    fresh = g.node("Tanh", g.node("Add", new, g.node("Mul", reset, held)))
    return g.node("Add", fresh, g.node("Mul", z, g.node("Sub", h, fresh)))
