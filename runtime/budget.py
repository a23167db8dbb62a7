"""What was promised per hop, and what was spent where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import msgspec
import numpy as np

from ossicle.runtime.errors import BudgetError


class LatencyClass(Enum):
    """A promise about algorithmic latency, in milliseconds; ``offline`` promises nothing."""

    HEARING = "hearing"
    TALK = "talk"
    CAPTION = "caption"
    OFFLINE = "offline"

    @property
    def limit_ms(self) -> float:
        """The largest algorithmic latency the class allows."""
        return _LIMITS_MS[self]

    @classmethod
    def parse(cls, name: str) -> LatencyClass:
        """Return the class called ``name``.

        Raises:
            BudgetError: no such class.
        """
        try:
            return cls(name)
        except ValueError:
            allowed = ", ".join(c.value for c in cls)
            raise BudgetError(f"latency class {name!r}; one of {allowed} expected") from None

    @classmethod
    def fitting(cls, latency_ms: float) -> LatencyClass:
        """Return the strictest class that allows ``latency_ms``.

        >>> LatencyClass.fitting(20.0).value
        'talk'
        """
        return next(c for c in cls if latency_ms <= c.limit_ms + 1e-9)


_LIMITS_MS = {
    LatencyClass.HEARING: 10.0,
    LatencyClass.TALK: 40.0,
    LatencyClass.CAPTION: 1000.0,
    LatencyClass.OFFLINE: float("inf"),
}


@dataclass(frozen=True, slots=True)
class Budget:
    """What one stream was promised.

    ``deadline_ms`` bounds the time from the arrival of the last sample a hop needs to the moment
    its result leaves; without one, a hop has as long as it lasts.
    """

    latency_class: LatencyClass = LatencyClass.OFFLINE
    deadline_ms: float | None = None

    def __post_init__(self) -> None:
        if self.deadline_ms is not None and not 0 < self.deadline_ms <= 3_600_000:
            raise BudgetError(
                f"deadline of {self.deadline_ms} ms; more than 0 and at most an hour expected"
            )

    def check_algorithmic(self, name: str, latency: int, rate_hz: int) -> None:
        """Refuse a bundle whose own delay already breaks the class.

        Raises:
            BudgetError: with both numbers.
        """
        needed = 1000.0 * latency / rate_hz
        limit = self.latency_class.limit_ms
        if needed > limit + 1e-9:
            raise BudgetError(
                f"{name} needs {needed:g} ms of algorithmic latency; class "
                f"{self.latency_class.value} allows {limit:g} ms. Choose class "
                f"{LatencyClass.fitting(needed).value} or another bundle",
                asked_ms=limit,
                needed_ms=needed,
            )


class Ledger(msgspec.Struct, frozen=True, gc=False):
    """Where the time of one result went, in microseconds.

    A struct and not a dataclass: one is made for every hop of every stream, ten times faster so.

    ``wait + queue + batch + compute + post`` is the time from the arrival of the last sample that
    the result needs to its departure. ``algorithmic_samples`` is the model's own delay and is
    never mixed in.
    """

    wait_us: int = 0  # from the last needed sample at the door to a full hop at the model's rate
    queue_us: int = 0  # until the engine took the hop
    batch_us: int = 0  # gathering states and inputs
    compute_us: int = 0  # the model
    post_us: int = 0  # making events of its outputs
    algorithmic_samples: int = 0
    backlog_ms: float = 0.0  # audio that waits behind this hop
    missed: bool = False  # later than promised

    @property
    def total_us(self) -> int:
        """From the arrival of the last needed sample to the departure of the result."""
        return self.wait_us + self.queue_us + self.batch_us + self.compute_us + self.post_us


def percentiles(held: Sequence[float], count: int) -> dict[str, float]:
    """Return p50, p95, p99, p99.9 and max of the values held, of ``count``; zeros when empty.

    >>> percentiles([3, 1, 2], 7)["p50"], percentiles([], 0)["max"]
    (2.0, 0.0)
    """
    if not held:
        return {"count": 0, "p50": 0.0, "p95": 0.0, "p99": 0.0, "p999": 0.0, "max": 0.0}
    p50, p95, p99, p999 = np.percentile(held, [50, 95, 99, 99.9])
    return {
        "count": count,
        "p50": float(p50),
        "p95": float(p95),
        "p99": float(p99),
        "p999": float(p999),
        "max": float(max(held)),
    }
