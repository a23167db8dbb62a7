"""What a client says: a config, then audio or packets, then the end.

What comes fifty times a second is a struct and not a dataclass: it is made several times faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ossicle.runtime.budget import LatencyClass

KINDS = ("caption", "encode", "decode", "separate", "enhance")
ENCODINGS = ("pcm_s16", "pcm_f32", "mu_law", "a_law", "flac", "ogg_opus")
PACES = ("live", "file")


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the overload ladder; what ``value`` means depends on the kind."""

    kind: str  # "fewer_layers" | "smaller_model" | "longer_interval" | "bypass"
    value: int = 0
    model: str = ""  # of smaller_model: the bundle


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


class AudioIn(msgspec.Struct, frozen=True, gc=False):
    """A run of audio bytes, cut anywhere."""

    data: bytes
    start_sample: int | None = None
    capture_unix_ns: int = 0


class WirePacket(msgspec.Struct, frozen=True, gc=False):
    """One codec packet and the samples it stands for, at the codec's rate."""

    data: bytes
    start_sample: int = 0
    samples: int = 0


class PacketsIn(msgspec.Struct, frozen=True):
    """Packets for a decode task, oldest first."""

    packets: tuple[WirePacket, ...]
    task: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """A new target or depth for a separate task; what is not given stays as it was."""

    text: str = ""
    task: str = ""
    depth: float | None = None  # 0 (the input) to 1 (only what was asked for)
    texts: tuple[str, ...] = ()  # instead of ``text``: one for each track of the task


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
