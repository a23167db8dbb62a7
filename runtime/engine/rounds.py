"""One round of the engine's thread: earliest deadline first, in batches, each with a ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ossicle.runtime.audio import Chunk, scrubbed
from ossicle.runtime.budget import Ledger
from ossicle.runtime.engine.admission import Costs
from ossicle.runtime.engine.batch import forget
from ossicle.runtime.engine.inbox import FLUSH, Note, Update
from ossicle.runtime.engine.settings import EngineSettings
from ossicle.runtime.engine.slot import Ready, Slot
from ossicle.runtime.engine.stepper import Stepper, renew
from ossicle.runtime.errors import BackendError, OssicleError
from ossicle.runtime.rows import all_finite
from ossicle.runtime.task import Event, Hop, NoticeEvent

READY_HOPS = 4  # ready and waiting; more audio stays in the inbox
NOTHING = Ledger()


class Rounds:
    """Feeds the tasks, chooses and runs batches, delivers what came of them.

    ``vacate`` takes a slot out of the engine and says whether it was still in. Used from one
    thread at a time. What can be done for all streams of a round at once is: a stream's own share
    is what ``benchmarks/runtime.py`` calls the engine's cost.
    """

    def __init__(
        self, settings: EngineSettings, costs: Costs, vacate: Callable[[Slot], bool]
    ) -> None:
        self.costs, self.vacate = costs, vacate
        self.steps = self.rows = self.busy_ns = 0
        self._stepper = Stepper(settings, costs)
        self.clock = self._stepper.clock

    def set_clock(self, clock: Callable[[], int]) -> None:
        """Tell the time in ns by ``clock`` from here on."""
        self.clock = self._stepper.clock = clock

    def run(self, active: Sequence[Slot]) -> bool:
        """Take in what came and run one batch; return whether there was one."""
        came = [slot for slot in active if slot.inbox.waiting]
        if came:
            self.take_in(came)
        group = self.choose(active)
        if group:
            self._run(group)
        return bool(group)

    def take_in(self, slots: Sequence[Slot], everything: bool = False) -> None:
        """Feed what came; while enough is ready the rest stays in the inbox, which is bounded."""
        came: list[tuple[Slot, Any, int]] = []
        for slot in slots:
            if slot.closed or slot.ending or (len(slot.ready) > READY_HOPS and not everything):
                continue
            lost, items = slot.inbox.take_all()
            if lost:
                slot.gaps += len(lost)
                slot.on_events([(gap, NOTHING) for gap in lost])
            for item, arrival_ns in items:
                came.append((slot, item, arrival_ns))
        if not all_finite([item.samples for _, item, _ in came if type(item) is Chunk]):
            came = [(s, scrubbed(i) if type(i) is Chunk else i, at) for s, i, at in came]
        for slot, item, arrival_ns in came:
            if slot.closed:
                continue
            try:
                if type(item) is Chunk:
                    hops = slot.task.push(slot.state, item)
                else:
                    hops = self._heed(slot, item)
            except Exception as error:  # a task's fault ends its stream, never the thread
                self.end(slot, _typed(error, slot))
                continue
            if hops:
                now, deadline = self.clock(), arrival_ns + slot.deadline_ns
                for hop in hops:
                    slot.ready.append(Ready(hop, arrival_ns, now, deadline))
            elif slot.ending and not slot.ready:
                self._finish(slot)

    def end(self, slot: Slot, error: OssicleError | None) -> None:
        """Free the slot and tell its holder why; once."""
        if self.vacate(slot):
            slot.ready.clear()
            forget(slot)
            slot.on_end(error)

    def step_ladder(self, slot: Slot, options: Mapping[str, Any], text: str) -> None:
        """Apply a rung's options to a stream and announce them in its output."""
        slot.bypass = bool(options.get("bypass", False))
        rest = {k: v for k, v in options.items() if k != "bypass"}
        try:
            events = slot.task.update(slot.state, rest) if rest else []
        except Exception as error:
            self.end(slot, _typed(error, slot))
            return
        notice = NoticeEvent("ladder", text, {"rung": slot.rung, **options})
        self._deliver(slot, [notice, *events])

    def _heed(self, slot: Slot, item: Any) -> list[Hop]:
        """Take what is no audio: a packet, or a word about the stream."""
        if type(item) is Update:
            self._deliver(slot, slot.task.update(slot.state, item.options))
            return []
        if type(item) is Note:
            _note(slot, item.then)
            return []
        if item is FLUSH:
            hops = slot.task.flush(slot.state)
            slot.ending = True
            return hops
        return slot.task.push(slot.state, item)

    def choose(self, active: Sequence[Slot]) -> list[Slot]:
        """Return the slots of the batch to run: the most urgent one's group, urgent first."""
        waiting = [slot for slot in active if slot.ready]
        if not waiting:
            return []
        waiting.sort(key=_deadline)
        first = waiting[0]
        group, bypass = first.group, first.bypass
        same = [slot for slot in waiting if slot.group == group and slot.bypass is bypass]
        return same[: self.costs.buckets(first.model)[-1]]

    def _run(self, slots: list[Slot]) -> None:
        begun = self.clock()
        for slot in slots:
            if slot.ready[0].hop.discont:
                renew(slot)
        if slots[0].bypass:
            for slot in slots:
                self._post(slot, None, begun, 0, 0)
            return
        try:
            rows, batch_us, compute_us = self._stepper.step(slots, begun)
        except Exception as error:
            self._isolate(slots, error)
            return
        for slot, outputs in zip(slots, rows, strict=True):
            self._post(slot, outputs, begun, batch_us, compute_us)
        self.steps += 1
        self.rows += len(slots)
        self.busy_ns += self.clock() - begun

    def _isolate(self, slots: list[Slot], error: Exception) -> None:
        """A batch failed: find whose hop it was, and let the others go on."""
        if len(slots) > 1:
            for slot in slots:
                self._run([slot])
            return
        slot = slots[0]
        slot.ready.clear()
        if not isinstance(error, OssicleError):
            error = BackendError(f"{slot.model.name} failed: {error}")
        self.end(slot, error)

    def _post(
        self,
        slot: Slot,
        outputs: dict[str, Any] | None,
        begun: int,
        batch_us: int,
        compute_us: int,
    ) -> None:
        """Make events of one hop's outputs (``None``: it was bypassed) and deliver them."""
        ready = slot.ready.popleft()
        if slot.bad_hops and outputs is not None:
            text = f"{slot.model.name} made values that are not finite; silence instead"
            self._deliver(slot, [NoticeEvent("model-fault", text, {"hops": slot.bad_hops})])
        try:
            if outputs is None:
                events = slot.task.bypass(slot.state, ready.hop)  # type: ignore[attr-defined]
            else:
                events = slot.task.take(slot.state, ready.hop, outputs)
        except Exception as error:
            self.end(slot, _typed(error, slot))
            return
        now = self.clock()
        arrival_ns, ready_ns = ready.arrival_ns, ready.ready_ns
        total_us = (now - arrival_ns) // 1000
        missed = now > ready.deadline_ns
        slot.hops += 1
        if missed:
            slot.misses += 1
        slot.latency_us.add(total_us)
        if events and not slot.closed:
            wait_us = (ready_ns - arrival_ns) // 1000
            queue_us = (begun - ready_ns) // 1000
            post_us = total_us - wait_us - queue_us - batch_us - compute_us
            backlog_ms = len(slot.ready) * slot.period_ns / 1e6 if slot.ready else 0.0
            ledger = Ledger(wait_us, queue_us, batch_us, compute_us, post_us if post_us > 0 else 0,
                            slot.latency, backlog_ms, missed)  # fmt: skip
            if len(events) == 1:  # nearly always
                slot.on_events([(events[0], ledger)])
            else:
                slot.on_events([(event, ledger) for event in events])
        if ready.notes:
            for then in ready.notes:
                then()
        if slot.ending and not slot.ready:
            self._finish(slot)

    def _deliver(self, slot: Slot, events: list[Event]) -> None:
        """Deliver what no hop caused."""
        if events and not slot.closed:
            slot.on_events([(event, NOTHING) for event in events])

    def _finish(self, slot: Slot) -> None:
        try:
            self._deliver(slot, slot.task.end(slot.state))
        except Exception as error:
            self.end(slot, _typed(error, slot))
            return
        self.end(slot, None)


def _deadline(slot: Slot) -> int:
    return slot.ready[0].deadline_ns


def _note(slot: Slot, then: Callable[[], None]) -> None:
    """Call ``then`` once the newest hop that waits was answered; at once if none waits."""
    if not slot.ready:
        then()
        return
    last = slot.ready[-1]
    last.notes = [*(last.notes or ()), then]


def _typed(error: Exception, slot: Slot) -> OssicleError:
    """Return ``error`` as one of ours, naming the task where it is not."""
    if isinstance(error, OssicleError):
        return error
    made = BackendError(f"task {slot.task.kind} on {slot.model.name} failed: {error!r}")
    made.__cause__ = error
    return made
