"""Losses on waveforms ``[B, samples]`` at 16 kHz: mel, compressed complex STFT, loudness, wave."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor


@cache
def _hann(n: int) -> Tensor:
    return torch.hann_window(n)


@cache
def mel_filters(n_fft: int, n_mels: int, rate_hz: int = 16000) -> Tensor:
    """Triangles on the HTK mel scale, ``[n_fft // 2 + 1, n_mels]``, each of unit sum."""
    top = 2595 * math.log10(1 + rate_hz / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, n_mels + 2) / 2595) - 1)
    hz = torch.arange(n_fft // 2 + 1) * rate_hz / n_fft
    edges = torch.maximum(edges, torch.arange(n_mels + 2) * 1e-3)
    rise = (hz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - hz[:, None]) / (edges[2:] - edges[1:-1])
    bank = torch.minimum(rise, fall).clamp(min=0)
    return bank / bank.sum(dim=0).clamp(min=1e-3)


def stft(x: Tensor, n_fft: int, hop: int) -> Tensor:
    """Complex spectrum ``[B, frames, n_fft // 2 + 1]`` with a Hann window, not padded."""
    frames = x.unfold(1, n_fft, hop) * _hann(n_fft)
    spectrum: Tensor = torch.fft.rfft(frames) * math.sqrt(1.0 / n_fft)
    return spectrum


def log_mel_distance(x: Tensor, y: Tensor, n_fft: int, n_mels: int) -> Tensor:
    """Mean absolute difference of natural-log mel magnitudes, hop a quarter window."""
    return spectral_distances(x, y, n_fft, n_fft // 4, n_mels)[0]


def spectral_distances(
    x: Tensor, y: Tensor, n_fft: int, hop: int, n_mels: int
) -> tuple[Tensor, Tensor]:
    """Log-mel and compressed complex distance of ``y`` from ``x``, from one STFT of each.

    The first is the mean absolute difference of natural-log mel magnitudes. The second compares
    spectra whose magnitude is replaced by its square root, phase kept, plus the same with
    magnitudes alone, as in speech enhancement practice.
    """
    bank = mel_filters(n_fft, n_mels)
    with torch.no_grad():
        want = torch.view_as_real(stft(x, n_fft, hop))
        size = (want.square().sum(dim=-1) + 1e-8).sqrt()
        want_root = size.sqrt()
        want_squeezed = want / want_root[..., None]
        want_mel = torch.log(size @ bank + 1e-4)
    have = torch.view_as_real(stft(y, n_fft, hop))
    size = (have.square().sum(dim=-1) + 1e-8).sqrt()
    root = size.sqrt()
    mel = (torch.log(size @ bank + 1e-4) - want_mel).abs().mean()
    phase = (have / root[..., None] - want_squeezed).square().sum(dim=-1).mean()
    return mel, phase + (root - want_root).square().mean()


def wave_distance(x: Tensor, y: Tensor) -> Tensor:
    """Mean over items of the error's RMS relative to the item's, in log domain, plus emphasis.

    ``log(1 + e / s)`` weighs quiet and loud items alike and does not explode on silence.
    """

    def ratio(a: Tensor, b: Tensor) -> Tensor:
        error = (a - b).square().mean(dim=1)
        return 0.5 * torch.log((error + 1e-8) / (a.square().mean(dim=1) + 1e-6))

    lift = (x[:, 1:] - 0.9 * x[:, :-1], y[:, 1:] - 0.9 * y[:, :-1])
    return (ratio(x, y) + ratio(*lift)).mean() * 0.5


@cache
def _bark() -> tuple[Tensor, Tensor, Tensor]:
    """Matrix ``[257, 49]`` from power bins to Bark bands, band widths, thresholds of hearing."""
    hz = torch.arange(257) * 31.25
    z = 6 * torch.asinh(hz / 600)
    index = (z / z[-1] * 49).long().clamp(max=48)
    matrix = torch.zeros(257, 49)
    matrix[torch.arange(257), index] = 1.0
    matrix[0] = 0.0
    used = matrix.sum(dim=0)
    matrix = matrix / used.clamp(min=1)
    centre = 600 * torch.sinh((torch.arange(49) + 0.5) * float(z[-1]) / 49 / 6)
    k = centre / 1000
    db = 3.64 * k**-0.8 - 6.5 * torch.exp(-0.6 * (k - 3.3) ** 2) + 1e-3 * k**4
    width = (used > 0).float() * float(z[-1]) / 49
    return matrix, width, 10 ** (db.clamp(max=60.0) / 10)


def loudness_distance(x: Tensor, y: Tensor) -> Tensor:
    """Audible disturbance of ``y`` against ``x`` in the manner of ITU-T P.862, in its points.

    Follows the psychoacoustic core (32 ms frames, Bark bands, Zwicker loudness, masking dead
    zone, asymmetry towards added sound) without time alignment and transfer equalisation, so it
    can be differentiated. About 0 for no audible difference, 3 and more for a bad one.
    """
    matrix, width, threshold = _bark()

    def bands(wave: Tensor, scale: Tensor) -> Tensor:
        z = stft(wave, 512, 256)
        return ((z.real.square() + z.imag.square()) @ matrix) * scale

    def sone(p: Tensor) -> Tensor:
        rise = (0.5 + 0.5 * p / threshold).pow(0.23) - 1
        return 0.1866 * (threshold / 0.5).pow(0.23) * rise.clamp(min=0)

    with torch.no_grad():
        scale = (1e7 / 40 / (x.square().mean(dim=1) + 1e-8))[:, None, None]
        px = bands(x, scale)
        lx = sone(px)
        weight = ((px.sum(dim=2) + 1e5) / 1e7).pow(0.04)
    py = bands(y, scale)
    ly = sone(py)
    raw = ly - lx
    dead = 0.25 * torch.minimum(lx, ly)
    d = torch.sign(raw) * (raw.abs() - dead).clamp(min=0)
    with torch.no_grad():
        tilt = ((py + 50) / (px + 50)).pow(1.2)
        tilt = torch.where(tilt < 3, torch.zeros_like(tilt), tilt.clamp(max=12.0))
    sym = ((d * width).square().sum(dim=2) * width.sum() + 1e-6).sqrt() / weight
    asym = (d.abs() * tilt * width).sum(dim=2) / weight
    frames = (sym.clamp(max=45).square().mean(dim=1) + 1e-6).sqrt()
    return (0.1 * frames + 0.0309 * asym.clamp(max=45).mean(dim=1)).mean()


@cache
def _thirds() -> Tensor:
    """Matrix ``[257, 15]`` from power bins to third-octave bands from 150 Hz on."""
    hz = torch.arange(257) * 31.25
    centre = 150 * 2 ** (torch.arange(15) / 3)
    low = (hz[:, None] - centre * 2 ** (-1 / 6)).abs().argmin(dim=0)
    high = (hz[:, None] - centre * 2 ** (1 / 6)).abs().argmin(dim=0)
    bins = torch.arange(257)[:, None]
    return ((bins >= low) & (bins < torch.maximum(high, low + 1))).float()


def envelope_distance(x: Tensor, y: Tensor) -> Tensor:
    """1 less the correlation of band envelopes over 384 ms: what short-time intelligibility asks.

    Third-octave bands, frames of 25.6 ms, those 40 dB below the loudest left out, ``y`` scaled to
    ``x`` band by band and clipped at -15 dB, as in C. Taal and others, "An Algorithm for
    Intelligibility Prediction of Time-Frequency Weighted Noisy Speech" (2011), at 16 kHz instead
    of 10 and every other position. Items with less than 400 ms of sound do not count.
    """
    clip, rows = 1 + 10 ** (15 / 20), []
    frames = [v.unfold(1, 410, 205) * _hann(410) for v in (x, y)]
    bands = []
    for f in frames:
        z = torch.fft.rfft(f, n=512)
        bands.append(((z.real.square() + z.imag.square()) @ _thirds() + 1e-9).sqrt())
    level = 20 * torch.log10(frames[0].norm(dim=2) + 1e-7)
    for want, have, db in zip(*bands, level, strict=True):
        kept = (db > db.max() - 40).nonzero()[:, 0]
        if len(kept) < 31:
            continue
        a, b = (v[kept].unfold(0, 30, 2) for v in (want, have))  # [positions, bands, 30]
        b = b * (a.norm(dim=2, keepdim=True) / (b.norm(dim=2, keepdim=True) + 1e-7))
        b = torch.minimum(b, a * clip)
        a, b = (v - v.mean(dim=2, keepdim=True) for v in (a, b))
        alike = (a * b).sum(dim=2) / ((a.norm(dim=2) + 1e-7) * (b.norm(dim=2) + 1e-7))
        rows.append(1 - alike.mean())
    return torch.stack(rows).mean() if rows else y.sum() * 0
