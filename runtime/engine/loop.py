"""The engine: slots for many streams, admission, and the thread that goes round among them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from ossicle.runtime.budget import Budget
from ossicle.runtime.engine.admission import Capacity, Costs, admit
from ossicle.runtime.engine.batch import forget
from ossicle.runtime.engine.exports import export_slot, restore_slot
from ossicle.runtime.engine.ladder import Ladder
from ossicle.runtime.engine.lease import Lease
from ossicle.runtime.engine.rounds import Rounds
from ossicle.runtime.engine.seats import Seats
from ossicle.runtime.engine.settings import EngineSettings
from ossicle.runtime.engine.slot import OnEnd, OnEvents, Slot
from ossicle.runtime.errors import CapacityError, OssicleError
from ossicle.runtime.model import Model
from ossicle.runtime.task import Task


def _ignore(error: OssicleError | None) -> None:
    """Take no notice of a stream's end."""


class Engine:
    """Owns the models and the thread that steps them.

    Slots are few and fixed, each with a generation that tells its tenants apart. Everything a
    stream remembers is touched by the engine's thread alone; clients hand items in through
    bounded inboxes. Without :meth:`start`, :meth:`run_once` does one round inline.
    """

    def __init__(self, models: Mapping[str, Model], settings: EngineSettings | None = None) -> None:
        self.models = dict(models)
        self.settings = settings or EngineSettings()
        self.costs = Costs(self.settings)
        self._seats = Seats(self.settings.max_streams)
        self._posted: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()  # seats
        self._bell = threading.Lock()  # released once to wake the thread; cheaper than an event
        self._bell.acquire()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._ladder = Ladder(self.settings)
        self._rounds = Rounds(self.settings, self.costs, self._vacate, self.wake, time.monotonic_ns)
        self._turns = self._rounds.turns

    # -- life -------------------------------------------------------------------------------

    def calibrate(self) -> dict[str, dict[int, float]]:
        """Measure every program of every model at every batch size; return us by bucket."""
        for model in self.models.values():
            for program in model.manifest.programs:
                self.costs.calibrate(model, program)
        return self.costs.table()

    def start(self) -> None:
        """Start the thread."""
        if self._thread is None:
            self._stopping = False
            self._turns.hold_ns = int(self.settings.hold_ms * 1e6)
            self._thread = threading.Thread(target=self._loop, name="ossicle-engine", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop the thread after the round it is in; streams that are open are ended with an error.

        What was posted before is done first.

        Calling it again does nothing.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping = True
            self.wake()
            thread.join()
            self._turns.hold_ns = -1
            self._act()  # what the last round left for the next one: somebody waits for it
        for slot in self._seats.taken:
            self._rounds.end(slot, CapacityError("the engine was stopped", reason="stopped"))

    def __enter__(self) -> Engine:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    # -- clients ----------------------------------------------------------------------------

    def open(
        self,
        task: Task,
        budget: Budget,
        on_events: OnEvents,
        on_end: OnEnd = _ignore,
        *,
        live: bool = True,
        ladder: tuple[Mapping[str, Any], ...] = (),
        restore: Mapping[str, Any] | None = None,
    ) -> Lease:
        """Admit a stream and return the lease on its slot.

        Args:
            task: what to do; its model must be one of the engine's.
            budget: what to promise.
            on_events: called on the engine's thread with each result's events and ledger.
            on_end: called once: after the last event of a flushed stream, or with what broke it.
            live: a full inbox drops its oldest audio; otherwise it refuses the newest.
            ladder: options to apply, one after another, while the engine is overloaded.
            restore: what :meth:`Lease.export` returned.

        Raises:
            BudgetError: the bundle can never meet the latency class.
            CapacityError: not now.
        """
        model = self._model(task)
        manifest = model.manifest
        budget.check_algorithmic(model.name, task.latency, manifest.sample_rate_hz)
        if any("bypass" in rung for rung in ladder) and not hasattr(task, "bypass"):
            raise CapacityError(f"task {task.kind} has no bypass for its ladder", reason="ladder")
        period_ns = manifest.hop * 1_000_000_000 // manifest.sample_rate_hz
        with self._lock:
            newcomer = (model, task.program, period_ns, budget)
            admit(self._seats.taken, self.costs, self.settings, newcomer)
            slot = self._turns.slot(
                *self._seats.offer(), task, model, budget, period_ns,
                self.costs.buckets(model)[-1], on_end, ladder,
            )  # fmt: skip
            slot.group = self._seats.group(model, task.program)
            rate = task.input_format.rate_hz if task.input_format else 50
            limit = max(1, int(self.settings.inbox_ms * rate / 1000))
            slot.attach(self._turns, task.push, task.take, on_events, limit, live)
            if restore is not None:
                restore_slot(slot, restore, self.clock())
            self._seats.take(slot)
        return Lease(self, slot)

    def release(self, slot: Slot) -> None:
        """Take a slot back; safe from any thread, and late calls do nothing."""
        self._vacate(slot)
        self.post(lambda: forget(slot))

    def wake(self) -> None:
        """Say that there is something to do."""
        if not self._turns.awake:
            self._turns.awake = True
            try:
                self._bell.release()
            except RuntimeError:  # somebody else rang in the same moment
                return

    def post(self, action: Callable[[], None]) -> None:
        """Run ``action`` on the engine's thread between two batches; inline if none runs."""
        if self._thread is None or threading.current_thread() is self._thread:
            action()
            return
        self._posted.append(action)
        self.wake()

    def capacity(self) -> Capacity:
        """Return how much is promised."""
        with self._lock:
            return admit(self._seats.taken, self.costs, self.settings, None)

    def status(self) -> dict[str, Any]:
        """Return counters, costs, load and each stream's figures, ready for JSON."""
        capacity = self.capacity()
        return {
            "load": capacity.load,
            "max_load": capacity.limit,
            "measured_load": self._ladder.load,
            "streams": capacity.streams,
            "max_streams": capacity.max_streams,
            "steps": self.steps,
            "rows": self.rows,
            "costs_us": self.costs.table(),
            "backends": {name: model.backend.name for name, model in self.models.items()},
            "slots": [slot.figures() for slot in self._seats.taken],
        }

    @property
    def clock(self) -> Callable[[], int]:
        """Tell the time in ns; another clock may be set."""
        return self._turns.clock

    @clock.setter
    def clock(self, clock: Callable[[], int]) -> None:
        self._turns.clock = clock

    @property
    def steps(self) -> int:
        """Batches that were run."""
        return self._rounds.steps

    @property
    def rows(self) -> int:
        """Hops that were run."""
        return self._rounds.rows

    @property
    def busy_ns(self) -> int:
        """How long batches ran, with what was done for them."""
        return self._rounds.busy_ns

    # -- the thread -------------------------------------------------------------------------

    def run_once(self) -> bool:
        """Do one round: take what came, run one batch. Return whether anything ran."""
        turns = self._turns
        if turns.awake:
            self._bell.acquire(blocking=False)
            turns.awake = False  # in this order: what comes between the two is seen in this round
        acted = self._act()
        active = self._seats.taken
        ran = self._rounds.run(active)
        now = turns.clock()
        if now >= self._ladder.due_ns:
            changes = self._ladder.observe(now, self._rounds.busy_ns, active)
            for slot, options, text in changes:
                self._rounds.step_ladder(slot, options, text)
        return ran or acted

    def export_slot(self, slot: Slot, future: Future[dict[str, Any]]) -> None:
        """Answer ``future`` with the slot's whole memory; on the engine's thread only."""
        self._rounds.take_in([slot])
        tree = export_slot(slot)
        if self._turns.hold_ns >= 0:
            self._rounds.breathe()  # whoever asked writes it down at once, and that takes long
        future.set_result(tree)

    def _act(self) -> bool:
        """Do what was posted; what takes long waits for the next round, so that no stream does."""
        acted = False
        while self._posted:
            self._posted.popleft()()
            acted = True
            if self._turns.pause():
                break
        return acted

    def _loop(self) -> None:
        while not self._stopping:
            if not self.run_once() and self._wait():
                self._gather()

    def _wait(self) -> bool:
        """Wait for something to do, and not for ever; return whether there is."""
        if self._bell.acquire(blocking=False):
            return True  # the interpreter's lock was kept
        rung = self._bell.acquire(timeout=0.05)
        self._turns.since = self._turns.clock()
        return rung

    def _gather(self) -> None:
        """Let more streams become ready, so that a batch is worth its run; never for long.

        A stream whose deadline is within ten times the pause is not kept waiting.
        """
        pause_ms = self.settings.gather_ms
        near_ns = 10 * pause_ms * 1e6
        if pause_ms and all(slot.deadline_ns >= near_ns for slot in self._seats.taken):
            time.sleep(pause_ms / 1e3)

    def _vacate(self, slot: Slot) -> bool:
        """Take a slot out of the engine; False if it was out already."""
        with self._lock:
            return self._seats.leave(slot)

    def _model(self, task: Task) -> Model:
        try:
            return self.models[task.model]
        except KeyError:
            raise CapacityError(
                f"model {task.model!r} is not loaded; this engine has {sorted(self.models)}",
                reason="model",
            ) from None
