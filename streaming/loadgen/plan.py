"""What to load a server with."""

from __future__ import annotations

from dataclasses import dataclass

SETTLE_S = 1.0  # of each stream is not counted
RATE_HZ = 16_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What to load a server with."""

    tasks: tuple[str, ...] = ("encode",)
    model: str = ""
    streams: int = 10  # 0: search for the most that keep the budget
    seconds: float = 10.0
    budget_ms: float = 20.0
    message_ms: float = 20.0
    most_streams: int = 512
    query: str = "speech"

    @property
    def samples(self) -> int:
        """In one message."""
        return max(1, round(RATE_HZ * self.message_ms / 1000))
