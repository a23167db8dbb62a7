"""All streams of one server: who may open one, and what is said of them all."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace

from ossicle.runtime.errors import OssicleError, WireError
from ossicle.streaming import messages as m
from ossicle.streaming.catalogue import describe
from ossicle.streaming.failures import Closing, failure_of
from ossicle.streaming.server.admission import Admission
from ossicle.streaming.server.caller import Caller
from ossicle.streaming.server.config import Settings
from ossicle.streaming.server.metrics import Metrics
from ossicle.streaming.server.opening import Opener, check_tasks, first_config, stream_limits
from ossicle.streaming.server.traffic import Traffic, traffic_of
from ossicle.streaming.server.watch import Watch
from ossicle.streaming.session.inlet import check_format
from ossicle.streaming.session.mailbox import Mailbox
from ossicle.streaming.session.seam import StreamEngine
from ossicle.streaming.session.session import Session
from ossicle.streaming.session.store import SnapshotStore, Token
from ossicle.streaming.version import VERSION

log = logging.getLogger("ossicle.service")


class Service:
    """What a server does, without the server. Make it on the event loop it will live on."""

    def __init__(
        self,
        engine: StreamEngine,
        settings: Settings,
        store: SnapshotStore | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.engine, self.settings, self.store = engine, settings, store
        self.metrics = metrics
        self.state = "READY"
        self.admission = Admission(settings.max_streams, settings.max_streams_per_client)
        self.sessions: dict[str, tuple[Session, Caller]] = {}
        self.streams_total = self.misses_total = 0
        self._past = Traffic()  # of streams that are over
        self._begun_s = time.monotonic()
        self._opener = Opener(
            engine,
            settings,
            store,
            Mailbox(asyncio.get_running_loop()),
            metrics,
        )
        self._watch = Watch(settings, self.sessions, store, lambda: engine.figures().measured)
        self._tightest: Callable[[float], None] = lambda _: None
        if metrics is not None:
            metrics.watch(self.status, engine.figures, self.traffic)

    # -- streams --------------------------------------------------------------------------------

    async def stream(
        self, requests: AsyncIterator[m.Request], caller: Caller
    ) -> AsyncIterator[m.Response]:
        """Yield the answers to one stream of requests.

        Raises:
            OssicleError: refused, or ended by what broke it; see ``failures`` for the table.
        """
        entered, outcome = False, "lost"
        session: Session | None = None
        try:
            config = await first_config(requests, self.settings.first_message_s)
            self._may_enter()
            self.admission.enter(caller.client, caller.grant.max_streams)
            entered = True
            session, started = self._open(config, caller)
            caller.session = session
            yield m.Response(started)
            if config.credit_ms:
                session.intake.give_credit()
            async for response in session.run(requests):
                yield response
            outcome = "ended" if session.ended else "lost"
        except OssicleError as error:
            if session is None:
                self._refuse("", error)
            raise
        finally:
            if session is not None:
                session.close()
                if session.failure is not None:
                    outcome = "failed"
                    self._refuse(session.name, session.failure)
                self._count(session, outcome)
            if entered:
                self.admission.leave(caller.client)

    def _refuse(self, session: str, error: Exception) -> None:
        reason = failure_of(error).reason
        if self.metrics is not None:
            self.metrics.refused.labels(reason).inc()
        log.info(
            "stream failed" if session else "stream refused",
            extra={"session": session, "reason": reason},
        )

    def _may_enter(self) -> None:
        if self.state != "READY":
            raise Closing(
                f"this server is {self.state.lower()}; try another or again later",
                reason="DRAINING",
                retry_after_ms=int(1000 * self.settings.drain_s),
            )

    def _open(self, config: m.Config, caller: Caller) -> tuple[Session, m.Started]:
        check_format(config)
        check_tasks(config)
        token = self._opener.token(config)
        found = self.sessions.get(token.stream) if token else None
        if found is not None:  # a half-open connection of the same stream
            found[0].fail(Closing("another connection took the stream over", reason="SUPERSEDED"))
        saved = self._opener.saved(token, config, caller)
        session = self._opener.open(config, caller, token, saved)
        return session, self._begin(session, caller, token)

    def _begin(self, session: Session, caller: Caller, token: Token | None) -> m.Started:
        key = session.checkpoints.stream if session.checkpoints else secrets.token_hex(16)
        self.sessions[key] = (session, caller)
        session.on_ended = lambda _: self._ended(key)
        self._tightest(self.tightest_ms())
        self.streams_total += 1
        log.info(
            "stream opened",
            extra={
                "session": session.name,
                "client": caller.grant.name,
                "tasks": [b.spec.kind for b in session.branches.values()],
                "resumed": token is not None,
            },
        )
        config = session.config
        return m.Started(
            session=session.name,
            sample_rate_hz=config.sample_rate_hz,
            channels=config.channels,
            output_rate_hz=config.output_rate_hz or config.sample_rate_hz,
            output_encoding=config.output_encoding,
            tasks=tuple(b.started for b in session.branches.values()),
            resume_token=config.resume_token
            or (self.store.token(key, 0) if session.checkpoints and self.store else b""),
            resumed=token is not None,
            acknowledged_sample=session.inlet.position,
            limits=session.limits,
            capacity_used=self.engine.figures().used,
            acknowledged_packets=session.intake.packets_in,
        )

    def _ended(self, key: str) -> None:
        self.sessions.pop(key, None)
        self._tightest(self.tightest_ms())

    def tightest_ms(self) -> float:
        """Return the shortest time that any open stream was promised."""
        return min((s.promised_ms for s, _ in self.sessions.values()), default=math.inf)

    def on_tightest(self, told: Callable[[float], None]) -> None:
        """Have ``told`` called with :meth:`tightest_ms` whenever a stream begins or ends."""
        self._tightest = told
        told(self.tightest_ms())

    def _count(self, session: Session, outcome: str) -> None:
        self.misses_total += sum(b.outlet.misses for b in session.branches.values())
        self._past += traffic_of(session)
        if session.checkpoints is not None and outcome == "ended":
            session.checkpoints.store.forget(session.checkpoints.stream)
        if self.metrics is None:
            return
        self.metrics.streams.labels(outcome).inc()

    # -- files, models, status ------------------------------------------------------------------

    async def process(
        self, config: m.Config, audio: bytes, packets: Iterable[m.WirePacket], caller: Caller
    ) -> list[m.Response]:
        """Return every answer to one whole file."""
        if len(audio) > self.settings.max_file_bytes:
            raise WireError(
                f"audio of {len(audio)} bytes; at most {self.settings.max_file_bytes} in one call. "
                "Use Stream",
                field="audio",
                reason="TOO_LARGE",
            )
        whole = replace(config, pace="file", checkpoints=False, resume_token=b"", credit_ms=0)
        step = min(64 << 10, self.settings.max_message_bytes)
        answers = self.stream(_file_requests(whole, audio, tuple(packets), step), caller)
        return [response async for response in answers]

    def list_models(self, task: str, caller: Caller) -> list[m.ModelInfo]:
        """Return the models that ``caller`` may use, for one task or all."""
        found = [describe(model.manifest) for model in self.engine.models()]
        return [
            info
            for info in found
            if caller.grant.allows_model(info.name) and (not task or info.task == task)
        ]

    def status(self) -> m.Status:
        """Return how the server is."""
        figures = self.engine.figures()
        models = tuple(
            m.ModelStatus(
                model.name,
                figures.slots_used.get(model.name, 0),
                figures.slots_total,
                figures.costs_us.get(model.name, {}),
            )
            for model in self.engine.models()
        )
        misses = sum(
            branch.outlet.misses
            for session, _ in list(self.sessions.values())
            for branch in session.branches.values()
        )
        return m.Status(
            VERSION,
            self.state,
            time.monotonic() - self._begun_s,
            len(self.sessions),
            self.settings.max_streams,
            figures.used,
            models,
            stream_limits(self.settings),
            self.streams_total,
            self.misses_total + misses,
            self.traffic().gaps,
        )

    def traffic(self) -> Traffic:
        """Return what went through all streams so far; may be asked from any thread."""
        total = self._past
        for session, _ in list(self.sessions.values()):
            total = total + traffic_of(session)
        return total

    # -- time -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to watch the clock."""
        self._watch.start()

    async def stop(self) -> None:
        """Stop watching the clock and close what is open."""
        await self._watch.stop()
        for session, _ in list(self.sessions.values()):
            session.fail(Closing("the server stopped", reason="DRAINING", retry_after_ms=1000))

    async def drain(self) -> None:
        """Take no more streams and wait until the open ones have ended, ``drain_s`` at most."""
        self.state = "DRAINING"
        for session, _ in list(self.sessions.values()):
            session.going_away(self.settings.drain_s, "DRAIN")
        limit = time.monotonic() + self.settings.drain_s
        while self.sessions and time.monotonic() < limit:  # noqa: ASYNC110  (a bounded drain)
            await asyncio.sleep(0.05)


async def _file_requests(
    config: m.Config, audio: bytes, packets: tuple[m.WirePacket, ...], step: int
) -> AsyncIterator[m.Request]:
    yield config
    for at in range(0, len(audio), step):
        yield m.AudioIn(audio[at : at + step])
    for at in range(0, len(packets), 50):
        yield m.PacketsIn(packets[at : at + 50])
    yield m.End()
