"""Sounds without a name, from a seed: what a model of named sounds must learn to leave alone.

Each family draws its physics wide: what is struck, rubbed, driven, blown or called, and how often.
None of them is a class of the built-in taggers, and none imitates the sounds that their tests keep
back (crickets, breaking glass, applause, footsteps).
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from ossicle.runtime.scene.sound import (
    RATE_HZ,
    Array,
    Sound,
    band,
    drive,
    finish,
    harmonics,
    length,
    noise,
    shape_spectrum,
)

Rng = np.random.Generator


def invent(rng: Rng, seconds: float = 6.0, rate_hz: int = RATE_HZ) -> Sound:
    """A sound of one to three families over each other; its recipe names them."""
    n = length(seconds, rate_hz)
    count = int(rng.choice([1, 2, 3], p=[0.65, 0.25, 0.1]))
    names = [str(name) for name in rng.choice(list(FAMILIES), count, replace=False)]
    x = np.zeros(n)
    for name in names:
        y = FAMILIES[name](rng, n, rate_hz)
        peak = float(np.max(np.abs(y), initial=0.0))
        x += y / peak * rng.uniform(0.2, 1) if peak > 0 else 0
    x = drive(x, float(rng.choice([0.0, rng.uniform(0, 10)], p=[0.8, 0.2])), hard=False)
    return finish("unknown", x, [(0, n)], {"families": " ".join(names)})


def _curve(rng: Rng, depth_db: float = 18) -> list[tuple[float, float]]:
    """A random response over the band."""
    hz = np.geomspace(60, 7900, 8)
    tilt = rng.uniform(-5, 2) * np.arange(8)
    return [(float(f), float(g)) for f, g in zip(hz, tilt + rng.uniform(-depth_db, 0, 8),
                                                 strict=True)]  # fmt: skip


def _wander(rng: Rng, n: int, rate_hz: int, per_s: float, low: float, high: float) -> Array:
    """A smooth random curve [n] between ``low`` and ``high``, turning ``per_s`` times a second."""
    knots = max(3, int(n / rate_hz * per_s) + 2)
    return np.interp(np.linspace(0, knots - 1, n), np.arange(knots), rng.uniform(low, high, knots))


def _at(rng: Rng, n: int, rate_hz: int, per_s: float, even: float) -> list[int]:
    """Instants ``per_s`` times a second; ``even`` 1 is a clockwork, 0 is by chance."""
    out, t = [], float(rng.uniform(0, 1 / per_s))
    while t * rate_hz < n:
        out.append(int(t * rate_hz))
        gap = 1 / per_s
        t += gap * even * rng.uniform(0.9, 1.1) + (1 - even) * float(rng.exponential(gap))
    return out


def _add(x: Array, at: int, y: Array) -> None:
    part = y[: max(0, len(x) - at)]
    x[at : at + len(part)] += part


def _texture(rng: Rng, n: int, rate_hz: int) -> Array:
    """Air, water, machines far off: coloured noise that swells or flutters."""
    x = shape_spectrum(noise(rng, n), _curve(rng), rate_hz)
    kind = rng.random()
    if kind < 0.4:
        x = x * _wander(rng, n, rate_hz, float(rng.uniform(0.2, 6)), 0.05, 1)
    elif kind < 0.7:
        t = np.arange(n) / rate_hz
        wave = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(1, 60) * t)
        x = x * (1 - rng.uniform(0.1, 0.9) * wave ** rng.uniform(0.5, 4))
    return x


def _motor(rng: Rng, n: int, rate_hz: int) -> Array:
    """Fans, drills, mixers, trains, idling engines: harmonics of a speed, noise of the load."""
    speed = float(np.exp(rng.uniform(np.log(18), np.log(600))))
    change = _wander(rng, n, rate_hz, float(rng.uniform(0.1, 1.5)), 1, float(rng.uniform(1, 1.6)))
    roll, some = rng.uniform(0.1, 1.6), rng.random(40) < rng.uniform(0.3, 1)
    weights = [float(s * k**-roll * rng.uniform(0.3, 1)) for k, s in enumerate(some, start=1)]
    tone = harmonics(speed * change, weights, rate_hz)
    load = noise(rng, n, float(rng.uniform(-6, 0))) * rng.uniform(0.02, 1.0)
    turning = 1 + rng.uniform(0, 0.8) * np.sin(2 * np.pi * np.cumsum(speed * change) / rate_hz)
    return shape_spectrum(tone + load * turning, _curve(rng, 12), rate_hz)


def _impacts(rng: Rng, n: int, rate_hz: int) -> Array:
    """Wood, pans, crates, coins, balls: modes of one body, struck more or less hard."""
    low = float(np.exp(rng.uniform(np.log(60), np.log(2000))))
    modes = low * np.cumprod(np.concatenate([[1], rng.uniform(1.1, 2.2, int(rng.integers(2, 8)))]))
    decay = float(np.exp(rng.uniform(np.log(0.004), np.log(0.25))))
    size = min(n, int(min(1.0, 7 * decay) * rate_hz))
    t = np.arange(size) / rate_hz
    x = np.zeros(n)
    even, per_s = float(rng.choice([0, 0.3, 0.9])), float(np.exp(rng.uniform(-1.5, 2.3)))
    for i in _at(rng, n, rate_hz, per_s, even):
        y = np.zeros(size)
        for f in modes[modes < 7800]:
            ring = np.exp(-t / decay * (f / low) ** 0.5)
            y += rng.uniform(0.1, 1) * np.sin(2 * np.pi * f * t) * ring
        click = noise(rng, min(size, 200)) * np.linspace(1, 0, min(size, 200)) ** 3
        y[: len(click)] += rng.uniform(0, 1) * click
        _add(x, i, y * 10 ** (-rng.uniform(0, 14) / 20))
    return x


def _friction(rng: Rng, n: int, rate_hz: int) -> Array:
    """Hinges, brakes, chalk, rubbing, sawing by hand: stick and slip, to and fro."""
    x = np.zeros(n)
    smooth = rng.random() < 0.5
    base = float(np.exp(rng.uniform(np.log(120), np.log(3000))))
    for i in _at(rng, n, rate_hz, float(rng.uniform(0.3, 3)), float(rng.uniform(0.2, 0.95))):
        size = int(rng.uniform(0.1, 1.0) * rate_hz)
        gain = np.sin(np.pi * np.linspace(0, 1, size)) ** rng.uniform(0.3, 2)
        if smooth:
            hz = base * _wander(rng, size, rate_hz, float(rng.uniform(1, 8)), 0.8, 1.3)
            y = harmonics(hz, [k**-0.8 for k in range(1, 12)], rate_hz)
            y += 0.2 * noise(rng, size)
        else:
            low = float(rng.uniform(300, 3000))
            y = band(noise(rng, size), low, low * float(rng.uniform(1.5, 4)), rate_hz)
        _add(x, i, y * gain * rng.uniform(0.4, 1))
    return x


def _grains(rng: Rng, n: int, rate_hz: int) -> Array:
    """Gravel, plastic, leaves, bubbles, switches: many small things, each a click or a blip."""
    per_s, x = float(np.exp(rng.uniform(np.log(4), np.log(120)))), np.zeros(n)
    clumps = _wander(rng, n, rate_hz, float(rng.uniform(0.3, 3)), 0, 1)
    blips, low = rng.random() < 0.4, float(rng.uniform(300, 2500))
    for i in _at(rng, n, rate_hz, per_s, float(rng.uniform(0, 0.5))):
        if rng.random() > clumps[i]:
            continue
        size = int(np.exp(rng.uniform(np.log(30), np.log(1200))))
        fall = np.exp(-np.arange(size) / (size * rng.uniform(0.1, 0.4)))
        if blips:
            hz = low * float(rng.uniform(0.6, 2.5)) * np.linspace(1, rng.uniform(0.8, 2), size)
            y = np.sin(2 * np.pi * np.cumsum(hz) / rate_hz)
        else:
            y = band(noise(rng, size), low, float(rng.uniform(2, 4)) * low, rate_hz)
        _add(x, i, y * fall * 10 ** (-rng.uniform(0, 24) / 20))
    return x


def _calls(rng: Rng, n: int, rate_hz: int) -> Array:
    """Birds, cats, cattle, frogs, laughter: pitched calls along contours, one animal's way."""
    base = float(np.exp(rng.uniform(np.log(90), np.log(5000))))
    contour = rng.uniform(0.6, 1.7, int(rng.integers(2, 6)))
    long, per_s = float(np.exp(rng.uniform(-3.2, 0.2))), float(np.exp(rng.uniform(-1.2, 1.8)))
    roll, trill, breath = rng.uniform(0.4, 3), rng.uniform(0, 0.2), rng.uniform(0, 0.4)
    speed, curve, x = rng.uniform(8, 60), _curve(rng, 14), np.zeros(n)
    for i in _at(rng, n, rate_hz, per_s, float(rng.uniform(0, 0.9))):
        size = max(200, int(long * rng.uniform(0.7, 1.3) * rate_hz))
        t = np.arange(size) / rate_hz
        hz = base * np.interp(np.linspace(0, 1, size), np.linspace(0, 1, len(contour)),
                              contour * rng.uniform(0.93, 1.07, len(contour)))  # fmt: skip
        hz = hz * (1 + trill * np.sin(2 * np.pi * speed * t))
        y = harmonics(hz, [k**-roll for k in range(1, 25)], rate_hz)
        y += breath * noise(rng, size)
        _add(x, i, y * np.sin(np.pi * np.linspace(0, 1, size)) ** 0.6 * rng.uniform(0.3, 1))
    return shape_spectrum(x, curve, rate_hz)


