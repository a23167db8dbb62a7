# mypy: ignore-errors
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Encoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENCODING_UNSPECIFIED: _ClassVar[Encoding]
    PCM_S16: _ClassVar[Encoding]
    PCM_F32: _ClassVar[Encoding]
    MU_LAW: _ClassVar[Encoding]
    A_LAW: _ClassVar[Encoding]
    FLAC: _ClassVar[Encoding]
    OGG_OPUS: _ClassVar[Encoding]

class LatencyClass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LATENCY_CLASS_UNSPECIFIED: _ClassVar[LatencyClass]
    HEARING: _ClassVar[LatencyClass]
    TALK: _ClassVar[LatencyClass]
    CAPTION: _ClassVar[LatencyClass]
    OFFLINE: _ClassVar[LatencyClass]

class Pace(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PACE_UNSPECIFIED: _ClassVar[Pace]
    LIVE: _ClassVar[Pace]
    FILE: _ClassVar[Pace]
ENCODING_UNSPECIFIED: Encoding
PCM_S16: Encoding
PCM_F32: Encoding
MU_LAW: Encoding
A_LAW: Encoding
FLAC: Encoding
OGG_OPUS: Encoding
LATENCY_CLASS_UNSPECIFIED: LatencyClass
HEARING: LatencyClass
TALK: LatencyClass
CAPTION: LatencyClass
OFFLINE: LatencyClass
PACE_UNSPECIFIED: Pace
LIVE: Pace
FILE: Pace

class StreamRequest(_message.Message):
    __slots__ = ("config", "audio", "packets", "query", "marker", "credit", "end", "loss", "acknowledge")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    PACKETS_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    MARKER_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGE_FIELD_NUMBER: _ClassVar[int]
    config: Config
    audio: Audio
    packets: Packets
    query: Query
    marker: Marker
    credit: Credit
    end: End
    loss: LossReport
    acknowledge: Acknowledge
    def __init__(self, config: _Optional[_Union[Config, _Mapping]] = ..., audio: _Optional[_Union[Audio, _Mapping]] = ..., packets: _Optional[_Union[Packets, _Mapping]] = ..., query: _Optional[_Union[Query, _Mapping]] = ..., marker: _Optional[_Union[Marker, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., end: _Optional[_Union[End, _Mapping]] = ..., loss: _Optional[_Union[LossReport, _Mapping]] = ..., acknowledge: _Optional[_Union[Acknowledge, _Mapping]] = ...) -> None: ...

class Config(_message.Message):
    __slots__ = ("sample_rate_hz", "channels", "encoding", "tasks", "pace", "output_encoding", "output_rate_hz", "credit_ms", "resume_token", "capture_unix_ns", "client", "checkpoints")
    SAMPLE_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    PACE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_ENCODING_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    CREDIT_MS_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    sample_rate_hz: int
    channels: int
    encoding: Encoding
    tasks: _containers.RepeatedCompositeFieldContainer[Task]
    pace: Pace
    output_encoding: Encoding
    output_rate_hz: int
    credit_ms: int
    resume_token: bytes
    capture_unix_ns: int
    client: str
    checkpoints: bool
    def __init__(self, sample_rate_hz: _Optional[int] = ..., channels: _Optional[int] = ..., encoding: _Optional[_Union[Encoding, str]] = ..., tasks: _Optional[_Iterable[_Union[Task, _Mapping]]] = ..., pace: _Optional[_Union[Pace, str]] = ..., output_encoding: _Optional[_Union[Encoding, str]] = ..., output_rate_hz: _Optional[int] = ..., credit_ms: _Optional[int] = ..., resume_token: _Optional[bytes] = ..., capture_unix_ns: _Optional[int] = ..., client: _Optional[str] = ..., checkpoints: bool = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("name", "model", "latency_class", "deadline_ms", "ladder", "caption", "encode", "decode", "separate", "enhance")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LATENCY_CLASS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    LADDER_FIELD_NUMBER: _ClassVar[int]
    CAPTION_FIELD_NUMBER: _ClassVar[int]
    ENCODE_FIELD_NUMBER: _ClassVar[int]
    DECODE_FIELD_NUMBER: _ClassVar[int]
    SEPARATE_FIELD_NUMBER: _ClassVar[int]
    ENHANCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    latency_class: LatencyClass
    deadline_ms: int
    ladder: _containers.RepeatedCompositeFieldContainer[Step]
    caption: CaptionOptions
    encode: EncodeOptions
    decode: DecodeOptions
    separate: SeparateOptions
    enhance: EnhanceOptions
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., latency_class: _Optional[_Union[LatencyClass, str]] = ..., deadline_ms: _Optional[int] = ..., ladder: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., caption: _Optional[_Union[CaptionOptions, _Mapping]] = ..., encode: _Optional[_Union[EncodeOptions, _Mapping]] = ..., decode: _Optional[_Union[DecodeOptions, _Mapping]] = ..., separate: _Optional[_Union[SeparateOptions, _Mapping]] = ..., enhance: _Optional[_Union[EnhanceOptions, _Mapping]] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("kind", "value", "model")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Step.Kind]
        FEWER_LAYERS: _ClassVar[Step.Kind]
        SMALLER_MODEL: _ClassVar[Step.Kind]
        LONGER_INTERVAL: _ClassVar[Step.Kind]
        BYPASS: _ClassVar[Step.Kind]
    KIND_UNSPECIFIED: Step.Kind
    FEWER_LAYERS: Step.Kind
    SMALLER_MODEL: Step.Kind
    LONGER_INTERVAL: Step.Kind
    BYPASS: Step.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    kind: Step.Kind
    value: int
    model: str
    def __init__(self, kind: _Optional[_Union[Step.Kind, str]] = ..., value: _Optional[int] = ..., model: _Optional[str] = ...) -> None: ...

class CaptionOptions(_message.Message):
    __slots__ = ("finals_only", "min_score", "language", "no_heartbeat", "labels", "alerts_only", "style", "decoder")
    FINALS_ONLY_FIELD_NUMBER: _ClassVar[int]
    MIN_SCORE_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    NO_HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ALERTS_ONLY_FIELD_NUMBER: _ClassVar[int]
    STYLE_FIELD_NUMBER: _ClassVar[int]
    DECODER_FIELD_NUMBER: _ClassVar[int]
    finals_only: bool
    min_score: float
    language: str
    no_heartbeat: bool
    labels: _containers.RepeatedScalarFieldContainer[str]
    alerts_only: bool
    style: str
    decoder: str
    def __init__(self, finals_only: bool = ..., min_score: _Optional[float] = ..., language: _Optional[str] = ..., no_heartbeat: bool = ..., labels: _Optional[_Iterable[str]] = ..., alerts_only: bool = ..., style: _Optional[str] = ..., decoder: _Optional[str] = ...) -> None: ...

class EncodeOptions(_message.Message):
    __slots__ = ("kbps", "frames_per_packet", "dtx", "layers", "budget_ms", "wire")
    KBPS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_PER_PACKET_FIELD_NUMBER: _ClassVar[int]
    DTX_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    WIRE_FIELD_NUMBER: _ClassVar[int]
    kbps: float
    frames_per_packet: int
    dtx: bool
    layers: int
    budget_ms: int
    wire: str
    def __init__(self, kbps: _Optional[float] = ..., frames_per_packet: _Optional[int] = ..., dtx: bool = ..., layers: _Optional[int] = ..., budget_ms: _Optional[int] = ..., wire: _Optional[str] = ...) -> None: ...

class DecodeOptions(_message.Message):
    __slots__ = ("layers", "delay_frames", "samples")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    DELAY_FRAMES_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    layers: int
    delay_frames: int
    samples: int
    def __init__(self, layers: _Optional[int] = ..., delay_frames: _Optional[int] = ..., samples: _Optional[int] = ...) -> None: ...

class SeparateOptions(_message.Message):
    __slots__ = ("query", "depth", "keep_alarms", "queries")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    KEEP_ALARMS_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    query: str
    depth: float
    keep_alarms: bool
    queries: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, query: _Optional[str] = ..., depth: _Optional[float] = ..., keep_alarms: bool = ..., queries: _Optional[_Iterable[str]] = ...) -> None: ...

class EnhanceOptions(_message.Message):
    __slots__ = ("depth", "drop_alarms")
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    DROP_ALARMS_FIELD_NUMBER: _ClassVar[int]
    depth: float
    drop_alarms: bool
    def __init__(self, depth: _Optional[float] = ..., drop_alarms: bool = ...) -> None: ...

class Audio(_message.Message):
    __slots__ = ("data", "start_sample", "capture_unix_ns")
    DATA_FIELD_NUMBER: _ClassVar[int]
    START_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    start_sample: int
    capture_unix_ns: int
    def __init__(self, data: _Optional[bytes] = ..., start_sample: _Optional[int] = ..., capture_unix_ns: _Optional[int] = ...) -> None: ...

class Packets(_message.Message):
    __slots__ = ("task", "packets")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PACKETS_FIELD_NUMBER: _ClassVar[int]
    task: str
    packets: _containers.RepeatedCompositeFieldContainer[Packet]
    def __init__(self, task: _Optional[str] = ..., packets: _Optional[_Iterable[_Union[Packet, _Mapping]]] = ...) -> None: ...

class Packet(_message.Message):
    __slots__ = ("data", "start_sample", "samples")
    DATA_FIELD_NUMBER: _ClassVar[int]
    START_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    start_sample: int
    samples: int
    def __init__(self, data: _Optional[bytes] = ..., start_sample: _Optional[int] = ..., samples: _Optional[int] = ...) -> None: ...

class Query(_message.Message):
    __slots__ = ("task", "text", "depth", "texts")
    TASK_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    task: str
    text: str
    depth: float
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, task: _Optional[str] = ..., text: _Optional[str] = ..., depth: _Optional[float] = ..., texts: _Optional[_Iterable[str]] = ...) -> None: ...

class Marker(_message.Message):
    __slots__ = ("id", "client_ns", "sample")
    ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_NS_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    id: int
    client_ns: int
    sample: int
    def __init__(self, id: _Optional[int] = ..., client_ns: _Optional[int] = ..., sample: _Optional[int] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("until_sample",)
    UNTIL_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    until_sample: int
    def __init__(self, until_sample: _Optional[int] = ...) -> None: ...

class LossReport(_message.Message):
    __slots__ = ("task", "lost", "mean_burst")
    TASK_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    MEAN_BURST_FIELD_NUMBER: _ClassVar[int]
    task: str
    lost: float
    mean_burst: float
    def __init__(self, task: _Optional[str] = ..., lost: _Optional[float] = ..., mean_burst: _Optional[float] = ...) -> None: ...

class Acknowledge(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class End(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StreamResponse(_message.Message):
    __slots__ = ("started", "cue", "audio", "packets", "gap", "notice", "marker", "ended", "checkpoint", "credit", "ledger", "task", "seq")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    CUE_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    PACKETS_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    MARKER_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    started: Started
    cue: Cue
    audio: AudioOut
    packets: PacketsOut
    gap: Gap
    notice: Notice
    marker: Marker
    ended: Ended
    checkpoint: Checkpoint
    credit: Credit
    ledger: Ledger
    task: str
    seq: int
    def __init__(self, started: _Optional[_Union[Started, _Mapping]] = ..., cue: _Optional[_Union[Cue, _Mapping]] = ..., audio: _Optional[_Union[AudioOut, _Mapping]] = ..., packets: _Optional[_Union[PacketsOut, _Mapping]] = ..., gap: _Optional[_Union[Gap, _Mapping]] = ..., notice: _Optional[_Union[Notice, _Mapping]] = ..., marker: _Optional[_Union[Marker, _Mapping]] = ..., ended: _Optional[_Union[Ended, _Mapping]] = ..., checkpoint: _Optional[_Union[Checkpoint, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., ledger: _Optional[_Union[Ledger, _Mapping]] = ..., task: _Optional[str] = ..., seq: _Optional[int] = ...) -> None: ...

class Ledger(_message.Message):
    __slots__ = ("wait_us", "queue_us", "batch_us", "compute_us", "post_us", "algorithmic_samples", "backlog_ms")
    WAIT_US_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    BATCH_US_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_US_FIELD_NUMBER: _ClassVar[int]
    POST_US_FIELD_NUMBER: _ClassVar[int]
    ALGORITHMIC_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_MS_FIELD_NUMBER: _ClassVar[int]
    wait_us: int
    queue_us: int
    batch_us: int
    compute_us: int
    post_us: int
    algorithmic_samples: int
    backlog_ms: float
    def __init__(self, wait_us: _Optional[int] = ..., queue_us: _Optional[int] = ..., batch_us: _Optional[int] = ..., compute_us: _Optional[int] = ..., post_us: _Optional[int] = ..., algorithmic_samples: _Optional[int] = ..., backlog_ms: _Optional[float] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("session", "sample_rate_hz", "channels", "output_rate_hz", "output_encoding", "tasks", "resume_token", "resumed", "acknowledged_sample", "limits", "capacity_used", "acknowledged_packets")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_ENCODING_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_USED_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_PACKETS_FIELD_NUMBER: _ClassVar[int]
    session: str
    sample_rate_hz: int
    channels: int
    output_rate_hz: int
    output_encoding: Encoding
    tasks: _containers.RepeatedCompositeFieldContainer[TaskStarted]
    resume_token: bytes
    resumed: bool
    acknowledged_sample: int
    limits: Limits
    capacity_used: float
    acknowledged_packets: int
    def __init__(self, session: _Optional[str] = ..., sample_rate_hz: _Optional[int] = ..., channels: _Optional[int] = ..., output_rate_hz: _Optional[int] = ..., output_encoding: _Optional[_Union[Encoding, str]] = ..., tasks: _Optional[_Iterable[_Union[TaskStarted, _Mapping]]] = ..., resume_token: _Optional[bytes] = ..., resumed: bool = ..., acknowledged_sample: _Optional[int] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., capacity_used: _Optional[float] = ..., acknowledged_packets: _Optional[int] = ...) -> None: ...

class TaskStarted(_message.Message):
    __slots__ = ("name", "kind", "model", "model_version", "model_rate_hz", "hop_samples", "lookahead_samples", "latency_samples", "latency_class", "deadline_ms", "kbps", "codec_identity", "books", "delay_samples")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    HOP_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    LOOKAHEAD_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    LATENCY_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    LATENCY_CLASS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    KBPS_FIELD_NUMBER: _ClassVar[int]
    CODEC_IDENTITY_FIELD_NUMBER: _ClassVar[int]
    BOOKS_FIELD_NUMBER: _ClassVar[int]
    DELAY_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    model: str
    model_version: str
    model_rate_hz: int
    hop_samples: int
    lookahead_samples: int
    latency_samples: int
    latency_class: LatencyClass
    deadline_ms: int
    kbps: float
    codec_identity: bytes
    books: _containers.RepeatedScalarFieldContainer[int]
    delay_samples: int
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., model: _Optional[str] = ..., model_version: _Optional[str] = ..., model_rate_hz: _Optional[int] = ..., hop_samples: _Optional[int] = ..., lookahead_samples: _Optional[int] = ..., latency_samples: _Optional[int] = ..., latency_class: _Optional[_Union[LatencyClass, str]] = ..., deadline_ms: _Optional[int] = ..., kbps: _Optional[float] = ..., codec_identity: _Optional[bytes] = ..., books: _Optional[_Iterable[int]] = ..., delay_samples: _Optional[int] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_message_bytes", "idle_s", "max_duration_s", "ring_ms", "output_ms")
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    IDLE_S_FIELD_NUMBER: _ClassVar[int]
    MAX_DURATION_S_FIELD_NUMBER: _ClassVar[int]
    RING_MS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_MS_FIELD_NUMBER: _ClassVar[int]
    max_message_bytes: int
    idle_s: int
    max_duration_s: int
    ring_ms: int
    output_ms: int
    def __init__(self, max_message_bytes: _Optional[int] = ..., idle_s: _Optional[int] = ..., max_duration_s: _Optional[int] = ..., ring_ms: _Optional[int] = ..., output_ms: _Optional[int] = ...) -> None: ...

class Cue(_message.Message):
    __slots__ = ("seq", "cue_id", "revision", "op", "kind", "text", "stable_chars", "is_final", "stability", "sample_rate_hz", "start_sample", "end_sample", "end_open", "display_start_ms", "display_end_ms", "audio_seen_sample", "labels", "relations", "priority", "language", "model")
    class Op(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OP_UNSPECIFIED: _ClassVar[Cue.Op]
        OPEN: _ClassVar[Cue.Op]
        UPDATE: _ClassVar[Cue.Op]
        CLOSE: _ClassVar[Cue.Op]
        RETRACT: _ClassVar[Cue.Op]
        HEARTBEAT: _ClassVar[Cue.Op]
    OP_UNSPECIFIED: Cue.Op
    OPEN: Cue.Op
    UPDATE: Cue.Op
    CLOSE: Cue.Op
    RETRACT: Cue.Op
    HEARTBEAT: Cue.Op
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Cue.Kind]
        SOUND: _ClassVar[Cue.Kind]
        SCENE: _ClassVar[Cue.Kind]
        MUSIC: _ClassVar[Cue.Kind]
        SPEECH: _ClassVar[Cue.Kind]
        SYSTEM: _ClassVar[Cue.Kind]
    KIND_UNSPECIFIED: Cue.Kind
    SOUND: Cue.Kind
    SCENE: Cue.Kind
    MUSIC: Cue.Kind
    SPEECH: Cue.Kind
    SYSTEM: Cue.Kind
    class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PRIORITY_UNSPECIFIED: _ClassVar[Cue.Priority]
        AMBIENT: _ClassVar[Cue.Priority]
        NOTABLE: _ClassVar[Cue.Priority]
        ALERT: _ClassVar[Cue.Priority]
    PRIORITY_UNSPECIFIED: Cue.Priority
    AMBIENT: Cue.Priority
    NOTABLE: Cue.Priority
    ALERT: Cue.Priority
    SEQ_FIELD_NUMBER: _ClassVar[int]
    CUE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    OP_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    STABLE_CHARS_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    STABILITY_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    START_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    END_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    END_OPEN_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_START_MS_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_END_MS_FIELD_NUMBER: _ClassVar[int]
    AUDIO_SEEN_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    RELATIONS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    seq: int
    cue_id: int
    revision: int
    op: Cue.Op
    kind: Cue.Kind
    text: str
    stable_chars: int
    is_final: bool
    stability: float
    sample_rate_hz: int
    start_sample: int
    end_sample: int
    end_open: bool
    display_start_ms: int
    display_end_ms: int
    audio_seen_sample: int
    labels: _containers.RepeatedCompositeFieldContainer[Label]
    relations: _containers.RepeatedCompositeFieldContainer[Relation]
    priority: Cue.Priority
    language: str
    model: str
    def __init__(self, seq: _Optional[int] = ..., cue_id: _Optional[int] = ..., revision: _Optional[int] = ..., op: _Optional[_Union[Cue.Op, str]] = ..., kind: _Optional[_Union[Cue.Kind, str]] = ..., text: _Optional[str] = ..., stable_chars: _Optional[int] = ..., is_final: bool = ..., stability: _Optional[float] = ..., sample_rate_hz: _Optional[int] = ..., start_sample: _Optional[int] = ..., end_sample: _Optional[int] = ..., end_open: bool = ..., display_start_ms: _Optional[int] = ..., display_end_ms: _Optional[int] = ..., audio_seen_sample: _Optional[int] = ..., labels: _Optional[_Iterable[_Union[Label, _Mapping]]] = ..., relations: _Optional[_Iterable[_Union[Relation, _Mapping]]] = ..., priority: _Optional[_Union[Cue.Priority, str]] = ..., language: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class Label(_message.Message):
    __slots__ = ("class_id", "name", "score", "onset_sample", "offset_sample")
    CLASS_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    ONSET_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    class_id: int
    name: str
    score: float
    onset_sample: int
    offset_sample: int
    def __init__(self, class_id: _Optional[int] = ..., name: _Optional[str] = ..., score: _Optional[float] = ..., onset_sample: _Optional[int] = ..., offset_sample: _Optional[int] = ...) -> None: ...

class Relation(_message.Message):
    __slots__ = ("kind", "cue_id")
    KIND_FIELD_NUMBER: _ClassVar[int]
    CUE_ID_FIELD_NUMBER: _ClassVar[int]
    kind: str
    cue_id: int
    def __init__(self, kind: _Optional[str] = ..., cue_id: _Optional[int] = ...) -> None: ...

class AudioOut(_message.Message):
    __slots__ = ("track", "data", "start_sample", "samples", "channels", "discont")
    TRACK_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    START_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    DISCONT_FIELD_NUMBER: _ClassVar[int]
    track: str
    data: bytes
    start_sample: int
    samples: int
    channels: int
    discont: bool
    def __init__(self, track: _Optional[str] = ..., data: _Optional[bytes] = ..., start_sample: _Optional[int] = ..., samples: _Optional[int] = ..., channels: _Optional[int] = ..., discont: bool = ...) -> None: ...

class PacketsOut(_message.Message):
    __slots__ = ("packets", "sample_rate_hz", "layers")
    PACKETS_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    packets: _containers.RepeatedCompositeFieldContainer[Packet]
    sample_rate_hz: int
    layers: int
    def __init__(self, packets: _Optional[_Iterable[_Union[Packet, _Mapping]]] = ..., sample_rate_hz: _Optional[int] = ..., layers: _Optional[int] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("start_sample", "stop_sample", "reason", "track")
    START_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    STOP_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TRACK_FIELD_NUMBER: _ClassVar[int]
    start_sample: int
    stop_sample: int
    reason: str
    track: str
    def __init__(self, start_sample: _Optional[int] = ..., stop_sample: _Optional[int] = ..., reason: _Optional[str] = ..., track: _Optional[str] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("kind", "text", "fields")
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    text: str
    fields: _containers.ScalarMap[str, str]
    def __init__(self, kind: _Optional[str] = ..., text: _Optional[str] = ..., fields: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("number", "token", "sample", "packets")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    PACKETS_FIELD_NUMBER: _ClassVar[int]
    number: int
    token: bytes
    sample: int
    packets: int
    def __init__(self, number: _Optional[int] = ..., token: _Optional[bytes] = ..., sample: _Optional[int] = ..., packets: _Optional[int] = ...) -> None: ...

class Ended(_message.Message):
    __slots__ = ("samples", "lost_samples", "bytes_in", "bytes_out", "wire_kbps_in", "wire_kbps_out", "tasks", "reason")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    LOST_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    BYTES_IN_FIELD_NUMBER: _ClassVar[int]
    BYTES_OUT_FIELD_NUMBER: _ClassVar[int]
    WIRE_KBPS_IN_FIELD_NUMBER: _ClassVar[int]
    WIRE_KBPS_OUT_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    samples: int
    lost_samples: int
    bytes_in: int
    bytes_out: int
    wire_kbps_in: float
    wire_kbps_out: float
    tasks: _containers.RepeatedCompositeFieldContainer[TaskTotals]
    reason: str
    def __init__(self, samples: _Optional[int] = ..., lost_samples: _Optional[int] = ..., bytes_in: _Optional[int] = ..., bytes_out: _Optional[int] = ..., wire_kbps_in: _Optional[float] = ..., wire_kbps_out: _Optional[float] = ..., tasks: _Optional[_Iterable[_Union[TaskTotals, _Mapping]]] = ..., reason: _Optional[str] = ...) -> None: ...

class TaskTotals(_message.Message):
    __slots__ = ("name", "hops", "misses", "stages", "payload_kbps", "packet_kbps")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HOPS_FIELD_NUMBER: _ClassVar[int]
    MISSES_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_KBPS_FIELD_NUMBER: _ClassVar[int]
    PACKET_KBPS_FIELD_NUMBER: _ClassVar[int]
    name: str
    hops: int
    misses: int
    stages: _containers.RepeatedCompositeFieldContainer[Percentiles]
    payload_kbps: float
    packet_kbps: float
    def __init__(self, name: _Optional[str] = ..., hops: _Optional[int] = ..., misses: _Optional[int] = ..., stages: _Optional[_Iterable[_Union[Percentiles, _Mapping]]] = ..., payload_kbps: _Optional[float] = ..., packet_kbps: _Optional[float] = ...) -> None: ...

class Percentiles(_message.Message):
    __slots__ = ("stage", "p50_ms", "p95_ms", "p99_ms", "p999_ms", "count")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    P50_MS_FIELD_NUMBER: _ClassVar[int]
    P95_MS_FIELD_NUMBER: _ClassVar[int]
    P99_MS_FIELD_NUMBER: _ClassVar[int]
    P999_MS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    stage: str
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    count: int
    def __init__(self, stage: _Optional[str] = ..., p50_ms: _Optional[float] = ..., p95_ms: _Optional[float] = ..., p99_ms: _Optional[float] = ..., p999_ms: _Optional[float] = ..., count: _Optional[int] = ...) -> None: ...

class RecognizeRequest(_message.Message):
    __slots__ = ("config", "audio")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    config: Config
    audio: bytes
    def __init__(self, config: _Optional[_Union[Config, _Mapping]] = ..., audio: _Optional[bytes] = ...) -> None: ...

class RecognizeResponse(_message.Message):
    __slots__ = ("cues", "samples", "totals")
    CUES_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    cues: _containers.RepeatedCompositeFieldContainer[Cue]
    samples: int
    totals: Ended
    def __init__(self, cues: _Optional[_Iterable[_Union[Cue, _Mapping]]] = ..., samples: _Optional[int] = ..., totals: _Optional[_Union[Ended, _Mapping]] = ...) -> None: ...

class ProcessRequest(_message.Message):
    __slots__ = ("config", "audio", "packets")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    PACKETS_FIELD_NUMBER: _ClassVar[int]
    config: Config
    audio: bytes
    packets: _containers.RepeatedCompositeFieldContainer[Packet]
    def __init__(self, config: _Optional[_Union[Config, _Mapping]] = ..., audio: _Optional[bytes] = ..., packets: _Optional[_Iterable[_Union[Packet, _Mapping]]] = ...) -> None: ...

class ProcessResponse(_message.Message):
    __slots__ = ("cues", "tracks", "packets", "gaps", "started", "totals")
    CUES_FIELD_NUMBER: _ClassVar[int]
    TRACKS_FIELD_NUMBER: _ClassVar[int]
    PACKETS_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    cues: _containers.RepeatedCompositeFieldContainer[Cue]
    tracks: _containers.RepeatedCompositeFieldContainer[Track]
    packets: _containers.RepeatedCompositeFieldContainer[PacketsOut]
    gaps: _containers.RepeatedCompositeFieldContainer[Gap]
    started: Started
    totals: Ended
    def __init__(self, cues: _Optional[_Iterable[_Union[Cue, _Mapping]]] = ..., tracks: _Optional[_Iterable[_Union[Track, _Mapping]]] = ..., packets: _Optional[_Iterable[_Union[PacketsOut, _Mapping]]] = ..., gaps: _Optional[_Iterable[_Union[Gap, _Mapping]]] = ..., started: _Optional[_Union[Started, _Mapping]] = ..., totals: _Optional[_Union[Ended, _Mapping]] = ...) -> None: ...

class Track(_message.Message):
    __slots__ = ("task", "track", "data", "samples", "channels")
    TASK_FIELD_NUMBER: _ClassVar[int]
    TRACK_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    task: str
    track: str
    data: bytes
    samples: int
    channels: int
    def __init__(self, task: _Optional[str] = ..., track: _Optional[str] = ..., data: _Optional[bytes] = ..., samples: _Optional[int] = ..., channels: _Optional[int] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: str
    def __init__(self, task: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelInfo]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelInfo, _Mapping]]] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "version", "task", "license", "license_class", "sample_rate_hz", "channels", "hop_samples", "lookahead_samples", "latency_samples", "latency_class", "labels", "loaded")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    LICENSE_FIELD_NUMBER: _ClassVar[int]
    LICENSE_CLASS_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    HOP_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    LOOKAHEAD_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    LATENCY_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    LATENCY_CLASS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    task: str
    license: str
    license_class: str
    sample_rate_hz: int
    channels: int
    hop_samples: int
    lookahead_samples: int
    latency_samples: int
    latency_class: LatencyClass
    labels: _containers.RepeatedScalarFieldContainer[str]
    loaded: bool
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., task: _Optional[str] = ..., license: _Optional[str] = ..., license_class: _Optional[str] = ..., sample_rate_hz: _Optional[int] = ..., channels: _Optional[int] = ..., hop_samples: _Optional[int] = ..., lookahead_samples: _Optional[int] = ..., latency_samples: _Optional[int] = ..., latency_class: _Optional[_Union[LatencyClass, str]] = ..., labels: _Optional[_Iterable[str]] = ..., loaded: bool = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("version", "state", "uptime_s", "streams", "max_streams", "capacity_used", "models", "limits", "streams_total", "misses_total", "gaps_total")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAMS_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_USED_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    STREAMS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    MISSES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    GAPS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    version: str
    state: str
    uptime_s: float
    streams: int
    max_streams: int
    capacity_used: float
    models: _containers.RepeatedCompositeFieldContainer[ModelStatus]
    limits: Limits
    streams_total: int
    misses_total: int
    gaps_total: int
    def __init__(self, version: _Optional[str] = ..., state: _Optional[str] = ..., uptime_s: _Optional[float] = ..., streams: _Optional[int] = ..., max_streams: _Optional[int] = ..., capacity_used: _Optional[float] = ..., models: _Optional[_Iterable[_Union[ModelStatus, _Mapping]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., streams_total: _Optional[int] = ..., misses_total: _Optional[int] = ..., gaps_total: _Optional[int] = ...) -> None: ...

class ModelStatus(_message.Message):
    __slots__ = ("name", "slots_used", "slots_total", "step_costs")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SLOTS_USED_FIELD_NUMBER: _ClassVar[int]
    SLOTS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    STEP_COSTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    slots_used: int
    slots_total: int
    step_costs: _containers.RepeatedCompositeFieldContainer[StepCost]
    def __init__(self, name: _Optional[str] = ..., slots_used: _Optional[int] = ..., slots_total: _Optional[int] = ..., step_costs: _Optional[_Iterable[_Union[StepCost, _Mapping]]] = ...) -> None: ...

class StepCost(_message.Message):
    __slots__ = ("batch", "step_us")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    STEP_US_FIELD_NUMBER: _ClassVar[int]
    batch: int
    step_us: float
    def __init__(self, batch: _Optional[int] = ..., step_us: _Optional[float] = ...) -> None: ...
