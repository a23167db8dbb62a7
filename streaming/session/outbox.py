"""Answers that wait for the client: in order, bounded in milliseconds of audio, gaps for the rest.

When full, a live stream loses its oldest audio and packets (a ``gap`` stands where they were) and
a file stream waits at its input (see :meth:`Outbox.full`). Captions and notices are never dropped;
their number is bounded, and a reader that lets them pile up loses the stream.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from ossicle.runtime.errors import CapacityError
from ossicle.streaming.messages import AudioOut, Gap, PacketsOut, Response

MAX_ANSWERS = 20_000


@dataclass(slots=True)
class _Waiting:
    response: Response
    ms: float  # audio it holds; 0 for what is never dropped
    until: int  # client-rate sample up to which it reaches; 0 for what needs no credit
    span: tuple[int, int] = (0, 0)  # client-rate samples of audio and packets


class Outbox:
    """One stream's answers on their way out; used on the event loop only."""

    def __init__(self, limit_ms: float, droppable: bool, credit: int | None = None) -> None:
        self._queue: deque[_Waiting] = deque()
        self._ms: dict[tuple[str, str], float] = {}
        self._limit_ms = limit_ms
        self._droppable = droppable
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._error: Exception | None = None
        self._closed = False
        self._granted = credit  # None: no credit is kept
        self.dropped_samples = 0
        self.dropped_gaps = 0

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, response: Response, ms: float = 0.0, span: tuple[int, int] = (0, 0)) -> None:
        """Add an answer that holds ``ms`` of audio over client-rate samples ``span``."""
        if self._closed:
            return
        self._queue.append(_Waiting(response, ms, span[1], span))
        if ms:
            key = _key(response)
            self._ms[key] = self._ms.get(key, 0.0) + ms
            if self._ms[key] > self._limit_ms:
                if self._droppable:
                    self._drop_oldest(key)
                else:
                    self._room.clear()
        elif len(self._queue) > MAX_ANSWERS:
            self.fail(
                CapacityError(
                    f"{MAX_ANSWERS} answers wait for a reader that takes none; the stream ends",
                    reason="stalled_reader",
                )
            )
        self._wake.set()

    def fail(self, error: Exception) -> None:
        """Let the reader see ``error`` now; what waits is let go."""
        if not self._closed:
            self._error = error
            self._queue.clear()
            self.close()

    def close(self) -> None:
        """Nothing more comes; what waits is still given out."""
        self._closed = True
        self._wake.set()
        self._room.set()

    def grant(self, until: int) -> None:
        """Let answers up to client-rate sample ``until`` out."""
        if self._granted is not None and until > self._granted:
            self._granted = until
            self._wake.set()

    @property
    def full(self) -> bool:
        """Whether a file stream has to wait."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Wait until there is room."""
        await self._room.wait()

    def next_nowait(self) -> Response | None:
        """Return the next answer if one may leave now."""
        queue = self._queue
        if not queue:
            return None
        if self._granted is not None and queue[0].until > self._granted:
            return None
        waiting = queue.popleft()
        if waiting.ms:
            key = _key(waiting.response)
            self._ms[key] -= waiting.ms
            if self.full and all(ms <= self._limit_ms for ms in self._ms.values()):
                self._room.set()
        return waiting.response

    async def next(self) -> Response | None:
        """Return the next answer, ``None`` after the last.

        Raises:
            the error given to :meth:`fail`.
        """
        while True:
            response = self.next_nowait()
            if response is not None:
                return response
            if self._closed and not self._queue:
                if self._error is not None:
                    raise self._error
                return None
            self._wake.clear()
            await self._wake.wait()

    def _drop_oldest(self, key: tuple[str, str]) -> None:
        """Turn the oldest audio of one track into one gap until the rest fits."""
        gap: _Waiting | None = None
        kept: deque[_Waiting] = deque()
        for waiting in self._queue:
            body = waiting.response.body
            if _key(waiting.response) == key and isinstance(body, Gap):
                gap = waiting if body.reason == "SLOW_READER" else gap
            elif self._ms[key] > self._limit_ms and waiting.ms and _key(waiting.response) == key:
                self._ms[key] -= waiting.ms
                self.dropped_samples += waiting.span[1] - waiting.span[0]
                if gap is None:
                    gap = _Waiting(waiting.response, 0.0, 0, waiting.span)
                    kept.append(gap)
                    self.dropped_gaps += 1
                gap.span = (gap.span[0], waiting.span[1])
                gap.response = Response(Gap(*gap.span, "SLOW_READER", key[1]), key[0])
                continue
            kept.append(waiting)
        self._queue = kept


def _key(response: Response) -> tuple[str, str]:
    body = response.body
    if isinstance(body, AudioOut | Gap):
        return response.task, body.track
    return response.task, "packets" if isinstance(body, PacketsOut) else ""
