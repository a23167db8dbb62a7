"""What the service answers: one start, then what the tasks make, then the totals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ossicle.runtime.budget import LatencyClass, Ledger
from ossicle.streaming.messages.requests import Credit, Marker, WirePacket
from ossicle.streaming.messages.status import StreamLimits


@dataclass(frozen=True, slots=True)
class TaskStarted:
    """What one task turned out to be."""

    name: str
    kind: str
    model: str
    model_version: str = ""
    model_rate_hz: int = 0
    hop_samples: int = 0
    lookahead_samples: int = 0
    latency_samples: int = 0
    latency_class: LatencyClass | None = None
    deadline_ms: int = 0
    kbps: float = 0.0
    codec_identity: bytes = b""  # of codecs: what turns codes into sound
    books: tuple[int, ...] = ()  # of codecs: codes in each layer
    delay_samples: int = 0


@dataclass(frozen=True, slots=True)
class Started:
    """The first answer of a connection."""

    session: str
    sample_rate_hz: int
    channels: int
    output_rate_hz: int
    output_encoding: str
    tasks: tuple[TaskStarted, ...]
    resume_token: bytes = b""
    resumed: bool = False
    acknowledged_sample: int = 0
    limits: StreamLimits = field(default_factory=StreamLimits)
    capacity_used: float = 0.0
    acknowledged_packets: int = 0


class AudioOut(msgspec.Struct, frozen=True, gc=False):
    """Samples of one track, encoded."""

    track: str
    data: bytes
    start_sample: int
    samples: int
    channels: int = 1
    discont: bool = False


class PacketsOut(msgspec.Struct, frozen=True):
    """Encoded packets of one track."""

    packets: tuple[WirePacket, ...]
    sample_rate_hz: int = 0
    layers: int = 0


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples ``start_sample`` to ``stop_sample`` were lost."""

    start_sample: int
    stop_sample: int
    reason: str
    track: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the client should know."""

    kind: str
    text: str
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The stream can be resumed with ``token``, from ``sample`` and after ``packets`` packets."""

    number: int
    token: bytes
    sample: int
    packets: int = 0


@dataclass(frozen=True, slots=True)
class StagePercentiles:
    """One stage of the ledger over a whole stream, in ms."""

    stage: str
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    p999_ms: float = 0.0
    count: int = 0


@dataclass(frozen=True, slots=True)
class TaskTotals:
    """One task over a whole stream."""

    name: str
    hops: int = 0
    misses: int = 0
    stages: tuple[StagePercentiles, ...] = ()
    payload_kbps: float = 0.0
    packet_kbps: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended:
    """The last answer of a stream; without it the stream is to be resumed."""

    samples: int = 0
    lost_samples: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    wire_kbps_in: float = 0.0
    wire_kbps_out: float = 0.0
    tasks: tuple[TaskTotals, ...] = ()
    reason: str = "END"


Body = (
    Started | Any | AudioOut | PacketsOut | Gap | Notice | Marker | Ended | Checkpoint | Credit
)  # Any: a captions.Cue


class Response(msgspec.Struct):
    """One answer: a body, the task it belongs to and the ledger of the hop that caused it."""

    body: Body
    task: str = ""
    seq: int = 0  # dense per task from 1; 0 for answers outside the task's own sequence
    ledger: Ledger | None = None
    ready_ns: int = 0  # monotonic time at which the engine let go of it; post time runs from here
