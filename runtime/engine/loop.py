"""The engine's thread: earliest deadline first, in batches, with a ledger for every result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from ossicle.runtime.audio import Chunk, scrub
from ossicle.runtime.budget import Budget, Ledger
from ossicle.runtime.engine.admission import Capacity, Costs, admit
from ossicle.runtime.engine.batch import forget
from ossicle.runtime.engine.exports import export_slot, restore_slot
from ossicle.runtime.engine.ladder import Ladder
from ossicle.runtime.engine.settings import EngineSettings
from ossicle.runtime.engine.slot import (
    FLUSH,
    Inbox,
    Lease,
    Note,
    OnEnd,
    OnEvents,
    Ready,
    Slot,
    Update,
)
from ossicle.runtime.engine.stepper import Stepper, renew
from ossicle.runtime.errors import BackendError, CapacityError, OssicleError
from ossicle.runtime.model import Model
from ossicle.runtime.task import Event, NoticeEvent, Task

READY_HOPS = 4  # ready and waiting; more audio stays in the inbox


def _typed(error: Exception, slot: Slot) -> OssicleError:
    """Return ``error`` as one of ours, naming the task where it is not."""
    if isinstance(error, OssicleError):
        return error
    made = BackendError(f"task {slot.task.kind} on {slot.model.name} failed: {error!r}")
    made.__cause__ = error
    return made


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
        self.clock: Callable[[], int] = time.monotonic_ns
        self.steps = self.rows = self.busy_ns = 0
        self._slots: list[Slot | None] = [None] * self.settings.max_streams
        self._inboxes: dict[int, Inbox] = {}  # by slot index
        self._generation = 0
        self._posted: list[Callable[[], None]] = []
        self._lock = threading.Lock()  # slots and posted
        self._signal = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._ladder = Ladder(self.settings)
        self._stepper = Stepper(self.settings, self.costs, lambda: self.clock())

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
            self._thread = threading.Thread(target=self._loop, name="ossicle-engine", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop the thread after the round it is in; streams that are open are ended with an error.

        Calling it again does nothing.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping = True
            self._signal.set()
            thread.join()
        for slot in self._active():
            self._end(slot, CapacityError("the engine was stopped", reason="stopped"))

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
            admit(self._active(), self.costs, self.settings, newcomer)
            index = self._slots.index(None)
            self._generation += 1
            slot = Slot(
                index, self._generation, task, model, task.open(), model.open(1, task.program),
                budget, period_ns, on_events, on_end, ladder,
            )  # fmt: skip
            rate = task.input_format.rate_hz if task.input_format else 50
            inbox = Inbox(max(1, int(self.settings.inbox_ms * rate / 1000)), live)
            if restore is not None:
                restore_slot(slot, restore, self.clock())
            self._slots[index] = slot
            self._inboxes[index] = inbox
        return Lease(self, slot, inbox)

    def release(self, slot: Slot) -> None:
        """Take a slot back; safe from any thread, and late calls do nothing."""
        with self._lock:
            if self._slots[slot.index] is slot:
                self._slots[slot.index] = None
                self._inboxes.pop(slot.index, None)
        self.post(lambda: forget(slot))

    def wake(self) -> None:
        """Say that there is something to do."""
        self._signal.set()

    def post(self, action: Callable[[], None]) -> None:
        """Run ``action`` on the engine's thread between two batches; inline if none runs."""
        if self._thread is None or threading.current_thread() is self._thread:
            action()
            return
        with self._lock:
            self._posted.append(action)
        self._signal.set()

    def capacity(self) -> Capacity:
        """Return how much is promised."""
        with self._lock:
            return admit(self._active(), self.costs, self.settings, None)

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
            "slots": [
                {
                    "slot": s.index, "generation": s.generation, "task": s.task.kind,
                    "model": s.model.name, "hops": s.hops, "misses": s.misses, "gaps": s.gaps,
                    "rung": s.rung, "latency_us": s.latency_us.summary(),
                }
                for s in self._active()
            ],
        }  # fmt: skip

    # -- the thread -------------------------------------------------------------------------

    def run_once(self) -> bool:
        """Do one round: take what came, run one batch. Return whether anything ran."""
        with self._lock:
            posted, self._posted = self._posted, []
            active = self._active()
        for action in posted:
            action()
        for slot in active:
            self._take_in(slot)
        group = self._choose(active)
        if group:
            self._run(group)
        changes = self._ladder.observe(self.clock(), self.busy_ns, active)
        for slot, options, text in changes:
            self._step_ladder(slot, options, text)
        return bool(group) or bool(posted)

    def _loop(self) -> None:
        while not self._stopping:
            self._signal.clear()
            if not self.run_once():
                self._signal.wait(0.05)

    def _active(self) -> list[Slot]:
        return [slot for slot in self._slots if slot is not None]

    def _model(self, task: Task) -> Model:
        try:
            return self.models[task.model]
        except KeyError:
            raise CapacityError(
                f"model {task.model!r} is not loaded; this engine has {sorted(self.models)}",
                reason="model",
            ) from None

    def _take_in(self, slot: Slot, everything: bool = False) -> None:
        """Feed what came; while enough is ready the rest stays in the inbox, which is bounded."""
        inbox = self._inboxes.get(slot.index)
        if inbox is None or slot.ending or (len(slot.ready) > READY_HOPS and not everything):
            return
        lost, items = inbox.take_all()
        if lost:
            slot.gaps += len(lost)
            slot.on_events([(gap, Ledger()) for gap in lost])
        for item, arrival_ns in items:
            try:
                self._feed(slot, item, arrival_ns)
            except Exception as error:  # a task's fault ends its stream, never the thread
                self._end(slot, _typed(error, slot))
                return

    def _feed(self, slot: Slot, item: Any, arrival_ns: int) -> None:
        if isinstance(item, Update):
            self._deliver(slot, slot.task.update(slot.state, item.options))
            return
        if isinstance(item, Note):
            if slot.ready:
                slot.ready[-1].notes.append(item.then)
            else:
                item.then()
            return
        if item is FLUSH:
            hops = slot.task.flush(slot.state)
            slot.ending = True
        else:
            if isinstance(item, Chunk):
                samples, bad = scrub(item.samples)
                if bad:
                    item = Chunk(samples, item.start, item.format, item.discont)
            hops = slot.task.push(slot.state, item)
        now = self.clock()
        deadline = arrival_ns + slot.deadline_ns
        slot.ready.extend(Ready(hop, arrival_ns, now, deadline) for hop in hops)
        if slot.ending and not slot.ready:
            self._finish(slot)

    def _choose(self, active: list[Slot]) -> list[Slot]:
        """Return the slots of the batch to run: the most urgent one's group, urgent first."""
        waiting = [slot for slot in active if slot.ready]
        if not waiting:
            return []
        waiting.sort(key=lambda slot: slot.ready[0].deadline_ns)
        first = waiting[0]
        same = [
            slot
            for slot in waiting
            if slot.model is first.model and slot.task.program == first.task.program
            and slot.bypass == first.bypass
        ]  # fmt: skip
        return same[: self.costs.buckets(first.model)[-1]]

    def _run(self, slots: list[Slot]) -> None:
        begun = self.clock()
        for slot in slots:
            if slot.ready[0].hop.discont:
                renew(slot)
        if slots[0].bypass:
            for slot in slots:
                ready = slot.ready.popleft()
                self._post(slot, ready, None, begun, 0, 0)
            return
        try:
            rows, batch_us, compute_us = self._stepper.step(slots, begun)
        except Exception as error:
            self._isolate(slots, error)
            return
        for slot, outputs in zip(slots, rows, strict=True):
            ready = slot.ready.popleft()
            heard, good = self._stepper.mind(slot, outputs)
            if not good:
                text = f"{slot.model.name} made values that are not finite; silence instead"
                self._deliver(slot, [NoticeEvent("model-fault", text, {"hops": slot.bad_hops})])
            self._post(slot, ready, heard, begun, batch_us, compute_us)
        self.steps += 1
        self.rows += len(slots)
        self.busy_ns += self.clock() - begun

    def _isolate(self, slots: list[Slot], error: Exception) -> None:
        """A batch failed: find whose hop it was, and let the others go on."""
        if len(slots) == 1:
            slot = slots[0]
            slot.ready.clear()
            kept = (
                error
                if isinstance(error, OssicleError)
                else BackendError(f"{slot.model.name} failed: {error}")
            )
            self._end(slot, kept)
            return
        for slot in slots:
            self._run([slot])

    def _post(
        self,
        slot: Slot,
        ready: Ready,
        outputs: dict[str, Any] | None,
        begun: int,
        batch_us: int,
        compute_us: int,
    ) -> None:
        try:
            if outputs is None:
                events = slot.task.bypass(slot.state, ready.hop)  # type: ignore[attr-defined]
            else:
                events = slot.task.take(slot.state, ready.hop, outputs)
        except Exception as error:
            self._end(slot, _typed(error, slot))
            return
        now = self.clock()
        missed = now > ready.deadline_ns
        slot.hops += 1
        slot.misses += missed
        waiting = len(slot.ready) * slot.model.manifest.hop
        ledger = Ledger(
            (ready.ready_ns - ready.arrival_ns) // 1000,
            (begun - ready.ready_ns) // 1000,
            batch_us,
            compute_us,
            max(0, (now - begun) // 1000 - batch_us - compute_us),
            slot.task.latency,
            1000.0 * waiting / slot.model.manifest.sample_rate_hz,
            bool(missed),
        )
        slot.latency_us.add(ledger.total_us)
        if events:
            self._deliver(slot, events, ledger)
        for then in ready.notes:
            then()
        if slot.ending and not slot.ready:
            self._finish(slot)

    def _deliver(self, slot: Slot, events: list[Event], ledger: Ledger | None = None) -> None:
        if events and self._slots[slot.index] is slot:
            entry = ledger or Ledger()
            slot.on_events([(event, entry) for event in events])

    def _finish(self, slot: Slot) -> None:
        try:
            self._deliver(slot, slot.task.end(slot.state))
        except Exception as error:
            self._end(slot, _typed(error, slot))
            return
        self._end(slot, None)

    def _end(self, slot: Slot, error: OssicleError | None) -> None:
        with self._lock:
            if self._slots[slot.index] is not slot:
                return
            self._slots[slot.index] = None
            self._inboxes.pop(slot.index, None)
        slot.ready.clear()
        forget(slot)
        slot.on_end(error)

    def _step_ladder(self, slot: Slot, options: Mapping[str, Any], text: str) -> None:
        slot.bypass = bool(options.get("bypass", False))
        rest = {k: v for k, v in options.items() if k != "bypass"}
        try:
            events = slot.task.update(slot.state, rest) if rest else []
        except Exception as error:
            self._end(slot, _typed(error, slot))
            return
        notice = NoticeEvent("ladder", text, {"rung": slot.rung, **options})
        self._deliver(slot, [notice, *events])

    def export_slot(self, slot: Slot, future: Future[dict[str, Any]]) -> None:
        """Answer ``future`` with the slot's whole memory; on the engine's thread only."""
        self._take_in(slot)
        future.set_result(export_slot(slot))
