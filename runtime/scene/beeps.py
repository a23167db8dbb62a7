"""Beepers from a seed: smoke and carbon-monoxide alarms, appliances, alarm clocks.

The patterns' sources are named in :mod:`alarms`.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from ossicle.runtime.scene.sound import (
    Array,
    Interval,
    band,
    cadence,
    envelope,
    harmonics,
    square_weights,
)

Rng = np.random.Generator
Made = tuple[Array, list[Interval], dict[str, float | str]]
Make = Callable[[Rng, int, int], Made]


def pitch(rng: Rng, n: int, hz: float, rate_hz: int, wobble: float = 0.002) -> Array:
    """``hz`` with a slow drift of a few parts in a thousand, as crystals and batteries have."""
    t = np.arange(n) / rate_hz
    rate, at = rng.uniform(0.2, 6), rng.uniform(0, 2 * np.pi)
    return np.asarray(hz * (1 + rng.uniform(0, wobble) * np.sin(2 * np.pi * rate * t + at)))


def piezo(rng: Rng, freq_hz: Array, rate_hz: int) -> Array:
    """A driven piezo disc: strong first partial, some second and third."""
    weights = [1.0, rng.uniform(0, 0.5), rng.uniform(0, 0.4), rng.uniform(0, 0.2)]
    return harmonics(freq_hz, weights, rate_hz)


def beeps(
    rng: Rng, x: Array, bursts: list[Interval], rate_hz: int, slowest_s: float = 0.02
) -> Array:
    """``x`` gated by ``bursts`` with an attack, a release and a little ripple."""
    gate = envelope(
        len(x), bursts, rng.uniform(0.001, slowest_s), rng.uniform(0.002, slowest_s), rate_hz
    )
    t = np.arange(len(x)) / rate_hz
    ripple = 1 + rng.uniform(0, 0.15) * np.sin(2 * np.pi * rng.uniform(1, 40) * t)
    return x * gate * ripple


def _t3(rng: Rng) -> list[tuple[float, float]]:
    """ISO 8201 within +-10 %; some units' third silence is as short as 1.3 s."""
    on, off = 0.5 * rng.uniform(0.9, 1.1), 0.5 * rng.uniform(0.85, 1.1)
    return [(on, off), (on, off), (on, 1.5 * rng.uniform(0.88, 1.1))]


def _smoke_piezo(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.uniform(2850, 3550))
    bursts = cadence(_t3(rng), n, rate_hz)
    freq = pitch(rng, n, hz, rate_hz)
    if rng.random() < 0.3:  # a sounder whose pitch sags within each beep
        t = np.arange(n) / rate_hz
        freq = freq * (1 + rng.uniform(0.002, 0.02) * np.sin(2 * np.pi * rng.uniform(1, 8) * t))
    return beeps(rng, piezo(rng, freq, rate_hz), bursts, rate_hz), bursts, {"pitch_hz": hz}


def _smoke_520(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.uniform(468, 572))
    bursts = cadence(_t3(rng), n, rate_hz)
    roll = rng.uniform(0, 0.8)
    weights = [w * k**-roll for k, w in enumerate(square_weights(15), start=1)]
    weights = [w + rng.uniform(0, 0.06) for w in weights]
    x = harmonics(pitch(rng, n, hz, rate_hz), weights, rate_hz)
    return beeps(rng, x, bursts, rate_hz), bursts, {"pitch_hz": hz}


def _t4(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.uniform(2850, 3550))
    on, off = rng.uniform(0.09, 0.12), rng.uniform(0.085, 0.12)
    pause = 5.0 * rng.uniform(0.9, 1.06)
    bursts = cadence([(on, off), (on, off), (on, off), (on, pause)], n, rate_hz)
    x = beeps(rng, piezo(rng, pitch(rng, n, hz, rate_hz), rate_hz), bursts, rate_hz, 0.008)
    return x, bursts, {"pitch_hz": hz}


def _appliance(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.uniform(900, 2650) if rng.random() < 0.8 else rng.uniform(3750, 4300))
    on, off = float(rng.uniform(0.12, 1.0)), float(rng.uniform(0.25, 1.2))
    count = int(rng.integers(1, 7))
    pattern = [(on, off)] * (count - 1) + [(on, float(rng.uniform(2.5, 20)))]
    bursts = cadence(pattern, n, rate_hz)
    weights = [1.0, *[rng.uniform(0, 0.35) for _ in range(4)]]
    x = harmonics(pitch(rng, n, hz, rate_hz), weights, rate_hz)
    return beeps(rng, x, bursts, rate_hz), bursts, {"pitch_hz": hz, "beeps": float(count)}


def _clock_digital(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.choice([2048.0, 2731.0, 4096.0, rng.uniform(1800, 4200)]))
    on, off = float(rng.uniform(0.05, 0.085)), float(rng.uniform(0.05, 0.08))
    count = int(rng.integers(2, 5))
    pause = float(rng.uniform(0.3, 0.7))
    bursts = cadence([(on, off)] * (count - 1) + [(on, pause)], n, rate_hz)
    x = harmonics(np.full(n, hz), [1.0, rng.uniform(0, 0.3), rng.uniform(0, 0.4)], rate_hz)
    return beeps(rng, x, bursts, rate_hz, 0.006), bursts, {"pitch_hz": hz, "beeps": float(count)}


def _clock_buzzer(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.uniform(220, 700))
    on, off = float(rng.uniform(0.15, 0.5)), float(rng.uniform(0.12, 0.5))
    bursts = cadence([(on, off)], n, rate_hz)
    weights = [rng.uniform(0.4, 1.0) * k**-0.3 for k in range(1, 24)]
    x = band(harmonics(np.full(n, hz), weights, rate_hz), 300, 6000, rate_hz)
    return beeps(rng, x, bursts, rate_hz), bursts, {"pitch_hz": hz}


SMOKE: Final[dict[str, Make]] = {"t3_piezo": _smoke_piezo, "t3_520": _smoke_520}
CARBON_MONOXIDE: Final[dict[str, Make]] = {"t4": _t4}
APPLIANCE: Final[dict[str, Make]] = {"beep": _appliance}
CLOCK: Final[dict[str, Make]] = {"digital": _clock_digital, "buzzer": _clock_buzzer}
