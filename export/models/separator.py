"""Separation on request: a causal mask network steered by what the listener asks for.

Two parts, so that several queries share most of the work: a *trunk* listens once, and a *head*
per query turns what it heard into a complex mask through FiLM (Perez et al. 2018, eq. 1). The
front end is a lapped transform with a long analysis window into the past and a short synthesis
window (Mauler & Martin 2007), so frequency resolution does not cost latency.

Loudness never reaches the network: features are log-powers relative to a running mean of the
input's own power, so an input 40 dB softer gives the same mask.

Silence where nothing is to be heard is not left to the mask alone: one number per query and hop,
the *gate*, says whether what was asked for is there and scales the whole mask.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

POWER_FLOOR = 1e-9  # of a bin; silence looks like faint white noise instead of like nothing
RELATIVE_FLOOR = 1e-5  # of a bin's power relative to the running mean


@dataclass(frozen=True)
class SeparatorConfig:
    """Sizes; everything in samples is at ``rate_hz``."""

    hop: int = 128
    n_fft: int = 512
    latency: int = 160  # samples; the synthesis window's length
    trunk: int = 160  # D of the shared recurrent layer
    head: int = 128  # D of the recurrent layer per query
    labels: int = 27
    rotated: int = 128  # lowest bins whose mask may also turn the phase
    memory_s: float = 1.0  # time constant of the running power
    rate_hz: int = 16_000

    @property
    def bins(self) -> int:
        """Bins of a spectrum, DC included."""
        return self.n_fft // 2 + 1

    @property
    def decay(self) -> float:
        """What one hop leaves of the running power."""
        return float(torch.exp(torch.tensor(-self.hop / (self.rate_hz * self.memory_s))))

    def macs_per_second(self, queries: int = 1) -> float:
        """Multiply-accumulates per second of audio, transforms excluded."""
        t, h, f = self.trunk, self.head, self.bins - 1
        shared = f * t + 8 * t * t
        each = self.labels * 2 * t + 4 * h * (t + h) + t * h + h * (f + self.rotated + 1)
        return (shared + queries * each) * self.rate_hz / self.hop

    def to_dict(self) -> dict[str, float | int]:
        """Plain values, for checkpoints and manifests."""
        return asdict(self)


def lapped_windows(
    n_fft: int, hop: int, latency: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Analysis window [n_fft] and synthesis window [latency] whose product overlap-adds to one.

    ``latency == n_fft == 2 * hop`` gives the usual pair of sine windows; a shorter ``latency``
    keeps the long analysis and crosses over in the last ``latency - hop`` samples alone.
    """
    over = latency - hop
    if not 0 < over <= hop or latency > n_fft:
        raise ValueError(f"latency {latency} with hop {hop}, n_fft {n_fft}; hop < it <= 2 hop")
    rise = np.sin(np.pi / 2 * (np.arange(over) + 0.5) / over)
    analysis = np.ones(n_fft)
    analysis[n_fft - over :] = rise[::-1]
    back = n_fft - latency
    reach = back or over
    analysis[:reach] *= np.sin(np.pi / 2 * (np.arange(reach) + 0.5) / reach)
    synthesis = np.ones(latency)
    synthesis[hop:] = rise[::-1]
    synthesis[:over] = rise**2 / analysis[back : back + over]
    return analysis.astype(np.float32), synthesis.astype(np.float32)


