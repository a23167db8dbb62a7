"""Small sounds strewn over time: what drops, claps and keys have in common."""

from collections.abc import Callable

import numpy as np

from ossicle.runtime.scene.sound import Array, Interval

Rng = np.random.Generator
Made = tuple[Array, list[Interval]]
Make = Callable[[Rng, int, int], Made]


def times(rng: Rng, n: int, gap_s: tuple[float, float], rate_hz: int) -> list[int]:
    """Sample indices that follow each other after ``gap_s`` seconds, drawn evenly."""
    at, out = float(rng.uniform(0, 0.2)), []
    while at * rate_hz < n:
        out.append(int(at * rate_hz))
        at += float(rng.uniform(*gap_s))
    return out


def ping(rng: Rng, size: int, hz: list[float], decay_s: float, rate_hz: int) -> Array:
    """Partials at ``hz`` that die together, `[size]`."""
    t = np.arange(size) / rate_hz
    return np.asarray(
        sum(rng.uniform(0.3, 1) * np.sin(2 * np.pi * f * t + rng.uniform(0, 6.28)) for f in hz)
        * np.exp(-t / decay_s)
    )


def scatter(
    rng: Rng, n: int, at: list[int], make: Callable[[], Array], spread_db: float
) -> tuple[Array, list[Interval]]:
    """One small sound from ``make`` at each index, at a level drawn from ``spread_db``."""
    x, bursts = np.zeros(n), []
    for i in at:
        y = make()[: n - i] * 10 ** (-rng.uniform(0, spread_db) / 20)
        x[i : i + len(y)] += y
        bursts.append((i, i + len(y)))
    return x, bursts
