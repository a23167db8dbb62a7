"""What the demo has heard so far: kept for the view, the files and the report."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ossicle.runtime.audio import Samples
from ossicle.runtime.budget import Ledger
from ossicle.streaming import messages as m
from ossicle.streaming.captions.cue import Cue
from ossicle.streaming.client import Sound

WIRE_BYTES = 66  # of gRPC, HTTP/2 and TCP/IP, per message


@dataclass
class Tally:
    """Everything that came back, with the time it took."""

    begun_s: float = field(default_factory=time.monotonic)
    cues: list[Cue] = field(default_factory=list)
    sounds: dict[str, list[Sound]] = field(default_factory=dict)
    ledgers: dict[str, list[tuple[float, Ledger]]] = field(default_factory=dict)
    trips: dict[str, list[float]] = field(default_factory=dict)  # ms, from the sample's sending
    notices: list[m.Notice] = field(default_factory=list)
    gaps: list[m.Gap] = field(default_factory=list)
    ended: dict[str, m.Ended] = field(default_factory=dict)
    started: dict[str, m.Started] = field(default_factory=dict)
    packets: int = 0
    packet_bytes: int = 0
    packet_s: float = 0.0
    level_dbfs: float = -120.0
    played_s: float = 0.0
    send_times: dict[str, tuple[int, list[tuple[int, float]]]] = field(default_factory=dict)

    def take(self, stream: str, response: m.Response, cue_rate_hz: int = 0) -> None:
        """Note one answer of one stream."""
        now = time.monotonic()
        task, body = response.task, response.body
        if task and response.ledger is not None:
            held = self.ledgers.setdefault(task, [])
            held.append((now - self.begun_s, response.ledger))
        match body:
            case Cue():
                self.cues.append(body)
            case Sound():
                self.sounds.setdefault(task, []).append(body)
            case m.PacketsOut():
                for packet in body.packets:
                    self.packets += 1
                    self.packet_bytes += len(packet.data)
                    end = packet.start_sample + packet.samples
                    self.packet_s = end / body.sample_rate_hz
            case m.Notice():
                self.notices.append(body)
            case m.Gap():
                self.gaps.append(body)
            case m.Marker(_, sent_ns):
                trip = (time.monotonic_ns() - sent_ns) / 1e6
                self.trips.setdefault(stream, []).append(trip)
            case m.Ended():
                self.ended[stream] = body

    def sent(self, samples: Samples, seconds: float) -> None:
        """Note what was just played."""
        power = float(np.mean(np.square(samples))) if samples.size else 0.0
        self.level_dbfs = max(-120.0, 10 * float(np.log10(power + 1e-12)))
        self.played_s = seconds

    @property
    def packet_kbps(self) -> float:
        """Rate of the packets with their own headers."""
        return 8 * self.packet_bytes / self.packet_s / 1000 if self.packet_s else 0.0

    @property
    def wire_kbps(self) -> float:
        """Rate of the packets on the wire, everything included."""
        if not self.packet_s:
            return 0.0
        return 8 * (self.packet_bytes + WIRE_BYTES * self.packets) / self.packet_s / 1000

    def late(self, task: str, budget_ms: float) -> float:
        """Return the share of a task's answers that took longer than ``budget_ms``."""
        held = self.ledgers.get(task, [])
        return sum(e.total_us > 1000 * budget_ms for _, e in held) / len(held) if held else 0.0

    def percentiles(self, task: str) -> dict[str, dict[str, float]]:
        """Return p50, p95, p99 and p99.9 in ms, by stage of the ledger."""
        held = self.ledgers.get(task, [])
        if not held:
            return {}
        columns: dict[str, list[int]] = {
            "wait": [e.wait_us for _, e in held],
            "queue": [e.queue_us for _, e in held],
            "batch": [e.batch_us for _, e in held],
            "compute": [e.compute_us for _, e in held],
            "post": [e.post_us for _, e in held],
            "total": [e.total_us for _, e in held],
        }
        return {name: summary([v / 1000 for v in values]) for name, values in columns.items()}


def summary(values: list[float]) -> dict[str, float]:
    """Return the percentiles of some values."""
    if not values:
        return {}
    found = np.percentile(values, [50, 95, 99, 99.9])
    named = dict(zip(("p50", "p95", "p99", "p999"), map(float, found), strict=True))
    return {**{k: round(v, 3) for k, v in named.items()}, "count": len(values)}


def as_plain(ended: m.Ended) -> dict[str, Any]:
    """Return a stream's totals for JSON."""
    return {
        "samples": ended.samples,
        "lost_samples": ended.lost_samples,
        "wire_kbps_in": round(ended.wire_kbps_in, 2),
        "wire_kbps_out": round(ended.wire_kbps_out, 2),
        "misses": {t.name: t.misses for t in ended.tasks},
        "reason": ended.reason,
    }
