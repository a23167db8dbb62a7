"""What went through streams: added up for those that are over, looked at for the others."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from ossicle.streaming.session.session import Session


@dataclass(slots=True)
class Traffic:
    """What went through streams."""

    bytes_in: int = 0
    bytes_out: int = 0
    samples: int = 0
    gaps: int = 0
    ladder_steps: int = 0
    checkpoints: int = 0
    checkpoints_failed: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


TRAFFIC = {
    "bytes_in": "Audio and packet bytes received",
    "bytes_out": "Answer bytes sent",
    "samples": "Samples taken in, at the clients' rates",
    "gaps": "Gaps in streams",
    "ladder_steps": "Steps on the overload ladder, down and up",
    "checkpoints": "Snapshots of streams",
    "checkpoints_failed": "Snapshots that could not be written",
}


def traffic_of(session: Session) -> Traffic:
    """Return what went through one stream so far."""
    outlets = [branch.outlet for branch in session.branches.values()]
    return Traffic(
        session.intake.bytes_in,
        session.bytes_out,
        session.inlet.position,
        sum(o.gaps for o in outlets) + session.outbox.dropped_gaps,
        sum(o.ladder_steps for o in outlets),
        session.checkpoints_saved,
        session.checkpoints_failed,
    )
