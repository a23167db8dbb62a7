"""What a stream asks for: samples or packets in, events out, with a model's hops in between.

A task is cut at the model: :meth:`Task.push` prepares hops, somebody runs the model on them (this
module inline, the engine as one batch over many streams), and :meth:`Task.take` turns what came
back into events. The same task object therefore serves a file on the command line and a thousand
live streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from ossicle.runtime import snapshot
from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.model import Model

Array = NDArray[Any]


@snapshot.record("task.Hop")
class Hop(msgspec.Struct, frozen=True, gc=False):
    """One hop's inputs for a model, without the batch axis, and its place at the model's rate."""

    inputs: Mapping[str, Array]
    start: int
    stop: int
    discont: bool = False  # the model's memory is stale: step it from a fresh state


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something that leaves a task."""


class AudioEvent(Event, frozen=True):
    """Samples of a named track."""

    track: str
    chunk: Chunk


class PacketEvent(Event, frozen=True):
    """One codec packet and the samples it stands for."""

    packet: bytes
    start: int
    stop: int
    payload_bits: int = 0


class CueEvent(Event, frozen=True):
    """A change of a caption; ``cue`` is an ``ossicle.streaming.captions.Cue``."""

    cue: Any


class GapEvent(Event, frozen=True):
    """Samples that were lost, and why."""

    start: int
    stop: int
    reason: str


class NoticeEvent(Event, frozen=True):
    """Something the listener should know: a ladder step, clock drift, a model in quarantine."""

    kind: str
    text: str
    fields: Mapping[str, Any] = msgspec.field(default_factory=dict)


class Task(Protocol):
    """One thing to do with one stream. Immutable; what it remembers is the state of ``open``."""

    @property
    def kind(self) -> str:
        """``caption``, ``encode``, ``decode``, ``separate``, ``enhance``, ..."""
        ...

    @property
    def model(self) -> str:
        """Name of the bundle that runs its hops."""
        ...

    @property
    def program(self) -> str:
        """Which of the bundle's programs."""
        ...

    @property
    def input_format(self) -> AudioFormat | None:
        """What ``push`` takes; ``None`` for packets."""
        ...

    @property
    def latency(self) -> int:
        """Samples at the model's rate from a sample's arrival to the events about it."""
        ...

    def open(self) -> Any:
        """Return a fresh state: a dataclass that :mod:`ossicle.runtime.snapshot` can carry."""
        ...

    def push(self, state: Any, item: Any) -> list[Hop]:
        """Take a chunk (or packet) and return the hops that it completes."""
        ...

    def take(self, state: Any, hop: Hop, outputs: Mapping[str, Array]) -> list[Event]:
        """Turn what the model made of ``hop`` into events. Outputs have no batch axis."""
        ...

    def flush(self, state: Any) -> list[Hop]:
        """Return the last hops, padded with silence; the stream has ended."""
        ...

    def end(self, state: Any) -> list[Event]:
        """Return the last events, after every hop was taken."""
        ...

    def update(self, state: Any, options: Mapping[str, Any]) -> list[Event]:
        """Change options mid-stream without losing state."""
        ...


class InlineRun:
    """One stream of one task with no thread: feed it, get events back.

    >>> # run = InlineRun(task, model); events = run.feed(chunk); events += run.finish()
    """

    def __init__(self, task: Task, model: Model) -> None:
        self.task = task
        self.model = model
        self.state = task.open()
        self.memory = model.open(batch=1, program=task.program)

    def feed(self, item: Any) -> list[Event]:
        """Push ``item`` through the task and the model."""
        return self._run(self.task.push(self.state, item))

    def finish(self) -> list[Event]:
        """Return the tail: the stream has ended."""
        events = self._run(self.task.flush(self.state))
        return events + self.task.end(self.state)

    def update(self, options: Mapping[str, Any]) -> list[Event]:
        """Change the task's options from the next hop on."""
        return self.task.update(self.state, options)

    def _run(self, hops: list[Hop]) -> list[Event]:
        events: list[Event] = []
        for hop in hops:
            if hop.discont:
                self.model.reset(self.memory, 0)
            batch = {name: np.asarray(a)[None] for name, a in hop.inputs.items()}
            outputs = self.model.step(self.memory, batch)
            rows = {name: a[0] for name, a in outputs.items()}
            events += self.task.take(self.state, hop, rows)
        return events
