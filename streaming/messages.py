"""What travels between client and service, as plain values that know nothing of protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ossicle.runtime.budget import LatencyClass, Ledger

KINDS = ("caption", "encode", "decode", "separate", "enhance")
ENCODINGS = ("pcm_s16", "pcm_f32", "mu_law", "a_law", "flac", "ogg_opus")
PACES = ("live", "file")


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the overload ladder; what ``value`` and ``model`` mean depends on the kind."""

    kind: str  # "fewer_layers" | "smaller_model" | "longer_interval" | "bypass"
    value: int = 0
    model: str = ""


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One thing to do with a stream, as the client asks for it."""

    kind: str  # one of KINDS
    name: str = ""  # of the track; the kind where empty
    model: str = ""  # bundle; the kind's built-in where empty
    latency_class: LatencyClass | None = None
    deadline_ms: float | None = None
    ladder: tuple[Rung, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)  # the fields of <Kind>Options

    @property
    def track(self) -> str:
        """The name that answers carry."""
        return self.name or self.kind


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the service has to know before the first sample."""

    sample_rate_hz: int
    tasks: tuple[TaskSpec, ...]
    channels: int = 1
    encoding: str = "pcm_f32"
    pace: str = "live"
    output_encoding: str = "pcm_s16"
    output_rate_hz: int = 0  # 0: sample_rate_hz
    credit_ms: int = 0  # 0: no credit is kept
    resume_token: bytes = b""
    capture_unix_ns: int = 0
    client: str = ""
    checkpoints: bool = False


@dataclass(frozen=True, slots=True)
class AudioIn:
    """A run of audio bytes, cut anywhere."""

    data: bytes
    start_sample: int | None = None
    capture_unix_ns: int = 0


@dataclass(frozen=True, slots=True)
class WirePacket:
    """One codec packet and the samples it stands for, at the codec's rate."""

    data: bytes
    start_sample: int = 0
    samples: int = 0


@dataclass(frozen=True, slots=True)
class PacketsIn:
    """Packets for a decode task, oldest first."""

    packets: tuple[WirePacket, ...]
    task: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """A new target for a separate task."""

    text: str
    task: str = ""


@dataclass(frozen=True, slots=True)
class Marker:
    """Comes back once everything before it has been answered."""

    id: int
    client_ns: int = 0
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Credit:
    """Permission to send up to a sample index; grants never shrink."""

    until_sample: int


@dataclass(frozen=True, slots=True)
class LossReport:
    """What the receiver of encoded packets lost since its last report."""

    lost: float
    mean_burst: float = 0.0
    task: str = ""


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """The client holds every response before checkpoint ``number``."""

    number: int


@dataclass(frozen=True, slots=True)
class End:
    """No more input."""


Request = Config | AudioIn | PacketsIn | Query | Marker | Credit | End | LossReport | Acknowledge


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
class StreamLimits:
    """The limits a client has to live with."""

    max_message_bytes: int = 0
    idle_s: int = 0
    max_duration_s: int = 0
    ring_ms: int = 0
    output_ms: int = 0


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


@dataclass(frozen=True, slots=True)
class AudioOut:
    """Samples of one track, encoded."""

    track: str
    data: bytes
    start_sample: int
    samples: int
    channels: int = 1
    discont: bool = False


@dataclass(frozen=True, slots=True)
class PacketsOut:
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


@dataclass(slots=True)
class Response:
    """One answer: a body, the task it belongs to and the ledger of the hop that caused it."""

    body: Body
    task: str = ""
    seq: int = 0  # dense per task from 1; 0 for answers outside the task's own sequence
    ledger: Ledger | None = None
    ready_ns: int = 0  # monotonic time at which the engine let go of it; post time runs from here


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
