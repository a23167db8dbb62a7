"""How many streams may be open, in all and of one client."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ossicle.runtime.errors import CapacityError


@dataclass(slots=True)
class Admission:
    """Counts the streams of each client; what is taken is given back in ``finally``."""

    max_streams: int
    per_client: int
    total: int = 0
    clients: Counter[str] = field(default_factory=Counter)

    def enter(self, client: str, limit: int = 0) -> None:
        """Take a place for one more stream of ``client``.

        Raises:
            CapacityError: the server, or this client, has as many as it may.
        """
        allowed = min(limit or self.per_client, self.per_client)
        if self.total >= self.max_streams:
            raise CapacityError(
                f"{self.total} streams are open, as many as this server takes; try again later",
                reason="streams",
                used=float(self.total),
                total=float(self.max_streams),
            )
        if self.clients[client] >= allowed:
            raise CapacityError(
                f"{self.clients[client]} streams of this client are open, as many as it may have; "
                "close one first",
                reason="client_streams",
                used=float(self.clients[client]),
                total=float(allowed),
            )
        self.total += 1
        self.clients[client] += 1

    def leave(self, client: str) -> None:
        """Give the place back."""
        self.total -= 1
        self.clients[client] -= 1
        if self.clients[client] <= 0:
            del self.clients[client]
