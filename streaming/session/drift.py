"""How fast a client's clock runs against ours, and when that is worth a notice."""

from __future__ import annotations

from dataclasses import dataclass

from ossicle.streaming.messages import Notice

NOTICE_EVERY_S = 30.0


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


class ClockWatch:
    """Says now and then by how much a client's clock is off, where it is off by enough."""

    def __init__(self, worth_ppm: float) -> None:
        self.drift = Drift()
        self._worth_ppm = worth_ppm
        self._said_s: float | None = None

    def saw(self, arrival_ns: int, capture_unix_ns: int) -> Notice | None:
        """Take one capture time, and return a notice if one is due."""
        now_s = arrival_ns / 1e9
        if self._said_s is None:
            self._said_s = now_s
        self.drift.add(now_s, capture_unix_ns / 1e9)
        if now_s - self._said_s < NOTICE_EVERY_S or self.drift.span_s < NOTICE_EVERY_S:
            return None
        ppm = self.drift.ppm
        if abs(ppm) < self._worth_ppm:
            return None
        self._said_s = now_s
        text = f"the client's clock runs {ppm:+.0f} ppm against the server's"
        return Notice("CLOCK_DRIFT", text, {"ppm": f"{ppm:.1f}"})
