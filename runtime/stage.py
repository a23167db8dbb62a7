"""The one interface every audio processor shares, and the pipeline that chains them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol, TypeVar

from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.errors import AudioError

StateT = TypeVar("StateT")


class Stage(Protocol[StateT]):
    """Turns chunks into chunks.

    A stage holds weights and settings and serves every stream; what one stream remembers lives in
    the state that :meth:`open` returns. A signal fed in pieces comes out as if fed whole.
    """

    @property
    def input(self) -> AudioFormat:
        """What may be fed."""
        ...

    @property
    def output(self) -> AudioFormat:
        """What comes out."""
        ...

    @property
    def latency(self) -> int:
        """Samples, at the input rate, from a sample's arrival to the departure of its image.

        The worst case over all samples, with the cut that delays most: feeding sample by sample.
        """
        ...

    def open(self) -> StateT:
        """Return a fresh state for one stream."""
        ...

    def step(self, state: StateT, chunk: Chunk) -> list[Chunk]:
        """Advance ``state`` by ``chunk`` and return whatever is ready, oldest first."""
        ...

    def flush(self, state: StateT) -> list[Chunk]:
        """Return what ``state`` still holds; the stream has ended. A second flush is empty."""
        ...


class Pipeline:
    """Stages in a row, itself a stage; its state is the list of their states.

    Raises:
        AudioError: a stage's output format is not the next one's input format.
    """

    def __init__(self, stages: Sequence[Stage[Any]]) -> None:
        if not stages:
            raise AudioError("a pipeline of no stages; give at least one")
        for before, after in pairwise(stages):
            if before.output != after.input:
                raise AudioError(
                    f"{type(before).__name__} gives {before.output} but {type(after).__name__} "
                    f"takes {after.input}; put a Resampler between them"
                )
        self.stages = tuple(stages)

    @property
    def input(self) -> AudioFormat:
        """The first stage's input."""
        return self.stages[0].input

    @property
    def output(self) -> AudioFormat:
        """The last stage's output."""
        return self.stages[-1].output

    @property
    def latency(self) -> int:
        """The stages' latencies, each brought to the pipeline's input rate and rounded up."""
        rate = self.input.rate_hz
        return sum(-(-s.latency * rate // s.input.rate_hz) for s in self.stages)

    def open(self) -> list[Any]:
        """Return one state per stage."""
        return [stage.open() for stage in self.stages]

    def step(self, state: list[Any], chunk: Chunk) -> list[Chunk]:
        """Push ``chunk`` through every stage."""
        ready = [chunk]
        for stage, held in zip(self.stages, state, strict=True):
            if not ready:
                return ready
            step = stage.step
            ready = (
                step(held, ready[0])
                if len(ready) == 1
                else [out for item in ready for out in step(held, item)]
            )
        return ready

    def flush(self, state: list[Any]) -> list[Chunk]:
        """Flush each stage through the ones after it."""
        ready: list[Chunk] = []
        for stage, held in zip(self.stages, state, strict=True):
            ready = [out for item in ready for out in stage.step(held, item)]
            ready += stage.flush(held)
        return ready
