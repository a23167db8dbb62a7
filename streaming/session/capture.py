"""One moment of a stream, taken from every task between two messages, for a snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from ossicle.streaming.session.branch import Branch


class Capture:
    """Asks every lease for its memory, and has the outlet's from the same point of its events."""

    def __init__(self) -> None:
        self._number = 0  # of the attempt; what an earlier one asked for comes too late
        self._got: dict[str, tuple[bytes, bytes]] = {}
        self._wanted = 0
        self._complete = asyncio.Event()

    async def take(
        self, branches: Iterable[Branch], patience_s: float
    ) -> dict[str, tuple[Any, Any]] | None:
        """Return task and outlet memory by track; ``None`` where the engine had no time."""
        held = list(branches)
        self._complete.clear()
        self._number += 1
        self._got, self._wanted = {}, len(held)
        for branch in held:
            branch.opened.export(self._number)
        try:
            await asyncio.wait_for(self._complete.wait(), patience_s)
        except TimeoutError:
            self._number += 1
            return None
        return dict(self._got)

    def exported(self, branch: Branch, number: int, data: bytes) -> None:
        """Take what one lease answered."""
        if number != self._number:  # of an attempt that was given up: audio came since
            return
        self._got[branch.spec.track] = (data, branch.export_bytes())
        if len(self._got) == self._wanted:
            self._complete.set()

    def give_up(self) -> None:
        """Let whoever waits go on: the stream is over."""
        self._complete.set()
