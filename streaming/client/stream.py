"""One stream of a client: it sends, receives, and goes on by itself when the connection is lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from ossicle.runtime.audio import Samples
from ossicle.runtime.errors import OssicleError, WireError
from ossicle.streaming import messages as m
from ossicle.streaming.captions.cue import Cue
from ossicle.streaming.client.replay import Replay
from ossicle.streaming.client.transport import ServerError, Transport
from ossicle.streaming.encodings import PCM_WIDTH, decode, encode

log = logging.getLogger("ossicle.client")
UNSENT_MS = 500  # audio that may wait here; more is dropped (live) or waits (file)
KEEP_S = 120  # audio kept for a reconnect at most
CATCH_UP = 4.0  # how much faster than real time a live stream is sent after an outage
CAUGHT_UP_MS = 100
HELD_ANSWERS = 50_000


class ServerLost(OssicleError):  # noqa: N818
    """The server could not be reached again in time, or nothing was kept to go on with."""


@dataclass(frozen=True, slots=True)
class Sound:
    """Samples of one track, `[C, T]`, at the stream's output rate."""

    track: str
    samples: Samples
    start_sample: int
    rate_hz: int
    discont: bool = False

    @property
    def stop_sample(self) -> int:
        """Index after the last sample."""
        return self.start_sample + int(self.samples.shape[1])


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
        self.config = replace(config, checkpoints=resume and config.encoding in PCM_WIDTH)
        self.patience_s = patience_s
        self.started: m.Started | None = None
        self.ended: m.Ended | None = None
        self.reconnects = 0
        self._transport = transport
        self._live = config.pace == "live"
        self._replay = Replay(resume, KEEP_S * max(1, config.sample_rate_hz))
        self._checkpoint: m.Checkpoint | None = None
        self._answers: deque[m.Response] = deque()
        self._changed = asyncio.Event()  # something to send, or room to send
        self._heard = asyncio.Event()
        self._room = asyncio.Event()
        self._over = False
        self._error: Exception | None = None
        self._allowed: int | None = None
        self._acknowledge = 0
        self._seen: dict[tuple[str, str], int] = {}  # positions received, by track
        self._markers: dict[int, m.Marker] = {}
        self._ending = False
        self._catching_up = False  # after an outage, until what piled up was sent
        self._attempt = 0  # connections so far
        self._progress_s = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._begun = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether the stream has ended or failed."""
        return self._over

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

    async def query(self, text: str, task: str = "") -> None:
        """Change what is separated from here on."""
        await self._put(m.Query(text, task))

    async def report_loss(self, lost: float, task: str = "") -> None:
        """Tell an encode task what the receiver lost."""
        await self._put(m.LossReport(lost, 0.0, task))

    async def mark(self, id: int) -> None:
        """Send a marker; it comes back among the answers when all before it was answered."""
        marker = m.Marker(id, time.monotonic_ns())
        self._markers[id] = marker
        await self._put(marker)

    async def end(self) -> None:
        """Say that nothing more comes."""
        if not self._ending:
            await self._put(m.End())
            self._ending = True

    def grant(self, until_sample: int) -> None:
        """Let the server answer up to a position; for configs with ``credit_ms``."""
        self._replay.add(m.Credit(until_sample))
        self._changed.set()

    async def _put(self, request: m.Request, samples: int = 0, packets: int = 0) -> None:
        if self._error is not None:
            raise self._error
        if self._over or self._ending:
            raise WireError("the stream has ended; open another")
        self._begin()
        replay = self._replay
        replay.add(request, samples, packets)
        self._changed.set()
        limit = UNSENT_MS * self.config.sample_rate_hz // 1000
        if self._live:
            if replay.unsent_samples > limit and not self._catching_up:
                lost = replay.drop_unsent(limit)
                log.info("client drops audio", extra={"number": lost})
            return
        while (replay.unsent_samples > limit or len(replay) > 1000) and not self._over:
            self._room.clear()
            await self._room.wait()

    # -- receiving ------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[m.Response]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[m.Response]:
        self._begin()
        while True:
            while self._answers:
                yield self._answers.popleft()
            if self._over:
                if self._error is not None:
                    raise self._error
                return
            self._heard.clear()
            await self._heard.wait()

    async def opened(self) -> m.Started:
        """Wait for the server's first answer and return it.

        Raises:
            OssicleError: the stream was refused.
        """
        self._begin()
        await self._begun.wait()
        started = self.started
        if started is None:
            raise self._error or ServerLost("the stream was closed before it began")
        return started

    # -- life -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Stream:
        await self.opened()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up; without :meth:`end` before, the server flushes nothing."""
        self._over = True
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._task
        self._wake_all()

    def _begin(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="ossicle-client")

    def _wake_all(self) -> None:
        for event in (self._heard, self._room, self._begun, self._changed):
            event.set()

    async def _run(self) -> None:
        try:
            await self._connect_until_ended()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._error = error
        finally:
            self._over = True
            self._wake_all()

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
            self._catching_up = True
            log.info("reconnecting", extra={"reason": str(error)})
            hint = error.failure.retry_after_ms / 1000 if isinstance(error, ServerError) else 0.0
            await asyncio.sleep(max(wait_s, min(hint, 0.5)))
            wait_s = min(1.0, 2 * wait_s)
            self.reconnects += 1

    def _check_patience(self, error: OssicleError) -> None:
        replay = self._replay
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
        if error.failure.reason != "RESUME" or self._checkpoint is None:
            return False
        if not self._replay.complete or self._checkpoint.sample or self._checkpoint.packets:
            return False
        self._checkpoint = None
        return True

    async def _connection(self) -> bool:
        """Carry one connection; return whether the stream has ended well."""
        self._replay.rewind()
        self._allowed = None
        self._attempt += 1
        async for response in self._transport.stream(self._requests(self._attempt)):
            self._take(response)
            if len(self._answers) > HELD_ANSWERS:
                raise WireError(
                    f"{HELD_ANSWERS} answers were not read; iterate the stream while sending"
                )
        return self.ended is not None

    async def _requests(self, attempt: int) -> AsyncIterator[m.Request]:
        """Yield what one connection sends; a connection given up takes nothing more."""
        checkpoint = self._checkpoint
        token = checkpoint.token if checkpoint is not None else b""
        yield replace(self.config, resume_token=token)
        held = self._replay.markers()
        for number, marker in list(self._markers.items()):
            if number not in held:  # a checkpoint covers it, but its answer was lost
                yield marker
        while not self._over and attempt == self._attempt:
            if self._acknowledge:
                number, self._acknowledge = self._acknowledge, 0
                yield m.Acknowledge(number)
            if self._live and self._catching_up:
                await self._catch_up()
                if attempt != self._attempt:
                    return
            request = self._replay.take(self._allowed)
            self._room.set()
            if request is None:
                self._changed.clear()
                await self._changed.wait()
                continue
            yield request
            if isinstance(request, m.End):
                return

    async def _catch_up(self) -> None:
        """After an outage a live stream is sent faster than it was heard, yet not all at once."""
        rate = self.config.sample_rate_hz
        if self._replay.unsent_samples < CAUGHT_UP_MS * rate // 1000:
            self._catching_up = False
        else:
            await asyncio.sleep(self._replay.next_samples / rate / CATCH_UP)

    def _take(self, response: m.Response) -> None:
        body = response.body
        match body:
            case m.Started():
                self._take_started(body)
                return
            case m.Checkpoint():
                self._checkpoint, self._acknowledge = body, body.number
                self._progress_s = time.monotonic()
                self._replay.prune(body.sample, body.packets)
                self._changed.set()
                return
            case m.Credit(until):
                self._allowed = until
                self._changed.set()
                return
            case m.AudioOut():
                response = self._new_audio(response, body)  # type: ignore[assignment]
            case m.PacketsOut():
                response = self._new_packets(response, body)  # type: ignore[assignment]
            case Cue():
                if not self._new(response.task, "cue", body.seq):
                    return
            case m.Marker(number):
                if self._markers.pop(number, None) is None:
                    return
            case m.Ended():
                self.ended = body
        if response is not None:
            self._progress_s = time.monotonic()
            self._answers.append(response)
            self._heard.set()

    def _take_started(self, started: m.Started) -> None:
        if self.started is None:
            self.started = started
            if not started.resume_token:
                self._replay.let_go()
            self._begun.set()

    def _new(self, task: str, track: str, position: int) -> bool:
        key = (task, track)
        if position <= self._seen.get(key, -1):
            return False
        self._seen[key] = position
        return True

    def _new_audio(self, response: m.Response, body: m.AudioOut) -> m.Response | None:
        assert self.started is not None
        key = (response.task, "audio:" + body.track)
        seen = self._seen.get(key, 0)
        stop = body.start_sample + body.samples
        if stop <= seen:
            return None
        self._seen[key] = stop
        samples = decode(body.data, self.started.output_encoding, body.channels)
        skip = max(0, seen - body.start_sample)
        sound = Sound(
            body.track,
            samples[:, skip:],
            body.start_sample + skip,
            self.started.output_rate_hz,
            body.discont and not skip,
        )
        return replace(response, body=sound)

    def _new_packets(self, response: m.Response, body: m.PacketsOut) -> m.Response | None:
        fresh = tuple(
            p for p in body.packets if self._new(response.task, "packets", p.start_sample)
        )
        return replace(response, body=replace(body, packets=fresh)) if fresh else None
