"""Household sounds that the built-in tagger has no name for, from a seed."""

from typing import Final

import numpy as np

from ossicle.runtime.scene.scatter import Made, Make, Rng, ping, scatter, times
from ossicle.runtime.scene.sound import Array, band, envelope, harmonics, noise, shape_spectrum


def _knock(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = [float(rng.uniform(120, 400)), float(rng.uniform(400, 1100))]
    at = [
        round((0.2 + k * rng.uniform(0.16, 0.26)) * rate_hz) for k in range(int(rng.integers(2, 6)))
    ]
    return scatter(rng, n, [a for a in at if a < n], lambda: ping(rng, 2400, hz, 0.02, rate_hz), 5)


def _typing(rng: Rng, n: int, rate_hz: int) -> Made:
    def key() -> Array:
        body = noise(rng, 900) * np.exp(-np.arange(900) / 60)
        return band(body, 900, 6500, rate_hz)

    return scatter(rng, n, times(rng, n, (0.08, 0.3), rate_hz), key, 10)


def _steps(rng: Rng, n: int, rate_hz: int) -> Made:
    def foot() -> Array:
        return band(noise(rng, 2000) * np.exp(-np.arange(2000) / 250), 60, 900, rate_hz)

    return scatter(rng, n, times(rng, n, (0.45, 0.65), rate_hz), foot, 6)


def _drip(rng: Rng, n: int, rate_hz: int) -> Made:
    def drop() -> Array:
        size = 1600
        f = np.linspace(rng.uniform(600, 1200), rng.uniform(1300, 2600), size)
        return harmonics(f, [1.0], rate_hz) * np.exp(-np.arange(size) / rng.uniform(120, 400))

    return scatter(rng, n, times(rng, n, (0.3, 1.5), rate_hz), drop, 10)


def _glass(rng: Rng, n: int, rate_hz: int) -> Made:
    def clink() -> Array:
        hz = [float(f) for f in rng.uniform(1800, 7400, 6)]
        return ping(rng, 6000, hz, float(rng.uniform(0.02, 0.12)), rate_hz)

    return scatter(rng, n, times(rng, n, (0.5, 2.0), rate_hz), clink, 12)


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
    x, _ = scatter(rng, n, at, clap, 16)
    return x, [(0, n)]


def _bird(rng: Rng, n: int, rate_hz: int) -> Made:
    def chirp() -> Array:
        size = int(rng.uniform(0.05, 0.3) * rate_hz)
        a, b = rng.uniform(2200, 6500, 2)
        f = np.linspace(a, b, size) * (
            1 + 0.06 * np.sin(np.arange(size) / rate_hz * rng.uniform(60, 200))
        )
        return harmonics(f, [1.0, 0.1], rate_hz) * envelope(size, [(0, size)], 0.01, 0.03, rate_hz)

    return scatter(rng, n, times(rng, n, (0.1, 0.9), rate_hz), chirp, 14)


def _whistle(rng: Rng, n: int, rate_hz: int) -> Made:
    def note() -> Array:
        size = int(rng.uniform(0.2, 0.7) * rate_hz)
        low, high = rng.uniform(700, 2200, 2).tolist()
        f: Array = np.linspace(low, high, size)
        f = f * (1 + 0.012 * np.sin(2 * np.pi * 5.5 * np.arange(size) / rate_hz))
        y = harmonics(f, [1.0, 0.05], rate_hz) + 0.03 * noise(rng, size)
        return y * envelope(size, [(0, size)], 0.05, 0.08, rate_hz)

    return scatter(rng, n, times(rng, n, (0.3, 1.0), rate_hz), note, 6)


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

    return scatter(rng, n, times(rng, n, (1.5, 4.0), rate_hz), thud, 6)


def _paper(rng: Rng, n: int, rate_hz: int) -> Made:
    def crumple() -> Array:
        size = int(rng.uniform(0.1, 0.6) * rate_hz)
        grains = (rng.random(size) < 0.02) * rng.standard_normal(size)
        return band(grains + 0.05 * noise(rng, size), 1200, 7500, rate_hz)

    return scatter(rng, n, times(rng, n, (0.2, 1.2), rate_hz), crumple, 8)


def _hum(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.choice([50.0, 60.0]))
    weights = [float(rng.uniform(0, 1)) / k for k in range(1, 14)]
    return harmonics(np.full(n, hz), weights, rate_hz) + 0.02 * noise(rng, n, -3), [(0, n)]


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
