"""Markers on their way through every task of a stream."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ossicle.runtime.budget import Ledger
from ossicle.runtime.errors import WireError
from ossicle.streaming.messages import Marker, Response
from ossicle.streaming.session.branch import Branch

MOST = 1000  # of one stream on their way at once


class Marks:
    """Sends each marker into every task and answers it once all of them came to it."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[Marker, int, int]] = {}  # tag -> marker, left, arrival
        self._next = 0

    def send(self, marker: Marker, position: int, branches: Iterable[Branch]) -> None:
        """Put a marker behind everything that was pushed so far.

        Raises:
            WireError: too many are on their way.
        """
        if len(self._waiting) >= MOST:
            raise WireError(f"{MOST} markers are on their way; wait for some", field="marker")
        tag, self._next = self._next, self._next + 1
        held = list(branches)
        placed = Marker(marker.id, marker.client_ns, position)
        self._waiting[tag] = (placed, len(held), time.monotonic_ns())
        for branch in held:
            branch.opened.mark(tag)

    def reached(self, tag: int) -> Response | None:
        """Return the answer if this was the last task to come to the marker."""
        marker, left, arrival = self._waiting.pop(tag)
        if left > 1:
            self._waiting[tag] = (marker, left - 1, arrival)
            return None
        return Response(marker, ledger=Ledger(wait_us=(time.monotonic_ns() - arrival) // 1000))
