"""What a session needs of an engine.

The service runs on :class:`ossicle.runtime.engine.Engine` (see ``bridge``); commands on files and
tests run on ``inline``'s, which does the work inside ``push``. Both hand back the same events in
the same order, so a session cannot tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ossicle.runtime.budget import Budget, Ledger
from ossicle.runtime.model import Model
from ossicle.runtime.task import Event, Task


class Word(Event, frozen=True):
    """Said about a stream in line with its events; never an answer of the task itself."""


class Mark(Word, frozen=True):
    """Everything pushed before :meth:`Lease.mark` has been answered."""

    tag: Any


class Flushed(Word, frozen=True):
    """The last event of a stream that was flushed."""


class Exported(Word, frozen=True):
    """The memory of a lease at this point of its events, as snapshot bytes."""

    tag: int  # of the request; one that came too late must not be taken for the next
    data: bytes


class Failed(Word, frozen=True, gc=True):  # an error's traceback may lead back to it
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
