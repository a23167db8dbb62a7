"""What the parts of one stream share: its two sides, its tasks, and whether it is over."""

from __future__ import annotations

import logging

from ossicle.streaming import messages as m
from ossicle.streaming.session.branch import Branch
from ossicle.streaming.session.checkpoints import Checkpoints
from ossicle.streaming.session.inlet import Inlet
from ossicle.streaming.session.marks import Marks
from ossicle.streaming.session.outbox import Outbox

log = logging.getLogger("ossicle.session")


class Line:
    """One stream as its intake, its swaps and its session see it; on one event loop only."""

    def __init__(
        self,
        name: str,
        config: m.Config,
        inlet: Inlet,
        outbox: Outbox,
        branches: list[Branch],
        limits: m.StreamLimits,
        checkpoints: Checkpoints | None = None,
        log_text: bool = False,
    ) -> None:
        self.name, self.config = name, config
        self.inlet, self.outbox = inlet, outbox
        self.branches = {b.spec.track: b for b in branches}
        self.limits = limits
        self.checkpoints = checkpoints
        self.log_text = log_text  # what is captioned and asked for may be written to the log
        self.live = config.pace == "live"
        self.over = False
        self.marks = Marks()

    def log(self, event: str, text: str) -> None:
        """Write what is said in this stream to the log, where that is wanted."""
        if self.log_text:
            log.info(event, extra={"session": self.name, "text": text})

    def notice(
        self, kind: str, text: str, fields: dict[str, str] | None = None, task: str = ""
    ) -> None:
        """Tell the client something."""
        self.outbox.put(m.Response(m.Notice(kind, text, fields or {}), task))

    def going_away(self, seconds: float, why: str) -> None:
        """Announce that the connection will be closed, so that the client can move."""
        text = f"the connection is closed in {seconds:g} s ({why}); reconnect to go on"
        self.notice("GOING_AWAY", text, {"seconds": f"{seconds:g}", "reason": why})
