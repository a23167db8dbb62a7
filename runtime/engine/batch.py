"""Memory for a batch of rows, and which streams live in it at the moment.

A stream's memory lives either in its own one-row state or in a row of a batch. It stays in the
row as long as the same batch is stepped with it; only when the set of ready streams changes are
rows copied, and a stream that runs alone is never copied at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.engine.slot import Slot
from ossicle.runtime.model import Model

Array = NDArray[Any]


class BatchMemory:
    """One model's memory for ``size`` rows."""

    def __init__(self, model: Model, program: str, size: int) -> None:
        self.model, self.program, self.size = model, program, size
        self.state = model.open(size, program)
        self.state.unset.clear()
        self.rows: list[Slot | None] = [None] * size
        line = model.program(program)
        self._inputs = {
            given.name: np.zeros((size, *given.shape), given.dtype)
            for given in line.inputs
            if given.kind != "condition" and -1 not in given.shape
        }
        self._loose = [g.name for g in line.inputs if g.kind != "condition" and -1 in g.shape]

    def seat(self, slots: Sequence[Slot], keep: bool) -> list[int]:
        """Bring the slots' memories into rows and return their row numbers.

        With ``keep``, streams that are here but not ready stay (masked batching); otherwise they
        are sent home.
        """
        wanted = {id(slot) for slot in slots}
        if not keep:
            for slot in self.rows:
                if slot is not None and id(slot) not in wanted:
                    send_home(slot)
        free = [row for row, slot in enumerate(self.rows) if slot is None]
        places: list[int] = []
        for slot in slots:
            if slot.home is not None and slot.home[0] is self:
                places.append(slot.home[1])
                continue
            send_home(slot)
            if not free:
                victim = next(s for s in self.rows if s is not None and id(s) not in wanted)
                assert victim.home is not None
                free.append(victim.home[1])
                send_home(victim)
            row = free.pop(0)
            for here, there in zip(self.state.rows(), slot.memory.rows(), strict=True):
                here[row] = there[0]
            self.rows[row], slot.home = slot, (self, row)
            places.append(row)
        return places

    def step(self, slots: Sequence[Slot], places: Sequence[int]) -> dict[str, Array]:
        """Step the model once with the first ready hop of each slot; outputs ``[size, ...]``."""
        for slot, row in zip(slots, places, strict=True):
            for name, value in slot.ready[0].hop.inputs.items():
                target = self._inputs.get(name)
                if target is None:
                    target = self.state.held[name]
                target[row] = value
        return self.model.step(self.state, self._inputs)

    def guard(self, places: Sequence[int]) -> list[tuple[int, list[Array]]]:
        """Return copies of the rows that are here but not in ``places``."""
        idle = [r for r, slot in enumerate(self.rows) if slot is not None and r not in places]
        return [(row, [a[row].copy() for a in self.state.rows()]) for row in idle]

    def restore(self, saved: list[tuple[int, list[Array]]]) -> None:
        """Put back what :meth:`guard` returned."""
        for row, memory in saved:
            for here, before in zip(self.state.rows(), memory, strict=True):
                here[row] = before

    @property
    def batchable(self) -> bool:
        """Whether every input has a fixed shape; otherwise streams run one by one."""
        return not self._loose


def send_home(slot: Slot) -> None:
    """Bring a slot's memory back into its own one-row state."""
    if slot.home is None:
        return
    batch, row = slot.home
    for there, here in zip(slot.memory.rows(), batch.state.rows(), strict=True):
        there[0] = here[row]
    batch.rows[row], slot.home = None, None
    slot.memory.unset.clear()


def forget(slot: Slot) -> None:
    """Free a slot's row without keeping its memory."""
    if slot.home is not None:
        batch, row = slot.home
        batch.rows[row], slot.home = None, None
