"""Who calls, what they may do, and how to hang up on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ossicle.streaming.server.security import ANYONE, Grant
from ossicle.streaming.session.session import Session


def _nothing() -> None:
    """Do nothing."""


@dataclass(slots=True)
class Caller:
    """Who calls, and how to hang up on them."""

    grant: Grant = ANYONE
    client: str = "local"  # what limits are counted by
    peer: str = ""  # for logs
    session: Session | None = None  # of the stream, once it was let in
    hangup: Callable[[], None] = field(default=_nothing)
