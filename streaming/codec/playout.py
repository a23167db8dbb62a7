"""Packets that arrive when they like, samples that leave by a local clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ossicle.runtime import snapshot
from ossicle.runtime.audio import Samples
from ossicle.runtime.errors import PacketError
from ossicle.runtime.model import Model, ModelState
from ossicle.runtime.task import AudioEvent, Hop
from ossicle.streaming.codec.decode import DecodeState, DecodeTask
from ossicle.streaming.codec.drift import DriftEstimator, DriftResampler, DriftResamplerState
from ossicle.streaming.codec.drift import DriftState as DriftMemory
from ossicle.streaming.codec.jitter import Frame

REVIEW_FRAMES = 100  # between changes of the resampling ratio
PULL_PPM_PER_MS = 4.0  # how hard the wait is pulled back to its target
MOST_PULL_PPM = 300.0
SPARE_FRAMES = 10  # waiting beyond the target before frames are dropped


@snapshot.record("codec.PlayoutState")
@dataclass(slots=True)
class PlayoutState:
    """One stream that is being played."""

    task: DecodeState
    drift: DriftMemory
    resampler: DriftResamplerState
    ready: Samples  # [C, T] decoded and resampled, not yet played
    started: bool = False
    played: int = 0  # frames since the last review
    waited: float = 0.0  # sum over those of the frames that waited in the ring
    stalled: int = 0  # frames for which nothing was there: the wait grew by them
    dropped: int = 0  # frames skipped because too many waited


@dataclass(frozen=True, slots=True)
class PlayoutReport:
    """How playing goes."""

    ppm: float | None  # the sender's clock is this much faster than ours; None: unknown yet
    applied_ppm: float  # what the resampling takes away now
    waiting_frames: int  # in the ring
    stalled: int
    dropped: int


class Playout:
    """Plays one codec's packets at a target delay, drift resampled away.

    Playing begins when ``delay`` frames wait beyond those that the first sample needs. A frame that
    is not there in time is concealed. If nothing newer is there either, concealment is played
    without moving on, so the delay grows instead of everything after being late; drift control
    brings it back, and beyond ``SPARE_FRAMES`` too many the oldest frames are dropped.

    Where the model's hop is several frames, it moves on in any case.

    Args:
        model: a codec.
        delay: target in frames.
        estimate: measure drift from arrival times; off, only the wait steers.
    """

    def __init__(self, model: Model, delay: int = 3, *, estimate: bool = True) -> None:
        if not 1 <= delay <= 64:
            raise PacketError(f"target delay of {delay} frames; 1 to 64 allowed")
        self.model, self.delay, self.estimate = model, delay, estimate
        self.task = DecodeTask(model.bundle, delay=min(delay + 2 * SPARE_FRAMES, 100))
        self._drift = DriftEstimator(self.task.layout.sample_rate_hz)
        self._resampler = DriftResampler(self.task.output_format)
        ahead = model.manifest.delay + self._resampler.latency
        self._first = delay + 1 + ahead // self.task.layout.hop

    def open(self) -> tuple[PlayoutState, ModelState]:
        """Return what one stream remembers, and the decoder's memory."""
        none = np.zeros((self.task.output_format.channels, 0), np.float32)
        state = PlayoutState(self.task.open(), self._drift.open(), self._resampler.open(), none)
        return state, self.model.open(1, self.task.program)

    def push(self, state: PlayoutState, memory: ModelState, packet: bytes, arrival_ns: int) -> None:
        """Take a packet that arrived at ``arrival_ns`` of the local monotonic clock."""
        ring = state.task.ring
        before = ring.newest
        hops = self.task.push(state.task, packet)
        if self.estimate and ring.newest > before:
            self._drift.push(state.drift, ring.newest * self.task.layout.hop, arrival_ns)
        for hop in hops:  # the ring was full: these frames will never be played in time
            self._decode(state, memory, hop)
            state.dropped += 1
        state.started = state.started or ring.newest + 1 - ring.next >= self._first

    def pull(self, state: PlayoutState, memory: ModelState, samples: int) -> Samples:
        """Return the next ``[C, samples]`` to be heard; silence before playing has begun."""
        channels = self.task.output_format.channels
        if not state.started:
            return np.zeros((channels, samples), np.float32)
        parts, count = [state.ready], state.ready.shape[1]
        while count < samples:
            made = self._next(state, memory)
            parts.append(made)
            count += made.shape[1]
        heard = np.concatenate(parts, axis=1)
        state.ready = heard[:, samples:].copy()
        return heard[:, :samples]

    def report(self, state: PlayoutState) -> PlayoutReport:
        """Return how playing goes."""
        ring = state.task.ring
        return PlayoutReport(
            self._drift.ppm(state.drift), state.resampler.ppm, ring.newest + 1 - ring.next,
            state.stalled, state.dropped,
        )  # fmt: skip

    def _next(self, state: PlayoutState, memory: ModelState) -> Samples:
        """Decode the next frame by the clock and bring it to our rate."""
        ring = state.task.ring
        waiting = ring.newest + 1 - ring.next
        while waiting > self.delay + SPARE_FRAMES:
            for hop in self.task.pull(state.task):
                self._decode(state, memory, hop)
            state.dropped += 1
            waiting -= 1
        if waiting > 0 or ring.next < ring.noise_until or self.task.per_hop > 1:
            hops = self.task.pull(state.task)
        else:
            hops = self.task.due(state.task, [Frame(ring.next, "lost")])
            state.stalled += 1
        self._review(state, max(waiting - 1, 0))
        none = np.zeros((self.task.output_format.channels, 0), np.float32)
        return np.concatenate([none, *(self._decode(state, memory, h) for h in hops)], axis=1)

    def _decode(self, state: PlayoutState, memory: ModelState, hop: Hop) -> Samples:
        if hop.discont:
            self.model.reset(memory, 0)
        inputs = {name: np.asarray(a)[None] for name, a in hop.inputs.items()}
        made = self.model.step(memory, inputs)
        events = self.task.take(state.task, hop, {name: a[0] for name, a in made.items()})
        chunks = [
            out
            for event in events
            if isinstance(event, AudioEvent)
            for out in self._resampler.step(state.resampler, event.chunk)
        ]
        none = np.zeros((self.task.output_format.channels, 0), np.float32)
        return np.concatenate([none, *(chunk.samples for chunk in chunks)], axis=1)

    def _review(self, state: PlayoutState, waiting: int) -> None:
        """Set the ratio: what the clocks differ by, and a pull towards the target delay."""
        state.played += 1
        state.waited += waiting
        if state.played < REVIEW_FRAMES:
            return
        layout = self.task.layout
        excess_ms = (state.waited / state.played - self.delay) * 1000 / layout.frame_rate
        pull = float(np.clip(PULL_PPM_PER_MS * excess_ms, -MOST_PULL_PPM, MOST_PULL_PPM))
        measured = self._drift.ppm(state.drift) if self.estimate else None
        state.resampler.ppm = float(np.clip((measured or 0.0) + pull, -1000.0, 1000.0))
        state.played, state.waited = 0, 0.0
