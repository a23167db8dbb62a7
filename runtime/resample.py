"""Sample-rate conversion with soxr as a stage whose memory can be exported.

soxr keeps its memory to itself. So the stream is cut into epochs at fixed input positions, each
converted by a soxr stream of its own that is primed with the samples before the epoch; where the
cuts lie depends on sample positions alone. A snapshot then holds the input since the priming of
the present epoch began, and replaying it gives the same bits. The seams are the same linear filter
on both sides and differ by rounding only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ossicle.runtime import snapshot
from ossicle.runtime.audio import AudioFormat, Chunk, Samples, check
from ossicle.runtime.errors import AudioError

EPOCH_S = 2  # length of an epoch in seconds of input
PRIME_S = 0.25  # input that primes a soxr stream; its filter is far shorter


@snapshot.record("resample.State")
@dataclass
class ResamplerState:
    """The input since the present epoch's priming began, and what was made of it."""

    tail: Samples  # [C, T] input from ``origin`` on
    origin: int  # input index of tail[:, 0]
    made: int  # output samples that left so far, since ``start_out``
    fed: int  # input samples that arrived, since ``start_in``
    start_in: int = 0
    start_out: int = 0
    opened: bool = False
    discont: bool = False
    live: Any = field(default=None, init=False, repr=False)  # the running soxr streams


