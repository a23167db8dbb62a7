"""What one stream that is being encoded remembers."""

from __future__ import annotations

from dataclasses import dataclass, field

from ossicle.runtime import snapshot
from ossicle.runtime.audio import Samples
from ossicle.streaming.codec.noise import SilenceState
from ossicle.streaming.codec.rate import Plan, RateState
from ossicle.streaming.codec.sender import SenderState


@snapshot.record("codec.Pending")
@dataclass(slots=True)
class Pending:
    """What is known of a hop that the model has not encoded yet."""

    frames: int = 1  # of it that are sent
    skip_to: int = -1  # frame that it is, where frames before it were never heard
    noise_level: int = -1  # it need not be sent: what it sounds like
    noise_bands: tuple[int, ...] = ()
    layers: int = 0  # that the model searches for it; 0: all


@snapshot.record("codec.EncodeState")
@dataclass(slots=True)
class EncodeState:
    """One stream that is being encoded."""

    sender: SenderState
    rate: RateState
    silence: SilenceState
    plan: Plan
    held: Samples  # [C, T < hop] of the hop that is filling
    layers: int = 0  # fixed by the caller; 0: by rate
    origin: int = -1  # index of the first sample; -1: nothing came
    fed: int = 0  # samples since then, gaps included
    hops: int = 0  # hops that went to the model, gaps included
    skip: bool = False  # the next hop comes after a gap
    pending: list[Pending] = field(default_factory=list)
    packets: int = 0
    packet_bytes: int = 0
    payload_bits: int = 0
    ended: bool = False
    asked: int = 0  # layers that the model searches from the last hop on; 0: all
