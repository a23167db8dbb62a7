"""Instruments from a seed: one drawn timbre plays any pitch, and a drum kit is a few of its own.

Each draws its numbers once, so that the notes of one part sound like one instrument.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.scene.sound import Array, band, noise, shape_spectrum

Rng = np.random.Generator
Instrument = Callable[[float, int], Array]
"""``(pitch in Hz, samples)`` gives one note of about unit peak, its release included."""


def _partials(
    hz: Array | float, weights: NDArray[Any], n: int, rate_hz: int, fall: float = 0.0
) -> Array:
    """Harmonics with ``weights``, the k-th dying ``fall * k`` times a second."""
    t = np.arange(n) / rate_hz
    phase = 2 * np.pi * (np.cumsum(np.broadcast_to(hz, n)) / rate_hz)
    top = float(np.max(hz))
    out = np.zeros(n)
    for k, w in enumerate(weights, start=1):
        if k * top > 0.46 * rate_hz:
            break
        out += w * np.sin(k * phase) * (np.exp(-fall * k * t) if fall else 1.0)
    return out


def _orders(stop: int) -> Array:
    """1, 2, ... below ``stop``: which partial is which."""
    return np.arange(1, stop, dtype=np.float64)


def _shape(n: int, attack: int, release: int, hold: float = 1.0) -> Array:
    """A rise, a decay to ``hold`` at the end, a release."""
    gain = hold ** (np.arange(n) / max(1, n))
    up, down = min(n, max(8, attack)), min(n, max(8, release))
    gain[:up] *= np.linspace(0, 1, up)
    gain[-down:] *= np.linspace(1, 0, down)
    return np.asarray(gain)


def _vibrato(rng: Rng, n: int, rate_hz: int, depth: float, hz: float) -> Array:
    t = np.arange(n) / rate_hz
    late = np.clip(t / rng.uniform(0.1, 0.6), 0, 1)
    return np.asarray(1 + depth * late * np.sin(2 * np.pi * hz * t + rng.uniform(0, 6)))


def _struck(rng: Rng, rate_hz: int) -> Instrument:
    """Strings plucked or hammered: bright at first, partials dying in order."""
    roll, fall, comb = rng.uniform(0.3, 1.6), rng.uniform(0.2, 2.5), rng.uniform(0.08, 0.45)
    k = _orders(31)
    weights = k**-roll * np.abs(np.sin(np.pi * k * comb))
    body = float(rng.uniform(0.3, 3))

    def play(hz: float, n: int) -> Array:
        t = np.arange(n) / rate_hz
        x = _partials(hz * (1 + rng.uniform(-1e-3, 1e-3)), weights, n, rate_hz, fall)
        return x * np.exp(-t * body) * _shape(n, 30, 300)

    return play


def _bars(rng: Rng, rate_hz: int) -> Instrument:
    """Bells, bars and electric pianos: a modulator at a ratio of its own."""
    ratio = float(rng.choice([1, 2, 3, 4, 7, 14, rng.uniform(1, 9), 2.76, 3.5]))
    index, fall, body = rng.uniform(0.3, 4), rng.uniform(1, 12), rng.uniform(0.5, 5)

    def play(hz: float, n: int) -> Array:
        t = np.arange(n) / rate_hz
        depth = min(index, 0.4 * rate_hz / (hz * ratio + 1)) * np.exp(-fall * t)
        x = np.sin(2 * np.pi * hz * t + depth * np.sin(2 * np.pi * hz * ratio * t))
        return np.asarray(x * np.exp(-body * t) * _shape(n, 20, 300))

    return play


def _organ(rng: Rng, rate_hz: int) -> Instrument:
    """Drawbars, pads and cheap keyboards: steady partials, a tremolo."""
    weights = rng.random(12) * (rng.random(12) < 0.6)
    weights[0] += 0.3
    attack, speed, depth = int(rng.uniform(0.003, 0.3) * rate_hz), rng.uniform(0.5, 8), 0.3

    def play(hz: float, n: int) -> Array:
        t = np.arange(n) / rate_hz
        tremolo = 1 - depth * (0.5 + 0.5 * np.sin(2 * np.pi * speed * t))
        return _partials(hz, weights, n, rate_hz) * tremolo * _shape(n, attack, 900)

    return play


def _synth(rng: Rng, rate_hz: int) -> Instrument:
    """Saws or squares, detuned against each other, through a filter that closes."""
    k = _orders(41)
    odd = (k % 2 == 1) if rng.random() < 0.4 else np.ones(40)
    voices = 1 + rng.uniform(-0.012, 0.012, int(rng.integers(1, 5)))
    fall, roll, attack = rng.uniform(0, 3), rng.uniform(0.8, 1.6), rng.uniform(0.002, 0.25)

    def play(hz: float, n: int) -> Array:
        x = sum((_partials(hz * v, odd * k**-roll, n, rate_hz, fall) for v in voices), np.zeros(n))
        return np.asarray(x) * _shape(n, int(attack * rate_hz), 600, float(rng.uniform(0.2, 1)))

    return play


def _driven(rng: Rng, rate_hz: int) -> Instrument:
    """An electric guitar on a loud amplifier: fifths into a limiter, and a cabinet."""
    gain, fifth = 10 ** (rng.uniform(6, 34) / 20), rng.random() < 0.6
    k = _orders(25)
    low, high = rng.uniform(70, 140), rng.uniform(2500, 5500)
    mute = rng.uniform(6, 16) if rng.random() < 0.3 else rng.uniform(0.2, 1.5)

    def play(hz: float, n: int) -> Array:
        x = _partials(hz, k**-1.0, n, rate_hz, 0.2)
        if fifth:
            x += _partials(hz * 1.4983, k**-1.0, n, rate_hz, 0.2)
        x *= np.exp(-mute * np.arange(n) / rate_hz)
        return band(np.tanh(gain * x), low, high, rate_hz) * _shape(n, 40, 500)

    return play


def _blown(rng: Rng, rate_hz: int) -> Instrument:
    """Brass, reeds and flutes: partials that open with the breath, vibrato, some noise."""
    k = _orders(26)
    bump, width, roll = rng.uniform(500, 2500), rng.uniform(300, 1500), rng.uniform(0.5, 2.2)
    depth, speed, breath = rng.uniform(0, 0.012), rng.uniform(4, 7), rng.uniform(0, 0.08)
    odd = (k % 2 == 1) + 0.15 if rng.random() < 0.3 else np.ones(25)
    attack, slide = rng.uniform(0.02, 0.15), rng.uniform(-0.06, 0.02)

    def play(hz: float, n: int) -> Array:
        weights = odd * k**-roll * (1 + 3 * np.exp(-(((k * hz - bump) / width) ** 2)))
        t = np.arange(n) / rate_hz
        pitch = hz * _vibrato(rng, n, rate_hz, depth, speed) * (1 + slide * np.exp(-t / 0.04))
        soft = _partials(pitch, weights * k**-1.0, n, rate_hz)
        open_ = np.clip(t / attack, 0, 1)
        x = soft * (1 - open_) + _partials(pitch, weights, n, rate_hz) * open_
        x = x / (float(np.max(np.abs(x), initial=1e-9))) + breath * noise(rng, n)
        return x * _shape(n, int(attack * rate_hz), 1200, float(rng.uniform(0.5, 1)))

    return play


def _bowed(rng: Rng, rate_hz: int) -> Instrument:
    """Violins to basses, alone or many: slow attacks, vibrato, slides between notes."""
    k = _orders(31)
    curve = [(100.0, -6.0), *((float(f), float(rng.uniform(-9, 9))) for f in
             (300, 700, 1500, 3000)), (8000.0, -15.0)]  # fmt: skip
    many, attack = int(rng.integers(1, 5)), rng.uniform(0.03, 0.35)

    def play(hz: float, n: int) -> Array:
        x = np.zeros(n)
        for _ in range(many):
            depth = float(rng.uniform(0, 0.012))
            pitch = hz * (1 + rng.uniform(-0.006, 0.006))
            x += _partials(
                pitch * _vibrato(rng, n, rate_hz, depth, float(rng.uniform(4, 7))),
                k**-1.0, n, rate_hz,
            )  # fmt: skip
        return shape_spectrum(x, curve, rate_hz) * _shape(n, int(attack * rate_hz), 1500)

    return play


def _sung(rng: Rng, rate_hz: int) -> Instrument:
    """A voice on vowels, one a note."""
    vowels = [(700, 1150, 2600), (400, 2000, 2700), (300, 2300, 3000), (450, 800, 2600),
              (320, 800, 2400)]  # fmt: skip
    scale, breath = float(rng.uniform(0.85, 1.25)), float(rng.uniform(0.005, 0.06))
    k = _orders(41)

    def play(hz: float, n: int) -> Array:
        first, second, third = (f * scale for f in vowels[int(rng.integers(len(vowels)))])
        depth = float(rng.uniform(0, 0.02))
        pitch = hz * _vibrato(rng, n, rate_hz, depth, float(rng.uniform(4.5, 6.5)))
        x = _partials(pitch, k**-1.0, n, rate_hz) + breath * noise(rng, n)
        curve = [(80.0, -8.0), (first * 0.6, -6.0), (first, 6.0), ((first + second) / 2, -8.0),
                 (second, 2.0), (third, -4.0), (7900.0, -24.0)]  # fmt: skip
        return shape_spectrum(x, curve, rate_hz) * _shape(n, int(0.06 * rate_hz), 1400)

    return play


INSTRUMENTS: Final[dict[str, Callable[[Rng, int], Instrument]]] = {
    "struck": _struck,
    "bars": _bars,
    "organ": _organ,
    "synth": _synth,
    "driven": _driven,
    "blown": _blown,
    "bowed": _bowed,
    "sung": _sung,
}


def drum_kit(rng: Rng, rate_hz: int) -> dict[str, Array]:
    """One stroke each of a kick, a snare, a hat, a clap, a tom, a cymbal and a shaker."""

    def fall(size: float, seconds: float) -> Array:
        return np.asarray(np.exp(-np.arange(int(size * rate_hz)) / (seconds * rate_hz)))

    def tone(low: float, high: float, bend: float, gain: Array) -> Array:
        t = np.arange(len(gain)) / rate_hz
        hz = low + (high - low) * np.exp(-t / bend)
        return np.asarray(np.sin(2 * np.pi * np.cumsum(hz) / rate_hz) * gain)

    def hiss(gain: Array, low: float, high: float) -> Array:
        return band(noise(rng, len(gain)), low, high, rate_hz) * gain

    kick = tone(rng.uniform(40, 70), rng.uniform(90, 300), rng.uniform(0.01, 0.06),
                fall(0.5, rng.uniform(0.06, 0.25)))  # fmt: skip
    body = fall(0.35, rng.uniform(0.04, 0.14))
    snare = tone(rng.uniform(150, 220), 330, 0.02, body) * rng.uniform(0.2, 0.8)
    snare += 0.4 * hiss(body, rng.uniform(500, 1500), 7500)
    t = np.arange(int(1.5 * rate_hz)) / rate_hz
    lines = np.sin(2 * np.pi * rng.uniform(400, 3500, 6)[:, None] * t).sum(axis=0)
    metal = np.sign(lines) + 0.5 * noise(rng, len(t))
    metal = band(metal, rng.uniform(2000, 5000), 8000, rate_hz)
    short, long = fall(1.5, rng.uniform(0.015, 0.08)), fall(1.5, rng.uniform(0.2, 0.6))
    return {
        "kick": kick,
        "snare": snare,
        "hat": metal * short * 0.5,
        "open": metal * long * 0.4,
        "clap": 0.4 * hiss(fall(0.3, rng.uniform(0.03, 0.1)), 800, 4000),
        "tom": tone(rng.uniform(70, 160), 260, 0.05, fall(0.5, 0.15)),
        "shaker": 0.2 * hiss(fall(0.12, 0.03), 3000, 8000),
    }
