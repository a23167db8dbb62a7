"""Which slots of an engine are taken, and by whom."""

from __future__ import annotations

from ossicle.runtime.engine.slot import Slot
from ossicle.runtime.model import Model


class Seats:
    """Few and fixed, each tenant with a generation of its own. Whoever calls holds a lock."""

    def __init__(self, count: int) -> None:
        self._slots: list[Slot | None] = [None] * count
        self.taken: list[Slot] = []  # replaced, never changed: it may be read at any time
        self._generation = 0
        self._groups: dict[tuple[int, str], int] = {}

    def offer(self) -> tuple[int, int]:
        """Return a free slot's index and the generation of its next tenant."""
        self._generation += 1
        return self._slots.index(None), self._generation

    def group(self, model: Model, program: str) -> int:
        """Return a number for what streams of one batch have in common."""
        return self._groups.setdefault((id(model), program), len(self._groups))

    def take(self, slot: Slot) -> None:
        """Let a tenant in."""
        self._slots[slot.index] = slot
        self.taken = [*self.taken, slot]

    def leave(self, slot: Slot) -> bool:
        """Let a tenant out; False if it was out already."""
        if slot.closed:
            return False
        slot.closed = True
        self._slots[slot.index] = None
        self.taken = [other for other in self.taken if other is not slot]
        return True
