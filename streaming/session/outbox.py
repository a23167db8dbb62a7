"""Answers that wait for the client: in order, bounded in milliseconds of audio, gaps for the rest.

When full, a live stream loses its oldest audio and packets (a ``gap`` stands where they were) and
a file stream waits at its input (see :meth:`Outbox.full`). Captions and notices are never dropped;
their number is bounded, and a reader that lets them pile up loses the stream.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec

from ossicle.runtime.errors import CapacityError
from ossicle.streaming.messages import AudioOut, Gap, Response

MAX_ANSWERS = 20_000


class _Waiting(msgspec.Struct):
    response: Response
    ms: float  # audio it holds; 0 for what is never dropped
    until: int  # client-rate sample up to which it reaches; 0 for what needs no credit
    span: tuple[int, int] = (0, 0)  # client-rate samples of audio and packets
    track: tuple[str, str] = ("", "")  # of what is counted in ms


class Outbox:
    """One stream's answers on their way out; used on the event loop only, by one reader."""

    def __init__(
        self,
        limit_ms: float,
        droppable: bool,
        credit: int | None = None,
        hurry: Callable[[], None] | None = None,
    ) -> None:
        self._queue: deque[_Waiting] = deque()
        self._ms: dict[tuple[str, str], float] = {}
        self._limit_ms = limit_ms
        self._droppable = droppable
        self._reader: asyncio.Future[None] | None = None  # waits for something to read
        self._room = asyncio.Event()
        self._room.set()
        self._error: Exception | None = None
        self._closed = False
        self.hurry = hurry or _no_hurry  # asks a loop that takes its time not to
        self._granted = credit  # None: no credit is kept
        self.full = False  # a file stream has to wait at its input
        self.dropped_samples = 0
        self.dropped_gaps = 0

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, response: Response, ms: float = 0.0, span: tuple[int, int] = (0, 0)) -> None:
        """Add an answer that holds ``ms`` of audio over client-rate samples ``span``."""
        if self._closed:
            return
        if ms:
            body = response.body
            track = (response.task, body.track if type(body) is AudioOut else "packets")
            held = self._ms[track] = self._ms.get(track, 0.0) + ms
            self._queue.append(_Waiting(response, ms, span[1], span, track))
            if held > self._limit_ms:
                self._overflow(track)
        else:
            self._queue.append(_Waiting(response, 0.0, span[1], span))
            if len(self._queue) > MAX_ANSWERS:
                self.fail(
                    CapacityError(
                        f"{MAX_ANSWERS} answers wait for a reader that takes none; the stream ends",
                        reason="stalled_reader",
                    )
                )
        self._wake()

    def _wake(self) -> None:
        reader = self._reader
        if reader is not None and not reader.done():
            reader.set_result(None)

    def _overflow(self, track: tuple[str, str]) -> None:
        if self._droppable:
            self._drop_oldest(track)
        else:
            self.full = True
            self._room.clear()

    def fail(self, error: Exception) -> None:
        """Let the reader see ``error`` now; what waits is let go."""
        if not self._closed:
            self._error = error
            self._queue.clear()
            self.close()

    def close(self) -> None:
        """Nothing more comes; what waits is still given out."""
        self._closed, self.full = True, False
        self._wake()
        self._room.set()

    def grant(self, until: int) -> None:
        """Let answers up to client-rate sample ``until`` out."""
        if self._granted is not None and until > self._granted:
            self._granted = until
            self._wake()

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
        if queue:
            self.hurry()
        if waiting.ms:
            self._ms[waiting.track] -= waiting.ms
            if self.full and all(ms <= self._limit_ms for ms in self._ms.values()):
                self.full = False
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
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None

    def _drop_oldest(self, track: tuple[str, str]) -> None:
        """Turn the oldest audio of one track into one gap until the rest fits."""
        gap: _Waiting | None = None
        kept: deque[_Waiting] = deque()
        for waiting in self._queue:
            if waiting.track == track and not waiting.ms:  # what stands for audio dropped before
                gap = waiting
            elif self._ms[track] > self._limit_ms and waiting.track == track:
                self._ms[track] -= waiting.ms
                self.dropped_samples += waiting.span[1] - waiting.span[0]
                if gap is None:
                    gap = _Waiting(waiting.response, 0.0, 0, waiting.span, track)
                    kept.append(gap)
                    self.dropped_gaps += 1
                gap.span = (gap.span[0], waiting.span[1])
                gap.response = Response(Gap(*gap.span, "SLOW_READER", track[1]), track[0])
                continue
            kept.append(waiting)
        self._queue = kept


def _no_hurry() -> None:
    """What a loop that looks whenever something comes has to be asked."""
