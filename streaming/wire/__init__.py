"""The only package that knows protobuf: ``ossicle.v1`` messages to plain values and back.

Four pairs cross here: requests in and out, responses out and in, and the unary calls. A value that
cannot be right for any server (no config kind, a track name of 1 MB) is refused here; what depends
on this server's models and limits is refused by the session.
"""

from ossicle.streaming.wire.basics import (
    ledger_from_pb,
    ledger_to_pb,
    limits_from_pb,
    limits_to_pb,
    packets_from_pb,
    packets_to_pb,
)
from ossicle.streaming.wire.config import (
    config_from_pb,
    config_to_pb,
)
from ossicle.streaming.wire.cue import (
    cue_from_pb,
    cue_to_pb,
)
from ossicle.streaming.wire.ends import (
    ended_from_pb,
    ended_to_pb,
    started_from_pb,
    started_to_pb,
)
from ossicle.streaming.wire.forms import RequestWriter, ResponseWriter
from ossicle.streaming.wire.requests import (
    request_from_bytes,
    request_from_pb,
    request_to_pb,
)
from ossicle.streaming.wire.responses import (
    gap_to_pb,
    packets_out_to_pb,
    response_from_bytes,
    response_from_pb,
    response_to_pb,
)
from ossicle.streaming.wire.status import (
    model_from_pb,
    model_to_pb,
    status_from_pb,
    status_to_pb,
)

__all__ = [
    "RequestWriter",
    "ResponseWriter",
    "config_from_pb",
    "config_to_pb",
    "cue_from_pb",
    "cue_to_pb",
    "ended_from_pb",
    "ended_to_pb",
    "gap_to_pb",
    "ledger_from_pb",
    "ledger_to_pb",
    "limits_from_pb",
    "limits_to_pb",
    "model_from_pb",
    "model_to_pb",
    "packets_from_pb",
    "packets_out_to_pb",
    "packets_to_pb",
    "request_from_bytes",
    "request_from_pb",
    "request_to_pb",
    "response_from_bytes",
    "response_from_pb",
    "response_to_pb",
    "started_from_pb",
    "started_to_pb",
    "status_from_pb",
    "status_to_pb",
]
