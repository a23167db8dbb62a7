"""The built-in codec's encoder and decoder: causal, 20 ms hops, memory passed in and out.

Both networks are a linear path plus a correction. The linear path is one matrix from the last
two hops to the latent, and one back, scaled by a level that the network predicts; the correction
is a few wide residual layers at 200 Hz (5 ms) and 50 Hz. Every layer is a matrix product over a
few past frames, so a hop costs about a dozen fat operators and the weights are read once.

Axis letters: ``B`` batch, ``T`` hops, ``S`` frames of 5 ms (``4 T``), ``D`` latent width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

States = list[Tensor]


@dataclass(frozen=True)
class CodecShape:
    """Sizes of the codec; the defaults are the built-in ``codec-16k``."""

    hop: int = 320
    latent: int = 64
    per_hop: int = 4  # fine frames a hop
    fft: int = 320  # window of the log-magnitude front, samples
    encoder_fine: int = 128
    encoder_wide: int = 256
    encoder_blocks: int = 3
    decoder_wide: int = 256
    stage_times: tuple[int, ...] = (2, 2, 5)  # 100, 200, 1000 frames a second
    stage_widths: tuple[int, ...] = (256, 128, 64)
    stage_hidden: tuple[int, ...] = (256, 128, 64)
    stage_units: tuple[tuple[tuple[int, int], ...], ...] = (  # (kernel, dilation) of each unit
        ((5, 1), (5, 4)),
        ((5, 1), (5, 4)),
        ((3, 1), (3, 3), (3, 9)),
    )
    kernel: int = 3  # frames a fine encoder layer sees
    context: int = 3  # hops of latent the decoder sees at once

    @property
    def fine_hop(self) -> int:
        """Samples in one fine frame."""
        return self.hop // self.per_hop


class CausalMix(nn.Module):
    """A matrix over the last ``kernel`` frames: ``[B, T, C] -> [B, T, out]``.

    The state is the ``kernel - 1`` frames before the hop, ``[B, kernel - 1, C]``.
    """

    def __init__(self, width: int, out: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.width = width
        self.linear = nn.Linear(kernel * width, out)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, T, C]`` and its history to ``[B, T, out]`` and the new history."""
        steps = x.shape[1]
        seen = torch.cat([state.to(x.dtype), x], dim=1)
        taps = [seen[:, i : i + steps] for i in range(self.kernel)]
        return self.linear(torch.cat(taps, dim=2)), seen[:, steps:]


class Block(nn.Module):
    """``x + W2 silu(W1 [n(x) of the last frames])``, n a LayerNorm without weights."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.width = width
        self.mix = CausalMix(width, width, kernel)
        self.out = nn.Linear(width, width)
        with torch.no_grad():
            self.out.weight.mul_(0.5)
            self.out.bias.zero_()

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, T, C]`` to ``[B, T, C]`` and the new state."""
        n = functional.layer_norm(x, (self.width,))
        y, state = self.mix(n, state)
        return x + self.out(functional.silu(y)), state


def _cosines(rows: int, n: int) -> Tensor:
    """The first ``rows`` vectors of the orthonormal DCT-II of length ``n``, ``[rows, n]``."""
    k = torch.arange(rows)[:, None]
    t = torch.arange(n)[None]
    basis = torch.cos(math.pi * (t + 0.5) * k / n) * math.sqrt(2 / n)
    basis[0] *= math.sqrt(0.5)
    return basis


