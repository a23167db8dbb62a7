"""Keep warning sounds audible behind any enhancer, at no extra delay.

Denoisers take alarms for noise. The guard looks for what nearly all warning sounds are made of,
partials that stand out of their surroundings and last, follows them while they glide, and gives
back what the enhancer took away around each: ``out + g * BP(dry - out)``. The band-pass is a
one-pole low-pass around a rotating carrier, which passes its centre with no phase shift, so the
returned partial adds up to the dry one. Where the enhancer kept the partial there is nothing to
give back, which is why voiced speech, also made of partials, is left alone.

Pitch is looked for in the newest input while the output lags by the enhancer's delay; a partial is
believed after ``confirm`` looks, about 25 ms. Mains buzzers, whose partials are too close to tell
apart, are kept by :mod:`~ossicle.streaming.separation.buzz`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime import snapshot
from ossicle.streaming.separation.buzz import BuzzGuard, BuzzState

LOOK = 128  # samples between looks at the spectrum
SIZE = 512  # samples in a look
FLOOR = 1e-9  # power under which a bin is silence


def _zeros() -> NDArray[np.float64]:
    return np.zeros(AlarmGuard.SLOTS)


@snapshot.record("alarm_guard.State")
@dataclass
class AlarmGuardState:
    """One stream's partials: frequency in radians a sample, how long seen, how loud returned."""

    history: NDArray[np.float32] = field(default_factory=lambda: np.zeros(SIZE, np.float32))
    turn: NDArray[np.float64] = field(default_factory=_zeros)  # radians a sample; 0 is free
    glide: NDArray[np.float64] = field(default_factory=_zeros)  # change of ``turn`` per look
    age: NDArray[np.float64] = field(default_factory=_zeros)  # looks in a row
    missed: NDArray[np.float64] = field(default_factory=_zeros)
    gain: NDArray[np.float64] = field(default_factory=_zeros)
    phase: NDArray[np.float64] = field(default_factory=_zeros)
    band: NDArray[np.complex128] = field(
        default_factory=lambda: np.zeros(AlarmGuard.SLOTS, np.complex128)
    )
    buzz: BuzzState = field(default_factory=BuzzState)


