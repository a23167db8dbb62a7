"""Two clocks that should agree: how far apart they run, in ppm, and resampling that away."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime import snapshot
from ossicle.runtime.audio import AudioFormat, Chunk, Samples, check
from ossicle.runtime.errors import AudioError

SLOT_S = 2.0  # arrivals are thinned to the earliest of each slot
SLOTS = 60  # slots looked back on
LEAST_SLOTS = 8  # before the first answer
MAX_PPM = 1000.0  # beyond any crystal: the clocks are not what they seem

TAPS = 32
PHASES = 256
ONE = 1 << 32  # positions are counted in 2^-32 samples


@snapshot.record("codec.DriftState")
@dataclass(slots=True)
class DriftState:
    """The earliest arrivals of one stream."""

    origin_ns: int = -1  # arrival of the first packet
    origin: int = 0  # and its first sample
    slots: list[tuple[float, float]] = field(default_factory=list)  # (sent s, transit s)


@dataclass(frozen=True, slots=True)
class DriftEstimator:
    """Estimates how much faster the sender's clock runs, from when its packets come in.

    Queues only ever delay, so the earliest arrival of each slot lies near a line whose slope is
    the drift (the lower envelope; S. Moon, P. Skelly, D. Towsley, INFOCOM 1999). The line is the
    median of the slopes between slots half the history apart, so single slots cannot bend it.
    """

    sample_rate_hz: int

    def open(self) -> DriftState:
        """Return the state of a stream of which nothing was received."""
        return DriftState()

    def push(self, state: DriftState, sample: int, arrival_ns: int) -> None:
        """Take note that the packet whose first sample is ``sample`` came at ``arrival_ns``."""
        if state.origin_ns < 0:
            state.origin_ns, state.origin = arrival_ns, sample
        sent = (sample - state.origin) / self.sample_rate_hz
        transit = (arrival_ns - state.origin_ns) * 1e-9 - sent
        slots = state.slots
        if slots and int(sent // SLOT_S) <= int(slots[-1][0] // SLOT_S):
            if transit < slots[-1][1]:
                slots[-1] = (max(sent, slots[-1][0]), transit)
            return
        slots.append((sent, transit))
        del slots[:-SLOTS]

    def ppm(self, state: DriftState) -> float | None:
        """Return the drift in parts per million; positive: the sender's clock is the faster one.

        None until enough was seen.
        """
        full = state.slots[:-1]  # the last slot is still filling
        if len(full) < LEAST_SLOTS:
            return None
        place = np.array(full)
        half = len(full) // 2
        run, rise = (place[half:] - place[: len(full) - half]).T
        ppm = float(-1e6 * np.median(rise / run))
        return float(np.clip(ppm, -MAX_PPM, MAX_PPM))


@snapshot.record("codec.DriftResamplerState")
@dataclass(slots=True)
class DriftResamplerState:
    """One stream's last samples and place between them."""

    history: Samples  # [C, n], starting TAPS // 2 - 1 samples before the next output's base
    position: int = 0  # of the next output behind its base, in 2^-32 samples
    produced: int = 0  # samples out
    consumed: int = 0  # samples in
    ppm: float = 0.0  # the sender's clock is this much faster


@dataclass(frozen=True, slots=True)
class DriftResampler:
    """A stage that takes ``1 + ppm * 1e-6`` samples for every one it gives.

    ``state.ppm`` may be changed at any time; the pitch shift is inaudible below 1000 ppm. Band
    limited interpolation with 32 taps (J. O. Smith, Digital Audio Resampling): at 16 kHz flat
    within 0.1 dB up to 6.5 kHz.
    """

    format: AudioFormat

    @property
    def input(self) -> AudioFormat:
        """What may be fed."""
        return self.format

    @property
    def output(self) -> AudioFormat:
        """What comes out."""
        return self.format

    @property
    def latency(self) -> int:
        """Samples that the interpolation looks ahead."""
        return TAPS // 2

    def open(self) -> DriftResamplerState:
        """Return a fresh state at 0 ppm."""
        lead = np.zeros((self.format.channels, TAPS // 2 - 1), np.float32)
        return DriftResamplerState(lead)

    def step(self, state: DriftResamplerState, chunk: Chunk) -> list[Chunk]:
        """Return the samples that ``chunk`` completes, on the receiver's clock."""
        check(chunk, self.format)
        state.consumed += chunk.length
        return self._emit(state, chunk.samples, chunk.discont)

    def flush(self, state: DriftResamplerState) -> list[Chunk]:
        """Return the last samples; the interpolation sees silence behind them."""
        if state.consumed == 0:
            return []
        state.consumed = 0
        tail = np.zeros((self.format.channels, TAPS // 2), np.float32)
        return self._emit(state, tail, False)

    def _emit(self, state: DriftResamplerState, samples: Samples, discont: bool) -> list[Chunk]:
        if not abs(state.ppm) <= MAX_PPM:
            raise AudioError(f"drift of {state.ppm} ppm; at most {MAX_PPM:g} can be mended")
        signal = np.concatenate([state.history, samples], axis=1)
        step = ONE + round(state.ppm * 1e-6 * ONE)
        room = signal.shape[1] - TAPS + 1  # bases that have all their taps
        count = max(-(-(room * ONE - state.position) // step), 0)
        place = state.position + step * np.arange(count, dtype=np.int64)
        base, part = place >> 32, place & (ONE - 1)
        if count:
            windows = np.lib.stride_tricks.sliding_window_view(signal, TAPS, axis=1)[:, base]
            out = np.einsum("ctk,tk->ct", windows, _taps(part)).astype(np.float32)
        nxt = state.position + step * count
        drop = min(nxt >> 32, signal.shape[1])
        state.history = signal[:, drop:].copy()
        state.position = nxt - (drop << 32)
        if not count:
            return []
        start = state.produced
        state.produced += count
        return [Chunk(out, start, self.format, discont)]


def _bank() -> NDArray[np.float64]:
    """Windowed sinc at ``PHASES + 1`` fractions: ``[P, TAPS]``, each of unit sum."""
    offset = np.arange(TAPS) - (TAPS // 2 - 1)
    x = offset[None, :] - (np.arange(PHASES + 1) / PHASES)[:, None]
    bank = np.sinc(0.95 * x) * np.i0(8.0 * np.sqrt(np.maximum(1 - (x / (TAPS / 2)) ** 2, 0)))
    return np.asarray(bank / bank.sum(1, keepdims=True))


_BANK = _bank()


def _taps(part: NDArray[np.int64]) -> NDArray[np.float64]:
    """Interpolation weights ``[T, TAPS]`` at fractions ``part`` of 2^32, linear between phases."""
    scaled = part * PHASES
    row = scaled >> 32
    weight = ((scaled & (ONE - 1)) / ONE)[:, None]
    return np.asarray(_BANK[row] * (1 - weight) + _BANK[row + 1] * weight)
