"""One round of the engine's thread: earliest deadline first, in batches, each with a ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ossicle.runtime.budget import Ledger
from ossicle.runtime.engine.admission import Costs
from ossicle.runtime.engine.batch import forget
from ossicle.runtime.engine.settings import EngineSettings
from ossicle.runtime.engine.slot import Slot
from ossicle.runtime.engine.stepper import Stepper, renew
from ossicle.runtime.engine.turns import Calls, make_turns
from ossicle.runtime.engine.words import FLUSH, Update
from ossicle.runtime.errors import BackendError, CapacityError, OssicleError
from ossicle.runtime.task import Event, GapEvent, Hop, NoticeEvent

NOTHING = Ledger()
BREATH_S = 50e-6  # a thread that waits for the lock needs about so long to wake up and take it


class Rounds:
    """Feeds the tasks, chooses and runs batches, delivers what came of them.

    ``vacate`` takes a slot out of the engine and says whether it was still in. Used from one
    thread at a time. What can be done for all streams of a round at once is done by ``turns``,
    compiled: a stream's own share is what ``benchmarks/runtime.py`` calls the engine's cost. What
    is rare is here.
    """

    def __init__(
        self,
        settings: EngineSettings,
        costs: Costs,
        vacate: Callable[[Slot], bool],
        wake: Callable[[], None],
        clock: Callable[[], int],
    ) -> None:
        self.costs, self.vacate = costs, vacate
        self.steps = self.rows = self.busy_ns = 0
        self.rest: Callable[[float], None] = time.sleep
        calls = Calls(
            wake, _refuse, self._heed, _lost, self._post, self._fail, self._finish, self.breathe
        )
        self.turns = make_turns(clock, calls, settings.compiled)
        self._stepper = Stepper(settings, costs, self.turns)

    def run(self, active: Sequence[Slot]) -> bool:
        """Take in what came and run one batch; return whether there was one."""
        turns = self.turns
        turns.take_in(active, False)
        group = turns.choose(active)
        if not group:
            return False
        most = group[0].most
        self._run(group if len(group) <= most else group[:most])
        return True

    def take_in(self, slots: Sequence[Slot]) -> None:
        """Feed everything that came, however much is ready."""
        self.turns.take_in(slots, True)

    def end(self, slot: Slot, error: OssicleError | None) -> None:
        """Free the slot and tell its holder why; once."""
        if self.vacate(slot):
            slot.forget_hops()
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

    def _heed(self, slot: Slot, word: Any) -> list[Hop]:
        """Take a word about the stream."""
        if word is FLUSH:
            hops = slot.task.flush(slot.state)
            slot.ending = True
            return hops
        if type(word) is Update:
            self._deliver(slot, slot.task.update(slot.state, word.options))
        elif not slot.note(word.then):
            word.then()
        return []

    def _run(self, slots: list[Slot]) -> None:
        turns = self.turns
        begun = turns.clock()
        if turns.stale:
            for slot in slots:
                if slot.hop.discont:
                    renew(slot)
        if slots[0].bypass:
            for slot in slots:
                self._post(slot, None, begun, 0, 0)
                turns.pause()
            return
        try:
            made = self._stepper.step(slots, begun)
        except Exception as error:
            self._isolate(slots, error)
            return
        spent = begun, made.batch_us, made.compute_us
        if made.outputs is None or not turns.deliver(slots, made.outputs, made.places, *spent):
            for slot, row in zip(slots, self._stepper.mind(slots, made), strict=True):
                if slot.ready:  # unless its end came while others were answered
                    self._post(slot, row, *spent)
                    turns.pause()
        self.steps += 1
        self.rows += len(slots)
        self.busy_ns += turns.clock() - begun

    def _isolate(self, slots: list[Slot], error: Exception) -> None:
        """A batch failed: find whose hop it was, and let the others go on."""
        if len(slots) > 1:
            for slot in slots:
                self._run([slot])
            return
        slot = slots[0]
        slot.forget_hops()
        if not isinstance(error, OssicleError):
            error = BackendError(f"{slot.model.name} failed: {error}")
        self.end(slot, error)

    def _post(
        self,
        slot: Slot,
        outputs: Mapping[str, Any] | None,
        begun: int,
        batch_us: int,
        compute_us: int,
    ) -> None:
        """Make events of one hop's outputs (``None``: it was bypassed) and deliver them."""
        hop, arrival_ns, ready_ns, deadline_ns, notes = slot.pop()
        if slot.bad_hops and outputs is not None:
            text = f"{slot.model.name} made values that are not finite; silence instead"
            self._deliver(slot, [NoticeEvent("model-fault", text, {"hops": slot.bad_hops})])
        try:
            if outputs is None:
                events = slot.task.bypass(slot.state, hop)  # type: ignore[attr-defined]
            else:
                events = slot.task.take(slot.state, hop, outputs)
        except Exception as error:
            self._fail(slot, error)
            return
        now = self.turns.clock()
        total_us = (now - arrival_ns) // 1000
        missed = now > deadline_ns
        slot.hops += 1
        slot.misses += missed
        slot.record(total_us)
        if events and not slot.closed:
            wait_us = (ready_ns - arrival_ns) // 1000
            queue_us = (begun - ready_ns) // 1000
            post_us = total_us - wait_us - queue_us - batch_us - compute_us
            backlog_ms = slot.ready * slot.period_ns / 1e6
            ledger = Ledger(wait_us, queue_us, batch_us, compute_us, post_us if post_us > 0 else 0,
                            slot.latency, backlog_ms, missed)  # fmt: skip
            slot.on_events([(event, ledger) for event in events])
        for then in notes:
            then()
        if slot.ending and not slot.ready:
            self._finish(slot)

    def breathe(self) -> None:
        """Leave the interpreter's lock to whoever waits for it.

        Only to let go and take it again would not do: whoever waits must first wake up.
        """
        self.rest(BREATH_S)
        self.turns.since = self.turns.clock()

    def _deliver(self, slot: Slot, events: list[Event]) -> None:
        """Deliver what no hop caused."""
        if events and not slot.closed:
            slot.on_events([(event, NOTHING) for event in events])

    def _finish(self, slot: Slot) -> None:
        try:
            self._deliver(slot, slot.task.end(slot.state))
        except Exception as error:
            self._fail(slot, error)
            return
        self.end(slot, None)

    def _fail(self, slot: Slot, error: Exception) -> None:
        """A task raised: its stream ends, and no other."""
        self.end(slot, _typed(error, slot))


def _refuse() -> None:
    raise CapacityError("the lease was closed; open a new stream", reason="closed")


def _lost(slot: Slot, gaps: list[tuple[int, int]]) -> None:
    slot.gaps += len(gaps)
    slot.on_events([(GapEvent(start, stop, "backlog"), NOTHING) for start, stop in gaps])


def _typed(error: Exception, slot: Slot) -> OssicleError:
    """Return ``error`` as one of ours, naming the task where it is not."""
    if isinstance(error, OssicleError):
        return error
    made = BackendError(f"task {slot.task.kind} on {slot.model.name} failed: {error!r}")
    made.__cause__ = error
    return made
