"""What a client gave and the engine has not taken yet."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ossicle.runtime.audio import Chunk
from ossicle.runtime.task import GapEvent

FLUSH = object()


@dataclass(slots=True)
class Update:
    """Options for a task, in line with the audio around them."""

    options: Mapping[str, Any]


@dataclass(slots=True)
class Note:
    """A call to make once everything before it has been answered."""

    then: Callable[[], None]


class Inbox:
    """What a client gave and the engine has not taken yet: bounded in samples, thread-safe.

    A full inbox drops its oldest chunks and remembers the gap (``live``), or refuses the new one
    (otherwise), so that stale audio is never processed unannounced and a file loses nothing.
    """

    def __init__(self, limit: int, live: bool) -> None:
        self.limit, self.live = limit, live
        self._items: deque[tuple[Any, int]] = deque()
        self._lock = threading.Lock()
        self._held = 0  # samples, or items that are no chunks
        self._lost: list[GapEvent] = []
        self._mark = False
        self.dropped = 0

    @property
    def waiting(self) -> bool:
        """Whether there is anything to take."""
        return bool(self._items or self._lost)

    def put(self, item: Any, arrival_ns: int) -> bool:
        """Add an item; return False if it was refused."""
        size = _size(item)
        with self._lock:
            if size and self._held and self._held + size > self.limit:
                if not self.live:
                    return False
                while self._held and self._held + size > self.limit:
                    self._drop()
            if self._mark and isinstance(item, Chunk):
                item, self._mark = replace(item, discont=True), False
            self._items.append((item, arrival_ns))
            self._held += size
        return True

    def take_all(self) -> tuple[list[GapEvent], list[tuple[Any, int]]]:
        """Return the gaps since the last call and every waiting item."""
        with self._lock:
            lost, self._lost = self._lost, []
            items = list(self._items)
            self._items.clear()
            self._held = 0
        return lost, items

    @property
    def held(self) -> int:
        """Samples that wait."""
        return self._held

    def _drop(self) -> None:
        kept = []  # what is no audio and no packet keeps its place
        while not _size(self._items[0][0]):
            kept.append(self._items.popleft())
        item, _ = self._items.popleft()
        self._held -= _size(item)
        self._items.extendleft(reversed(kept))
        if not isinstance(item, Chunk):
            return
        self.dropped += item.length
        if self._lost and self._lost[-1].stop == item.start:
            self._lost[-1] = replace(self._lost[-1], stop=item.stop)
        else:
            self._lost.append(GapEvent(item.start, item.stop, "backlog"))
        for at, (head, arrival) in enumerate(self._items):
            if isinstance(head, Chunk):
                self._items[at] = (replace(head, discont=True), arrival)
                return
        self._mark = True


def _size(item: Any) -> int:
    if isinstance(item, Chunk):
        return max(1, item.length)
    return 0 if item is FLUSH or isinstance(item, Update | Note) else 1
