"""What waits in one stream: what its client gave, and hops for the model; with its counters.

``ossicle._core.Lane`` does the same without the interpreter; :mod:`.turns` chooses between them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from ossicle.runtime.audio import Chunk
from ossicle.runtime.task import Event, Hop

TIMES_KEPT = 1024
Notes = list[Callable[[], None]]


class Given(msgspec.Struct):
    """An item of the client's."""

    item: Any
    arrival_ns: int
    size: int  # what it takes of the room: samples, 1 for a packet, 0 for a word about the stream
    length: int  # samples, or -1 for what is no audio
    after_gap: bool = False  # samples before it were dropped here


class Ready(msgspec.Struct):
    """A hop that waits for the model."""

    hop: Hop
    arrival_ns: int  # of the last sample it needs
    ready_ns: int
    deadline_ns: int
    notes: Notes  # called once it was answered


class Lane:
    """A bounded inbox, the hops that wait, and the time that the last ones took.

    A full inbox drops its oldest chunks and remembers the gap (``live``), or refuses the new one
    (otherwise), so that stale audio is never processed unannounced and a file loses nothing.
    Clients push from any thread; all else is the engine's thread's.
    """

    def __new__(cls, *given: Any, **named: Any) -> Any:
        """Return an empty lane; :meth:`attach` makes it an engine's."""
        lane = super().__new__(cls)
        lane.state = None
        lane.closed = lane.shut = lane.ending = lane.bypass = False
        lane.hops = lane.misses = lane.gaps = lane.bad_hops = 0
        lane.latency = lane.deadline_ns = lane.group = lane.period_ns = 0
        lane.held = lane.dropped = lane._count = 0
        lane._items, lane._gaps, lane._mark = [], [], False
        lane._lock = threading.Lock()
        lane._hops = deque()
        lane._times = deque(maxlen=TIMES_KEPT)
        return lane

    state: Any  # the task's
    closed: bool  # out of the engine: nothing is delivered any more
    shut: bool  # by its holder: nothing may be pushed any more
    ending: bool  # it was flushed
    bypass: bool
    hops: int
    misses: int
    gaps: int
    bad_hops: int  # in a row, with NaN or Inf in what the model made
    latency: int  # the task's, samples
    deadline_ns: int  # from the arrival of a hop's last sample
    period_ns: int  # how long one hop lasts
    group: int  # what streams of one batch have in common
    held: int  # samples that wait in the inbox, or packets
    dropped: int  # samples
    _items: list[Given]
    _gaps: list[tuple[int, int]]
    _mark: bool
    _count: int
    _lock: threading.Lock
    _hops: deque[Ready]
    _times: deque[int]

    def attach(
        self,
        turns: Any,
        push: Callable[..., list[Hop]],
        take: Callable[..., list[Event]],
        on_events: Callable[..., None],
        limit: int,
        live: bool,
    ) -> None:
        """Make the lane one of an engine's, with its task's two methods and its listener's ear."""
        self._turns, self.task_push, self.task_take, self.on_events = turns, push, take, on_events
        self._limit, self._live = limit, live

    # -- from any thread ----------------------------------------------------------------------

    def push(self, item: Any, arrival_ns: int | None = None) -> bool:
        """Give a chunk or packet and wake the engine; False if it was refused."""
        turns = self._turns
        if self.shut:
            turns.refuse()
        size, length = _size(item)
        arrival_ns = turns.clock() if arrival_ns is None else arrival_ns
        done = self._give(Given(item, arrival_ns, size, length))
        if not turns.awake:
            turns.wake()
        return done

    def put(self, word: Any, arrival_ns: int) -> bool:
        """Give a word about the stream, which takes no room and keeps its place."""
        return self._give(Given(word, arrival_ns, 0, -1))

    def _give(self, given: Given) -> bool:
        with self._lock:
            if self.held and given.size and self.held + given.size > self._limit:
                if not self._live:
                    return False
                while self.held and self.held + given.size > self._limit:
                    self._drop()
            if self._mark and given.length >= 0:
                given.after_gap, self._mark = True, False
            self._items.append(given)
            self.held += given.size
        return True

    def _drop(self) -> None:
        # What is no audio and no packet keeps its place.
        oldest = next(at for at, given in enumerate(self._items) if given.size)
        lost = self._items.pop(oldest)
        self.held -= lost.size
        if lost.length < 0:
            return
        self.dropped += lost.length
        start, stop = lost.item.start, lost.item.start + lost.length
        if self._gaps and self._gaps[-1][1] == start:
            self._gaps[-1] = (self._gaps[-1][0], stop)
        else:
            self._gaps.append((start, stop))
        for given in self._items:
            if given.length >= 0:
                given.after_gap = True
                return
        self._mark = True  # the next chunk that comes

    # -- from the engine's thread -------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether there is anything to take."""
        return bool(self._items or self._gaps)

    def take_all(self) -> tuple[list[tuple[int, int]], list[Given]]:
        """Return the gaps since the last call and every item."""
        with self._lock:
            gaps, items = self._gaps, self._items
            self._gaps, self._items, self.held = [], [], 0
        return gaps, items

    @property
    def ready(self) -> int:
        """Hops that wait for the model."""
        return len(self._hops)

    @property
    def hop(self) -> Hop:
        """The hop that is next; IndexError where none waits."""
        return self._hops[0].hop

    @property
    def hop_deadline_ns(self) -> int:
        """When that hop is due."""
        return self._hops[0].deadline_ns

    def add(self, hop: Hop, arrival_ns: int, ready_ns: int, deadline_ns: int) -> None:
        """Let a hop wait."""
        self._hops.append(Ready(hop, arrival_ns, ready_ns, deadline_ns, []))

    def pop(self) -> tuple[Hop, int, int, int, Notes]:
        """Return the next hop, when it arrived, was ready and is due, and whom to call then."""
        ready = self._hops.popleft()
        return ready.hop, ready.arrival_ns, ready.ready_ns, ready.deadline_ns, ready.notes

    def note(self, then: Callable[[], None]) -> bool:
        """Let ``then`` be called once the newest hop was answered; False if none waits."""
        if self._hops:
            self._hops[-1].notes.append(then)
        return bool(self._hops)

    def waiting_hops(self) -> list[Hop]:
        """Return the hops that wait."""
        return [ready.hop for ready in self._hops]

    def forget_hops(self) -> None:
        """Let no hop wait any more."""
        self._hops.clear()

    def record(self, us: int) -> None:
        """Note how long a hop took, all in all."""
        self._times.append(us)
        self._count += 1

    def recorded(self) -> tuple[list[int], int]:
        """Return the last times in us, oldest first, and how many there ever were."""
        return list(self._times), self._count


def _size(item: Any) -> tuple[int, int]:
    samples = item.samples if type(item) is Chunk else None
    if not isinstance(samples, np.ndarray) or not samples.ndim:
        return 1, -1  # a packet, or nothing that a task would take: the task will say so
    length = samples.shape[-1]
    return length or 1, length
