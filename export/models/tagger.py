"""A causal tagger shaped like the first layers of MobileNet, its memory passed in and out.

``Trunk`` has the layers of MobileNet v1 as YAMNet uses it (Howard et al. 2017; Plakal & Ellis
2020), so that YAMNet can teach it layer by layer, but every convolution looks back only, and from
layer 7 on time is no longer thinned, so that a decision falls every 80 ms. ``Tagger`` adds dilated
residual layers over a few seconds and two score frames per step. There is one ``forward`` for
training and for streaming: training passes zeros for the memory and the whole sequence for the hop.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

MELS = 64
STEP_FRAMES = 8  # log-mel frames (10 ms) per step


@dataclass(frozen=True)
class Layer:
    """One separable layer of the trunk: channels, strides and dilation."""

    cin: int
    cout: int
    stride_t: int
    stride_f: int
    dilation: int = 1

    @property
    def memory(self) -> int:
        """Past frames that the next hop needs."""
        return 2 * self.dilation + 1 - self.stride_t


LAYERS = (
    Layer(1, 32, 2, 2),
    Layer(32, 64, 1, 1),
    Layer(64, 128, 2, 2),
    Layer(128, 128, 1, 1),
    Layer(128, 256, 2, 2),
    Layer(256, 256, 1, 1),
    Layer(256, 512, 1, 2),
    Layer(512, 512, 1, 1, 2),
)


@dataclass(frozen=True)
class TaggerConfig:
    """Sizes of one tier."""

    layers: int = 8  # of LAYERS
    squeeze: int = 96  # channels per frequency row after the trunk
    skip_layer: int = 6  # whose output also feeds the head; 0 for none
    skip: int = 32
    tones: int = 48  # channels that see the log-mel itself, for pitch the trunk has blurred
    tone_frames: int = 8  # 1: the mean of a step's frames; 8: each of them
    width: int = 224
    dilations: tuple[int, ...] = (1, 3, 9)
    taps: int = 5
    embedding: int = 128  # D per 40 ms frame
    classes: int = 20


FULL = TaggerConfig()
TINY = TaggerConfig(
    layers=5, squeeze=20, skip_layer=0, skip=0, tones=24, tone_frames=1, width=80, embedding=32
)


def rows_after(layers: int) -> int:
    """Frequency rows left after the first ``layers`` of the trunk."""
    rows = MELS
    for layer in LAYERS[:layers]:
        rows //= layer.stride_f
    return rows


class Separable(nn.Module):
    """A 3x3 depthwise and a 1x1 convolution (layer 1: one full 3x3), each with a ReLU."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer
        stride, dilation = (layer.stride_t, layer.stride_f), (layer.dilation, 1)
        first = layer.cin == 1
        side = 0 if layer.stride_f == 2 else 1
        self.spread = nn.Conv2d(
            layer.cin,
            layer.cout if first else layer.cin,
            3,
            stride,
            (0, side),
            dilation,
            groups=1 if first else layer.cin,
        )
        self.point = None if first else nn.Conv2d(layer.cin, layer.cout, 1)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` [B, C, T, F] after ``past`` [B, C, memory, F] gives features and the new past."""
        seen = torch.cat([past, x], dim=2)
        # TensorFlow's SAME: an even length under stride 2 is padded at its end alone
        wide = functional.pad(seen, (0, 1)) if self.layer.stride_f == 2 else seen
        y = functional.relu(self.spread(wide))
        if self.point is not None:
            y = functional.relu(self.point(y))
        return y, seen[:, :, seen.shape[2] - self.layer.memory :]


class Residual(nn.Module):
    """Depthwise look-back over time, then a 1x1 mix, added to the input."""

    def __init__(self, width: int, taps: int, dilation: int) -> None:
        super().__init__()
        self.memory = (taps - 1) * dilation
        self.look = nn.Conv1d(width, width, taps, dilation=dilation, groups=width, bias=False)
        self.norm: nn.Module = nn.BatchNorm1d(width)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` [B, D, T] after ``past`` [B, D, memory]."""
        seen = torch.cat([past, x], dim=2)
        y = self.mix(functional.relu(self.norm(self.look(seen))))
        return x + y, seen[:, :, seen.shape[2] - self.memory :]


class Trunk(nn.Module):
    """The first ``layers`` of :data:`LAYERS`; gives every layer's output."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Separable(layer) for layer in LAYERS[:layers])

    def forward(self, x: Tensor, past: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Log-mel ``x`` [B, T, 64] gives features [B, C, T', F] by layer, and the new past."""
        y, outs, left = x.unsqueeze(1), [], []
        for layer, memory in zip(self.layers, past, strict=True):
            y, kept = layer(y, memory)
            outs.append(y)
            left.append(kept)
        return outs, left


class Head(nn.Module):
    """From trunk features to two score frames and two embeddings per step."""

    def __init__(self, config: TaggerConfig) -> None:
        super().__init__()
        self.config = config
        last = LAYERS[config.layers - 1].cout
        self.squeeze = _Pointwise(last, config.squeeze)
        size = config.squeeze * rows_after(config.layers)
        if config.skip_layer:
            self.skip: _Pointwise | None = _Pointwise(
                LAYERS[config.skip_layer - 1].cout, config.skip
            )
            size += config.skip * rows_after(config.skip_layer)
        else:
            self.skip = None
        self.tones = nn.Conv1d(config.tone_frames * MELS, config.tones, 1, bias=False)
        self.tones_norm: nn.Module = nn.BatchNorm1d(config.tones)
        size += config.tones
        self.enter = nn.Conv1d(size, config.width, 1, bias=False)
        self.enter_norm: nn.Module = nn.BatchNorm1d(config.width)
        self.blocks = nn.ModuleList(
            Residual(config.width, config.taps, d) for d in config.dilations
        )
        self.embed = nn.Conv1d(config.width, 2 * config.embedding, 1)
        self.score = nn.Conv1d(config.embedding, config.classes, 1)

    def forward(
        self, mel: Tensor, outs: list[Tensor], past: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Logits [B, 2T, classes], embeddings [B, 2T, D], body [B, width, T], new past."""
        rows = [_flat(self.squeeze(outs[self.config.layers - 1]))]
        if self.skip is not None:
            rows.append(_flat(self.skip(outs[self.config.skip_layer - 1])))
        rows.append(functional.relu(self.tones_norm(self.tones(self._steps(mel)))))
        x = functional.relu(self.enter_norm(self.enter(torch.cat(rows, dim=1))))
        left = []
        for block, memory in zip(self.blocks, past, strict=True):
            x, kept = block(x, memory)
            left.append(kept)
        d, (batch, _, steps) = self.config.embedding, x.shape
        e = functional.relu(self.embed(x))  # [B, 2D, T]
        e = e.reshape(batch, 2, d, steps).permute(0, 2, 3, 1).reshape(batch, d, 2 * steps)
        return self.score(e).transpose(1, 2), e.transpose(1, 2), x, left

    def _steps(self, mel: Tensor) -> Tensor:
        """Log-mel [B, 8T, 64] as [B, tone_frames * 64, T]."""
        batch, frames, _ = mel.shape
        steps = mel.reshape(batch, frames // STEP_FRAMES, STEP_FRAMES, MELS)
        if self.config.tone_frames == 1:
            return steps.mean(2).transpose(1, 2)
        return steps.reshape(batch, -1, STEP_FRAMES * MELS).transpose(1, 2)


class _Pointwise(nn.Module):
    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(cout)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.norm(self.conv(x)))


def _flat(x: Tensor) -> Tensor:
    """[B, C, T, F] -> [B, C*F, T]."""
    batch, c, t, f = x.shape
    return x.permute(0, 1, 3, 2).reshape(batch, c * f, t)


class Tagger(nn.Module):
    """Log-mel in, scores in 0..1 and embeddings out; memory in and out, in one fixed order."""

    def __init__(self, config: TaggerConfig = FULL, trunk: Trunk | None = None) -> None:
        super().__init__()
        self.config = config
        self.trunk = trunk if trunk is not None else Trunk(config.layers)
        self.head = Head(config)

    def forward(self, x: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """``x`` [B, 8n, 64]: scores [B, 2n, classes], embedding [B, 2n, D], then the new past."""
        count = self.config.layers
        outs, left = self.trunk(x, list(past[:count]))
        logits, embedding, _, kept = self.head(x, outs, list(past[count:]))
        return (torch.sigmoid(logits), embedding, *left, *kept)

    def memory_shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Name and shape, without B, of every memory, in the order of ``forward``."""
        return memory_shapes(self.config)

    def fresh(self, batch: int) -> list[Tensor]:
        """Memory of streams that have heard nothing."""
        return [torch.zeros(batch, *shape) for _, shape in self.memory_shapes()]


def memory_shapes(config: TaggerConfig) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape, without B, of every memory of one tier."""
    shapes: list[tuple[str, tuple[int, ...]]] = []
    rows = MELS
    for i, layer in enumerate(LAYERS[: config.layers]):
        shapes.append((f"trunk{i + 1}", (layer.cin, layer.memory, rows)))
        rows //= layer.stride_f
    for i, d in enumerate(config.dilations):
        shapes.append((f"block{i + 1}", (config.width, (config.taps - 1) * d)))
    return shapes


def macs_per_second(config: TaggerConfig) -> float:
    """Multiply-accumulates per second of audio in the graph, front end excluded."""
    rate, rows, total = 100.0, MELS, 0.0
    for layer in LAYERS[: config.layers]:
        rate, rows = rate / layer.stride_t, rows // layer.stride_f
        per = 9 * layer.cout if layer.cin == 1 else layer.cin * (9 + layer.cout)
        total += rate * rows * per
        if layer is LAYERS[config.skip_layer - 1] and config.skip_layer:
            total += rate * rows * layer.cout * config.skip
    last = LAYERS[config.layers - 1].cout
    total += rate * rows * last * config.squeeze
    size = config.squeeze * rows
    if config.skip_layer:
        size += config.skip * rows_after(config.skip_layer)
    size += config.tones
    total += rate * config.tones * config.tone_frames * MELS
    w = config.width
    total += rate * w * (size + len(config.dilations) * (config.taps + w) + 2 * config.embedding)
    return total + rate * 2 * config.embedding * config.classes
