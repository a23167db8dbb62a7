"""Weights kept in half the bytes: the arithmetic stays in float32.

Backends widen a weight once, when they load the graph, so a hop costs what it did. Half precision
keeps eleven bits of a weight; a module that was :func:`rounded` first loses nothing more here, and
its figures of parity hold for what is written.
"""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from ossicle.export.onnxfile import to_bytes
from ossicle.runtime.errors import ExportError

LEAST = 1024  # numbers in a weight that is worth it
WIDEST = 65_504.0


@torch.no_grad()
def rounded(module: torch.nn.Module) -> None:
    """Round the large weights of ``module`` to what half precision can hold, in place.

    Raises:
        ExportError: a weight that is too large for it.
    """
    for name, weight in module.named_parameters():
        if weight.numel() >= LEAST:
            if not bool((weight.abs() <= WIDEST).all()):
                raise ExportError(f"{name} reaches {float(weight.abs().max()):g}; {WIDEST:g} is "
                                  "the largest that half precision holds")  # fmt: skip
            weight.copy_(weight.half())


def halved(data: bytes) -> bytes:
    """The graph with every large float32 weight stored as float16 and widened by a ``Cast``."""
    model = onnx.load_from_string(data)
    graph, casts = model.graph, []
    for weight in graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT or np.prod(weight.dims) < LEAST:
            continue
        name = weight.name
        narrow = numpy_helper.to_array(weight).astype(np.float16)
        weight.CopyFrom(numpy_helper.from_array(narrow, f"{name}_half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=1))
    for cast in reversed(casts):
        graph.node.insert(0, cast)
    return to_bytes(model)
