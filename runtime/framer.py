"""Cut a stream into hops of one length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ossicle.runtime import snapshot
from ossicle.runtime.audio import AudioFormat, Chunk, Samples, check
from ossicle.runtime.errors import AudioError


@snapshot.record("framer.State")
@dataclass(slots=True)
class FramerState:
    """The beginning of a hop, waiting for the rest."""

    held: Samples  # [C, hop], of which the first ``count`` columns are filled
    count: int = 0
    start: int = 0  # index of held[:, 0] in the stream
    discont: bool = False


class Framer:
    """Yields chunks of exactly ``hop`` samples; ``flush`` pads the last with silence."""

    def __init__(self, format: AudioFormat, hop: int) -> None:
        if hop < 1:
            raise AudioError(f"hop of {hop} samples; at least 1 expected")
        self.input = self.output = format
        self.hop = hop

    @property
    def latency(self) -> int:
        """A hop leaves when its last sample has come in."""
        return self.hop - 1

    def open(self) -> FramerState:
        """Return an empty state."""
        return FramerState(np.zeros((self.input.channels, self.hop), np.float32))

    def step(self, state: FramerState, chunk: Chunk) -> list[Chunk]:
        """Return the hops that ``chunk`` completes; a gap drops the one it interrupts."""
        check(chunk, self.input)
        if chunk.discont or not state.count:
            state.count, state.start = 0, chunk.start
            state.discont = state.discont or chunk.discont
        if state.count + chunk.length < self.hop:  # the usual case of small chunks
            end = state.count + chunk.length
            state.held[:, state.count : end] = chunk.samples
            state.count = end
            return []
        hops, rest = [], chunk.samples
        if state.count:
            room = self.hop - state.count
            state.held[:, state.count :] = rest[:, :room]
            rest = rest[:, room:]
            hops.append(self._take(state, state.held.copy()))
        while rest.shape[1] >= self.hop:
            hops.append(self._take(state, np.ascontiguousarray(rest[:, : self.hop])))
            rest = rest[:, self.hop :]
        state.held[:, : rest.shape[1]] = rest
        state.count = rest.shape[1]
        return hops

    def flush(self, state: FramerState) -> list[Chunk]:
        """Return the unfinished hop, padded, if there is one."""
        if not state.count:
            return []
        state.held[:, state.count :] = 0.0
        return [self._take(state, state.held.copy())]

    def _take(self, state: FramerState, samples: Samples) -> Chunk:
        hop = Chunk(samples, state.start, self.output, state.discont)
        state.count, state.start, state.discont = 0, state.start + self.hop, False
        return hop
