"""One stream's place in the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ossicle.runtime.budget import Budget, Ledger, percentiles
from ossicle.runtime.engine.lane import Lane
from ossicle.runtime.errors import OssicleError
from ossicle.runtime.model import Model, ModelState
from ossicle.runtime.rows import compiled_part
from ossicle.runtime.task import Event, Task

OnEvents = Callable[[list[tuple[Event, Ledger]]], None]
OnEnd = Callable[[OssicleError | None], None]
UNHURRIED_NS = 3_600_000_000_000  # the deadline of a stream that was promised none


class Rows(Protocol):
    """Memory of several rows, and whose each is."""

    state: ModelState

    def vacate(self, row: int) -> None:
        """Say that nobody lives in a row any more."""


class Tenancy:
    """What the engine knows of one stream beside its lane, and does not need for every hop."""

    def __init__(
        self,
        index: int,
        generation: int,
        task: Task,
        model: Model,
        budget: Budget,
        period_ns: int,
        most: int,
        on_end: OnEnd,
        ladder: tuple[Mapping[str, Any], ...] = (),
    ) -> None:
        self.index, self.generation = index, generation
        self.task, self.model, self.budget = task, model, budget
        self.state = task.open()
        self.memory: ModelState = model.open(1, task.program)
        self.home: tuple[Rows, int] | None = None  # where the memory lives; None: in ``memory``
        self.on_end, self.ladder, self.rung = on_end, ladder, 0
        self.latency, self.period_ns = task.latency, period_ns
        self.most = most  # streams in one batch of its model
        if budget.deadline_ms is not None:
            self.deadline_ns = int(budget.deadline_ms * 1e6)
        elif budget.latency_class.limit_ms < 1e9:
            self.deadline_ns = period_ns
        else:
            self.deadline_ns = UNHURRIED_NS

    def latency_us(self) -> dict[str, float]:
        """Return count and percentiles of the time that hops took, all in all."""
        return percentiles(*self.recorded())

    def figures(self) -> dict[str, Any]:
        """Return who is here and how it goes, ready for JSON."""
        return {
            "slot": self.index, "generation": self.generation, "task": self.task.kind,
            "model": self.model.name, "hops": self.hops, "misses": self.misses,
            "gaps": self.gaps, "rung": self.rung, "latency_us": self.latency_us(),
        }  # fmt: skip

    recorded: Callable[[], tuple[list[int], int]]  # this and the counters are the lane's
    hops: int
    misses: int
    gaps: int


class Slot(Tenancy, Lane):
    """All that the engine knows of one stream. Touched by the engine's thread alone."""


def _compiled_slot() -> type[Slot] | None:
    core = compiled_part("Lane")
    return type("CompiledSlot", (Tenancy, core.Lane), {}) if core is not None else None


CompiledSlot: Any = _compiled_slot()
"""A slot whose lane is compiled, or ``None``."""
