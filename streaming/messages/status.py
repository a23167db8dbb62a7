"""What a server says of itself: its limits, its models, how busy it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ossicle.runtime.budget import LatencyClass


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """The limits a client has to live with."""

    max_message_bytes: int = 0
    idle_s: int = 0
    max_duration_s: int = 0
    ring_ms: int = 0
    output_ms: int = 0


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model a server offers."""

    name: str
    version: str
    task: str
    license: str = ""
    license_class: str = ""
    sample_rate_hz: int = 0
    channels: int = 1
    hop_samples: int = 0
    lookahead_samples: int = 0
    latency_samples: int = 0
    latency_class: LatencyClass | None = None
    labels: tuple[str, ...] = ()
    loaded: bool = True


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """Slots and calibrated step cost of one loaded model."""

    name: str
    slots_used: int = 0
    slots_total: int = 0
    step_us: Mapping[int, float] = field(default_factory=dict)  # batch -> microseconds


@dataclass(frozen=True, slots=True)
class Status:
    """How a server is."""

    version: str
    state: str  # "STARTING" | "READY" | "DRAINING"
    uptime_s: float
    streams: int
    max_streams: int
    capacity_used: float
    models: tuple[ModelStatus, ...]
    limits: StreamLimits
    streams_total: int = 0
    misses_total: int = 0
    gaps_total: int = 0
