"""One task of a stream: its lease, its outlet, and how far it is."""

from __future__ import annotations

from ossicle.streaming import messages as m
from ossicle.streaming.session.outlet import Outlet
from ossicle.streaming.session.seam import Lease


class Branch:
    """One task of the stream: its lease and its outlet."""

    def __init__(self, spec: m.TaskSpec, started: m.TaskStarted, outlet: Outlet) -> None:
        self.spec, self.started, self.outlet = spec, started, outlet
        self.lease: Lease | None = None
        self.flushed = False

    @property
    def opened(self) -> Lease:
        """The lease, which is there before the first request is read."""
        assert self.lease is not None
        return self.lease
