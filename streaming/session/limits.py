"""How much one stream may send: bytes at once, bytes per second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from ossicle.runtime.errors import WireError

WINDOW_S = 10.0  # over which bytes per second are averaged


@dataclass(slots=True)
class Rate:
    """A leaky bucket of bytes: ``per_second`` on average, ``WINDOW_S`` of it at once."""

    per_second: float
    level: float = 0.0
    at_s: float | None = None

    def take(self, count: int, now_s: float) -> float:
        """Add ``count`` bytes and return by how many seconds they come too soon (0: in time)."""
        if self.per_second <= 0:
            return 0.0
        since = 0.0 if self.at_s is None else max(0.0, now_s - self.at_s)
        self.at_s = now_s
        self.level = max(0.0, self.level - since * self.per_second) + count
        return max(0.0, self.level / self.per_second - WINDOW_S)


def refuse_size(count: int, limit: int, what: str) -> NoReturn:
    """Refuse more bytes than are allowed.

    Raises:
        WireError: always.
    """
    raise WireError(
        f"{what} of {count} bytes; at most {limit} allowed. Send smaller pieces",
        field=what,
        reason="TOO_LARGE",
    )
