"""Household and outdoor sounds from a seed, each from the physics that makes it, roughly.

``KNOWN`` are like classes that the built-in tagger names; ``UNKNOWN`` are like nothing it names
and exist to show that it then stays silent. They are stand-ins for demonstrations and tests, not
recordings: measures of a model are taken on recordings.
"""

from typing import Final

import numpy as np

from ossicle.runtime.errors import AudioError
from ossicle.runtime.scene.household import UNKNOWN
from ossicle.runtime.scene.scatter import Made, Make, Rng, ping, scatter, times
from ossicle.runtime.scene.sound import (
    RATE_HZ,
    Array,
    Sound,
    bridge,
    envelope,
    finish,
    harmonics,
    length,
    noise,
    shape_spectrum,
)

__all__ = ["KNOWN", "UNKNOWN", "synthesise"]


def synthesise(label: str, rng: Rng, seconds: float = 5.0, rate_hz: int = RATE_HZ) -> Sound:
    """An everyday sound ``label`` (a key of :data:`KNOWN` or :data:`UNKNOWN`) of ``seconds``."""
    make = KNOWN.get(label) or UNKNOWN.get(label)
    if make is None:
        known = ", ".join([*KNOWN, *UNKNOWN])
        raise AudioError(f"no everyday sound is called {label!r}; there are {known}")
    x, bursts = make(rng, length(seconds, rate_hz), rate_hz)
    return finish(label, x, bursts, {})


def _call(
    rng: Rng,
    seconds: float,
    hz: list[float],
    formants: list[tuple[float, float]],
    rate_hz: int,
    breath: float = 0.1,
) -> Array:
    """A cry: harmonics along the pitch contour ``hz``, coloured by ``formants`` (Hz, dB)."""
    size = max(64, round(seconds * rate_hz))
    freq = np.interp(np.linspace(0, 1, size), np.linspace(0, 1, len(hz)), hz)
    partials = max(2, int(0.45 * rate_hz / freq.min()))
    weights = [k**-0.7 for k in range(1, min(partials, 40) + 1)]
    x = harmonics(freq, weights, rate_hz)
    x = x / (float(np.abs(x).max()) or 1.0) + breath * noise(rng, size)
    curve = [(20.0, -30.0), *formants, (0.5 * rate_hz, -35.0)]
    return shape_spectrum(x, curve, rate_hz) * envelope(size, [(0, size)], 0.02, 0.06, rate_hz)


def _dog(rng: Rng, n: int, rate_hz: int) -> Made:
    base, x, bursts = float(rng.uniform(280, 620)), np.zeros(n), []
    for i in times(rng, n, (0.35, 1.1), rate_hz):
        up = base * float(rng.uniform(1.3, 1.9))
        y = _call(
            rng,
            float(rng.uniform(0.12, 0.24)),
            [base, up, up * 0.9, base * 0.7],
            [(350, -4), (base * 2, 0), (1500, -4), (3000, -14)],
            rate_hz,
            0.35,
        )[: n - i]
        x[i : i + len(y)] += y * rng.uniform(0.6, 1)
        bursts.append((i, i + len(y)))
    return x, bursts


def _rain(rng: Rng, n: int, rate_hz: int) -> Made:
    bed = shape_spectrum(noise(rng, n), [(80, -25), (600, -6), (3000, 0), (8000, -4)], rate_hz)
    at = [int(i) for i in rng.integers(0, n, max(1, int(40 * n / rate_hz)))]
    drops, _ = scatter(
        rng,
        n,
        at,
        lambda: ping(rng, 200, [float(rng.uniform(1500, 7000))], 0.002, rate_hz),
        24,
    )
    return bed + 4 * drops, [(0, n)]