class AlarmGuard:
    """The rule; what a stream remembers is its :class:`AlarmGuardState`.

    Args:
        rate_hz: sample rate.
        prominence_db: how far a partial stands above the geometric mean around it.
        confirm: looks in a row before a partial is believed.
        width_hz: half width of what is given back around a partial.
        amount: share of what was taken that is given back, 0..1.
        delay: samples by which ``out`` trails ``fresh``.
    """

    SLOTS = 10

    def __init__(
        self,
        rate_hz: int = 16_000,
        *,
        prominence_db: float = 15.0,
        confirm: int = 3,
        width_hz: float = 60.0,
        amount: float = 0.8,
        delay: int = 0,
        range_hz: tuple[float, float] = (300.0, 7_600.0),
    ) -> None:
        self.rate_hz, self.confirm, self.amount = rate_hz, confirm, amount
        self.prominence = prominence_db / 10 * np.log(10)
        self.window = np.hanning(SIZE + 1)[:SIZE]
        self.low, self.high = (max(12, round(f * SIZE / rate_hz)) for f in range_hz)
        self.high = min(self.high, SIZE // 2 - 12)
        self.reach = 2 * np.pi * 45 / rate_hz  # how far a partial may jump between looks
        self.ahead = (SIZE / 2 - delay) / LOOK  # looks from what was seen to what is out
        self.apart = 2 * np.pi * 140 / rate_hz  # closer partials would be returned twice
        keep = np.exp(-2 * np.pi * width_hz / rate_hz)
        steps = np.arange(LOOK)
        lag = steps[None, :] - steps[:, None]
        self.smooth = np.where(lag >= 0, (1 - keep) * keep ** np.maximum(lag, 0), 0.0)
        self.fade = keep ** (steps + 1)
        self.buzz = BuzzGuard(rate_hz, amount=amount)

    def open(self) -> AlarmGuardState:
        """Return a state that has heard nothing."""
        return AlarmGuardState()

    def step(
        self,
        state: AlarmGuardState,
        fresh: NDArray[np.float32],
        dry: NDArray[np.float32],
        out: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Return ``out`` [T] with its alarms given back.

        ``fresh`` [T] is the newest input, ``dry`` [T] the input that belongs to ``out``.
        """
        made = np.empty_like(out)
        for at in range(0, len(out), LOOK):
            part = slice(at, at + LOOK)
            self._look(state, fresh[part])
            kept = self.buzz.step(state.buzz, fresh[part], dry[part], out[part])
            made[part] = self._give_back(state, dry[part], kept)
        return made

    def _look(self, state: AlarmGuardState, fresh: NDArray[np.float32]) -> None:
        history = state.history
        history[: -len(fresh)] = history[len(fresh) :]
        history[-len(fresh) :] = fresh
        self._follow(state, self._partials(history) if np.any(fresh) else np.zeros(0))

    def _partials(self, history: NDArray[np.float32]) -> NDArray[np.float64]:
        """Frequencies (radians a sample) of what stands out, loudest first, kept apart."""
        power = np.square(np.abs(np.fft.rfft(history * self.window)))
        log = np.log(power + FLOOR)
        total = np.concatenate([[0.0], np.cumsum(log)])
        k = np.arange(self.low, self.high)
        around = (total[k + 12] - total[k - 11]) - (total[k + 4] - total[k - 3])
        here = log[k]
        peak = (here > log[k - 1]) & (here >= log[k + 1])
        peak &= here - around / 16 > self.prominence
        peak &= here > here.max() - 6.0  # 26 dB below the loudest is not what warns
        found = k[peak]
        found = found[np.argsort(log[found])[::-1]]
        left, mid, right = log[found - 1], log[found], log[found + 1]
        bins = found + 0.5 * (left - right) / (left - 2 * mid + right)
        turns: list[float] = []
        for turn in 2 * np.pi * bins / SIZE:
            if all(abs(turn - other) >= self.apart for other in turns):
                turns.append(float(turn))
            if len(turns) == self.SLOTS:
                break
        return np.array(turns)

    def _follow(self, state: AlarmGuardState, seen: NDArray[np.float64]) -> None:
        """Continue known partials with what was seen, begin new ones, forget lost ones."""
        left = list(seen)
        for slot in np.argsort(-state.age):
            if state.turn[slot] == 0:
                continue
            expected = state.turn[slot] + state.glide[slot]
            gaps = [abs(turn - expected) for turn in left]
            if gaps and min(gaps) <= self.reach + 0.05 * expected:
                turn = left.pop(int(np.argmin(gaps)))
                state.glide[slot] += 0.5 * (turn - state.turn[slot] - state.glide[slot])
                state.turn[slot] = turn
                state.age[slot] += 1
                state.missed[slot] = 0
            else:
                state.glide[slot] = 0.0
                state.missed[slot] += 1
                if state.missed[slot] > (4 if state.age[slot] >= self.confirm else 0):
                    state.age[slot] = 0
                    if state.gain[slot] == 0:
                        state.turn[slot] = 0
        for slot in np.flatnonzero(state.turn == 0)[: len(left)]:
            state.turn[slot] = left.pop(0)
            state.age[slot], state.missed[slot], state.glide[slot] = 1, 0, 0.0
            state.phase[slot], state.band[slot], state.gain[slot] = 0.0, 0.0, 0.0

    def _give_back(
        self, state: AlarmGuardState, dry: NDArray[np.float32], out: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        wanted = np.where(state.age >= self.confirm, self.amount, 0.0)
        active = np.flatnonzero((state.turn > 0) & ((wanted > 0) | (state.gain > 0)))
        if not len(active):
            return out
        size = len(out)
        taken = (dry - out).astype(np.float64)
        steps = np.arange(1, size + 1)
        turn = state.turn[active] + self.ahead * state.glide[active]
        phase = state.phase[active, None] + turn[:, None] * steps
        carrier = np.exp(1j * phase)  # [K, T]
        band = (taken * carrier.conj()) @ self.smooth[:size, :size]
        band += state.band[active, None] * self.fade[:size]
        before, after = state.gain[active], wanted[active]
        after = np.where(after > before, after, np.maximum(after, before - 0.2))
        ramp = before[:, None] + (after - before)[:, None] * (steps / size)
        back = 2.0 * np.sum(ramp * (band * carrier).real, axis=0)
        state.phase[active] = phase[:, -1] % (2 * np.pi)
        state.band[active], state.gain[active] = band[:, -1], after
        gone = active[(after == 0) & (state.age[active] == 0)]
        state.turn[gone] = 0
        return np.asarray(out + back, np.float32)
