"""How much one client may take: streams at once, bytes per second, time without a word."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ossicle.runtime.errors import CapacityError, WireError

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


def check_size(count: int, limit: int, what: str) -> None:
    """Refuse more bytes than are allowed.

    Raises:
        WireError: ``count`` is over ``limit``.
    """
    if count > limit:
        raise WireError(
            f"{what} of {count} bytes; at most {limit} allowed. Send smaller pieces",
            field=what,
            reason="TOO_LARGE",
        )


@dataclass(slots=True)
class Drift:
    """Measures how fast a client's clock runs against ours, in parts per million.

    A line is fitted through (our time, their time) by exponentially weighted least squares, so one
    late message moves it little; see Mills, RFC 5905, for the noise that has to be averaged out.
    """

    memory_s: float = 60.0
    _n: float = 0.0
    _x: float = 0.0  # weighted means
    _y: float = 0.0
    _xx: float = 0.0  # weighted second moments about the means
    _xy: float = 0.0
    _first: tuple[float, float] | None = None
    _last_x: float = 0.0

    def add(self, ours_s: float, theirs_s: float) -> None:
        """Record that their clock said ``theirs_s`` when ours said ``ours_s``."""
        if self._first is None:
            self._first = (ours_s, theirs_s)
        x, y = ours_s - self._first[0], theirs_s - self._first[1]
        decay = 2.0 ** (-(x - self._last_x) / self.memory_s) if self._n else 0.0
        self._last_x = x
        self._n, self._xx, self._xy = self._n * decay + 1, self._xx * decay, self._xy * decay
        dx, dy = x - self._x, y - self._y
        self._x += dx / self._n
        self._y += dy / self._n
        self._xx += dx * (x - self._x)
        self._xy += dx * (y - self._y)

    @property
    def span_s(self) -> float:
        """How long it has been watched."""
        return self._last_x

    @property
    def ppm(self) -> float:
        """Their speed over ours, less one, in parts per million; 0 until there is enough."""
        if self._xx <= 0 or self._last_x < 5.0:
            return 0.0
        return (self._xy / self._xx - 1.0) * 1e6