def _waves(rng: Rng, n: int, rate_hz: int) -> Made:
    t = np.arange(n) / rate_hz
    swell = np.zeros(n)
    for _ in range(3):
        rate = rng.uniform(0.08, 0.22)
        swell += (0.5 + 0.5 * np.sin(2 * np.pi * rate * t + rng.uniform(0, 6.28))) ** 3
    low = shape_spectrum(noise(rng, n), [(30, -12), (150, 0), (900, -6), (8000, -26)], rate_hz)
    high = shape_spectrum(noise(rng, n), [(100, -30), (1500, 0), (8000, -8)], rate_hz)
    return low * (0.35 + swell) + 0.5 * high * swell**1.5, [(0, n)]


def _baby(rng: Rng, n: int, rate_hz: int) -> Made:
    base, x, bursts, t = float(rng.uniform(330, 520)), np.zeros(n), [], 0.05
    while t * rate_hz < n - 0.2 * rate_hz:
        long = float(rng.uniform(0.6, 1.3))
        i = round(t * rate_hz)
        y = _call(
            rng,
            long,
            [base, base * 1.25, base * 1.2, base * 1.15, base * 0.85],
            [(400, -6), (1100, 0), (2400, -2), (3600, -8)],
            rate_hz,
            0.12,
        )[: n - i]
        wobble = 1 + 0.2 * np.sin(2 * np.pi * rng.uniform(5, 9) * np.arange(len(y)) / rate_hz)
        x[i : i + len(y)] += y * wobble
        bursts.append((i, i + len(y)))
        t += long + float(rng.uniform(0.2, 0.45))
    return x, bridge(bursts, rate_hz // 2)


def _clock(rng: Rng, n: int, rate_hz: int) -> Made:
    step = float(rng.choice([1.0, 0.5, 0.25])) * rate_hz
    tones = [float(rng.uniform(1200, 3200)), float(rng.uniform(3200, 6800))]
    pair = [
        ping(rng, 500, tones, 0.004, rate_hz) + 0.3 * noise(rng, 500) * np.exp(-np.arange(500) / 30)
        for _ in range(2)
    ]
    x = np.zeros(n)
    for k, i in enumerate(np.arange(0, n - 500, step).astype(int)):
        x[i : i + 500] += pair[k % 2]
    return x, [(0, n)]


def _fire(rng: Rng, n: int, rate_hz: int) -> Made:
    bed = shape_spectrum(noise(rng, n), [(30, -6), (200, 0), (1000, -14), (8000, -26)], rate_hz)
    at = [int(i) for i in rng.integers(0, n, max(1, int(rng.uniform(8, 25) * n / rate_hz)))]

    def snap() -> Array:
        size = int(rng.integers(40, 400))
        return noise(rng, size) * np.exp(-np.arange(size) / rng.uniform(5, 60))

    x, _ = scatter(rng, n, at, snap, 26)
    return 0.12 * bed + 2.0 * x, [(0, n)]


def _rotor(rng: Rng, n: int, rate_hz: int) -> Made:
    t = np.arange(n) / rate_hz
    chop = (0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(11, 24) * t)) ** 3
    bed = shape_spectrum(noise(rng, n), [(30, -3), (120, 0), (800, -8), (8000, -30)], rate_hz)
    return bed * (0.25 + chop), [(0, n)]


def _saw(rng: Rng, n: int, rate_hz: int) -> Made:
    t = np.arange(n) / rate_hz
    revs = 100 * (1 + 0.35 * np.clip(np.sin(2 * np.pi * rng.uniform(0.2, 0.6) * t) * 2, -1, 1))
    x = harmonics(revs, [k**-0.35 for k in range(1, 50)], rate_hz)
    x = np.tanh(2 * x) * (1 + 0.4 * noise(rng, n))
    return shape_spectrum(x, [(80, -8), (500, 0), (3000, -2), (8000, -12)], rate_hz), [(0, n)]


KNOWN: Final[dict[str, Make]] = {
    "dog_bark": _dog,
    "rain": _rain,
    "sea_waves": _waves,
    "baby_cry": _baby,
    "clock_tick": _clock,
    "fire_crackling": _fire,
    "helicopter": _rotor,
    "chainsaw": _saw,
}
