"""What the streams of a load got back, as percentiles."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ossicle.streaming import messages as m
from ossicle.streaming.loadgen.plan import RATE_HZ, Plan


@dataclass
class Heard:
    """What all streams of a step got."""

    latency_ms: list[float] = field(default_factory=list)
    late_send_ms: list[float] = field(default_factory=list)
    stages: dict[str, list[int]] = field(default_factory=dict)
    answers: int = 0
    ledger_misses: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    opened: int = 0
    ended: list[m.Ended] = field(default_factory=list)

    def ledger(self, response: m.Response) -> None:
        """Note where the time of one answer went."""
        ledger = response.ledger
        if ledger is None:
            return
        for stage in ("wait", "queue", "batch", "compute", "post", "total"):
            self.stages.setdefault(stage, []).append(getattr(ledger, f"{stage}_us"))


def figures(plan: Plan, heard: Heard) -> dict[str, Any]:
    """Return what one step gave, for JSON."""
    latency = summary(heard.latency_ms)
    kept = bool(heard.latency_ms) and latency["p99"] <= plan.budget_ms and not heard.failed
    seconds = sum(e.samples for e in heard.ended) / RATE_HZ
    return {
        "streams": plan.streams,
        "opened": heard.opened,
        "refused": heard.refused,
        "failed": heard.failed,
        "answers": heard.answers,
        "latency_ms": latency,
        "late_send_ms": summary(heard.late_send_ms),
        "ledger_ms": {
            stage: summary([us / 1000 for us in values]) for stage, values in heard.stages.items()
        },
        "over_budget": sum(ms > plan.budget_ms for ms in heard.latency_ms),
        "over_budget_in_ledger": heard.ledger_misses,
        "engine_misses": sum(t.misses for e in heard.ended for t in e.tasks),
        "lost_samples": sum(e.lost_samples for e in heard.ended),
        "wire_kbps_in": _mean([e.wire_kbps_in for e in heard.ended]),
        "wire_kbps_out": _mean([e.wire_kbps_out for e in heard.ended]),
        "audio_s": round(seconds, 2),
        "kept": kept,
    }


def summary(values: list[float]) -> dict[str, float]:
    """Return the percentiles of values, rounded to a microsecond of a millisecond."""
    if not values:
        return {"count": 0, "p50": 0.0, "p95": 0.0, "p99": 0.0, "p999": 0.0, "max": 0.0}
    found = np.percentile(values, [50, 95, 99, 99.9, 100])
    names = ("p50", "p95", "p99", "p999", "max")
    return {"count": len(values), **{n: round(float(v), 3) for n, v in zip(names, found,
                                                                         strict=True)}}  # fmt: skip


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 2) if values else 0.0
