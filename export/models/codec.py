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
    decoder_fine: int = 160
    decoder_wide: int = 256
    decoder_blocks: int = 3
    atoms: int = 192
    kernel: int = 3  # frames a fine layer sees
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
            log = torch.log(power[..., :bins] + power[..., bins:] + 1e-9) * 0.25 + 2.0
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


class Decoder(nn.Module):
    """Latents ``[B, T, D]`` to audio ``[B, 1, T hop]``, with no sample of delay.

    Each fine frame emits ``3 fine_hop`` samples that begin with its own: the tail rings on into
    the next frames, so nothing waits for an overlap from the future.
    """

    def __init__(self, shape: CodecShape) -> None:
        super().__init__()
        s = self.shape = shape
        self.enter = CausalMix(s.latent, s.decoder_wide, s.context)
        self.wide = Block(s.decoder_wide, 2)
        self.unfold = nn.Linear(s.decoder_wide, s.per_hop * s.decoder_fine)
        self.fine = nn.ModuleList(Block(s.decoder_fine, s.kernel) for _ in range(s.decoder_blocks))
        self.head = nn.Linear(s.decoder_fine, 2 * s.atoms)
        self.emit = nn.Linear(s.atoms, 3 * s.fine_hop, bias=False)
        self.gain = nn.Linear(s.context * s.latent, 1)
        self.direct = nn.Linear(s.context * s.latent, s.hop, bias=False)
        with torch.no_grad():
            self.direct.weight.zero_()
            self.direct.weight[:, 1 - s.latent :] = _cosines(s.latent - 1, s.hop).T
            self.emit.weight.mul_(0.2)
            self.head.bias.zero_()
            self.head.bias[s.atoms :] = -4.0
            self.gain.weight.zero_()
            self.gain.weight[0, -s.latent] = 1.0  # latent 0 begins as the hop's log level
            self.gain.bias.fill_(-2.5)

    def initial(self, batch: int) -> States:
        """The memory of a stream that has decoded nothing."""
        s = self.shape
        shapes = [(batch, s.context - 1, s.latent), (batch, 1, s.decoder_wide)]
        shapes += [(batch, s.kernel - 1, s.decoder_fine)] * s.decoder_blocks
        shapes += [(batch, 2, s.fine_hop), (batch, 1, s.fine_hop)]
        return [torch.zeros(x) for x in shapes]

    def forward(self, latent: Tensor, states: States) -> tuple[Tensor, States]:
        """``[B, T, D]`` and the memory to ``[B, 1, T hop]`` and the new memory."""
        s = self.shape
        batch, steps = latent.shape[0], latent.shape[1]
        seen = torch.cat([states[0], latent], dim=1)
        around = torch.cat([seen[:, i : i + steps] for i in range(s.context)], dim=2)
        x, kept = self.enter(latent, states[0])
        new = [kept]
        x, state = self.wide(x, states[1])
        new.append(state)
        with torch.autocast("cpu", enabled=False):
            gain = torch.exp(self.gain(around).clamp(-12.0, 4.0))
            direct = self.direct(around) * gain  # [B, T, hop]
        x = self.unfold(functional.silu(x)).reshape(batch, -1, s.decoder_fine)
        for block, state in zip(self.fine, states[2:], strict=False):
            x, state = block(x, state)
            new.append(state)
        shape, log_gain = self.head(x).float().chunk(2, dim=2)
        rays = self.emit(shape * torch.exp(log_gain.clamp(-12.0, 4.0))).float()
        now, next_, after = rays.chunk(3, dim=2)  # [B, S, fine_hop] each
        late2 = torch.cat([states[-2], after], dim=1)  # two frames late
        late1 = torch.cat([states[-1], next_], dim=1)  # one frame late
        fine = now.shape[1]
        out = now + late1[:, :fine] + late2[:, :fine]
        new += [late2[:, fine:], late1[:, fine:]]
        return (out.reshape(batch, steps, s.hop) + direct).reshape(batch, 1, steps * s.hop), new


@torch.no_grad()
def calibrate(encoder: Encoder, decoder: Decoder, audio: Tensor) -> tuple[Tensor, Tensor]:
    """Fits the untrained linear path to ``audio [B, T hop]``; mean and variance of the latent.

    The latent is normalised to unit variance after this, so the way back is scaled to match:
    an untrained codec then already passes the lowest 63 cosines of each hop at the right level.
    """
    latent, _ = encoder(audio[:, None], encoder.initial(len(audio)))
    flat = latent.reshape(-1, latent.shape[2])
    mean, var = flat.mean(dim=0), flat.var(dim=0)
    width = len(mean)
    decoder.direct.weight[:, 1 - width :] *= var[1:].sqrt()
    decoder.gain.weight[0, -width] = 0.35 * var[0].sqrt()
    decoder.gain.bias.fill_(float(0.35 * mean[0]))
    return mean, var


def macs_per_second(module: nn.Module, shape: CodecShape) -> float:
    """Multiply-accumulates for one second of audio, counted over the matrix products."""
    hops = 16000 / shape.hop
    total = 0.0
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            fine = name.split(".")[0] in {"raw", "front", "fine", "head", "emit"}
            total += layer.in_features * layer.out_features * hops * (shape.per_hop if fine else 1)
    fourier = getattr(module, "fourier", None)
    return total + (0.0 if fourier is None else fourier.numel() * hops * shape.per_hop)
