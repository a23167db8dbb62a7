"""Refusals as ``google.rpc.Status``: BadRequest, RetryInfo and ErrorInfo, there and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from ossicle.streaming.failures import DOMAIN, Failure

KEY = "grpc-status-details-bin"


def to_trailer(failure: Failure) -> tuple[tuple[str, bytes], ...]:
    """Return the trailing metadata that carries ``failure``."""
    status = status_pb2.Status(code=code_pb2.Code.Value(failure.code), message=failure.message)
    info = error_details_pb2.ErrorInfo(
        reason=failure.reason, domain=DOMAIN, metadata=failure.metadata
    )
    status.details.add().Pack(info)
    if failure.field:
        request = error_details_pb2.BadRequest()
        request.field_violations.add(field=failure.field, description=failure.message)
        status.details.add().Pack(request)
    if failure.retry_after_ms:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(failure.retry_after_ms)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return ((KEY, status.SerializeToString()),)


def code(failure: Failure) -> grpc.StatusCode:
    """Return gRPC's status code."""
    return grpc.StatusCode[failure.code]


def from_trailer(
    code_name: str, message: str, metadata: Iterable[tuple[str, Any]] | None
) -> Failure:
    """Return what a call failed with; without details, what its status says."""
    for key, value in metadata or ():
        if key == KEY and isinstance(value, bytes):
            return _parse(status_pb2.Status.FromString(value), code_name)
    return Failure(code_name, "", message)


def _parse(status: Any, code_name: str) -> Failure:
    reason, field, retry_ms, metadata = "", "", 0, {}
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        request = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(request) and request.field_violations:
            field = request.field_violations[0].field
        elif detail.Unpack(retry):
            retry_ms = retry.retry_delay.ToMilliseconds()
    return Failure(code_name, reason, status.message, field, retry_ms, metadata)