class Separator(nn.Module):
    """Trunk and head over whole sequences, for training; :class:`Trunk`, :class:`Head` stream."""

    def __init__(self, config: SeparatorConfig) -> None:
        super().__init__()
        self.config = config
        t, h, f = config.trunk, config.head, config.bins - 1
        self.norm_mean = nn.Parameter(torch.full((f,), -2.0), requires_grad=False)
        self.norm_scale = nn.Parameter(torch.full((f,), 0.4), requires_grad=False)
        self.enter = nn.Linear(f, t)
        self.listen = nn.LSTM(t, t, batch_first=True)
        self.film = nn.Linear(config.labels, 2 * t)
        self.attend = nn.LSTM(t, h, batch_first=True)
        self.skip = nn.Linear(t, h)
        self.leave = nn.Linear(h, f + config.rotated)
        self.gate = nn.Linear(h, 1)
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, 4.0)  # begins open
        self.modulate, self.apply_mask = modulate, apply_mask
        nn.init.normal_(self.film.weight, std=0.3)
        nn.init.zeros_(self.film.bias)
        analysis, synthesis = lapped_windows(config.n_fft, config.hop, config.latency)
        self.analysis = nn.Parameter(torch.from_numpy(analysis), requires_grad=False)
        self.synthesis = nn.Parameter(torch.from_numpy(synthesis), requires_grad=False)

    def spectra(self, audio: Tensor) -> Tensor:
        """Spectra [B, T, F] complex of ``audio`` [B, T*hop]; frame t ends with hop t."""
        config = self.config
        padded = functional.pad(audio, (config.n_fft - config.hop, 0))
        frames = padded.unfold(-1, config.n_fft, config.hop)
        spectra: Tensor = torch.fft.rfft(frames * self.analysis)
        return spectra

    def synthesis_matrix(self) -> Tensor:
        """[2 * (F - 1), latency]: real then imaginary parts of bins 1.. to windowed samples."""
        config = self.config
        unit = torch.eye(config.bins, device=self.synthesis.device)[1:]
        parts = torch.cat((torch.complex(unit, unit * 0), torch.complex(unit * 0, unit)))
        tail: Tensor = torch.fft.irfft(parts, config.n_fft)[:, -config.latency :]
        return tail * self.synthesis

    def overlap_add(self, frames: Tensor) -> Tensor:
        """Audio [N, T*hop] of windowed frames [N, T, latency], late by ``latency - hop``."""
        config = self.config
        head, rest = frames[..., : config.hop], frames[..., config.hop :]
        late = functional.pad(rest[:, :-1], (0, 2 * config.hop - config.latency, 1, 0))
        return (head + late).flatten(1)

    def features(self, spectra: Tensor) -> Tensor:
        """Level-free features [B, T, F-1] of spectra [B, T, F]."""
        power = spectra.real.square() + spectra.imag.square()
        mean = power.mean(-1)  # [B, T]
        steps = torch.arange(mean.shape[1], device=mean.device)
        apart = (steps[:, None] - steps[None, :]).clamp(min=0)
        weights = (self.config.decay**apart).tril()
        level = (mean @ weights.T) / weights.sum(-1)
        return self.scaled(power[..., 1:], level[..., None])

    def scaled(self, power: Tensor, level: Tensor) -> Tensor:
        """Normalised log of ``power`` relative to ``level``."""
        relative = power.clamp(min=POWER_FLOOR) / level.clamp(min=POWER_FLOOR) + RELATIVE_FLOOR
        return (relative.log() - self.norm_mean) * self.norm_scale

    def told(self, spectra: Tensor, query: Tensor) -> Tensor:
        """What the head makes, [B, Q, T, D], of spectra [B, T, F] for queries [B, Q, labels]."""
        heard = torch.relu(self.enter(self.features(spectra)))
        heard = heard + self.listen(heard)[0]
        gain, shift = self.film(query).chunk(2, -1)  # [B, Q, D]
        seen = self.modulate(heard, gain, shift).flatten(0, 1)
        told = torch.relu(self.attend(seen)[0] + self.skip(seen))
        return told.view(*query.shape[:2], *told.shape[1:])

    def masks(self, spectra: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Gain [B, Q, T, F-1] and turn [B, Q, T, rotated] of bins 1.. for queries [B, Q, labels].

        ``spectra`` is [B, T, F]; the complex mask is ``gain + 1j * turn``.
        """
        told = self.told(spectra, query)
        raw, f = self.leave(told), self.config.bins - 1
        gain = torch.sigmoid(raw[..., :f]) * torch.sigmoid(self.gate(told))
        return gain, torch.tanh(raw[..., f:]) * gain[..., : self.config.rotated]

    def estimate(self, spectra: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Audio [B, Q, T*hop] of what ``query`` asks, and whether it is there, [B, Q, T] logits.

        The audio is late by ``latency - hop`` samples. The inverse transform is a matrix product
        here: it only needs the last ``latency`` samples, and it keeps the precision of whatever
        autocast is on.
        """
        told = self.told(spectra, query)
        raw, there = self.leave(told), self.gate(told)
        parts = torch.view_as_real(spectra)[:, None, :, 1:].to(raw.dtype)
        masked = self.apply_mask(raw, there, parts)
        frames = functional.linear(masked, self.synthesis_matrix().T)
        out = self.overlap_add(frames.flatten(0, 1))
        return out.view(*query.shape[:2], -1).float(), there[..., 0].float()

    def fuse(self) -> None:
        """Compile the elementwise parts for training: half the time, after half a minute."""
        self.modulate = torch.compile(modulate, dynamic=False)
        self.apply_mask = torch.compile(apply_mask, dynamic=False)


def modulate(heard: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """FiLM: ``heard`` [B, T, D] as each query wants it, [B, Q, T, D]; the others [B, Q, D]."""
    return torch.relu(heard[:, None] * (1 + gain)[:, :, None] + shift[:, :, None])


def apply_mask(raw: Tensor, there: Tensor, parts: Tensor) -> Tensor:
    """Masked real, then imaginary parts [B, Q, T, 2 F] of ``parts`` [B, 1, T, F, 2].

    ``raw`` [B, Q, T, F + rotated] holds gains and turns before their nonlinearities, ``there``
    [B, Q, T, 1] the logit of the gate that scales both.
    """
    f = parts.shape[-2]
    low = raw.shape[-1] - f
    gain = torch.sigmoid(raw[..., :f]) * torch.sigmoid(there)
    x, y = parts[..., 0], parts[..., 1]
    turn = torch.tanh(raw[..., f:]) * gain[..., :low]
    turn = functional.pad(turn, (0, f - low))
    return torch.cat((x * gain - y * turn, x * turn + y * gain), -1)


class _Cell(nn.Module):
    """One LSTM step as one matrix product, with torch's gate order."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        held = {name: value.detach() for name, value in lstm.named_parameters()}
        self.weight = nn.Parameter(torch.cat((held["weight_ih_l0"], held["weight_hh_l0"]), 1))
        self.bias = nn.Parameter(held["bias_ih_l0"] + held["bias_hh_l0"])

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """New ``h`` and ``c`` of input ``x`` and the old ones, all [..., D]."""
        gates = functional.linear(torch.cat((x, h), -1), self.weight, self.bias)
        i, f, g, o = gates.chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class Trunk(nn.Module):
    """One hop of listening: spectrum [B, F, 1, 2] and states in, features and states out."""

    def __init__(self, net: Separator) -> None:
        super().__init__()
        self.decay = net.config.decay
        # the normalisation is folded into the first layer
        weight = net.enter.weight * net.norm_scale
        self.enter = nn.Linear(weight.shape[1], weight.shape[0])
        self.enter.weight = nn.Parameter(weight.detach().clone())
        bias = net.enter.bias - weight @ net.norm_mean
        self.enter.bias = nn.Parameter(bias.detach().clone())
        self.listen = _Cell(net.listen)

    def forward(
        self, spectrum: Tensor, level: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``level`` [B, 2] is the decayed sum of powers and of weights."""
        power = (spectrum * spectrum).sum(-1)[..., 0]  # [B, F]
        fresh = torch.cat((power.mean(-1, keepdim=True), torch.ones_like(level[:, :1])), -1)
        level = level * self.decay + fresh
        mean = (level[:, :1] / level[:, 1:]).clamp(min=POWER_FLOOR)
        relative = power[:, 1:].clamp(min=POWER_FLOOR) / mean + RELATIVE_FLOOR
        heard = torch.relu(self.enter(relative.log()))
        h, c = self.listen(heard, h, c)
        return heard + h, level, h, c


class Head(nn.Module):
    """One hop of separating: features [B, D] and ``Q`` queries in, ``Q`` spectra [B, F, 1, 2] out.

    ``blend`` [B, Q, 2] is ``(a, b)`` of the mask ``a + b M``: ``(0, 1)`` what was asked for,
    ``(1, -1)`` everything but, ``(1 - depth, depth)`` less of either.
    """

    def __init__(self, net: Separator, queries: int) -> None:
        super().__init__()
        self.queries, self.config = queries, net.config
        self.film, self.skip, self.leave, self.gate = net.film, net.skip, net.leave, net.gate
        self.attend = _Cell(net.attend)

    def forward(
        self,
        heard: Tensor,
        spectrum: Tensor,
        query: Tensor,
        blend: Tensor,
        h: Tensor,
        c: Tensor,
    ) -> tuple[Tensor, ...]:
        """``query`` [B, Q, labels], states [B, Q, D]; ``Q`` spectra, then the states."""
        f, low = self.config.bins - 1, self.config.rotated
        gain, shift = self.film(query).chunk(2, -1)
        seen = torch.relu(heard[:, None] * (1 + gain) + shift)
        h, c = self.attend(seen, h, c)
        told = torch.relu(h + self.skip(seen))
        raw = self.leave(told)
        g = torch.sigmoid(raw[..., :f]) * torch.sigmoid(self.gate(told))
        turn = g[..., :low] * torch.tanh(raw[..., f:])
        amount, offset = blend[..., 1:], blend[..., :1]
        zero = torch.zeros_like(offset)
        re = offset + amount * torch.cat((zero, g), -1)
        im = amount * torch.cat((zero, turn, torch.zeros_like(g[..., low:])), -1)
        x, y = spectrum[:, None, :, 0, 0], spectrum[:, None, :, 0, 1]
        out = torch.stack((x * re - y * im, x * im + y * re), -1)[:, :, :, None]
        return (*(out[:, q] for q in range(self.queries)), h, c)
