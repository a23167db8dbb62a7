"""Sinks side by side, each behind its own bounded queue and thread: one bad one harms no other."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from ossicle.runtime.errors import CaptionError
from ossicle.streaming.captions.cue import Cue, Op
from ossicle.streaming.captions.sinks.base import Sink

CAPACITY = 4096  # lines


@dataclass(frozen=True, slots=True)
class SinkReport:
    """What became of one sink."""

    name: str
    written: int  # lines that it took
    dropped: int  # lines that it did not get: its queue was full, or it had failed
    failure: str | None


class Outlet:
    """One sink, its queue and its thread.

    ``when_full`` is ``drop`` (live: heartbeats go first, then updates, then the oldest line; all
    are counted, and the gap in ``seq`` shows it) or ``wait`` (files: whoever feeds waits).
    """

    def __init__(
        self, name: str, sink: Sink, capacity: int = CAPACITY, when_full: str = "drop"
    ) -> None:
        if when_full not in ("drop", "wait") or capacity < 1:
            raise CaptionError(f"outlet {name}: when_full {when_full!r}, capacity {capacity}")
        self.name, self.sink, self.capacity = name, sink, capacity
        self.waits = when_full == "wait"
        self.written = self.dropped = 0
        self.failure: str | None = None
        self._lines: deque[Cue] = deque()
        self._ended = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"captions-{name}", daemon=True)
        self._thread.start()

    def put(self, cue: Cue) -> None:
        """Hand over one line; returns at once unless this outlet waits when full."""
        with self._change:
            if self.failure is not None or self._ended:
                self.dropped += 1
                return
            while self.waits and len(self._lines) >= self.capacity and self.failure is None:
                self._change.wait()
            if len(self._lines) >= self.capacity:
                self._drop()
            self._lines.append(cue)
            self._change.notify_all()

    def close(self, timeout_s: float = 10.0) -> SinkReport:
        """Let the sink finish, at most ``timeout_s``, and say what became of it."""
        with self._change:
            self._ended = True
            self._change.notify_all()
        self._thread.join(timeout_s)
        with self._change:
            if self._thread.is_alive() and self.failure is None:
                self.failure = f"did not finish within {timeout_s:g} s"
            self.dropped += len(self._lines)
            self._lines.clear()
            return SinkReport(self.name, self.written, self.dropped, self.failure)

    def _drop(self) -> None:
        """Make room for one line; finals go last."""
        self.dropped += 1
        for op in (Op.HEARTBEAT, Op.UPDATE):
            for i, cue in enumerate(self._lines):
                if cue.op is op:
                    del self._lines[i]
                    return
        self._lines.popleft()

    def _run(self) -> None:
        try:
            while (cue := self._take()) is not None:
                self.sink.put(cue)
                self.written += 1
            self.sink.close()
        except Exception as error:  # whatever a sink raises stays with that sink
            with self._change:
                self.failure = f"{type(error).__name__}: {error}"
                self.dropped += len(self._lines)
                self._lines.clear()
                self._change.notify_all()

    def _take(self) -> Cue | None:
        with self._change:
            while not self._lines and not self._ended:
                self._change.wait()
            cue = self._lines.popleft() if self._lines else None
            self._change.notify_all()
            return cue


class Outlets:
    """Several sinks of one feed.

    >>> Outlets({}).close()
    []
    """

    def __init__(
        self, sinks: dict[str, Sink], capacity: int = CAPACITY, when_full: str = "drop"
    ) -> None:
        self.outlets = [Outlet(n, s, capacity, when_full) for n, s in sinks.items()]

    def put(self, cue: Cue) -> None:
        """Hand one line to every sink."""
        for outlet in self.outlets:
            outlet.put(cue)

    def close(self, timeout_s: float = 10.0) -> list[SinkReport]:
        """Finish all sinks and say what became of each."""
        return [outlet.close(timeout_s) for outlet in self.outlets]
