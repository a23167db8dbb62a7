"""What several messages share: names of enum values, ledgers, limits, packets."""

from __future__ import annotations

from typing import Any

from ossicle.runtime.budget import LatencyClass, Ledger
from ossicle.runtime.errors import WireError
from ossicle.streaming import messages as m
from ossicle.streaming.proto import ossicle_pb2 as pb

ENCODINGS = ("", *m.ENCODINGS)  # by enum number
CLASSES: tuple[LatencyClass | None, ...] = (None, *LatencyClass)
CLASS_NUMBER = {c: i for i, c in enumerate(CLASSES)}
RUNGS = ("", "fewer_layers", "smaller_model", "longer_interval", "bypass")  # by enum number
U32 = 2**32 - 1
MAX_NAME = 64
MAX_QUERY = 1000
MAX_QUERIES = 16


def choice(names: tuple[Any, ...], number: int, field: str) -> Any:
    """Return what enum ``number`` stands for.

    Raises:
        WireError: no such number.
    """
    if not 0 <= number < len(names):
        raise WireError(
            f"{field} is {number}; 0 to {len(names) - 1} are known. Is the client newer than this "
            "server?",
            field=field,
        )
    return names[number]


def short(text: str, field: str, limit: int = MAX_NAME) -> str:
    """Return ``text``.

    Raises:
        WireError: it has more than ``limit`` characters.
    """
    if len(text) > limit:
        raise WireError(f"{field} of {len(text)} characters; at most {limit} allowed", field=field)
    return text


def texts_of(texts: Any, field: str) -> tuple[str, ...]:
    """Return several queries.

    Raises:
        WireError: more than any model takes at once, or one too long.
    """
    if len(texts) > MAX_QUERIES:
        raise WireError(f"{field} has {len(texts)}; at most {MAX_QUERIES} allowed", field=field)
    return tuple(short(text, f"{field}[{i}]", MAX_QUERY) for i, text in enumerate(texts))


def ledger_to_pb(ledger: Ledger, post_us: int = 0) -> pb.Ledger:
    """Return a ledger for the wire, with ``post_us`` more spent since the engine let go."""
    return pb.Ledger(
        wait_us=min(ledger.wait_us, U32),
        queue_us=min(ledger.queue_us, U32),
        batch_us=min(ledger.batch_us, U32),
        compute_us=min(ledger.compute_us, U32),
        post_us=min(ledger.post_us + post_us, U32),
        algorithmic_samples=min(ledger.algorithmic_samples, U32),
        backlog_ms=ledger.backlog_ms,
    )


def ledger_from_pb(ledger: pb.Ledger) -> Ledger:
    """Return a ledger that came over the wire."""
    return Ledger(
        ledger.wait_us,
        ledger.queue_us,
        ledger.batch_us,
        ledger.compute_us,
        ledger.post_us,
        ledger.algorithmic_samples,
        ledger.backlog_ms,
    )


def packets_from_pb(packets: Any) -> tuple[m.WirePacket, ...]:
    """Return codec packets."""
    return tuple([m.WirePacket(p.data, p.start_sample, p.samples) for p in packets])


def packets_to_pb(packets: tuple[m.WirePacket, ...]) -> list[pb.Packet]:
    """Return codec packets for the wire."""
    return [pb.Packet(data=p.data, start_sample=p.start_sample, samples=p.samples) for p in packets]


def limits_to_pb(limits: m.StreamLimits) -> pb.Limits:
    """Return the limits of streams for the wire."""
    return pb.Limits(
        max_message_bytes=limits.max_message_bytes,
        idle_s=limits.idle_s,
        max_duration_s=limits.max_duration_s,
        ring_ms=limits.ring_ms,
        output_ms=limits.output_ms,
    )


def limits_from_pb(limits: pb.Limits) -> m.StreamLimits:
    """Return the limits of streams."""
    return m.StreamLimits(
        limits.max_message_bytes,
        limits.idle_s,
        limits.max_duration_s,
        limits.ring_ms,
        limits.output_ms,
    )
