"""The way to the server and back again after it was lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace

from ossicle.runtime.errors import OssicleError, WireError
from ossicle.streaming import messages as m
from ossicle.streaming.client.received import Received
from ossicle.streaming.client.replay import Replay
from ossicle.streaming.client.transport import ServerError, Transport

log = logging.getLogger("ossicle.client")
KEEP_S = 120  # audio kept for a reconnect at most
CATCH_UP = 4.0  # how much faster than real time a live stream is sent after an outage
CAUGHT_UP_MS = 100
HELD_ANSWERS = 50_000


class ServerLost(OssicleError):  # noqa: N818  (an event, said as one)
    """The server could not be reached again in time, or nothing was kept to go on with."""


class Link:
    """Carries one stream over as many connections as it takes.

    Whoever owns it adds requests to ``replay`` and takes from ``answers``; the events say when
    there is something to do.
    """

    def __init__(
        self, transport: Transport, config: m.Config, patience_s: float, resume: bool
    ) -> None:
        self.config, self.patience_s = config, patience_s
        self.started: m.Started | None = None
        self.ended: m.Ended | None = None
        self.error: Exception | None = None
        self.over = False
        self.reconnects = 0
        self.replay = Replay(resume, KEEP_S * max(1, config.sample_rate_hz))
        self.received = Received()
        self.answers: deque[m.Response] = deque()
        self.catching_up = False  # after an outage, until what piled up was sent
        self.changed = asyncio.Event()  # something to send
        self.room = asyncio.Event()  # something was sent
        self.heard = asyncio.Event()  # something came back
        self.begun = asyncio.Event()  # the first answer came
        self._transport = transport
        self._live = config.pace == "live"
        self.checkpoint: m.Checkpoint | None = None
        self._acknowledge = 0
        self._allowed: int | None = None
        self._attempt = 0  # connections so far
        self._progress_s = time.monotonic()

    def wake_all(self) -> None:
        """Let everyone who waits look again."""
        for event in (self.heard, self.room, self.begun, self.changed):
            event.set()

    async def run(self) -> None:
        """Connect, and again, until the stream has ended; ``error`` says why it could not."""
        try:
            await self._connect_until_ended()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.error = error
        finally:
            self.over = True
            self.wake_all()

    async def _connect_until_ended(self) -> None:
        wait_s = 0.05
        while self.ended is None:
            before = self._progress_s
            error: OssicleError = ServerLost("the connection ended without `ended`")
            try:
                if await self._connection():
                    return
            except ServerError as lost:
                error = lost
                if self._starts_over(lost):
                    continue
                if lost.final or self.started is None:
                    raise
            if self._progress_s > before:
                wait_s = 0.05
            self._check_patience(error)
            self.catching_up = True
            log.info("reconnecting", extra={"reason": str(error)})
            hint = error.failure.retry_after_ms / 1000 if isinstance(error, ServerError) else 0.0
            await asyncio.sleep(max(wait_s, min(hint, 0.5)))
            wait_s = min(1.0, 2 * wait_s)
            self.reconnects += 1

    def _check_patience(self, error: OssicleError) -> None:
        replay = self.replay
        if not (replay.keep and replay.complete):
            raise ServerLost(
                f"{error}; what was sent is not kept, so the stream cannot go on. Open it with "
                "resume=True"
            ) from error
        if time.monotonic() - self._progress_s > self.patience_s:
            raise ServerLost(
                f"{error}; no server came back within {self.patience_s:g} s"
            ) from error

    def _starts_over(self, error: ServerError) -> bool:
        """Whether a lost snapshot can be made up for by sending everything again."""
        if error.failure.reason != "RESUME" or self.checkpoint is None:
            return False
        if not self.replay.complete or self.checkpoint.sample or self.checkpoint.packets:
            return False
        self.checkpoint = None
        return True

    async def _connection(self) -> bool:
        """Carry one connection; return whether the stream has ended well."""
        self.replay.rewind()
        self._allowed = None
        self._attempt += 1
        async for response in self._transport.stream(self._requests(self._attempt)):
            self._take(response)
            if len(self.answers) > HELD_ANSWERS:
                raise WireError(
                    f"{HELD_ANSWERS} answers were not read; iterate the stream while sending"
                )
        return self.ended is not None

    async def _requests(self, attempt: int) -> AsyncIterator[m.Request]:
        """Yield what one connection sends; a connection given up takes nothing more."""
        checkpoint = self.checkpoint
        token = checkpoint.token if checkpoint is not None else b""
        yield replace(self.config, resume_token=token)
        held = self.replay.markers()
        for number, marker in list(self.received.markers.items()):
            if number not in held:  # a checkpoint covers it, but its answer was lost
                yield marker
        while not self.over and attempt == self._attempt:
            if self._acknowledge:
                number, self._acknowledge = self._acknowledge, 0
                yield m.Acknowledge(number)
            if self._live and self.catching_up:
                await self._catch_up()
                if attempt != self._attempt:
                    return
            request = self.replay.take(self._allowed)
            self.room.set()
            if request is None:
                self.changed.clear()
                await self.changed.wait()
                continue
            yield request
            if isinstance(request, m.End):
                return

    async def _catch_up(self) -> None:
        """After an outage a live stream is sent faster than it was heard, yet not all at once."""
        rate = self.config.sample_rate_hz
        if self.replay.unsent_samples < CAUGHT_UP_MS * rate // 1000:
            self.catching_up = False
        else:
            await asyncio.sleep(self.replay.next_samples / rate / CATCH_UP)

    def _take(self, response: m.Response) -> None:
        body = response.body
        match body:
            case m.Started():
                self._take_started(body)
                return
            case m.Checkpoint():
                self.checkpoint, self._acknowledge = body, body.number
                self._progress_s = time.monotonic()
                self.replay.prune(body.sample, body.packets)
                self.changed.set()
                return
            case m.Credit(until):
                self._allowed = until
                self.changed.set()
                return
            case m.Ended():
                self.ended = body
        fresh = self.received.fresh(response, self.started)
        if fresh is not None:
            self._progress_s = time.monotonic()
            self.answers.append(fresh)
            self.heard.set()

    def _take_started(self, started: m.Started) -> None:
        if self.started is None:
            self.started = started
            if not started.resume_token:
                self.replay.let_go()
            self.begun.set()
