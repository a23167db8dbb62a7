"""Cheap variety for waveform models: speed, level, mixtures, colour. All seeded by the caller."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from ossicle.export.recipes.common.corpus import HOP, PCM, RATE_HZ, Pool, Samples

SPEEDS = (0.8, 0.86, 0.93, 1.08, 1.17, 1.27)


def at_speed(pcm: PCM, speed: float) -> PCM:
    """The recording played ``speed`` times as fast, pitch and formants moving with it."""
    out = soxr.resample(pcm, RATE_HZ * speed, RATE_HZ, quality="HQ")
    return np.asarray(out[: len(out) // HOP * HOP], np.int16)


def with_speeds(source: Pool) -> Pool:
    """The pool followed by itself at other speeds: other voices from the same words."""
    others = [at_speed(np.asarray(source.pcm), s) for s in SPEEDS]
    return Pool(source.name, np.concatenate([source.pcm, *others]), source.weight)


def draw(
    pools: list[Pool],
    items: int,
    samples: int,
    rng: np.random.Generator,
    least_rms: float = 0.0,
) -> tuple[Samples, NDArray[np.int64]]:
    """Crops ``[items, samples]`` with the pools' shares, and which pool each came from.

    Three in ten are mixed with a crop of another pool at 0..25 dB below, levels move by
    -18..+6 dB, one in twenty is turned upside down, and nothing exceeds full scale. A crop below
    ``least_rms`` is drawn again, five times at most.
    """
    share = np.array([p.weight for p in pools])
    which = rng.choice(len(pools), items, p=share / share.sum())
    out = np.empty((items, samples), np.float32)
    for row, kind in enumerate(which):
        for _ in range(6):
            out[row] = _crop(pools, int(kind), samples, rng)
            if rms(out[row]) >= least_rms:
                break
    return out, which.astype(np.int64)


def _crop(pools: list[Pool], kind: int, samples: int, rng: np.random.Generator) -> Samples:
    crop, _ = pools[kind].crop(samples, rng)
    if rng.random() < 0.3:
        other, _ = pools[int(rng.integers(len(pools)))].crop(samples, rng)
        below = 10 ** (-rng.uniform(0, 25) / 20)
        crop = crop + other * (below * rms(crop) / max(rms(other), 1e-4))
    crop = crop * (10 ** (rng.uniform(-18, 6) / 20) * (-1 if rng.random() < 0.05 else 1))
    return np.asarray(crop * min(1.0, 0.99 / max(float(np.abs(crop).max()), 1e-9)), np.float32)


def coloured(audio: Samples, rng: np.random.Generator) -> Samples:
    """Three in five crops of ``[items, samples]`` through a smooth random filter: other rooms.

    Gains at seven frequencies, evenly spaced in pitch, are normal with 3.5 dB.
    """
    items, samples = audio.shape
    where = (np.geomspace(1, 161, 7) - 1) / 160
    db = rng.normal(0, 3.5, (items, 7)) * (rng.random((items, 1)) < 0.6)
    bins = np.linspace(0, 1, samples // 2 + 1)
    gain = 10 ** (np.stack([np.interp(bins, where, row) for row in db]) / 20)
    out = np.fft.irfft(np.fft.rfft(audio, axis=1) * gain, n=samples, axis=1).astype(np.float32)
    peak = np.maximum(np.abs(out).max(axis=1, keepdims=True), 1e-9)
    return np.asarray(out * np.minimum(1, 0.99 / peak), np.float32)


def rms(x: Samples) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(x)) + 1e-12))
