"""Answers, in both directions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from ossicle.runtime.errors import WireError
from ossicle.streaming import messages as m
from ossicle.streaming.proto import ossicle_pb2 as pb
from ossicle.streaming.wire.basics import (
    ledger_from_pb,
    ledger_to_pb,
    packets_from_pb,
    packets_to_pb,
)
from ossicle.streaming.wire.cue import cue_from_pb, cue_to_pb
from ossicle.streaming.wire.ends import ended_from_pb, ended_to_pb, started_from_pb, started_to_pb


def _audio_out_to_pb(a: m.AudioOut) -> pb.AudioOut:
    return pb.AudioOut(
        track=a.track,
        data=a.data,
        start_sample=a.start_sample,
        samples=a.samples,
        channels=a.channels,
        discont=a.discont,
    )


def packets_out_to_pb(p: m.PacketsOut) -> pb.PacketsOut:
    """Return encoded packets for the wire."""
    return pb.PacketsOut(
        packets=packets_to_pb(p.packets), sample_rate_hz=p.sample_rate_hz, layers=p.layers
    )


_BODY_TO: dict[type, tuple[str, Callable[[Any], Any]]] = {
    m.AudioOut: ("audio", _audio_out_to_pb),
    m.PacketsOut: ("packets", packets_out_to_pb),
    m.Started: ("started", started_to_pb),
    m.Ended: ("ended", ended_to_pb),
    m.Gap: ("gap", lambda g: gap_to_pb(g)),
    m.Notice: (
        "notice",
        lambda n: pb.Notice(kind=n.kind, text=n.text, fields=dict(n.fields)),
    ),
    m.Marker: ("marker", lambda k: pb.Marker(id=k.id, client_ns=k.client_ns, sample=k.sample)),
    m.Checkpoint: (
        "checkpoint",
        lambda c: pb.Checkpoint(number=c.number, token=c.token, sample=c.sample, packets=c.packets),
    ),
    m.Credit: ("credit", lambda c: pb.Credit(until_sample=c.until_sample)),
}


def gap_to_pb(gap: m.Gap) -> pb.Gap:
    """Return a gap for the wire."""
    return pb.Gap(
        start_sample=gap.start_sample,
        stop_sample=gap.stop_sample,
        reason=gap.reason,
        track=gap.track,
    )


def response_to_pb(response: m.Response) -> pb.StreamResponse:
    """Return an answer for the wire; the time it waited here is added to its ledger's ``post``."""
    name, convert = _BODY_TO.get(type(response.body), ("cue", cue_to_pb))
    fields: dict[str, Any] = {name: convert(response.body)}
    if response.ledger is not None:
        spent = (time.monotonic_ns() - response.ready_ns) // 1000 if response.ready_ns else 0
        fields["ledger"] = ledger_to_pb(response.ledger, max(0, spent))
    return pb.StreamResponse(task=response.task, seq=response.seq, **fields)


_BODY_FROM: dict[str, Callable[[Any], Any]] = {
    "audio": lambda a: m.AudioOut(
        a.track, a.data, a.start_sample, a.samples, a.channels, a.discont
    ),
    "packets": lambda p: m.PacketsOut(packets_from_pb(p.packets), p.sample_rate_hz, p.layers),
    "cue": cue_from_pb,
    "started": started_from_pb,
    "ended": ended_from_pb,
    "gap": lambda g: m.Gap(g.start_sample, g.stop_sample, g.reason, g.track),
    "notice": lambda n: m.Notice(n.kind, n.text, dict(n.fields)),
    "marker": lambda k: m.Marker(k.id, k.client_ns, k.sample),
    "checkpoint": lambda c: m.Checkpoint(c.number, c.token, c.sample, c.packets),
    "credit": lambda c: m.Credit(c.until_sample),
}


def response_from_pb(response: pb.StreamResponse) -> m.Response:
    """Return what a server answered.

    Raises:
        WireError: an answer of a kind this client does not know.
    """
    kind = response.WhichOneof("response")
    if kind is None:
        raise WireError("an answer without content; is the server newer than this client?")
    ledger = ledger_from_pb(response.ledger) if response.HasField("ledger") else None
    body = _BODY_FROM[kind](getattr(response, kind))
    return m.Response(body, response.task, response.seq, ledger)


def response_from_bytes(data: bytes) -> m.Response:
    """Return what a server's bytes say.

    Raises:
        WireError: bytes that are no answer, or one of a kind this client does not know.
    """
    try:
        response = pb.StreamResponse.FromString(data)
    except DecodeError as error:
        raise WireError(f"{len(data)} bytes that are no StreamResponse: {error}") from None
    return response_from_pb(response)
