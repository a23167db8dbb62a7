"""Household and outdoor sounds from a seed, each from the physics that makes it, roughly.

``KNOWN`` are like classes that the built-in tagger names; ``UNKNOWN`` are like nothing it names
and exist to show that it then stays silent. They are stand-ins for demonstrations and tests, not
recordings: measures of a model are taken on recordings.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from ossicle.runtime.errors import AudioError
from ossicle.runtime.scene.sound import (
    RATE_HZ,
    Array,
    Interval,
    Sound,
    band,
    bridge,
    envelope,
    finish,
    harmonics,
    length,
    noise,
    shape_spectrum,
)

Rng = np.random.Generator
Made = tuple[Array, list[Interval]]


def synthesise(label: str, rng: Rng, seconds: float = 5.0, rate_hz: int = RATE_HZ) -> Sound:
    """An everyday sound ``label`` (a key of :data:`KNOWN` or :data:`UNKNOWN`) of ``seconds``."""
    make = KNOWN.get(label) or UNKNOWN.get(label)
    if make is None:
        known = ", ".join([*KNOWN, *UNKNOWN])
        raise AudioError(f"no everyday sound is called {label!r}; there are {known}")
    x, bursts = make(rng, length(seconds, rate_hz), rate_hz)
    return finish(label, x, bursts, {})


def _times(rng: Rng, n: int, gap_s: tuple[float, float], rate_hz: int) -> list[int]:
    """Sample indices that follow each other after ``gap_s`` seconds, drawn evenly."""
    at, out = float(rng.uniform(0, 0.2)), []
    while at * rate_hz < n:
        out.append(int(at * rate_hz))
        at += float(rng.uniform(*gap_s))
    return out


def _ping(rng: Rng, size: int, hz: list[float], decay_s: float, rate_hz: int) -> Array:
    t = np.arange(size) / rate_hz
    return np.asarray(
        sum(rng.uniform(0.3, 1) * np.sin(2 * np.pi * f * t + rng.uniform(0, 6.28)) for f in hz)
        * np.exp(-t / decay_s)
    )


def _scatter(
    rng: Rng, n: int, at: list[int], make: Callable[[], Array], spread_db: float
) -> tuple[Array, list[Interval]]:
    """One small sound from ``make`` at each index, at a level drawn from ``spread_db``."""
    x, bursts = np.zeros(n), []
    for i in at:
        y = make()[: n - i] * 10 ** (-rng.uniform(0, spread_db) / 20)
        x[i : i + len(y)] += y
        bursts.append((i, i + len(y)))
    return x, bursts


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
    for i in _times(rng, n, (0.35, 1.1), rate_hz):
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


def _rain(rng: Rng, n: int, rate_hz: int) -> Made:
    bed = shape_spectrum(noise(rng, n), [(80, -25), (600, -6), (3000, 0), (8000, -4)], rate_hz)
    at = [int(i) for i in rng.integers(0, n, max(1, int(40 * n / rate_hz)))]
    drops, _ = _scatter(
        rng,
        n,
        at,
        lambda: _ping(rng, 200, [float(rng.uniform(1500, 7000))], 0.002, rate_hz),
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


def _clock(rng: Rng, n: int, rate_hz: int) -> Made:
    step = float(rng.choice([1.0, 0.5, 0.25])) * rate_hz
    tones = [float(rng.uniform(1200, 3200)), float(rng.uniform(3200, 6800))]
    pair = [
        _ping(rng, 500, tones, 0.004, rate_hz)
        + 0.3 * noise(rng, 500) * np.exp(-np.arange(500) / 30)
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

    x, _ = _scatter(rng, n, at, snap, 26)
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


def _knock(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = [float(rng.uniform(120, 400)), float(rng.uniform(400, 1100))]
    at = [
        round((0.2 + k * rng.uniform(0.16, 0.26)) * rate_hz) for k in range(int(rng.integers(2, 6)))
    ]
    return _scatter(
        rng, n, [a for a in at if a < n], lambda: _ping(rng, 2400, hz, 0.02, rate_hz), 5
    )


def _typing(rng: Rng, n: int, rate_hz: int) -> Made:
    def key() -> Array:
        body = noise(rng, 900) * np.exp(-np.arange(900) / 60)
        return band(body, 900, 6500, rate_hz)

    return _scatter(rng, n, _times(rng, n, (0.08, 0.3), rate_hz), key, 10)


def _steps(rng: Rng, n: int, rate_hz: int) -> Made:
    def foot() -> Array:
        return band(noise(rng, 2000) * np.exp(-np.arange(2000) / 250), 60, 900, rate_hz)

    return _scatter(rng, n, _times(rng, n, (0.45, 0.65), rate_hz), foot, 6)


def _drip(rng: Rng, n: int, rate_hz: int) -> Made:
    def drop() -> Array:
        size = 1600
        f = np.linspace(rng.uniform(600, 1200), rng.uniform(1300, 2600), size)
        return harmonics(f, [1.0], rate_hz) * np.exp(-np.arange(size) / rng.uniform(120, 400))

    return _scatter(rng, n, _times(rng, n, (0.3, 1.5), rate_hz), drop, 10)


def _glass(rng: Rng, n: int, rate_hz: int) -> Made:
    def clink() -> Array:
        hz = [float(f) for f in rng.uniform(1800, 7400, 6)]
        return _ping(rng, 6000, hz, float(rng.uniform(0.02, 0.12)), rate_hz)

    return _scatter(rng, n, _times(rng, n, (0.5, 2.0), rate_hz), clink, 12)


def _vacuum(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.uniform(120, 420))
    tone = harmonics(np.full(n, hz), [k**-0.5 for k in range(1, 20)], rate_hz)
    curve = [(50.0, -14.0), (400.0, 0.0), (float(rng.uniform(1500, 5000)), 0.0), (8000.0, -14.0)]
    return shape_spectrum(noise(rng, n) + float(rng.uniform(0.05, 0.6)) * tone, curve, rate_hz), [
        (0, n)
    ]


def _wind(rng: Rng, n: int, rate_hz: int) -> Made:
    gust = np.interp(
        np.arange(n),
        np.arange(0, n + rate_hz, rate_hz // 2)[: 2 * n // rate_hz + 2],
        rng.uniform(0.2, 1, 2 * n // rate_hz + 2),
    )
    return shape_spectrum(
        noise(rng, n), [(20, 0), (300, 0), (1500, -16), (8000, -40)], rate_hz
    ) * gust, [(0, n)]


def _applause(rng: Rng, n: int, rate_hz: int) -> Made:
    def clap() -> Array:
        return band(noise(rng, 400) * np.exp(-np.arange(400) / 50), 700, 3500, rate_hz)

    at = [int(i) for i in rng.integers(0, n, max(1, int(rng.uniform(20, 90) * n / rate_hz)))]
    x, _ = _scatter(rng, n, at, clap, 16)
    return x, [(0, n)]


def _bird(rng: Rng, n: int, rate_hz: int) -> Made:
    def chirp() -> Array:
        size = int(rng.uniform(0.05, 0.3) * rate_hz)
        a, b = rng.uniform(2200, 6500, 2)
        f = np.linspace(a, b, size) * (
            1 + 0.06 * np.sin(np.arange(size) / rate_hz * rng.uniform(60, 200))
        )
        return harmonics(f, [1.0, 0.1], rate_hz) * envelope(size, [(0, size)], 0.01, 0.03, rate_hz)

    return _scatter(rng, n, _times(rng, n, (0.1, 0.9), rate_hz), chirp, 14)


def _whistle(rng: Rng, n: int, rate_hz: int) -> Made:
    def note() -> Array:
        size = int(rng.uniform(0.2, 0.7) * rate_hz)
        low, high = rng.uniform(700, 2200, 2).tolist()
        f: Array = np.linspace(low, high, size)
        f = f * (1 + 0.012 * np.sin(2 * np.pi * 5.5 * np.arange(size) / rate_hz))
        y = harmonics(f, [1.0, 0.05], rate_hz) + 0.03 * noise(rng, size)
        return y * envelope(size, [(0, size)], 0.05, 0.08, rate_hz)

    return _scatter(rng, n, _times(rng, n, (0.3, 1.0), rate_hz), note, 6)


def _cricket(rng: Rng, n: int, rate_hz: int) -> Made:
    hz, rate = float(rng.uniform(3800, 5600)), float(rng.uniform(25, 60))
    t = np.arange(n) / rate_hz
    pulses = np.clip(np.sin(2 * np.pi * rate * t), 0, 1) * (
        np.sin(2 * np.pi * rng.uniform(1, 3) * t) > -0.2
    )
    return np.sin(2 * np.pi * hz * t) * pulses, [(0, n)]


def _slam(rng: Rng, n: int, rate_hz: int) -> Made:
    def thud() -> Array:
        y = noise(rng, 8000, -4) * np.exp(-np.arange(8000) / rng.uniform(300, 1200))
        return band(y, 30, 1800, rate_hz)

    return _scatter(rng, n, _times(rng, n, (1.5, 4.0), rate_hz), thud, 6)


def _paper(rng: Rng, n: int, rate_hz: int) -> Made:
    def crumple() -> Array:
        size = int(rng.uniform(0.1, 0.6) * rate_hz)
        grains = (rng.random(size) < 0.02) * rng.standard_normal(size)
        return band(grains + 0.05 * noise(rng, size), 1200, 7500, rate_hz)

    return _scatter(rng, n, _times(rng, n, (0.2, 1.2), rate_hz), crumple, 8)


def _hum(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.choice([50.0, 60.0]))
    weights = [float(rng.uniform(0, 1)) / k for k in range(1, 14)]
    return harmonics(np.full(n, hz), weights, rate_hz) + 0.02 * noise(rng, n, -3), [(0, n)]


Make = Callable[[Rng, int, int], Made]

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

UNKNOWN: Final[dict[str, Make]] = {
    "knock": _knock,
    "typing": _typing,
    "footsteps": _steps,
    "water_drops": _drip,
    "glass": _glass,
    "vacuum": _vacuum,
    "wind": _wind,
    "applause": _applause,
    "bird": _bird,
    "whistle": _whistle,
    "cricket": _cricket,
    "door_slam": _slam,
    "paper": _paper,
    "mains_hum": _hum,
}