def _whoosh(rng: Rng, n: int, rate_hz: int) -> Array:
    """Passing cars, zips, sprays, breaths, steam: a band of noise that moves."""
    x = np.zeros(n)
    for i in _at(rng, n, rate_hz, float(rng.uniform(0.2, 2.5)), float(rng.uniform(0, 0.9))):
        size = int(np.exp(rng.uniform(-2.5, 1.2)) * rate_hz)
        low = float(np.exp(rng.uniform(np.log(100), np.log(3000))))
        a = band(noise(rng, size), low, 2.5 * low, rate_hz)
        b = band(noise(rng, size), low * rng.uniform(0.5, 2), 6 * low, rate_hz)
        turn = np.linspace(0, 1, size)
        _add(x, i, (a * (1 - turn) + b * turn) * np.sin(np.pi * turn ** rng.uniform(0.4, 1.5)))
    return x


def _electric(rng: Rng, n: int, rate_hz: int) -> Array:
    """Hum, buzzing lamps, interference, modems: steady lines and gated noise."""
    hz = float(rng.choice([50, 60, 100, 120, rng.uniform(80, 400)]))
    weights = [float(rng.uniform(0, 1) * k ** -rng.uniform(0, 1)) for k in range(1, 40)]
    x = harmonics(np.full(n, hz), weights, rate_hz) + 0.05 * noise(rng, n)
    if rng.random() < 0.4:
        gate = _wander(rng, n, rate_hz, float(rng.uniform(2, 30)), -1, 1) > rng.uniform(-0.8, 0.5)
        x = x * np.convolve(gate, np.ones(80) / 80, mode="same")
    return shape_spectrum(x, _curve(rng, 12), rate_hz)


Make = Callable[[Rng, int, int], Array]

FAMILIES: Final[dict[str, Make]] = {
    "texture": _texture,
    "motor": _motor,
    "impacts": _impacts,
    "friction": _friction,
    "grains": _grains,
    "calls": _calls,
    "whoosh": _whoosh,
    "electric": _electric,
}
