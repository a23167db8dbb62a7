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

import torch
from torch import Tensor, nn
from torch.nn import functional

from ossicle.export.models.codec_layers import Block, CausalMix, Unit, cosines, fourier, leak

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


class Encoder(nn.Module):
    """Audio ``[B, 1, T hop]`` to latents ``[B, T, D]``; memory: a hop of audio, layer histories."""

    fourier: Tensor

    def __init__(self, shape: CodecShape) -> None:
        super().__init__()
        s = self.shape = shape
        bins = s.fft // 2 + 1
        self.register_buffer("fourier", fourier(s.fft))
        self.raw = nn.Linear(s.fft, 64)
        self.front = nn.Linear(64 + bins, s.encoder_fine)
        self.fine = nn.ModuleList(Block(s.encoder_fine, s.kernel) for _ in range(s.encoder_blocks))
        self.fold = nn.Linear(s.per_hop * s.encoder_fine, s.encoder_wide)
        self.wide = Block(s.encoder_wide, 2)
        self.latent = nn.Linear(s.encoder_wide, s.latent)
        self.direct = nn.Linear(2 * s.hop, s.latent, bias=False)
        with torch.no_grad():
            self.direct.weight.zero_()
            self.direct.weight[1:, s.hop :] = cosines(s.latent - 1, s.hop)
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
