"""One stream's place in the engine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from ossicle.runtime.budget import Budget, Ledger, Percentiles
from ossicle.runtime.engine.inbox import Inbox
from ossicle.runtime.errors import OssicleError
from ossicle.runtime.model import Model, ModelState
from ossicle.runtime.task import Event, Hop, Task

OnEvents = Callable[[list[tuple[Event, Ledger]]], None]
OnEnd = Callable[[OssicleError | None], None]
UNHURRIED_NS = 3_600_000_000_000  # the deadline of a stream that was promised none


class Ready(msgspec.Struct):
    """A hop that waits for the model."""

    hop: Hop
    arrival_ns: int  # of the last sample it needs
    ready_ns: int
    deadline_ns: int
    notes: list[Callable[[], None]] | None = None  # called once it was answered


class Rows(Protocol):
    """Memory of several rows, and whose each is."""

    state: ModelState

    def vacate(self, row: int) -> None:
        """Say that nobody lives in a row any more."""


@dataclass(slots=True, eq=False)
class Slot:
    """All that the engine knows of one stream. Touched by the engine's thread alone."""

    index: int
    generation: int
    task: Task
    model: Model
    state: Any
    memory: ModelState
    budget: Budget
    period_ns: int  # how long one hop lasts
    inbox: Inbox
    on_events: OnEvents
    on_end: OnEnd
    ladder: tuple[Mapping[str, Any], ...] = ()
    rung: int = 0
    bypass: bool = False
    ready: deque[Ready] = field(default_factory=deque)
    home: tuple[Rows, int] | None = None  # where the memory lives; None: in ``memory``
    ending: bool = False
    closed: bool = False  # out of the engine: nothing is delivered any more
    bad_hops: int = 0  # in a row, with NaN or Inf in what the model made
    hops: int = 0
    misses: int = 0
    gaps: int = 0
    latency_us: Percentiles = field(default_factory=lambda: Percentiles(1024))
    deadline_ns: int = field(init=False)  # from the arrival of a hop's last sample
    group: tuple[int, str] = field(init=False)  # what streams of one batch have in common
    latency: int = field(init=False)  # the task's; asked for once

    def __post_init__(self) -> None:
        self.group = id(self.model), self.task.program
        self.latency = self.task.latency
        if self.budget.deadline_ms is not None:
            self.deadline_ns = int(self.budget.deadline_ms * 1e6)
        elif self.budget.latency_class.limit_ms < 1e9:
            self.deadline_ns = self.period_ns
        else:
            self.deadline_ns = UNHURRIED_NS
