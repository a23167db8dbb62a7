"""What a session needs of an engine, and the engine that needs no thread.

The service runs on :class:`ossicle.runtime.engine.Engine` (see ``enginebridge``); commands on files
and tests run on :class:`InlineEngine`, which does the work inside ``push``. Both hand back the same
events in the same order, so a session cannot tell them apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ossicle.runtime import snapshot
from ossicle.runtime.budget import Budget, Ledger
from ossicle.runtime.model import Model
from ossicle.runtime.task import Event, InlineRun, Task


@dataclass(frozen=True, slots=True)
class Mark(Event):
    """Everything pushed before :meth:`Lease.mark` has been answered."""

    tag: Any


@dataclass(frozen=True, slots=True)
class Flushed(Event):
    """The last event of a stream that was flushed."""


@dataclass(frozen=True, slots=True)
class Exported(Event):
    """The memory of a lease at this point of its events, as snapshot bytes."""

    tag: int  # of the request; one that came too late must not be taken for the next
    data: bytes


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """The engine gave this stream up; others go on."""

    error: Exception


Batch = list[tuple[Event, Ledger | None]]
OnEvents = Callable[[Batch], None]


class Lease(Protocol):
    """One task of one stream inside an engine. Answers come through its ``OnEvents``, in order."""

    def push(self, item: Any, arrival_ns: int) -> bool:
        """Hand over a chunk or packet; False means "full, try again" and only where not live."""
        ...

    def update(self, options: Mapping[str, Any]) -> None:
        """Change the task's options from here on."""
        ...

    def mark(self, tag: Any) -> None:
        """Ask for a :class:`Mark` once everything pushed so far has been answered."""
        ...

    def export(self, tag: int) -> None:
        """Ask for an :class:`Exported` that holds everything pushed so far."""
        ...

    def flush(self) -> None:
        """The stream has ended: answer the tail, then :class:`Flushed`."""
        ...

    def close(self) -> None:
        """Give the slot back; nothing more is answered. May be called twice."""
        ...


class StreamEngine(Protocol):
    """What runs tasks for sessions."""

    def open(
        self,
        task: Task,
        budget: Budget,
        on_events: OnEvents,
        *,
        live: bool = True,
        ladder: tuple[Mapping[str, Any], ...] = (),
        restore: Any = None,
    ) -> Lease:
        """Admit one task.

        Raises:
            BudgetError: the bundle can never meet it.
            CapacityError: not now.
        """
        ...

    def model(self, name: str) -> Model:
        """Return a loaded model.

        Raises:
            BundleError: no such model.
        """
        ...

    def models(self) -> list[Model]:
        """Return every loaded model."""
        ...

    def figures(self) -> EngineFigures:
        """Return how busy it is."""
        ...


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """How busy an engine is."""

    used: float = 0.0  # share of the calibrated capacity that is promised, 0 to 1
    measured: float = 0.0  # share of the engine's thread that was busy lately
    slots_used: Mapping[str, int] = field(default_factory=dict)  # by model
    slots_total: int = 0
    costs_us: Mapping[str, Mapping[int, float]] = field(default_factory=dict)  # by model
    steps: int = 0
    rows: int = 0


class InlineLease:
    """A task that runs inside ``push``."""

    def __init__(self, task: Task, model: Model, on_events: OnEvents, restore: Any = None) -> None:
        self._run = InlineRun(task, model)
        self._on_events = on_events
        self._open = True
        if restore is not None:
            self._run.state = restore["task"]
            model.import_row(self._run.memory, 0, restore["memory"])
            self._run.memory.unset = set(restore["unset"])
        self._latency = task.latency

    def push(self, item: Any, arrival_ns: int) -> bool:
        """Run every hop that ``item`` completes."""
        self._give(lambda: self._run.feed(item), arrival_ns)
        return True

    def update(self, options: Mapping[str, Any]) -> None:
        """Change the task's options."""
        self._give(lambda: self._run.update(options), time.monotonic_ns())

    def mark(self, tag: Any) -> None:
        """Answer at once: nothing waits here."""
        self._say(Mark(tag))

    def export(self, tag: int) -> None:
        """Answer at once with task state and model memory."""
        run = self._run
        tree = {
            "task": run.state,
            "memory": run.model.export_row(run.memory, 0),
            "unset": sorted(run.memory.unset),
        }
        self._say(Exported(tag, snapshot.dump(tree)))

    def flush(self) -> None:
        """Run the tail."""
        self._give(self._run.finish, time.monotonic_ns())
        self._say(Flushed())

    def close(self) -> None:
        """Forget the stream."""
        self._open = False

    def _say(self, event: Event) -> None:
        if self._open:
            self._on_events([(event, None)])

    def _give(self, work: Callable[[], list[Event]], arrival_ns: int) -> None:
        if not self._open:
            return
        begun = time.monotonic_ns()
        try:
            events = work()
        except Exception as error:
            self._say(Failed(error))
            self._open = False
            return
        if events:
            ledger = Ledger(
                queue_us=max(0, begun - arrival_ns) // 1000,
                compute_us=(time.monotonic_ns() - begun) // 1000,
                algorithmic_samples=self._latency,
            )
            self._on_events([(event, ledger) for event in events])


class InlineEngine:
    """Models that run in the caller's thread; loads what is asked for, refuses nobody."""

    def __init__(
        self, load: Callable[[str], Model] = Model.load, loaded: Mapping[str, Model] | None = None
    ) -> None:
        self._load = load
        self._models = dict(loaded or {})

    def open(
        self,
        task: Task,
        budget: Budget,
        on_events: OnEvents,
        *,
        live: bool = True,
        ladder: tuple[Mapping[str, Any], ...] = (),
        restore: Any = None,
    ) -> InlineLease:
        """Return a lease; only a class that the bundle can never meet is refused."""
        model = self.model(task.model)
        budget.check_algorithmic(model.name, task.latency, model.manifest.sample_rate_hz)
        return InlineLease(task, model, on_events, restore)

    def model(self, name: str) -> Model:
        """Return the model called ``name``, loading it the first time."""
        if name not in self._models:
            self._models[name] = self._load(name)
        return self._models[name]

    def models(self) -> list[Model]:
        """Return what was loaded so far."""
        return list(self._models.values())

    def figures(self) -> EngineFigures:
        """Return the figures of an idle engine."""
        return EngineFigures()
