"""Where the time of a task's last hops went, as percentiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ossicle.streaming.messages import StagePercentiles

if TYPE_CHECKING:
    from ossicle.runtime.budget import Ledger

STAGES = ("wait", "queue", "batch", "compute", "post", "total")
KEPT = 4096  # hops; older ones fall out
FOLD = 64  # ledgers taken over at once: numpy costs as much for one as for all of them


class StageTimes:
    """Keeps the last ledgers, five integers each."""

    def __init__(self) -> None:
        self.count = 0
        self._fresh: list[Ledger] = []
        self._rows = np.zeros((0, 5), np.int64)  # wait, queue, batch, compute, post
        self._oldest = 0

    def add(self, ledger: Ledger) -> None:
        """Record one hop."""
        self.count += 1
        fresh = self._fresh
        fresh.append(ledger)
        if len(fresh) >= FOLD:
            self._fold()

    def _fold(self) -> None:
        rows = _table(self._fresh)
        self._fresh = []
        if len(self._rows) < KEPT:
            self._rows = np.concatenate([self._rows, rows])
            return
        at = self._oldest
        self._rows[at : at + len(rows)] = rows  # KEPT is a whole number of folds
        self._oldest = (at + FOLD) % KEPT

    def percentiles(self) -> tuple[StagePercentiles, ...]:
        """Return every stage and their sum, in ms."""
        rows = np.concatenate([self._rows, _table(self._fresh)])
        if not len(rows):
            return tuple(StagePercentiles(stage) for stage in STAGES)
        table = np.concatenate([rows, rows.sum(axis=1, keepdims=True)], axis=1) / 1000
        found = np.percentile(table, [50, 95, 99, 99.9], axis=0)
        return tuple(
            StagePercentiles(
                stage,
                float(found[0, at]),
                float(found[1, at]),
                float(found[2, at]),
                float(found[3, at]),
                self.count,
            )
            for at, stage in enumerate(STAGES)
        )


def _table(ledgers: list[Ledger]) -> NDArray[np.int64]:
    rows = [(e.wait_us, e.queue_us, e.batch_us, e.compute_us, e.post_us) for e in ledgers]
    return np.array(rows, np.int64).reshape(-1, 5)