class Resampler:
    """A stage from one format to another; mixes two channels to one by their mean.

    ``latency`` is what soxr's filter needs, measured when the stage is made.
    """

    def __init__(self, source: AudioFormat, target: AudioFormat, quality: str = "HQ") -> None:
        if source.channels != target.channels and 1 not in (source.channels, target.channels):
            raise AudioError(
                f"{source.channels} to {target.channels} channels; only to or from one channel"
            )
        self.input, self.output, self.quality = source, target, quality
        common = math.gcd(source.rate_hz, target.rate_hz)
        self.up, self.down = target.rate_hz // common, source.rate_hz // common
        seconds = -(-EPOCH_S * source.rate_hz // self.down)
        self.epoch = seconds * self.down  # whole cycles of the ratio, so that epochs align
        self.prime = -(-int(PRIME_S * source.rate_hz) // self.down) * self.down
        self.channels = min(source.channels, target.channels)
        self.latency = 0 if self.same_rate else self._measure()

    @property
    def same_rate(self) -> bool:
        """Whether only the channels change."""
        return self.up == self.down

    def open(self) -> ResamplerState:
        """Return fresh memory."""
        return ResamplerState(np.zeros((self.channels, 0), np.float32), 0, 0, 0)

    def step(self, state: ResamplerState, chunk: Chunk) -> list[Chunk]:
        """Return what can be made of the samples so far."""
        check(chunk, self.input)
        if not state.opened or chunk.discont or chunk.start != state.start_in + state.fed:
            self._restart(state, chunk)
        samples = self._mix(chunk.samples)
        state.fed += chunk.length
        if self.same_rate:
            return self._emit(state, samples)
        return self._emit(state, self._convert(state, samples, last=False))

    def flush(self, state: ResamplerState) -> list[Chunk]:
        """Return the filter's tail, so that the output lasts exactly as long as the input."""
        if not state.opened or self.same_rate or state.fed == 0:
            return []
        out = self._convert(state, np.zeros((self.channels, 0), np.float32), last=True)
        total = -(-state.fed * self.up // self.down)
        made = self._emit(state, out[:, : max(0, total - state.made)])
        fresh = self.open()
        for name in ("tail", "origin", "made", "fed", "start_in", "start_out", "opened"):
            setattr(state, name, getattr(fresh, name))
        state.live = None
        return made

    def _restart(self, state: ResamplerState, chunk: Chunk) -> None:
        state.tail = np.zeros((self.channels, 0), np.float32)
        state.origin = state.made = state.fed = 0
        state.start_in = chunk.start
        state.start_out = chunk.start * self.up // self.down
        state.opened, state.discont, state.live = True, chunk.discont, None

    def _mix(self, samples: Samples) -> Samples:
        if samples.shape[0] == self.channels:
            return samples
        return np.asarray(samples.mean(axis=0, keepdims=True, dtype=np.float32))

    def _emit(self, state: ResamplerState, out: Samples) -> list[Chunk]:
        if not out.shape[1]:
            return []
        if out.shape[0] != self.output.channels:
            out = np.repeat(out, self.output.channels, axis=0)
        start = state.start_out + state.made
        made = Chunk(np.ascontiguousarray(out), start, self.output, state.discont)
        state.made += out.shape[1]
        state.discont = False
        return [made]

    def _convert(self, state: ResamplerState, samples: Samples, last: bool) -> Samples:
        """Feed ``samples`` through the epochs they touch; positions count from the restart."""
        if state.live is None:
            state.live = self._revive(state)
        live: _Epochs = state.live
        out = live.feed(samples, last)
        keep = live.origin
        joined = np.concatenate([state.tail, samples], axis=1)
        state.tail = joined[:, max(0, keep - state.origin) :]
        state.origin = max(state.origin, keep)
        return out

    def _revive(self, state: ResamplerState) -> _Epochs:
        """Return running streams in the position that ``state`` says, by replaying its tail."""
        live = _Epochs(self, state.origin)
        live.feed(state.tail, last=False)
        return live

    def _measure(self) -> int:
        """Return how many input samples soxr holds back at most, sample by sample."""
        live, worst, made = _Epochs(self, 0), 0, 0
        count = min(self.epoch, 8192)
        for fed in range(1, count + 1, 16):
            made += live.feed(np.zeros((self.channels, 16), np.float32), last=False).shape[1]
            worst = max(worst, fed + 15 - made * self.down // self.up)
        return worst


class _Epochs:
    """The soxr stream of the present epoch, and of the next one while the two overlap."""

    def __init__(self, stage: Resampler, origin: int) -> None:
        self.stage = stage
        self.origin = origin  # input index where the present epoch's priming began
        self.position = origin  # input fed so far
        first = 0 if origin == 0 else -(-origin // stage.epoch)
        self.index = first
        self.streams: list[tuple[int, Any, int]] = []  # (epoch, soxr stream, output index)
        self._begin(first, origin)

    def feed(self, samples: Samples, last: bool) -> Samples:
        parts: list[Samples] = []
        epoch, prime = self.stage.epoch, self.stage.prime
        while samples.shape[1] or last:
            edge = (self.index + 1) * epoch - prime  # where the next epoch's priming begins
            room = edge - self.position if self.position < edge else samples.shape[1]
            fresh, samples = samples[:, :room], samples[:, room:]
            ending = last and not samples.shape[1]
            parts.append(self._advance(fresh, ending))
            self.position += fresh.shape[1]
            if self.position == edge:
                self._begin(self.index + 1, edge)
                self.index += 1
            if ending:
                break
        return (
            np.concatenate(parts, axis=1)
            if parts
            else np.zeros((self.stage.channels, 0), np.float32)
        )

    def _begin(self, epoch: int, origin: int) -> None:
        import soxr

        stream = soxr.ResampleStream(
            self.stage.input.rate_hz,
            self.stage.output.rate_hz,
            self.stage.channels,
            dtype="float32",
            quality=self.stage.quality,
        )
        self.streams.append((epoch, stream, origin * self.stage.up // self.stage.down))

    def _advance(self, fresh: Samples, last: bool) -> Samples:
        """Feed every stream; return the output that lies in each stream's own epoch."""
        size = self.stage.epoch * self.stage.up // self.stage.down
        parts, kept = [], []
        block = np.ascontiguousarray(fresh.T)
        for number, (epoch, stream, at) in enumerate(self.streams):
            made = stream.resample_chunk(block, last=last).T
            low, high = epoch * size, (epoch + 1) * size
            newest = number == len(self.streams) - 1
            if last and newest:
                high = at + made.shape[1]
            parts.append(made[:, max(0, low - at) : max(0, high - at)])
            at += made.shape[1]
            if at < high or newest:
                kept.append((epoch, stream, at))
        self.streams = kept
        if len(kept) == 1:
            begun = kept[0][0] * self.stage.epoch
            self.origin = max(self.origin, begun - self.stage.prime if begun else 0)
        return np.concatenate(parts, axis=1)
