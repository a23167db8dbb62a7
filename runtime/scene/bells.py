"""Struck and electronic bells from a seed: doors, telephones, alarm clocks."""

from typing import Final

import numpy as np

from ossicle.runtime.scene.beeps import Made, Make, Rng, beeps
from ossicle.runtime.scene.sound import (
    Array,
    Interval,
    band,
    bridge,
    cadence,
    harmonics,
    noise,
    square_weights,
)


def _strike(
    rng: Rng, n: int, at: int, hz: float, decay_s: float, partials: list[float], rate_hz: int
) -> Array:
    """A struck bar or bell [n] from sample ``at``: inharmonic partials, the high ones die first."""
    out = np.zeros(n)
    t = np.arange(n - at) / rate_hz
    for k, ratio in enumerate(partials):
        f = hz * ratio
        if f < 0.47 * rate_hz:
            g = rng.uniform(0.4, 1.0) / (1 + 0.7 * k)
            tone = np.sin(2 * np.pi * f * t + rng.uniform(0, 6.28))
            out[at:] += g * np.exp(-t * (1 + 0.8 * k) / decay_s) * tone
    fade = min(len(t), round(0.002 * rate_hz))
    out[at : at + fade] *= np.linspace(0, 1, fade, endpoint=False)
    return out


_BAR: Final = [1.0, 2.76, 5.4]  # free bar, after Rossing

_BELL: Final = [1.0, 1.5, 2.0, 2.67, 3.4, 4.2]

_STRING: Final = [1.0, 2.0, 3.0, 4.0]


def _tune(
    rng: Rng, n: int, rate_hz: int, notes: list[tuple[float, float]], gap_s: float, decay_s: float
) -> tuple[Array, list[Interval]]:
    """Notes (Hz, seconds until the next), played again after ``gap_s``."""
    partials = [_BAR, _BELL, _STRING][int(rng.integers(3))]
    x, t = np.zeros(n), 0.0
    bursts: list[Interval] = []
    while not bursts or t * rate_hz < n - 0.3 * rate_hz:
        first = round(t * rate_hz)
        for hz, step in notes:
            at = round(t * rate_hz)
            if at < n:
                x += _strike(rng, n, at, hz, decay_s, partials, rate_hz)
            t += step
        heard = round((t + 1.2 * decay_s) * rate_hz)
        bursts.append((first, min(n, heard)))
        t += gap_s
        if rng.random() < 0.4:
            break
    merged = [b for i, b in enumerate(bursts) if i == 0 or b[0] >= bursts[i - 1][1]]
    if len(merged) != len(bursts):
        merged = [(bursts[0][0], bursts[-1][1])]
    return x, merged


def _chime(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.uniform(480, 1050))
    fall = 2 ** (-rng.choice([3, 4, 4, 5, 7]) / 12)
    notes = [(hz, float(rng.uniform(0.35, 0.9))), (hz * fall, 0.6)]
    x, bursts = _tune(
        rng, n, rate_hz, notes, float(rng.uniform(1.0, 4)), float(rng.uniform(0.35, 1.1))
    )
    return x, bursts, {"pitch_hz": hz}


def _door_tune(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.uniform(400, 800))
    steps = [[4, 0, 2, -5], [0, 4, 7, 12], [7, 4, 0], [0, 7, 0, 7]][int(rng.integers(4))]
    beat = float(rng.uniform(0.25, 0.6))
    notes = [(hz * 2 ** (s / 12), beat) for s in steps]
    x, bursts = _tune(rng, n, rate_hz, notes, float(rng.uniform(1.5, 4)), 0.5)
    return x, bursts, {"pitch_hz": hz}


def _door_buzzer(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.choice([50.0, 60.0, 100.0, 120.0])) * float(rng.uniform(0.98, 1.02))
    bursts = cadence([(rng.uniform(0.4, 1.4), rng.uniform(0.3, 2.5))], n, rate_hz)
    weights = [rng.uniform(0.3, 1.0) * k**-0.4 for k in range(1, 60)]
    x = band(harmonics(np.full(n, hz), weights, rate_hz), 250, 5000, rate_hz)
    return beeps(rng, x, bursts, rate_hz), bursts, {"pitch_hz": hz}


