"""What a client gave and the engine has not taken yet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

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
    The lock is taken by hand: ``with`` costs as much again.
    """

    __slots__ = (
        "_held", "_items", "_lock", "_lost", "_mark", "dropped", "limit", "live", "waiting"
    )  # fmt: skip

    def __init__(self, limit: int, live: bool) -> None:
        self.limit, self.live = limit, live
        self._items: list[tuple[Any, int]] = []
        self._lock = threading.Lock()
        self._held = 0  # samples, or items that are no chunks
        self._lost: list[GapEvent] = []
        self._mark = False
        self.dropped = 0
        self.waiting = False  # whether there is anything to take

    def put(self, item: Any, arrival_ns: int) -> bool:
        """Add an item; return False if it was refused."""
        size = _size(item)
        lock = self._lock
        lock.acquire()
        try:
            held = self._held
            if held and size and held + size > self.limit:
                if not self.live:
                    return False
                held = self._make_room(size)
            if self._mark and isinstance(item, Chunk):
                item, self._mark = item.after_gap(), False
            self._items.append((item, arrival_ns))
            self._held = held + size
            self.waiting = True
        finally:
            lock.release()
        return True

    def take_all(self) -> tuple[list[GapEvent], list[tuple[Any, int]]]:
        """Return the gaps since the last call and every waiting item with its arrival."""
        lock = self._lock
        lock.acquire()
        lost, items = self._lost, self._items
        self._items, self._held, self.waiting = [], 0, False
        if lost:
            self._lost = []
        lock.release()
        return lost, items

    @property
    def held(self) -> int:
        """Samples that wait."""
        return self._held

    def _make_room(self, size: int) -> int:
        """Drop the oldest until ``size`` fits; return how many samples are still held."""
        while self._held and self._held + size > self.limit:
            self._drop()
        return self._held

    def _drop(self) -> None:
        # What is no audio and no packet keeps its place.
        oldest = next(at for at, (item, _) in enumerate(self._items) if _size(item))
        item, _ = self._items.pop(oldest)
        self._held -= _size(item)
        if not isinstance(item, Chunk) or not isinstance(item.samples, np.ndarray):
            return
        self.dropped += item.length
        if self._lost and self._lost[-1].stop == item.start:
            self._lost[-1] = GapEvent(self._lost[-1].start, item.stop, "backlog")
        else:
            self._lost.append(GapEvent(item.start, item.stop, "backlog"))
        for at, (head, arrival) in enumerate(self._items):
            if isinstance(head, Chunk):
                self._items[at] = (head.after_gap(), arrival)
                return
        self._mark = True


def _size(item: Any) -> int:
    if type(item) is Chunk:
        try:
            return item.samples.shape[-1] or 1
        except (AttributeError, IndexError):  # no audio: the task will say so
            return 1
    return 0 if item is FLUSH or isinstance(item, Update | Note) else 1
