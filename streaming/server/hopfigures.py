"""What is counted at every hop: plain integers, turned into Prometheus families when asked for.

A Prometheus counter takes a lock, and a histogram a Python loop, for every value; at a thousand
hops a second that would cost more than everything else the server does for a hop.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ossicle.runtime.budget import Ledger

BOUNDS_US = (500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
             2_000_000, 5_000_000)  # fmt: skip
STAGES = {
    "step": "Time in the model, per hop",
    "queue": "Time until the engine took a hop",
    "total": "From the last sample's arrival to the answer",
    "backlog": "Audio that waited behind a hop",
}


class HopFigures:
    """The hops of one kind of task: how many, how many too late, and three distributions."""

    __slots__ = ("_backlog", "_queue", "_step", "_total", "hops", "misses", "sums_us")

    def __init__(self) -> None:
        self.hops = self.misses = 0
        self._step, self._queue, self._total, self._backlog = (
            [0] * (len(BOUNDS_US) + 1) for _ in range(4)
        )
        self.sums_us = [0, 0, 0, 0]

    def add(self, ledger: Ledger) -> None:
        """Count one hop."""
        step, queue = ledger.compute_us, ledger.queue_us
        total, backlog = ledger.total_us, int(1000 * ledger.backlog_ms)
        self.hops += 1
        self._step[bisect_left(BOUNDS_US, step)] += 1
        self._queue[bisect_left(BOUNDS_US, queue)] += 1
        self._total[bisect_left(BOUNDS_US, total)] += 1
        self._backlog[bisect_left(BOUNDS_US, backlog)] += 1
        sums = self.sums_us
        sums[0] += step
        sums[1] += queue
        sums[2] += total
        sums[3] += backlog
        if ledger.missed:
            self.misses += 1

    def distribution(self, stage: str) -> tuple[list[tuple[str, float]], float]:
        """Return cumulative counts by upper bound in seconds, and the sum in seconds."""
        at = list(STAGES).index(stage)
        counts = (self._step, self._queue, self._total, self._backlog)[at]
        rows, so_far = [], 0
        for bound, count in zip(
            [*(str(us / 1e6) for us in BOUNDS_US), "+Inf"], counts, strict=True
        ):
            so_far += count
            rows.append((bound, float(so_far)))
        return rows, self.sums_us[at] / 1e6


def families(kinds: dict[str, HopFigures]) -> Iterator[Any]:
    """Yield the Prometheus families of every kind of task."""
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    hops = CounterMetricFamily("ossicle_hops", "Hops answered", labels=["task"])
    misses = CounterMetricFamily(
        "ossicle_misses", "Hops answered after their deadline", labels=["task"]
    )
    for kind, found in kinds.items():
        hops.add_metric([kind], found.hops)
        misses.add_metric([kind], found.misses)
    yield hops
    yield misses
    for stage, text in STAGES.items():
        family = HistogramMetricFamily(f"ossicle_{stage}_seconds", text, labels=["task"])
        for kind, found in kinds.items():
            rows, total_s = found.distribution(stage)
            family.add_metric([kind], rows, total_s)
        yield family
