"""Memory for a batch of rows, and which streams live in it at the moment.

A stream's memory lives either in its own one-row state or in a row of a batch. It stays in the
row as long as the same batch is stepped with it; only when the set of ready streams changes are
rows copied, and a stream that runs alone is never copied at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.engine.slot import Slot
from ossicle.runtime.errors import AudioError
from ossicle.runtime.model import Model
from ossicle.runtime.rows import write_rows
from ossicle.runtime.task import Hop

Array = NDArray[Any]


class BatchMemory:
    """One model's memory for ``size`` rows."""

    def __init__(self, model: Model, program: str, size: int) -> None:
        self.model, self.program, self.bucket = model, program, size
        self.state = model.open(size, program)
        self.state.unset.clear()
        self.rows: list[Slot | None] = [None] * size
        self.seated: list[Slot] = []  # by the last call of ``seat``, if nobody moved since
        self.places: list[int] = []
        line = model.program(program)
        self.inputs = {
            given.name: np.zeros((size, *given.shape), given.dtype)
            for given in line.inputs
            if given.kind != "condition" and -1 not in given.shape
        }
        self._loose = [g.name for g in line.inputs if g.kind != "condition" and -1 in g.shape]

    def seat(self, slots: list[Slot], keep: bool, pause: Callable[[], bool]) -> list[int]:
        """Bring the slots' memories into rows and return their row numbers.

        With ``keep``, streams that are here but not ready stay (masked batching); otherwise they
        are sent home. ``pause`` is called between two that move.
        """
        wanted = {id(slot) for slot in slots}
        if not keep:
            for slot in self.rows:
                if slot is not None and id(slot) not in wanted:
                    send_home(slot)
                    pause()
        free = [row for row, slot in enumerate(self.rows) if slot is None]
        free.reverse()
        places: list[int] = []
        for slot in slots:
            if slot.home is not None and slot.home[0] is self:
                places.append(slot.home[1])
                continue
            if not free:
                victim = next(s for s in self.rows if s is not None and id(s) not in wanted)
                assert victim.home is not None
                free.append(victim.home[1])
                send_home(victim)
            self._settle(slot, free[-1])
            places.append(free.pop())
            pause()
        self.seated, self.places = slots, places
        return places

    def bring(self, slots: Sequence[Slot], places: list[int]) -> None:
        """Bring the slots' next hops into their rows, input by input.

        Raises:
            AudioError, TypeError, ValueError: a hop that no model would take.
        """
        hops = [slot.hop for slot in slots]
        for name, target in self.inputs.items():
            write_rows(target, [hop.inputs[name] for hop in hops], places)
        self._condition(hops, places)

    def guard(self, places: Sequence[int]) -> list[tuple[int, list[Array]]]:
        """Return copies of the rows that are here but not in ``places``."""
        idle = [r for r, slot in enumerate(self.rows) if slot is not None and r not in places]
        return [(row, [a[row].copy() for a in self.state.rows()]) for row in idle]

    def restore(self, saved: list[tuple[int, list[Array]]]) -> None:
        """Put back what :meth:`guard` returned."""
        for row, memory in saved:
            for here, before in zip(self.state.rows(), memory, strict=True):
                here[row] = before

    def vacate(self, row: int) -> None:
        """Say that nobody lives in a row any more."""
        self.rows[row] = None
        self.seated = []

    @property
    def batchable(self) -> bool:
        """Whether every input has a fixed shape; otherwise streams run one by one."""
        return not self._loose

    def _settle(self, slot: Slot, row: int) -> None:
        """Bring a slot's memory from wherever it is into a free row."""
        send_home(slot)
        missing = slot.memory.unset - slot.hop.inputs.keys()
        if missing:  # a neighbour's values may stand in the row
            raise AudioError(f"{self.model.name}: input {sorted(missing)} is missing")
        for here, there in zip(self.state.rows(), slot.memory.rows(), strict=True):
            here[row] = there[0]
        self.rows[row], slot.home = slot, (self, row)

    def _condition(self, hops: Sequence[Hop], places: list[int]) -> None:
        """Hold the conditions that hops bring; most bring none, or all of them the same ones."""
        fixed = self.inputs
        if sum([len(hop.inputs) for hop in hops]) == len(fixed) * len(hops):
            return
        for name, target in self.state.held.items():
            given = [hop.inputs.get(name) for hop in hops]
            fresh = [(a, row) for a, row in zip(given, places, strict=True) if a is not None]
            if fresh:
                write_rows(target, [a for a, _ in fresh], [row for _, row in fresh])
        known = fixed.keys() | self.state.held.keys()
        for hop in hops:
            if not hop.inputs.keys() <= known:
                raise AudioError(f"{self.model.name} has no input {sorted(hop.inputs)}")


def send_home(slot: Slot) -> None:
    """Bring a slot's memory back into its own one-row state."""
    if slot.home is None:
        return
    batch, row = slot.home
    for there, here in zip(slot.memory.rows(), batch.state.rows(), strict=True):
        there[0] = here[row]
    batch.vacate(row)
    slot.home = None
    slot.memory.unset.clear()


def forget(slot: Slot) -> None:
    """Free a slot's row without keeping its memory."""
    if slot.home is not None:
        batch, row = slot.home
        batch.vacate(row)
        slot.home = None
