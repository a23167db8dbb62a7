"""One stream of a client: it sends, receives, and goes on by itself when the connection is lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from ossicle.runtime.audio import Samples
from ossicle.runtime.errors import WireError
from ossicle.streaming import messages as m
from ossicle.streaming.client.link import Link, ServerLost
from ossicle.streaming.client.transport import Transport
from ossicle.streaming.encodings import PCM_WIDTH, encode

log = logging.getLogger("ossicle.client")
UNSENT_MS = 500  # audio that may wait here; more is dropped (live) or waits (file)


class Stream:
    """Send with :meth:`send` and friends, iterate for answers; ``async with`` ends it well.

    Answers are :class:`~ossicle.streaming.messages.Response` whose body is a ``Cue``,
    :class:`Sound`, ``PacketsOut``, ``Gap``, ``Notice`` or ``Marker``; the last is ``Ended``.
    After a reconnect the answers go on where they stopped: nothing twice, nothing left out.

    Args:
        transport: the way to the service.
        config: what to ask for.
        patience_s: how long to try to come back to a lost server.
        resume: keep what was sent, and ask the server for snapshots, so that a lost server costs
            nothing.
    """

    def __init__(
        self,
        transport: Transport,
        config: m.Config,
        patience_s: float = 30.0,
        resume: bool = True,
    ) -> None:
        asked = replace(config, checkpoints=resume)
        self.config = asked
        self._link = Link(transport, asked, patience_s, resume)
        self._live = config.pace == "live"
        self._ending = False
        self._task: asyncio.Task[None] | None = None

    @property
    def started(self) -> m.Started | None:
        """The server's first answer, once it came."""
        return self._link.started

    @property
    def ended(self) -> m.Ended | None:
        """The server's last answer, once it came."""
        return self._link.ended

    @property
    def checkpoint(self) -> m.Checkpoint | None:
        """From where a lost stream would be resumed."""
        return self._link.checkpoint

    @property
    def reconnects(self) -> int:
        """How often the connection was made anew."""
        return self._link.reconnects

    @property
    def over(self) -> bool:
        """Whether the stream has ended or failed."""
        return self._link.over

    # -- sending --------------------------------------------------------------------------------

    async def send(self, samples: Samples, capture_unix_ns: int = 0) -> None:
        """Send samples `[C, T]` or `[T]`; waits (file) or drops the oldest (live) where it must.

        Raises:
            WireError: the wrong number of channels.
            OssicleError: the stream has failed.
        """
        samples = np.atleast_2d(np.asarray(samples, np.float32))
        if samples.shape[0] != self.config.channels:
            raise WireError(
                f"samples of shape {samples.shape}; [C, T] with C = {self.config.channels} expected"
            )
        data = encode(samples, self.config.encoding)
        await self._put(m.AudioIn(data, None, capture_unix_ns), samples.shape[1])

    async def send_bytes(self, data: bytes) -> None:
        """Send audio in the config's own encoding; PCM must hold whole samples here."""
        width = PCM_WIDTH.get(self.config.encoding, 0) * self.config.channels
        if width and len(data) % width:
            raise WireError(f"{len(data)} bytes are not whole samples of {width} bytes")
        await self._put(m.AudioIn(data), len(data) // width if width else 0)

    async def send_packets(self, packets: list[m.WirePacket], task: str = "") -> None:
        """Send codec packets to a decode task."""
        await self._put(m.PacketsIn(tuple(packets), task), 0, len(packets))

    async def query(
        self, text: str | Sequence[str] = "", task: str = "", *, depth: float | None = None
    ) -> None:
        """Change what is separated, or how much of it, from here on; a list for several tracks."""
        if isinstance(text, str):
            await self._put(m.Query(text, task, depth))
        else:
            await self._put(m.Query("", task, depth, tuple(text)))

    async def report_loss(self, lost: float, task: str = "") -> None:
        """Tell an encode task what the receiver lost."""
        await self._put(m.LossReport(lost, 0.0, task))

    async def mark(self, id: int) -> None:
        """Send a marker; it comes back among the answers when all before it was answered."""
        marker = m.Marker(id, time.monotonic_ns())
        self._link.received.markers[id] = marker
        await self._put(marker)

    async def end(self) -> None:
        """Say that nothing more comes."""
        if not self._ending:
            await self._put(m.End())
            self._ending = True

    def grant(self, until_sample: int) -> None:
        """Let the server answer up to a position; for configs with ``credit_ms``."""
        self._link.replay.add(m.Credit(until_sample))
        self._link.changed.set()

    async def _put(self, request: m.Request, samples: int = 0, packets: int = 0) -> None:
        if self._link.error is not None:
            raise self._link.error
        if self._link.over or self._ending:
            raise WireError("the stream has ended; open another")
        self._begin()
        replay = self._link.replay
        replay.add(request, samples, packets)
        self._link.changed.set()
        limit = UNSENT_MS * self.config.sample_rate_hz // 1000
        if self._live:
            if replay.unsent_samples > limit and not self._link.catching_up:
                lost = replay.drop_unsent(limit)
                log.info("client drops audio", extra={"number": lost})
            return
        while (replay.unsent_samples > limit or len(replay) > 1000) and not self._link.over:
            self._link.room.clear()
            await self._link.room.wait()

    # -- receiving ------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[m.Response]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[m.Response]:
        self._begin()
        while True:
            while self._link.answers:
                yield self._link.answers.popleft()
            if self._link.over:
                if self._link.error is not None:
                    raise self._link.error
                return
            self._link.heard.clear()
            await self._link.heard.wait()

    async def opened(self) -> m.Started:
        """Wait for the server's first answer and return it.

        Raises:
            OssicleError: the stream was refused.
        """
        self._begin()
        await self._link.begun.wait()
        started = self.started
        if started is None:
            raise self._link.error or ServerLost("the stream was closed before it began")
        return started

    # -- life -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Stream:
        await self.opened()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up; without :meth:`end` before, the server flushes nothing."""
        self._link.over = True
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._task
        self._link.wake_all()

    def _begin(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._link.run(), name="ossicle-client")
