"""Small constants kept from an optimiser that takes them for nothing.

The optimiser behind ``torch.onnx.export`` drops ``x + c`` for a scalar ``c`` below 1e-8 and
``x * c`` for one within 1e-5 of 1. The floor of a logarithm is such a constant, and without it
silence becomes minus infinity. Its rules match scalars without axes alone: a constant that is
close to neutral, and not neutral, gets an axis of one value, which broadcasts to the same result.
"""

from __future__ import annotations

from typing import Any

import numpy as np

NEUTRAL = {"Add": 0.0, "Sub": 0.0, "Mul": 1.0, "Div": 1.0}
CLOSE = 1e-4  # wider than any tolerance met


def shield_small_constants(model: Any) -> int:
    """Change ``model`` (of ``onnx_ir``) in place and get how many constants were near neutral."""
    import onnx_ir as ir

    shielded = 0
    for node in list(model.graph):
        if node.op_type not in NEUTRAL or node.domain not in ("", "ai.onnx"):
            continue
        for index, value in enumerate(node.inputs):
            found = None if value is None else ir.convenience.get_const_tensor(value)
            if found is None or not _nearly(found.numpy(), NEUTRAL[node.op_type]):
                continue
            fresh = ir.Value(
                name=f"near_neutral_{shielded}", const_value=ir.tensor(found.numpy().reshape(1)),
                shape=ir.Shape([1]), type=ir.TensorType(found.dtype),
            )  # fmt: skip
            model.graph.register_initializer(fresh)
            node.replace_input_with(index, fresh)
            shielded += 1
    return shielded


def _nearly(value: Any, neutral: float) -> bool:
    if value.ndim or not np.issubdtype(value.dtype, np.floating):
        return False
    return bool(value != neutral and abs(float(value) - neutral) < CLOSE)
