"""All streams of one server: who may open one, on what models, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ossicle.runtime import snapshot
from ossicle.runtime.audio import AudioFormat
from ossicle.runtime.budget import Budget, LatencyClass
from ossicle.runtime.errors import OssicleError, WireError
from ossicle.runtime.task import Task
from ossicle.streaming import messages as m
from ossicle.streaming.checkpoints import Checkpoints, unpack
from ossicle.streaming.config import Settings
from ossicle.streaming.encodings import PCM_WIDTH
from ossicle.streaming.failures import Closing, failure_of
from ossicle.streaming.inlet import Inlet, check_format
from ossicle.streaming.limits import Admission, Rate
from ossicle.streaming.mailbox import Mailbox
from ossicle.streaming.metrics import Metrics
from ossicle.streaming.outbox import Outbox
from ossicle.streaming.outlet import Outlet
from ossicle.streaming.resume import SnapshotStore, Token
from ossicle.streaming.seam import Batch, StreamEngine
from ossicle.streaming.security import ANYONE, Denied, Grant
from ossicle.streaming.session import Branch, Session
from ossicle.streaming.tasks import build, codec_facts, ladder_options, model_of
from ossicle.streaming.version import VERSION

log = logging.getLogger("ossicle.service")
TICK_S = 0.25


def _nothing() -> None:
    """Do nothing."""


@dataclass(slots=True)
class Caller:
    """Who calls, and how to hang up on them."""

    grant: Grant = ANYONE
    client: str = "local"  # what limits are counted by
    peer: str = ""  # for logs
    hangup: Callable[[], None] = field(default=_nothing)


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
        self.streams_total = self.misses_total = self.gaps_total = 0
        self._begun_s = time.monotonic()
        self._mailbox = Mailbox(asyncio.get_running_loop())
        self._ticker: asyncio.Task[None] | None = None
        if metrics is not None:
            metrics.watch(self.status, engine.figures)

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
            config = await self._first(requests)
            self._may_enter()
            self.admission.enter(caller.client, caller.grant.max_streams)
            entered = True
            session, started = self._open(config, caller)
            yield m.Response(started)
            if config.credit_ms:
                session.give_credit()
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

    async def _first(self, requests: AsyncIterator[m.Request]) -> m.Config:
        try:
            async with asyncio.timeout(self.settings.first_message_s):
                first = await anext(requests, None)
        except TimeoutError:
            raise Closing(
                f"no config within {self.settings.first_message_s:g} s; send it first",
                reason="SLOW_START",
            ) from None
        if not isinstance(first, m.Config):
            raise WireError(
                f"the first message is {type(first).__name__ if first else 'missing'}; a config "
                "comes first",
                field="config",
            )
        return first

    def _may_enter(self) -> None:
        if self.state != "READY":
            raise Closing(
                f"this server is {self.state.lower()}; try another or again later",
                reason="DRAINING",
                retry_after_ms=int(1000 * self.settings.drain_s),
            )

    def _open(self, config: m.Config, caller: Caller) -> tuple[Session, m.Started]:
        check_format(config)
        specs = self._specs(config)
        config = replace(config, tasks=specs)
        token, tree = self._resumed(config, caller)
        saved = tree or {}
        limits = self.stream_limits()
        inlet = Inlet(config, saved.get("inlet"))
        credit = None
        if config.credit_ms:
            credit = inlet.position + config.credit_ms * config.sample_rate_hz // 1000
        outbox = Outbox(self.settings.output_ms, config.pace == "live", credit)
        session: Session | None = None
        branches: list[tuple[Branch, Task, Any]] = []
        try:
            for spec in specs:
                side = saved.get("tasks", {}).get(spec.track)
                branches.append(self._branch(spec, config, caller, outbox, side))
            name = token.stream if token else SnapshotStore.new_stream()
            checkpoints = self._checkpoints(config, caller, name, token, inlet.position)
            per_second = caller.grant.bytes_per_second or self.settings.bytes_per_second
            session = Session(
                name[:12],
                config,
                inlet,
                outbox,
                [branch for branch, _, _ in branches],
                limits,
                Rate(per_second),
                checkpoints,
                self.settings.drift_notice_ppm,
            )
            for branch, task, side in branches:
                self._lease(session, branch, task, side)
        except BaseException:
            inlet.close()
            if session is not None:
                session.close()
            raise
        session.packets_in = saved.get("packets_in", 0)
        session.bytes_in = saved.get("bytes_in", 0)
        session.messages_in = saved.get("messages_in", 0)
        return session, self._begin(session, caller, token)

    def _branch(
        self, spec: m.TaskSpec, config: m.Config, caller: Caller, outbox: Outbox, side: Any
    ) -> tuple[Branch, Task, Any]:
        name = model_of(spec)
        if not caller.grant.allows_model(name):
            raise Denied(f"the token does not allow model {name}", known=True)
        model = self.engine.model(name)
        task = build(spec, model, config.pace == "live")
        manifest = model.manifest
        fitting = LatencyClass.fitting(1000 * task.latency / manifest.sample_rate_hz)
        started = m.TaskStarted(
            spec.track,
            spec.kind,
            name,
            manifest.version,
            manifest.sample_rate_hz,
            manifest.hop,
            manifest.lookahead,
            task.latency,
            spec.latency_class or fitting,
            round(spec.deadline_ms or 0),
            float(spec.options.get("kbps") or 0.0),
            *codec_facts(model),
            delay_samples=manifest.delay,
        )
        outlet = Outlet(
            spec.track,
            manifest.sample_rate_hz,
            config.sample_rate_hz,
            config.output_rate_hz or config.sample_rate_hz,
            config.output_encoding,
            outbox,
            snapshot.load(side[1]) if side else None,
            finals_only=bool(spec.options.get("finals_only")),
            heartbeats=not spec.options.get("no_heartbeat"),
        )
        return Branch(spec, started, outlet), task, side

    def _lease(self, session: Session, branch: Branch, task: Task, side: Any) -> None:
        spec, mailbox, metrics = branch.spec, self._mailbox, self.metrics
        kind = spec.kind

        def on_events(batch: Batch) -> None:
            mailbox.call(session.deliver, branch, batch)

        if metrics is not None:
            branch.outlet.on_hop = lambda ledger: metrics.hop(kind, ledger)
        branch.lease = self.engine.open(
            task,
            Budget(spec.latency_class or LatencyClass.OFFLINE, spec.deadline_ms),
            on_events,
            live=session.live,
            ladder=ladder_options(spec.ladder),
            restore=snapshot.load(side[0]) if side else None,
        )
        drinks = task.input_format
        if drinks is not None:
            session.inlet.connect(AudioFormat(drinks.rate_hz, drinks.channels), branch.lease)

    def _specs(self, config: m.Config) -> tuple[m.TaskSpec, ...]:
        if not config.tasks:
            raise WireError("config.tasks is empty; name at least one", field="config.tasks")
        tracks = [t.track for t in config.tasks]
        if len(set(tracks)) != len(tracks):
            raise WireError(
                f"two tasks of one name in {tracks}; give each its own", field="config.tasks.name"
            )
        return config.tasks

    def _resumed(
        self, config: m.Config, caller: Caller
    ) -> tuple[Token | None, dict[str, Any] | None]:
        if not config.resume_token:
            return None, None
        if self.store is None:
            raise WireError(
                "this server keeps no snapshots (no --state-dir); open a new stream",
                field="config.resume_token",
                reason="RESUME",
            )
        token = self.store.read_token(config.resume_token)
        found = self.sessions.get(token.stream)
        if found is not None:  # a half-open connection of the same stream
            found[0].fail(Closing("another connection took the stream over", reason="SUPERSEDED"))
        return token, unpack(self.store.read(token), caller.grant.name, config)

    def _checkpoints(
        self, config: m.Config, caller: Caller, name: str, token: Token | None, position: int
    ) -> Checkpoints | None:
        wanted = config.checkpoints or token is not None
        if self.store is None or not wanted or config.encoding not in PCM_WIDTH:
            return None
        every = max(1, int(self.settings.checkpoint_s * config.sample_rate_hz))
        return Checkpoints(
            self.store,
            name,
            caller.grant.name,
            config,
            every,
            self.settings.checkpoint_share,
            token.number if token else 0,
            position,
        )

    def _begin(self, session: Session, caller: Caller, token: Token | None) -> m.Started:
        key = session.checkpoints.stream if session.checkpoints else secrets.token_hex(16)
        self.sessions[key] = (session, caller)
        session.on_ended = lambda _: (self.sessions.pop(key, None), None)[1]
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
            acknowledged_packets=session.packets_in,
        )

    def _count(self, session: Session, outcome: str) -> None:
        outlets = [b.outlet for b in session.branches.values()]
        self.misses_total += sum(o.misses for o in outlets)
        gaps = sum(o.gaps for o in outlets) + session.outbox.dropped_gaps
        self.gaps_total += gaps
        if session.checkpoints is not None and outcome == "ended":
            session.checkpoints.store.forget(session.checkpoints.stream)
        if self.metrics is None:
            return
        self.metrics.streams.labels(outcome).inc()
        self.metrics.bytes_in.inc(session.bytes_in)
        self.metrics.bytes_out.inc(session.bytes_out)
        self.metrics.samples.inc(session.inlet.position)
        self.metrics.gaps.labels("stream").inc(gaps)

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
        answers = self.stream(_file_requests(whole, audio, tuple(packets)), caller)
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
        open_outlets = [
            b.outlet for session, _ in self.sessions.values() for b in session.branches.values()
        ]
        return m.Status(
            VERSION,
            self.state,
            time.monotonic() - self._begun_s,
            len(self.sessions),
            self.settings.max_streams,
            figures.used,
            models,
            self.stream_limits(),
            self.streams_total,
            self.misses_total + sum(o.misses for o in open_outlets),
            self.gaps_total + sum(o.gaps for o in open_outlets),
        )

    def stream_limits(self) -> m.StreamLimits:
        """Return the limits that every stream is told."""
        s = self.settings
        return m.StreamLimits(
            s.max_message_bytes, int(s.idle_s), int(s.max_duration_s), s.ring_ms, s.output_ms
        )

    # -- time -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to watch the clock."""
        self._ticker = asyncio.create_task(self._tick(), name="ossicle-tick")

    async def stop(self) -> None:
        """Stop watching the clock and close what is open."""
        if self._ticker is not None:
            self._ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticker
        for session, _ in list(self.sessions.values()):
            session.fail(Closing("the server stopped", reason="DRAINING", retry_after_ms=1000))

    async def drain(self) -> None:
        """Take no more streams and wait until the open ones have ended, ``drain_s`` at most."""
        self.state = "DRAINING"
        for session, _ in list(self.sessions.values()):
            session.going_away(self.settings.drain_s, "DRAIN")
        limit = time.monotonic() + self.settings.drain_s
        while self.sessions and time.monotonic() < limit:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def _tick(self) -> None:
        swept = 0.0
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            for session, caller in list(self.sessions.values()):
                self._watch(session, caller, now)
            if self.store is not None and now - swept > 10.0:
                swept = now
                await asyncio.to_thread(self.store.sweep)

    def _watch(self, session: Session, caller: Caller, now: float) -> None:
        s = self.settings
        since = session.taking_since
        if since is not None and len(session.outbox) and now - since > s.stall_s:
            session.fail(
                Closing(f"the client took no answer for {s.stall_s:g} s", reason="STALLED")
            )
            caller.hangup()
        elif now - session.heard_s > s.idle_s and not session.ended and not session.waiting:
            session.fail(
                Closing(
                    f"nothing came from the client for {s.idle_s:g} s; send audio, or `end`",
                    reason="IDLE",
                )
            )
        elif s.max_duration_s:
            left = session.opened_s + s.max_duration_s - now
            if left <= 0:
                session.fail(
                    Closing(
                        f"the connection is {s.max_duration_s:g} s old, as old as it may get; "
                        "reconnect to go on",
                        reason="DRAINING",
                        retry_after_ms=100,
                    )
                )
            elif left <= s.going_away_s and not session.warned:
                session.warned = True
                session.going_away(left, "MAX_DURATION")


async def _file_requests(
    config: m.Config, audio: bytes, packets: tuple[m.WirePacket, ...]
) -> AsyncIterator[m.Request]:
    yield config
    step = 64 << 10
    for at in range(0, len(audio), step):
        yield m.AudioIn(audio[at : at + step])
    for at in range(0, len(packets), 50):
        yield m.PacketsIn(packets[at : at + 50])
    yield m.End()


def describe(manifest: Any, loaded: bool = True) -> m.ModelInfo:
    """Return what clients are told of a bundle."""
    return m.ModelInfo(
        manifest.name,
        manifest.version,
        manifest.task,
        manifest.license,
        manifest.license_class,
        manifest.sample_rate_hz,
        manifest.channels,
        manifest.hop,
        manifest.lookahead,
        manifest.latency,
        LatencyClass.parse(manifest.latency_class),
        tuple(manifest.labels or ()),
        loaded,
    )
