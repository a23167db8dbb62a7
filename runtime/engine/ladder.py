"""When streams give something up, and when they get it back.

The engine's measured load is looked at in windows. Above the high mark, or with deadlines missed,
for a few windows in a row, the youngest stream that still has a rung to go steps down; below the
low mark for much longer, the oldest that is down steps up. The distance between the two marks and
the two durations is what keeps it from oscillating.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ossicle.runtime.engine.settings import EngineSettings
from ossicle.runtime.engine.slot import Slot

Change = tuple[Slot, Mapping[str, Any], str]


class Ladder:
    """Watches the load and says which stream changes its options."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.load = 0.0
        self.due_ns = 0  # when the window ends that is being looked at
        self._begun_ns = self._busy_ns = 0
        self._misses = 0
        self._high = self._low = 0

    def observe(self, now_ns: int, busy_ns: int, slots: Sequence[Slot]) -> list[Change]:
        """Look at the clock; at the end of a window, judge it."""
        window_ns = int(self.settings.ladder_window_ms * 1e6)
        if not self._begun_ns:
            self._begun_ns, self._busy_ns = now_ns, busy_ns
            self.due_ns = now_ns + window_ns
        spent = now_ns - self._begun_ns
        if now_ns < self.due_ns:
            return []
        self.load = (busy_ns - self._busy_ns) / spent
        misses = sum(slot.misses for slot in slots)
        missed, self._misses = misses > self._misses, misses
        self._begun_ns, self._busy_ns = now_ns, busy_ns
        self.due_ns = now_ns + window_ns
        if self.load > self.settings.ladder_high or missed:
            self._high, self._low = self._high + 1, 0
        elif self.load < self.settings.ladder_low:
            self._high, self._low = 0, self._low + 1
        else:
            self._high = self._low = 0
        if self._high >= self.settings.ladder_up_windows:
            self._high = 0
            return self._down(slots)
        if self._low >= self.settings.ladder_down_windows:
            self._low = 0
            return self._up(slots)
        return []

    def _down(self, slots: Sequence[Slot]) -> list[Change]:
        can = [s for s in slots if s.rung < len(s.ladder)]
        if not can:
            return []
        slot = max(can, key=lambda s: s.generation)
        slot.rung += 1
        options = slot.ladder[slot.rung - 1]
        return [(slot, options, f"overloaded: step {slot.rung} down ({_words(options)})")]

    def _up(self, slots: Sequence[Slot]) -> list[Change]:
        can = [s for s in slots if s.rung > 0]
        if not can:
            return []
        slot = min(can, key=lambda s: s.generation)
        slot.rung -= 1
        options = slot.ladder[slot.rung - 1] if slot.rung else _undo(slot.ladder)
        return [(slot, options, f"headroom again: up to step {slot.rung} ({_words(options)})")]


def _undo(ladder: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the options that end every rung: ``None`` means what the stream was opened with."""
    keys = {key for rung in ladder for key in rung}
    return {key: (False if key == "bypass" else None) for key in sorted(keys)}


def _words(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items())
