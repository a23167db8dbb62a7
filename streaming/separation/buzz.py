"""Keep mains buzzers audible behind any enhancer: the part of the alarm guard for low pitches.

A door or clock buzzer is one period of 50 to 120 Hz repeated exactly, its harmonics too close to be
told apart in the time that a partial must be found in. What gives it away is its repetition: the
autocorrelation has one high, narrow peak at the period and is low before it. Voices, engines and
bass strings in that range waver; a buzzer, tied to the mains, keeps its pitch. What the enhancer
took of it is given back through a comb over three periods, which passes every harmonic with no
phase shift and little else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime import snapshot

SIZE = 1280  # samples of a look: four periods of 50 Hz
PERIODS = 3  # of the comb
LONGEST = 350  # samples of a period, with room to interpolate
FINE = 2  # lags a sample: the peak is as narrow as the band is wide
TAPS = np.arange(-3, 4)  # of the interpolator


@snapshot.record("buzz.State")
@dataclass
class BuzzState:
    """One stream: what was heard, what was taken, the period in samples and how long it held."""

    history: NDArray[np.float32] = field(default_factory=lambda: np.zeros(SIZE, np.float32))
    taken: NDArray[np.float32] = field(
        default_factory=lambda: np.zeros(PERIODS * LONGEST, np.float32)
    )
    period: float = 0.0
    held: int = 0  # looks in a row with this period
    missed: int = 0
    gain: float = 0.0
    rests: bool = False  # every second step is not looked at


class BuzzGuard:
    """The rule; what a stream remembers is its :class:`BuzzState`.

    Args:
        rate_hz: sample rate.
        alike: least correlation of one period with the next.
        confirm: looks in a row, of two steps each, before a buzzer is believed.
        amount: share of what was taken that is given back, 0..1.
    """

    def __init__(
        self,
        rate_hz: int = 16_000,
        *,
        alike: float = 0.85,
        confirm: int = 3,
        amount: float = 0.8,
        range_hz: tuple[float, float] = (47.0, 125.0),
    ) -> None:
        self.alike, self.confirm, self.amount = alike, confirm, amount
        self.shortest, self.longest = (int(FINE * rate_hz / hz) for hz in range_hz[::-1])
        hz = np.fft.rfftfreq(2 * SIZE, 1 / rate_hz)
        self.band = (hz[hz < 5000] > 250).astype(np.float32)  # above the mains' own hum
        self.overlap = (1 - np.arange(self.longest + 2) / (FINE * SIZE)).astype(np.float32)

    def open(self) -> BuzzState:
        """Return a state that has heard nothing."""
        return BuzzState()

    def step(
        self,
        state: BuzzState,
        fresh: NDArray[np.float32],
        dry: NDArray[np.float32],
        out: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Return ``out`` [T] with its buzzers given back; ``T`` is at most a look's length.

        ``fresh`` [T] is the newest input, ``dry`` [T] the input that belongs to ``out``.
        """
        size = len(fresh)
        state.history = np.concatenate([state.history[size:], fresh])
        if not state.rests:
            self._follow(state, self._period(state.history) if np.any(fresh) else 0.0)
        state.rests = not state.rests
        state.taken = np.concatenate([state.taken[size:], dry - out])
        before = state.gain
        wanted = self.amount if state.held >= self.confirm else 0.0
        state.gain = wanted if wanted >= before else max(wanted, before - 0.3)
        if not before and not state.gain:
            return out
        ramp = np.linspace(before, state.gain, size, dtype=np.float32)
        return np.asarray(out + ramp * self._comb(state, size), np.float32)

    def _period(self, history: NDArray[np.float32]) -> float:
        """Samples after which nearly the same is heard again, and not sooner; else 0."""
        peak = float(np.abs(history).max())
        if peak < 1e-4:
            return 0.0
        spectrum = np.fft.rfft(history / np.float32(peak), 2 * SIZE)[: len(self.band)]
        power = (np.square(spectrum.real) + np.square(spectrum.imag)) * self.band
        lags = np.fft.irfft(power, 2 * FINE * SIZE)[: self.longest + 2]
        if lags[0] < 1e-9:
            return 0.0
        alike = lags / lags[0] / self.overlap
        inside = alike[self.shortest : self.longest + 1]
        best = float(inside.max())
        if best < self.alike:
            return 0.0
        at = self.shortest + int(np.flatnonzero(inside > 0.93 * best)[0])
        while alike[at + 1] > alike[at] and at < self.longest:
            at += 1
        if alike[24 * FINE : int(0.8 * at)].max() > 0.75 * best:
            return 0.0  # it repeats sooner: a note, or a vowel
        left, mid, right = alike[at - 1 : at + 2]
        return float(at + 0.5 * (left - right) / (left - 2 * mid + right - 1e-12)) / FINE

    def _follow(self, state: BuzzState, period: float) -> None:
        if period and abs(period - state.period) < 0.0015 * period:
            # the mean of all looks, so that even a slow glide leaves it behind
            state.period += (period - state.period) / min(state.held + 1, 40)
            state.held, state.missed = state.held + 1, 0
        elif state.held >= self.confirm and state.missed < 2:
            state.missed += 1
        else:
            state.period = period or state.period  # the old one while the gain still falls
            state.held, state.missed = int(period > 0), 0

    def _comb(self, state: BuzzState, size: int) -> NDArray[np.float32]:
        """What repeats of what was taken, in the newest ``size`` samples."""
        total = state.taken[-size:].copy()
        for k in range(1, PERIODS):
            whole = round(k * state.period)
            kernel = np.sinc(TAPS - (k * state.period - whole)) * np.hamming(len(TAPS))
            kernel = kernel / kernel.sum()
            for tap, weight in zip(TAPS, kernel, strict=True):
                stop = len(state.taken) - whole - int(tap)
                total += np.float32(weight) * state.taken[stop - size : stop]
        return total / np.float32(PERIODS)
