"""What a client holds on its slot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from ossicle.runtime.engine.slot import Slot
from ossicle.runtime.engine.words import FLUSH, Note, Update
from ossicle.runtime.errors import CapacityError


class Keeper(Protocol):
    """What a lease asks of its engine."""

    @property
    def clock(self) -> Callable[[], int]:
        """Tell the time in ns."""
        ...

    def wake(self) -> None:
        """Say that there is something to do."""

    def post(self, action: Callable[[], None]) -> None:
        """Run ``action`` on the engine's thread."""

    def release(self, slot: Slot) -> None:
        """Take a slot back."""

    def export_slot(self, slot: Slot, future: Future[dict[str, Any]]) -> None:
        """Answer ``future`` with the slot's whole memory."""


class Push(Protocol):
    """How a chunk or packet is given; False means "full, try again", only for streams not live."""

    def __call__(self, item: Any, arrival_ns: int | None = None) -> bool:
        """Give ``item``, which arrived now or at ``arrival_ns``."""


class Lease:
    """What the holder of a slot may do. After :meth:`close` every call is refused.

    Safe to use from any thread. Events come back on the engine's thread: hand them on, quickly.
    """

    __slots__ = {
        "_engine": "the engine",
        "_slot": "the slot",
        "generation": "tells the tenants of a slot apart",
        "push": 'Give a chunk or packet; False means "full, try again", only for streams not live.',
    }
    push: Push  # the lane's own: a frame less for every chunk

    def __init__(self, engine: Keeper, slot: Slot) -> None:
        self._engine, self._slot = engine, slot
        self.generation, self.push = slot.generation, slot.push

    @property
    def backlog(self) -> int:
        """Samples (or packets) that wait to be taken."""
        return self._slot.held

    @property
    def dropped(self) -> int:
        """Samples that were dropped because the inbox was full."""
        return self._slot.dropped

    def update(self, options: Mapping[str, Any]) -> None:
        """Change the task's options after the audio that was pushed so far."""
        self._check()
        self._slot.put(Update(dict(options)), self._engine.clock())
        self._engine.wake()

    def mark(self, then: Callable[[], None]) -> None:
        """Call ``then`` on the engine's thread once all that was pushed so far is answered."""
        self._check()
        self._slot.put(Note(then), self._engine.clock())
        self._engine.wake()

    def flush(self) -> None:
        """Say that the stream has ended: tails come out, then ``on_end`` is called."""
        self._check()
        self._slot.put(FLUSH, self._engine.clock())
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
        if not self._slot.shut:
            self._slot.shut = True
            self._engine.release(self._slot)

    def statistics(self) -> dict[str, Any]:
        """Return hops, misses, gaps and the percentiles of the time each hop took, in us."""
        slot = self._slot
        return {
            "hops": slot.hops,
            "misses": slot.misses,
            "gaps": slot.gaps,
            "dropped": slot.dropped,
            "rung": slot.rung,
            "latency_us": slot.latency_us(),
        }

    def _check(self) -> None:
        if self._slot.shut:
            raise CapacityError("the lease was closed; open a new stream", reason="closed")
