"""The engine without a thread: the work is done inside ``push``, for files and for tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ossicle.runtime import snapshot
from ossicle.runtime.budget import Budget, Ledger
from ossicle.runtime.model import Model
from ossicle.runtime.task import Event, InlineRun, Task
from ossicle.streaming.session.seam import EngineFigures, Exported, Failed, Flushed, Mark, OnEvents


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
        """Return the model called ``name``, or in the bundle at that path; loads it once."""
        if name not in self._models:
            model = self._load(name)
            self._models[name] = self._models[model.name] = model
        return self._models[name]

    def models(self) -> list[Model]:
        """Return what was loaded so far."""
        return list({id(model): model for model in self._models.values()}.values())

    def figures(self) -> EngineFigures:
        """Return the figures of an idle engine."""
        return EngineFigures()
