"""YAMNet as a teacher: its weights out of the TFLite file, its embedding, its early layers.

YAMNet (Plakal and Ellis, Apache-2.0) hears 0.96 s at a time. Its embedding of what a causal model
has just heard is what that model should know, and what its early layers make of a sound is what
the layers of a trunk should make of it. Its numbers stay here: they teach and are not shipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ossicle.export.models.tagger import Separable, Trunk
from ossicle.export.tflite import reader
from ossicle.runtime.errors import ExportError
from ossicle.runtime.host.features import LogMel, mel_filters

Floats = NDArray[np.float32]

MEL: Final = {
    "n_fft": 512,
    "win": 400,
    "hop": 160,
    "n_mels": 64,
    "fmin": 125,
    "fmax": 7500,
    "formula": "htk",
    "power": 1,
    "log": "ln",
    "offset": 0.001,
}
"""The front end that YAMNet was trained with, as parameters of the host transform ``log_mel``."""

PATCH: Final = 96  # frames that YAMNet hears at once
_STRIDES: Final = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


@dataclass(frozen=True)
class Weights:
    """One layer: depthwise (or first, full) kernel and bias, pointwise kernel and bias."""

    spread: Floats  # [C, 1, 3, 3]
    spread_bias: Floats
    point: Floats | None  # [C', C, 1, 1]
    point_bias: Floats | None


def front_end() -> LogMel:
    """The host transform that the bundle will use: training hears what streaming hears."""
    filters = mel_filters(16_000, 512, 64, 125, 7500, "htk")
    phase = 2 * np.pi * np.arange(400) / 400
    window = (0.5 - 0.5 * np.cos(phase)).astype(np.float32)
    return LogMel(window, 512, 160, filters, 1, 0.0, 0.001, False)


def log_mel(audio: NDArray[np.float32]) -> Floats:
    """Frames [T // 160, 64] of ``audio`` [T], by the runtime's own front end."""
    op = front_end()
    hops = len(audio) // 160
    state = op.open(1)
    frames = op.run(state, [audio[None, None, : hops * 160]])[0]
    return np.asarray(frames[0], np.float32)


def read_weights(path: Path) -> list[Weights]:
    """The fourteen layers of the TFLite file at ``path``, made float again.

    Raises:
        ExportError: it is not YAMNet.
    """
    graph = reader.read(path).subgraphs[0]
    made = {
        o: op.inputs[0] for op in graph.operators if op.kind == "DEQUANTIZE" for o in op.outputs
    }

    def value(index: int) -> Floats:
        tensor = graph.tensors[made.get(index, index)]
        if tensor.data is None:
            raise ExportError(f"{path.name}: tensor {tensor.name!r} holds no constant")
        data = tensor.data.astype(np.float32)
        if tensor.quant is not None and tensor.dtype == "int8":
            shape = [1] * data.ndim
            shape[tensor.quant.axis] = -1 if tensor.quant.scale.size > 1 else 1
            zero = tensor.quant.zero.astype(np.float32).reshape(shape)
            data = (data - zero) * tensor.quant.scale.reshape(shape)
        return np.ascontiguousarray(data)

    convs = [op for op in graph.operators if op.kind in ("CONV_2D", "DEPTHWISE_CONV_2D")]
    if len(convs) != 27:
        raise ExportError(f"{path.name} has {len(convs)} convolutions; YAMNet has 27")
    first = convs[0]
    layers = [
        Weights(value(first.inputs[1]).transpose(0, 3, 1, 2), value(first.inputs[2]), None, None)
    ]
    for deep, point in zip(convs[1::2], convs[2::2], strict=True):
        layers.append(
            Weights(
                value(deep.inputs[1]).transpose(3, 0, 1, 2),
                value(deep.inputs[2]),
                value(point.inputs[1]).transpose(0, 3, 1, 2),
                value(point.inputs[2]),
            )
        )
    return layers


class Yamnet(nn.Module):
    """The whole of YAMNet but its classifier: patches [N, 96, 64] to embeddings [N, 1024].

    In ``dtype`` bfloat16 it takes half the time; the embedding is then 2 % off on average.
    """

    def __init__(self, layers: list[Weights], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.layers, self.dtype = layers, dtype
        self._parts = [
            [
                None if part is None else torch.from_numpy(np.ascontiguousarray(part)).to(dtype)
                for part in (each.spread, each.spread_bias, each.point, each.point_bias)
            ]
            for each in layers
        ]

    @torch.no_grad()
    def forward(self, patches: Tensor) -> Tensor:
        """Mean over time and frequency of the last layer."""
        x = patches.to(self.dtype).unsqueeze(1)
        for (kernel, bias, point, point_bias), stride in zip(self._parts, _STRIDES, strict=False):
            assert kernel is not None
            pads = [p for n in (x.shape[3], x.shape[2]) for p in _same(n, stride)]
            groups = 1 if point is None else x.shape[1]
            x = functional.conv2d(functional.pad(x, pads), kernel, bias, stride, groups=groups)
            x = x.relu_()
            if point is not None:
                x = functional.conv2d(x, point, point_bias).relu_()
        return x.float().mean((2, 3))


def _same(size: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + 3 - size, 0)
    return total // 2, total - total // 2


def embed(teacher: Yamnet, mel: Floats, step: int = 48) -> Floats:
    """Embeddings [N, 1024] of the patches of ``mel`` [T, 64] that end at 96, 96 + step, ..."""
    starts = range(0, len(mel) - PATCH + 1, step)
    patches = np.stack([mel[s : s + PATCH] for s in starts])
    return np.asarray(teacher(torch.from_numpy(patches)).numpy(), np.float32)


def arrange_causally(trunk: Trunk, layers: list[Weights]) -> None:
    """Make ``trunk`` YAMNet's first layers, looking back only: the one that is imitated."""
    for layer, weights in zip(trunk.layers, layers, strict=False):
        assert isinstance(layer, Separable)
        _copy(layer.spread, weights.spread, weights.spread_bias)
        if layer.point is not None and weights.point is not None:
            assert weights.point_bias is not None
            _copy(layer.point, weights.point, weights.point_bias)


def _copy(conv: nn.Conv2d, kernel: Floats, bias: Floats) -> None:
    assert conv.bias is not None
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
        conv.bias.copy_(torch.from_numpy(bias))
