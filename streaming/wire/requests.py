"""Requests, in both directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from ossicle.runtime.errors import WireError
from ossicle.streaming import messages as m
from ossicle.streaming.proto import ossicle_pb2 as pb
from ossicle.streaming.wire.basics import (
    MAX_QUERY,
    packets_from_pb,
    packets_to_pb,
    short,
    texts_of,
)
from ossicle.streaming.wire.config import config_from_pb, config_to_pb


def _query_from_pb(query: pb.Query) -> m.Query:
    return m.Query(
        short(query.text, "query.text", MAX_QUERY),
        short(query.task, "query.task"),
        query.depth if query.HasField("depth") else None,
        texts_of(query.texts, "query.texts"),
    )


_REQUEST_FROM: dict[str, Callable[[Any], m.Request]] = {
    "config": config_from_pb,
    "packets": lambda p: m.PacketsIn(packets_from_pb(p.packets), short(p.task, "packets.task")),
    "query": _query_from_pb,
    "marker": lambda k: m.Marker(k.id, k.client_ns),
    "credit": lambda c: m.Credit(c.until_sample),
    "end": lambda _: m.End(),
    "loss": lambda r: m.LossReport(r.lost, r.mean_burst, short(r.task, "loss.task")),
    "acknowledge": lambda a: m.Acknowledge(a.number),
}


def request_from_pb(request: pb.StreamRequest) -> m.Request:
    """Return what a client asked for.

    Raises:
        WireError: an empty request, or values no server can take.
    """
    kind = request.WhichOneof("request")
    if kind == "audio":  # nearly always: the shortest way
        audio = request.audio
        start = audio.start_sample
        given = start or audio.HasField("start_sample")
        return m.AudioIn(audio.data, start if given else None, audio.capture_unix_ns)
    if kind is None:
        raise WireError(
            "a request without content; is the client newer than this server?", field="request"
        )
    return _REQUEST_FROM[kind](getattr(request, kind))


def request_from_bytes(data: bytes) -> m.Request:
    """Return what serialised bytes ask for.

    Raises:
        WireError: bytes that are no request.
    """
    try:
        request = pb.StreamRequest.FromString(data)
    except DecodeError as error:
        raise WireError(f"{len(data)} bytes that are no StreamRequest: {error}") from None
    return request_from_pb(request)


def request_to_pb(request: m.Request) -> pb.StreamRequest:
    """Return a request for the wire."""
    match request:
        case m.AudioIn(data, start, capture):
            audio = pb.Audio(data=data, capture_unix_ns=capture)
            if start is not None:
                audio.start_sample = start
            return pb.StreamRequest(audio=audio)
        case m.Config():
            return pb.StreamRequest(config=config_to_pb(request))
        case m.PacketsIn(packets, task):
            return pb.StreamRequest(packets=pb.Packets(task=task, packets=packets_to_pb(packets)))
        case m.Query(text, task, depth, texts):
            query = pb.Query(task=task, text=text, texts=texts)
            if depth is not None:
                query.depth = depth
            return pb.StreamRequest(query=query)
        case m.Marker(id, client_ns):
            return pb.StreamRequest(marker=pb.Marker(id=id, client_ns=client_ns))
        case m.Credit(until):
            return pb.StreamRequest(credit=pb.Credit(until_sample=until))
        case m.LossReport(lost, burst, task):
            return pb.StreamRequest(loss=pb.LossReport(task=task, lost=lost, mean_burst=burst))
        case m.Acknowledge(number):
            return pb.StreamRequest(acknowledge=pb.Acknowledge(number=number))
        case m.End():
            return pb.StreamRequest(end=pb.End())


# ------------------------------------------------------------------------------- responses
