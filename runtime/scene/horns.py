"""Sirens and car horns from a seed; the patterns' sources are named in :mod:`alarms`."""

from typing import Final

import numpy as np

from ossicle.runtime.scene.beeps import Made, Make, Rng, beeps, pitch
from ossicle.runtime.scene.sound import Array, cadence, envelope, harmonics


def _horn_tone(rng: Rng, freq_hz: Array, rate_hz: int, brightness: float) -> Array:
    """A siren or horn driver: many partials, a formant-like bump, slight asymmetry."""
    bump = rng.uniform(1000, 3000)
    mean = float(freq_hz.mean())
    weights = [
        k**-brightness * (1 + 1.5 * float(np.exp(-(((k * mean - bump) / 700) ** 2))))
        for k in range(1, 25)
    ]
    return harmonics(freq_hz, weights, rate_hz)


def _sweep(rng: Rng, n: int, rate_hz: int, per_minute: tuple[float, float]) -> Made:
    low, high = float(rng.uniform(380, 800)), float(rng.uniform(1100, 1800))
    turns = float(rng.uniform(*per_minute))
    at = (np.arange(n) / rate_hz * turns / 60 + rng.random()) % 1.0
    rise = rng.uniform(0.3, 0.65)
    tri = np.where(at < rise, at / rise, (1 - at) / (1 - rise))
    curve = rng.uniform(0.6, 1.6)
    freq = low * (high / low) ** (tri**curve)
    freq *= 1 + rng.uniform(-0.04, 0.04) * np.linspace(-1, 1, n)  # the vehicle passes
    x = _horn_tone(rng, freq, rate_hz, rng.uniform(0.7, 1.8))
    bursts = [(0, n)]
    gate = envelope(n, bursts, rng.uniform(0.01, 0.3), rng.uniform(0.05, 0.4), rate_hz)
    recipe: dict[str, float | str] = {"low_hz": low, "high_hz": high, "sweeps_per_minute": turns}
    return x * gate, bursts, recipe


def _wail(rng: Rng, n: int, rate_hz: int) -> Made:
    return _sweep(rng, n, rate_hz, (10, 35))


def _yelp(rng: Rng, n: int, rate_hz: int) -> Made:
    return _sweep(rng, n, rate_hz, (120, 260))


def _hi_lo(rng: Rng, n: int, rate_hz: int) -> Made:
    low = float(rng.uniform(360, 700))
    high = low * float(rng.uniform(1.12, 1.45))
    half = float(rng.uniform(0.35, 0.8))
    t = np.arange(n) / rate_hz + rng.uniform(0, 2 * half)
    step = ((t / half) % 2) < 1
    glide = max(1, round(rng.uniform(0.002, 0.03) * rate_hz))
    freq = np.convolve(np.where(step, low, high), np.ones(glide) / glide, mode="same")
    freq[: glide // 2 + 1] = freq[glide // 2 + 1] if n > glide else low
    freq[-(glide // 2 + 1) :] = freq[-(glide // 2 + 2)] if n > glide else low
    x = _horn_tone(rng, freq, rate_hz, rng.uniform(0.5, 1.5))
    gate = envelope(n, [(0, n)], rng.uniform(0.005, 0.1), rng.uniform(0.02, 0.2), rate_hz)
    return x * gate, [(0, n)], {"low_hz": low, "high_hz": high, "half_s": half}


def _horn(rng: Rng, n: int, rate_hz: int) -> Made:
    low = float(rng.uniform(290, 480))
    ratio = float(rng.uniform(1.15, 1.35))
    kinds = [[(rng.uniform(0.15, 0.6), rng.uniform(0.1, 0.5))] * 2, [(rng.uniform(0.8, 3), 1.0)]]
    pattern = list(kinds[int(rng.integers(2))])
    pattern[-1] = (pattern[-1][0], float(rng.uniform(0.6, 3)))
    bursts = cadence(pattern, n, rate_hz)
    x = np.zeros(n)
    for hz in [low] if rng.random() < 0.3 else [low, low * ratio]:
        freq = pitch(rng, n, hz, rate_hz, 0.006)
        x += _horn_tone(rng, freq, rate_hz, rng.uniform(0.4, 1.1)) * rng.uniform(0.6, 1)
    return beeps(rng, x, bursts, rate_hz, 0.04), bursts, {"pitch_hz": low, "ratio": ratio}


SIREN: Final[dict[str, Make]] = {"wail": _wail, "yelp": _yelp, "hi_lo": _hi_lo}
HORN: Final[dict[str, Make]] = {"horn": _horn}
