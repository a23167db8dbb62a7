"""One stream's place in the engine, and the lease that a client holds on it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ossicle.runtime.audio import Chunk
from ossicle.runtime.budget import Budget, Ledger, Percentiles
from ossicle.runtime.errors import CapacityError, OssicleError
from ossicle.runtime.model import Model, ModelState
from ossicle.runtime.task import Event, GapEvent, Hop, Task

if TYPE_CHECKING:
    from ossicle.runtime.engine.batch import BatchMemory
    from ossicle.runtime.engine.loop import Engine

OnEvents = Callable[[list[tuple[Event, Ledger]]], None]
OnEnd = Callable[[OssicleError | None], None]
UNHURRIED_NS = 3_600_000_000_000  # the deadline of a stream that was promised none


@dataclass(slots=True)
class Ready:
    """A hop that waits for the model."""

    hop: Hop
    arrival_ns: int  # of the last sample it needs
    ready_ns: int
    deadline_ns: int
    notes: list[Callable[[], None]] = field(default_factory=list)  # called once it was answered


@dataclass(slots=True)
class Slot:
    """All that the engine knows of one stream. Touched by the engine's thread alone."""

    index: int
    generation: int
    task: Task
    model: Model
    state: Any
    memory: ModelState
    budget: Budget
    period_ns: int  # how long one hop lasts
    inbox: Inbox
    on_events: OnEvents
    on_end: OnEnd
    ladder: tuple[Mapping[str, Any], ...] = ()
    rung: int = 0
    bypass: bool = False
    ready: deque[Ready] = field(default_factory=deque)
    home: tuple[BatchMemory, int] | None = None  # where the memory lives; None: in ``memory``
    ending: bool = False
    closed: bool = False  # out of the engine: nothing is delivered any more
    bad_hops: int = 0  # in a row, with NaN or Inf in what the model made
    hops: int = 0
    misses: int = 0
    gaps: int = 0
    latency_us: Percentiles = field(default_factory=lambda: Percentiles(1024))
    deadline_ns: int = field(init=False)  # from the arrival of a hop's last sample

    def __post_init__(self) -> None:
        if self.budget.deadline_ms is not None:
            self.deadline_ns = int(self.budget.deadline_ms * 1e6)
        elif self.budget.latency_class.limit_ms < 1e9:
            self.deadline_ns = self.period_ns
        else:
            self.deadline_ns = UNHURRIED_NS

    @property
    def group(self) -> tuple[int, str, bool]:
        """What streams of one batch have in common."""
        return id(self.model), self.task.program, self.bypass


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


FLUSH = object()


@dataclass(slots=True)
class Update:
    """Options for a task, in line with the audio around them."""

    options: Mapping[str, Any]


@dataclass(slots=True)
class Note:
    """A call to make once everything before it has been answered."""

    then: Callable[[], None]


class Lease:
    """What the holder of a slot may do. After :meth:`close` every call is refused.

    Safe to use from any thread. Events come back on the engine's thread: hand them on, quickly.
    """

    def __init__(self, engine: Engine, slot: Slot) -> None:
        self._engine, self._slot, self._inbox = engine, slot, slot.inbox
        self.generation = slot.generation
        self._closed = False

    @property
    def backlog(self) -> int:
        """Samples (or packets) that wait to be taken."""
        return self._inbox.held

    @property
    def dropped(self) -> int:
        """Samples that were dropped because the inbox was full."""
        return self._inbox.dropped

    def push(self, item: Any, arrival_ns: int | None = None) -> bool:
        """Give a chunk or packet; False means "full, try again" and only for streams not live."""
        self._check()
        done = self._inbox.put(item, self._engine.clock() if arrival_ns is None else arrival_ns)
        self._engine.wake()
        return done

    def update(self, options: Mapping[str, Any]) -> None:
        """Change the task's options after the audio that was pushed so far."""
        self._check()
        self._inbox.put(Update(dict(options)), self._engine.clock())
        self._engine.wake()

    def mark(self, then: Callable[[], None]) -> None:
        """Call ``then`` on the engine's thread once all that was pushed so far is answered."""
        self._check()
        self._inbox.put(Note(then), self._engine.clock())
        self._engine.wake()

    def flush(self) -> None:
        """Say that the stream has ended: tails come out, then ``on_end`` is called."""
        self._check()
        self._inbox.put(FLUSH, self._engine.clock())
        self._engine.wake()

    def export(self, timeout_s: float = 5.0) -> dict[str, Any]:
        """Return the whole stream as a tree for a snapshot, between two hops.

        Raises:
            CapacityError: the engine did not come round in time.
        """
        self._check()
        future: Future[dict[str, Any]] = Future()
        self._engine.post(lambda: self._engine.export_slot(self._slot, future))
        try:
            return future.result(timeout_s)
        except TimeoutError:
            raise CapacityError(
                f"the engine did not export the stream within {timeout_s} s", reason="busy"
            ) from None

    def export_later(self, then: Callable[[dict[str, Any]], None]) -> None:
        """Like :meth:`export`, without waiting: ``then`` gets the tree on the engine's thread."""
        self._check()
        future: Future[dict[str, Any]] = Future()
        future.add_done_callback(lambda f: None if f.exception() else then(f.result()))
        self._engine.post(lambda: self._engine.export_slot(self._slot, future))

    def close(self) -> None:
        """Give the slot back at once, whatever waits. Calling it again does nothing."""
        if not self._closed:
            self._closed = True
            self._engine.release(self._slot)

    def statistics(self) -> dict[str, Any]:
        """Return hops, misses, gaps and the percentiles of the time each hop took, in us."""
        slot = self._slot
        return {
            "hops": slot.hops,
            "misses": slot.misses,
            "gaps": slot.gaps,
            "dropped": self._inbox.dropped,
            "rung": slot.rung,
            "latency_us": slot.latency_us.summary(),
        }

    def _check(self) -> None:
        if self._closed:
            raise CapacityError("the lease was closed; open a new stream", reason="closed")