def _fourier(n: int) -> Tensor:
    """Hann-windowed real DFT as one matrix, ``[n, 2 (n // 2 + 1)]``: cosines, then sines."""
    t = torch.arange(n, dtype=torch.float64)
    window = 0.5 - 0.5 * torch.cos(2 * math.pi * (t + 0.5) / n)
    angle = 2 * math.pi * t[:, None] * torch.arange(n // 2 + 1, dtype=torch.float64)[None] / n
    both = torch.cat([angle.cos(), angle.sin()], dim=1) * window[:, None] * (2 / n)
    return both.float()


class Encoder(nn.Module):
    """Audio ``[B, 1, T hop]`` to latents ``[B, T, D]``; memory: a hop of audio, layer histories."""

    fourier: Tensor

    def __init__(self, shape: CodecShape) -> None:
        super().__init__()
        s = self.shape = shape
        bins = s.fft // 2 + 1
        self.register_buffer("fourier", _fourier(s.fft))
        self.raw = nn.Linear(s.fft, 64)
        self.front = nn.Linear(64 + bins, s.encoder_fine)
        self.fine = nn.ModuleList(Block(s.encoder_fine, s.kernel) for _ in range(s.encoder_blocks))
        self.fold = nn.Linear(s.per_hop * s.encoder_fine, s.encoder_wide)
        self.wide = Block(s.encoder_wide, 2)
        self.latent = nn.Linear(s.encoder_wide, s.latent)
        self.direct = nn.Linear(2 * s.hop, s.latent, bias=False)
        with torch.no_grad():
            self.direct.weight.zero_()
            self.direct.weight[1:, s.hop :] = _cosines(s.latent - 1, s.hop)
            self.latent.weight.mul_(0.05)

    def initial(self, batch: int) -> States:
        """The memory of a stream that has heard nothing."""
        s = self.shape
        shapes: list[tuple[int, ...]] = [(batch, s.hop)]
        shapes += [(batch, s.kernel - 1, s.encoder_fine)] * s.encoder_blocks
        shapes += [(batch, 1, s.encoder_wide)]
        return [torch.zeros(x) for x in shapes]

    def forward(self, hop: Tensor, states: States) -> tuple[Tensor, States]:
        """``[B, 1, T hop]`` and the memory to ``[B, T, D]`` and the new memory."""
        s = self.shape
        batch, samples = hop.shape[0], hop.shape[2]
        seen = torch.cat([states[0], hop[:, 0]], dim=1)
        hops = seen.unfold(1, 2 * s.hop, s.hop)  # [B, T, 2 hop]
        fine = seen[:, s.hop - s.fft + s.fine_hop :].unfold(1, s.fft, s.fine_hop)  # [B, S, fft]
        new = [seen[:, samples:]]

        with torch.autocast("cpu", enabled=False):
            power = (fine.float() @ self.fourier).square()
            bins = power.shape[2] // 2
            power = (power[..., :bins] + power[..., bins:]) * 1e4
            # a floor of 1e-9 written at this scale: exporters take an addend of 1e-9 for zero
            log = torch.log(power + 1e-5) * 0.25 + (2.0 - 0.25 * math.log(1e4))
            level = torch.log(fine.square().mean(dim=2, keepdim=True) + 1e-7)
            raw = fine * torch.exp(-0.35 * level)
            loud = torch.log(hops.square().mean(dim=2, keepdim=True) + 1e-7)
            straight = self.direct(hops * torch.exp(-0.35 * loud))
        x = self.front(torch.cat([self.raw(raw), log.to(raw.dtype)], dim=2))
        for block, state in zip(self.fine, states[1:], strict=False):
            x, state = block(x, state)
            new.append(state)
        x = self.fold(x.reshape(batch, -1, s.per_hop * s.encoder_fine))
        x, state = self.wide(x, states[-1])
        new.append(state)
        return self.latent(x).float() + straight + functional.pad(loud, (0, s.latent - 1)), new


class _Taps(torch.autograd.Function):
    """A dilated depthwise filter over time, its gradient without a padded copy a tap.

    ``[B, history + T, C]`` and ``[k, C]`` to ``[B, T, C]``. The plain sum of slices is the same
    filter; its automatic gradient fills and adds one array of the full length for each tap, which
    took a third of a training step.
    """

    @staticmethod
    def forward(ctx: Any, seen: Tensor, taps: Tensor, dilation: int) -> Tensor:
        """The filter's output."""
        ctx.save_for_backward(seen, taps)
        ctx.dilation = dilation
        steps = seen.shape[1] - (len(taps) - 1) * dilation
        y = seen[:, :steps] * taps[0]
        for i in range(1, len(taps)):
            y.addcmul_(seen[:, i * dilation : i * dilation + steps], taps[i])
        return y

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of the input and of the taps."""
        seen, taps = ctx.saved_tensors
        steps, width = given.shape[1], taps.shape[1]
        back, of_taps = torch.zeros_like(seen), torch.empty_like(taps)
        for i in range(len(taps)):
            here = slice(i * ctx.dilation, i * ctx.dilation + steps)
            back[:, here].addcmul_(given, taps[i])
            of_taps[i] = (given * seen[:, here]).reshape(-1, width).sum(dim=0)
        return back, of_taps, None


class Unit(nn.Module):
    """``x + W2 f(W1 dw(f(x)))``: a dilated depthwise filter, then two matrices; f leaks at 0.3."""

    def __init__(self, width: int, hidden: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        self.history = (kernel - 1) * dilation  # frames
        self.taps = nn.Parameter(torch.randn(kernel, width) * kernel**-0.5)
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(hidden, width)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, T, C]`` and ``[B, history, C]`` to ``[B, T, C]`` and the new history."""
        steps = x.shape[1]
        seen = torch.cat([state.to(x.dtype), leak(x)], dim=1)
        if steps <= 64:  # one gather instead of a slice a tap: fewer operators in a graph
            index = torch.arange(steps)[:, None] + torch.arange(self.kernel) * self.dilation
            near = seen.index_select(1, index.reshape(-1))
            y = (near.reshape(x.shape[0], steps, *self.taps.shape) * self.taps).sum(dim=2)
        else:
            y = _Taps.apply(seen, self.taps.to(x.dtype), self.dilation)  # type: ignore[no-untyped-call]
        return x + self.second(leak(self.first(y))), seen[:, steps:]


def leak(x: Tensor) -> Tensor:
    """Leaky rectifier, slope 0.3."""
    return functional.leaky_relu(x, 0.3)


class Stage(nn.Module):
    """Frames at one rate to frames at a higher one, then residual units there.

    ``[B, T, C] -> [B, T times, width]``; memory: one frame below, a history a unit.
    """

    def __init__(
        self, width_in: int, width: int, times: int, hidden: int, units: tuple[tuple[int, int], ...]
    ) -> None:
        super().__init__()
        self.width_in, self.width, self.times = width_in, width, times
        self.up = CausalMix(width_in, times * width, 2)
        self.units = nn.ModuleList(Unit(width, hidden, k, d) for k, d in units)
        self.histories = [(k - 1) * d for k, d in units]

    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the memory, without B."""
        return [(1, self.width_in), *((n, self.width) for n in self.histories)]

    def lift(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The frames at the higher rate before the units."""
        y, state = self.up(leak(x), state)
        return y.reshape(y.shape[0], -1, self.width), state

    def forward(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        """Frames and memory to frames and memory."""
        x, state = self.lift(x, states[0])
        new = [state]
        for unit, old in zip(self.units, states[1:], strict=True):
            x, state = unit(x, old)
            new.append(state)
        return x, new


class Decoder(nn.Module):
    """Latents ``[B, T, D]`` to audio ``[B, 1, T hop]``, with no sample of delay.

    Stages at 100, 200 and 1000 frames a second, each a matrix up and a few units; a last matrix
    over the four frames of 1 ms up to now gives 16 samples. Nothing waits for the future.
    """

    def __init__(self, shape: CodecShape) -> None:
        super().__init__()
        s = self.shape = shape
        self.enter = CausalMix(s.latent, s.decoder_wide, s.context)
        plan = zip(s.stage_widths, s.stage_times, s.stage_hidden, s.stage_units, strict=True)
        below, stages = s.decoder_wide, []
        for width, times, hidden, units in plan:
            stages.append(Stage(below, width, times, hidden, units))
            below = width
        self.stages = nn.ModuleList(stages)
        self.samples = s.hop // math.prod(s.stage_times)
        self.leave = CausalMix(below, self.samples, 64 // self.samples)

    def initial(self, batch: int) -> States:
        """The memory of a stream that has decoded nothing."""
        s = self.shape
        shapes: list[tuple[int, ...]] = [(s.context - 1, s.latent)]
        for stage in self.stages:
            shapes += stage.shapes()  # type: ignore[operator]
        shapes += [(self.leave.kernel - 1, self.leave.width)]
        return [torch.zeros(batch, *x) for x in shapes]

    def forward(self, latent: Tensor, states: States) -> tuple[Tensor, States]:
        """``[B, T, D]`` and the memory to ``[B, 1, T hop]`` and the new memory."""
        x, state = self.enter(latent, states[0])
        new, at = [state], 1
        for stage in self.stages:
            count = 1 + len(stage.units)  # type: ignore[arg-type]
            x, kept = stage(x, states[at : at + count])
            new += kept
            at += count
        x, state = self.leave(leak(x), states[at])
        new.append(state)
        return x.reshape(x.shape[0], 1, -1), new


def macs_per_second(network: Encoder | Decoder) -> float:
    """Multiply-accumulates for one second of audio (16 kHz), counted over the matrix products."""
    shape, counted = network.shape, [0.0]

    def count(layer: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        counted[0] += given[0].numel() * out.shape[-1]

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Linear)]
    size = (1, 1, shape.hop) if isinstance(network, Encoder) else (1, 1, shape.latent)
    with torch.no_grad():
        network(torch.zeros(size), network.initial(1))
    for hook in hooks:
        hook.remove()
    fixed = network.fourier.numel() * shape.per_hop if isinstance(network, Encoder) else 0
    return (counted[0] + fixed) * 16000 / shape.hop
