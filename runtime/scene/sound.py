"""A sound with its truth, and the few oscillators and shapes every synthesiser here is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.errors import AudioError

RATE_HZ = 16000

Samples1D = NDArray[np.float32]
Array = NDArray[np.float64]
Interval = tuple[int, int]


@dataclass(frozen=True)
class Sound:
    """One sound alone: dry, peak at most 1, and when it is heard.

    ``bursts`` are the runs ``[start, stop)`` in samples where it sounds, sorted and disjoint; the
    silences between them belong to its cadence. ``recipe`` holds the numbers that were drawn.
    """

    label: str
    samples: Samples1D  # [T]
    bursts: tuple[Interval, ...]
    recipe: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def span(self) -> Interval:
        """First onset and last offset in samples; ``(0, 0)`` if it never sounds."""
        return (self.bursts[0][0], self.bursts[-1][1]) if self.bursts else (0, 0)


def finish(
    label: str, x: Array, bursts: Sequence[Interval], recipe: Mapping[str, float | str]
) -> Sound:
    """A :class:`Sound` scaled to a peak of 0.9, without DC."""
    x = x - float(x.mean()) if len(x) else x
    peak = float(np.max(np.abs(x), initial=0.0))
    scaled = (x * (0.9 / peak) if peak > 0 else x).astype(np.float32)
    return Sound(label, scaled, tuple(bursts), dict(recipe))


def length(seconds: float, rate_hz: int) -> int:
    """Whole samples in ``seconds``; refuses nonsense instead of making an empty sound."""
    if not 0 < seconds <= 3600:
        raise AudioError(f"a sound of {seconds} s was asked for; give more than 0 and at most 3600")
    return max(1, round(seconds * rate_hz))


def phase_of(freq_hz: Array, rate_hz: int, start: float = 0.0) -> Array:
    """Phase in radians of an oscillator whose frequency at each sample is ``freq_hz`` [T]."""
    return start + 2 * np.pi * np.cumsum(freq_hz) / rate_hz


def harmonics(freq_hz: Array, weights: Sequence[float], rate_hz: int, start: float = 0.0) -> Array:
    """A band-limited periodic wave [T]: partial k has ``weights[k-1]``, muted above 0.47 rate."""
    phase = phase_of(freq_hz, rate_hz, start)
    out = np.zeros_like(freq_hz)
    for k, w in enumerate(weights, start=1):
        if w == 0 or float(np.min(freq_hz)) * k > 0.47 * rate_hz:
            continue
        out += w * np.sin(k * phase) * (k * freq_hz < 0.47 * rate_hz)
    return out


def square_weights(partials: int) -> list[float]:
    """Fourier weights of a square wave: odd partials at 1/k."""
    return [1.0 / k if k % 2 else 0.0 for k in range(1, partials + 1)]


def noise(rng: np.random.Generator, n: int, slope_db_octave: float = 0.0) -> Array:
    """Gaussian noise [n] whose spectrum tilts by ``slope_db_octave`` (-3 is pink), unit RMS."""
    spec = np.fft.rfft(rng.standard_normal(n))
    f = np.maximum(np.arange(len(spec)), 1.0)
    spec *= f ** (slope_db_octave / 6.0206)
    x = np.fft.irfft(spec, n)
    rms = float(np.sqrt(np.mean(x * x)))
    return x / rms if rms > 0 else x


def shape_spectrum(x: Array, points: Sequence[tuple[float, float]], rate_hz: int) -> Array:
    """``x`` with the gain curve ``points`` of (Hz, dB), straight lines over log frequency."""
    n = len(x)
    f = np.fft.rfftfreq(n, 1 / rate_hz)
    hz = np.log(np.maximum([p[0] for p in points], 1.0))
    gain = np.interp(np.log(np.maximum(f, 1.0)), hz, [p[1] for p in points])
    return np.fft.irfft(np.fft.rfft(x) * 10 ** (gain / 20), n)


def band(x: Array, low_hz: float, high_hz: float, rate_hz: int) -> Array:
    """``x`` between two frequencies, skirts of about 24 dB an octave."""
    f = np.fft.rfftfreq(len(x), 1 / rate_hz)
    up = (f / max(low_hz, 1e-3)) ** 4
    down = (f / high_hz) ** 4
    return np.fft.irfft(np.fft.rfft(x) * (up / (1 + up)) / (1 + down), len(x))


def envelope(
    n: int, bursts: Sequence[Interval], attack_s: float, release_s: float, rate_hz: int
) -> Array:
    """Gain [n]: 1 inside ``bursts`` after a raised-cosine attack, 0 outside after the release."""
    gain = np.zeros(n)
    for start, stop in bursts:
        size = stop - start
        up = min(size // 2, max(1, round(attack_s * rate_hz)))
        down = min(size // 2, max(1, round(release_s * rate_hz)))
        g = np.ones(size)
        g[:up] *= 0.5 - 0.5 * np.cos(np.pi * (np.arange(up) + 0.5) / max(up, 1))
        if down:
            g[-down:] *= 0.5 + 0.5 * np.cos(np.pi * (np.arange(down) + 0.5) / down)
        gain[start:stop] = g
    return gain


def cadence(pattern: Sequence[tuple[float, float]], n: int, rate_hz: int) -> list[Interval]:
    """The bursts of ``pattern`` (seconds on, seconds off), repeated until ``n`` samples are full.

    A last burst that would be cut to less than a third is left out, unless it is the only one.

    >>> cadence([(0.5, 0.5)], 1500, 1000)
    [(0, 500), (1000, 1500)]
    """
    if not pattern or sum(on + off for on, off in pattern) <= 0:
        raise AudioError("a cadence needs at least one (on, off) pair longer than 0 s")
    bursts: list[Interval] = []
    t = 0.0
    while True:
        for on, off in pattern:
            start, stop = round(t * rate_hz), round((t + on) * rate_hz)
            cut = min(stop, n)
            if start >= n or (bursts and (cut - start) * 3 < stop - start):
                return bursts
            if cut > start:
                bursts.append((start, cut))
            t += on + off


def bridge(bursts: Sequence[Interval], gap: int) -> list[Interval]:
    """``bursts`` with silences of at most ``gap`` samples filled.

    >>> bridge([(0, 5), (7, 9), (20, 21)], 2)
    [(0, 9), (20, 21)]
    """
    out: list[Interval] = []
    for start, stop in sorted(bursts):
        if out and start - out[-1][1] <= gap:
            out[-1] = (out[-1][0], max(out[-1][1], stop))
        else:
            out.append((start, stop))
    return out


def drive(x: Array, amount_db: float, hard: bool) -> Array:
    """``x`` pushed into a limiter, as a cheap sounder or an overloaded microphone does."""
    peak = float(np.max(np.abs(x), initial=0.0))
    if peak == 0 or amount_db <= 0:
        return x
    y = x / peak * 10 ** (amount_db / 20)
    return np.clip(y, -1, 1) if hard else np.tanh(y)