def _ring_cadence(rng: Rng) -> list[tuple[float, float]]:
    """North America 2/4 s, Britain 0.4/0.2/0.4/2 s, continental 1/4 s, mobiles shorter."""
    kinds: list[list[tuple[float, float]]] = [
        [(2.0, 4.0)],
        [(0.4, 0.2), (0.4, 2.0)],
        [(1.0, 4.0)],
        [(rng.uniform(0.7, 1.5), rng.uniform(0.4, 2))],
    ]
    return kinds[int(rng.integers(4))]


def _hammered(
    rng: Rng, n: int, rate_hz: int, bursts: list[Interval], pitches: list[float], per_s: float
) -> Array:
    """Gongs struck in turn ``per_s`` times a second while ``bursts`` last."""
    tail = round(0.5 * rate_hz)
    hits = [
        _strike(rng, tail, 0, hz, float(rng.uniform(0.15, 0.5)), _BELL, rate_hz) for hz in pitches
    ]
    x, turn = np.zeros(n + tail), 0
    for start, stop in bursts:
        at = float(start)
        while at < stop:
            i = int(at)
            x[i : i + tail] += hits[turn % len(hits)] * rng.uniform(0.7, 1)
            turn += 1
            at += rate_hz / per_s * rng.uniform(0.96, 1.04)
    return x[:n]


def _phone_bell(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.uniform(900, 1700))
    bursts = cadence(_ring_cadence(rng), n, rate_hz)
    rate = float(rng.uniform(20, 26))
    x = _hammered(rng, n, rate_hz, bursts, [hz, hz * float(rng.uniform(1.1, 1.35))], rate)
    ring = round(0.3 * rate_hz)  # the gongs are heard on
    heard = bridge([(a, min(n, b + ring)) for a, b in bursts], 0)
    return x, heard, {"pitch_hz": hz, "strikes_per_s": rate}


def _phone_warble(rng: Rng, n: int, rate_hz: int) -> Made:
    hz, ratio = float(rng.uniform(700, 1900)), float(rng.uniform(1.12, 1.35))
    rate = float(rng.uniform(8, 25))
    bursts = cadence(_ring_cadence(rng), n, rate_hz)
    turn = (np.arange(n) / rate_hz * rate % 1.0) < 0.5
    weights = [w * rng.uniform(0.3, 1) for w in square_weights(7)]
    x = harmonics(np.where(turn, hz, hz * ratio), weights, rate_hz)
    return beeps(rng, x, bursts, rate_hz), bursts, {"pitch_hz": hz, "warble_hz": rate}


def _phone_tune(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.uniform(600, 1200))
    scale = [0, 2, 4, 7, 9, 12, 14, 16]
    beat = float(rng.uniform(0.09, 0.2))
    count = int(rng.integers(6, 14))
    notes = [
        (hz * 2 ** (int(rng.choice(scale)) / 12), beat * int(rng.choice([1, 1, 2])))
        for _ in range(count)
    ]
    x, bursts = np.zeros(n), cadence([(n / rate_hz, 1.0)], n, rate_hz)
    t, i = 0.0, 0
    decay = float(rng.uniform(0.08, 0.25))
    partials = [_BAR, _STRING][int(rng.integers(2))]
    while t * rate_hz < n - 0.1 * rate_hz:
        f, step = notes[i % count]
        x += _strike(rng, n, round(t * rate_hz), f, decay, partials, rate_hz)
        t, i = t + step, i + 1
    return x, bursts, {"pitch_hz": hz, "beat_s": beat}


def _clock_bell(rng: Rng, n: int, rate_hz: int) -> Made:
    hz, per_s = float(rng.uniform(1900, 3200)), float(rng.uniform(9, 17))
    x = _hammered(rng, n, rate_hz, [(0, n)], [hz, hz * float(rng.uniform(1.02, 1.2))], per_s)
    x += 0.02 * noise(rng, n, -3) * float(np.max(np.abs(x), initial=1e-9))  # the clockwork
    return x, [(0, n)], {"pitch_hz": hz, "strikes_per_s": per_s}


DOOR: Final[dict[str, Make]] = {"chime": _chime, "tune": _door_tune, "buzzer": _door_buzzer}
PHONE: Final[dict[str, Make]] = {"bell": _phone_bell, "warble": _phone_warble, "tune": _phone_tune}
CLOCK: Final[dict[str, Make]] = {"bell": _clock_bell}
