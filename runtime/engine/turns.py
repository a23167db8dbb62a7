"""One turn for every ready stream: take in, choose, gather, deliver; compiled where that is had.

What a hop costs around its model is mostly spent here. ``ossicle._core.Turns`` does the straight
path in one call for all streams and comes back to the engine's own methods for what is rare;
:class:`Turns` is its twin. Which of them runs is decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ossicle.runtime.audio import Chunk, scrubbed
from ossicle.runtime.budget import Ledger
from ossicle.runtime.engine.lane import Given
from ossicle.runtime.engine.slot import CompiledSlot, Slot
from ossicle.runtime.rows import Array, compiled_part, finite_values, read_rows
from ossicle.runtime.task import Hop

READY_HOPS = 4  # ready and waiting; more audio stays in the inbox


@dataclass(frozen=True, slots=True)
class Calls:
    """Whom the turns call for what is rare; all on the engine's thread but ``wake``, ``refuse``."""

    wake: Callable[[], None]  # the engine has something to do
    refuse: Callable[[], None]  # raises: the lane was closed by its holder
    heed: Callable[[Slot, Any], list[Hop]]  # take a word about the stream
    lost: Callable[[Slot, list[tuple[int, int]]], None]  # samples were dropped
    post: Callable[[Slot, Mapping[str, Array], int, int, int], None]  # deliver one hop
    fail: Callable[[Slot, Exception], None]  # the task raised
    finish: Callable[[Slot], None]  # it was flushed, and all is answered
    breathe: Callable[[], None]  # let other threads run Python for a moment


class Turns:
    """The twin in Python."""

    slot: type[Slot] = Slot

    def __init__(self, clock: Callable[[], int], calls: Calls) -> None:
        self.clock, self._calls = clock, calls
        self.wake, self.refuse = calls.wake, calls.refuse
        self.awake = False  # whether the engine will look at every inbox anyway
        self.stale = False  # whether samples were lost before any of the hops chosen last
        self.since = 0  # when this thread last got the interpreter's lock, in ns
        self.hold_ns = -1  # may keep it so long between two streams; below 0: as long as it likes

    def pause(self) -> bool:
        """Between two streams: let other threads run Python if they could not for a while."""
        if self.hold_ns < 0 or self.clock() - self.since < self.hold_ns:
            return False
        self._calls.breathe()
        return True

    def take_in(self, slots: Sequence[Slot], everything: bool) -> None:
        """Feed what came; while enough is ready the rest stays in the inbox, which is bounded."""
        for slot in slots:
            if not slot.waiting or slot.closed or slot.ending:
                continue
            if slot.ready > READY_HOPS and not everything:
                continue
            gaps, items = slot.take_all()
            if gaps:
                self._calls.lost(slot, gaps)
            for given in items:
                if not slot.closed:
                    self._feed(slot, given)
                    self.pause()

    def _feed(self, slot: Slot, given: Given) -> None:
        try:
            item = given.item.after_gap() if given.after_gap else given.item
            if given.size:
                item = scrubbed(item) if type(item) is Chunk else item
                hops = slot.task_push(slot.state, item)
            else:
                hops = self._calls.heed(slot, item)
        except Exception as error:  # a task's fault ends its stream, never the thread
            self._calls.fail(slot, error)
            return
        if hops:
            now, deadline = self.clock(), given.arrival_ns + slot.deadline_ns
            for hop in hops:
                slot.add(hop, given.arrival_ns, now, deadline)
        elif slot.ending and not slot.ready:
            self._calls.finish(slot)

    def choose(self, slots: Sequence[Slot]) -> list[Slot]:
        """Return the slots with a hop of the most urgent one's group, urgent first."""
        waiting = sorted((slot for slot in slots if slot.ready), key=_deadline)
        if not waiting:
            return []
        group, bypass = waiting[0].group, waiting[0].bypass
        chosen = [slot for slot in waiting if slot.group == group and slot.bypass is bypass]
        self.stale = any(slot.hop.discont for slot in chosen)
        return chosen

    def gather(
        self,
        targets: Mapping[str, Array],
        held: Mapping[str, Array],
        slots: Sequence[Slot],
        places: Sequence[int],
    ) -> bool:
        """Bring what the next hops bring into their rows; False: do it input by input."""
        return False

    def deliver(
        self,
        slots: Sequence[Slot],
        made: Mapping[str, Array],
        places: Sequence[int],
        begun: int,
        batch_us: int,
        compute_us: int,
    ) -> bool:
        """Hand each slot its row of what the model made; False, and nothing done: not finite."""
        if not finite_values(made):
            return False
        for slot, row in zip(slots, read_rows(made, places), strict=True):
            slot.bad_hops = 0
            if slot.ready:  # unless its end came while others were answered
                self._calls.post(slot, row, begun, batch_us, compute_us)
                self.pause()
        return True


def make_turns(clock: Callable[[], int], calls: Calls, compiled: bool = True) -> Turns:
    """Return the compiled turns; their twin if there is no compiled part, or it is not wanted.

    Both make the slots that they can serve: ``turns.slot``.
    """
    core = compiled_part("Turns") if compiled and CompiledSlot is not None else None
    if core is None:
        return Turns(clock, calls)
    kind: Any = type("CompiledTurns", (core.Turns,), {"slot": CompiledSlot})
    turns: Turns = kind(
        clock, calls.wake, Chunk, Ledger, scrubbed, calls.refuse, calls.heed, calls.lost,
        calls.post, calls.fail, calls.finish, calls.breathe,
    )  # fmt: skip
    return turns


def _deadline(slot: Slot) -> int:
    return slot.hop_deadline_ns
