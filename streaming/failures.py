"""What a refusal looks like from outside: one table from errors to status, reason and advice.

Status names are gRPC's; nothing here imports gRPC, so the table also serves the command line.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ossicle.runtime import errors as e

DOMAIN = "ossicle"


class Denied(e.WireError):
    """A call without a token, with an unknown one, or outside its scopes."""

    def __init__(self, message: str, *, known: bool) -> None:
        super().__init__(message, reason="SCOPE" if known else "TOKEN")
        self.known = known  # the token is known, but does not allow this


class Closing(e.OssicleError):
    """The server goes away or has had enough of this connection; another one may be tried."""

    def __init__(self, message: str, *, reason: str, retry_after_ms: int = 0) -> None:
        super().__init__(message)
        self.reason = reason  # "DRAINING", "IDLE", "SLOW_START", "RATE", "STALLED", "SUPERSEDED"
        self.retry_after_ms = retry_after_ms


@dataclass(frozen=True, slots=True)
class Failure:
    """A refusal, ready for ``google.rpc.Status``."""

    code: str  # "INVALID_ARGUMENT", ...
    reason: str  # stable upper-case word for programs
    message: str
    field: str = ""
    retry_after_ms: int = 0
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)


_CLOSING = {
    "DRAINING": "UNAVAILABLE",
    "SUPERSEDED": "ABORTED",
    "IDLE": "DEADLINE_EXCEEDED",
    "SLOW_START": "DEADLINE_EXCEEDED",
    "STALLED": "RESOURCE_EXHAUSTED",
    "RATE": "RESOURCE_EXHAUSTED",
}


def failure_of(error: BaseException) -> Failure:
    """Return what the client is told about ``error``; what is not ours says nothing of itself."""
    text = str(error)
    match error:
        case Denied(known=known):
            return Failure("PERMISSION_DENIED" if known else "UNAUTHENTICATED", error.reason, text)
        case e.WireError():
            return Failure("INVALID_ARGUMENT", error.reason or "BAD_REQUEST", text, error.field)
        case e.CapacityError():
            return Failure(
                "RESOURCE_EXHAUSTED",
                error.reason.upper(),
                text,
                retry_after_ms=error.retry_after_ms,
                metadata={"used": f"{error.used:g}", "total": f"{error.total:g}"},
            )
        case e.BudgetError():
            numbers = {"asked_ms": f"{error.asked_ms:g}", "needed_ms": f"{error.needed_ms:g}"}
            return Failure("FAILED_PRECONDITION", "BUDGET", text, metadata=numbers)
        case Closing():
            return Failure(
                _CLOSING[error.reason], error.reason, text, retry_after_ms=error.retry_after_ms
            )
        case e.QueryError():
            near = {"nearest": ", ".join(name for name, _ in error.nearest)}
            return Failure("INVALID_ARGUMENT", "QUERY", text, "query.text", metadata=near)
        case e.BundleError():
            return Failure("NOT_FOUND", "MODEL", text, "config.tasks.model")
        case e.SnapshotError():
            return Failure("FAILED_PRECONDITION", "RESUME", text, "config.resume_token")
        case e.AudioError() | e.PacketError() | e.CaptionError():
            return Failure("INVALID_ARGUMENT", "INPUT", text)
        case e.BackendError():
            return Failure("INTERNAL", "MODEL_FAILED", text)
        case e.OssicleError():
            return Failure("INTERNAL", "FAILED", text)
    return Failure("INTERNAL", "UNEXPECTED", "the server failed unexpectedly; its log says why")
