"""From a config to a session: models, budgets, leases, and what an earlier connection left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from ossicle.runtime import snapshot
from ossicle.runtime.audio import AudioFormat
from ossicle.runtime.budget import Budget, LatencyClass
from ossicle.runtime.errors import QueryError, WireError
from ossicle.runtime.model import Model
from ossicle.runtime.task import Task
from ossicle.streaming import messages as m
from ossicle.streaming.failures import Closing, Denied
from ossicle.streaming.server.caller import Caller
from ossicle.streaming.server.config import Settings
from ossicle.streaming.server.metrics import Metrics
from ossicle.streaming.session.branch import Branch
from ossicle.streaming.session.checkpoints import Checkpoints, unpack
from ossicle.streaming.session.inlet import Inlet
from ossicle.streaming.session.limits import Rate
from ossicle.streaming.session.mailbox import Mailbox
from ossicle.streaming.session.outbox import Outbox
from ossicle.streaming.session.outlet import Outlet
from ossicle.streaming.session.seam import Batch, Lease, StreamEngine
from ossicle.streaming.session.session import Session
from ossicle.streaming.session.store import SnapshotStore, Token
from ossicle.streaming.tasks import (
    build,
    check_ladder,
    check_smaller,
    codec_facts,
    ladder_options,
    model_of,
)


@dataclass(slots=True)
class Opener:
    """What sessions of one server are made with."""

    engine: StreamEngine
    settings: Settings
    store: SnapshotStore | None
    mailbox: Mailbox
    metrics: Metrics | None

    def open(
        self, config: m.Config, caller: Caller, token: Token | None, saved: dict[str, Any]
    ) -> Session:
        """Return a session with its leases; ``saved`` is what a snapshot held, or nothing.

        Raises:
            OssicleError: refused; everything taken on the way was given back.
        """
        inlet = Inlet(config, saved.get("inlet"))
        outbox = Outbox(
            self.settings.output_ms,
            config.pace == "live",
            _credit(config, inlet),
            getattr(asyncio.get_running_loop(), "hurry", None),
        )
        session: Session | None = None
        branches: list[tuple[Branch, Task, Any]] = []
        try:
            for spec in config.tasks:
                side = saved.get("tasks", {}).get(spec.track)
                branches.append(self._branch(spec, config, caller, outbox, side))
            name = token.stream if token else SnapshotStore.new_stream()
            session = Session(
                name[:12],
                config,
                inlet,
                outbox,
                [branch for branch, _, _ in branches],
                stream_limits(self.settings),
                Rate(caller.grant.bytes_per_second or self.settings.bytes_per_second),
                self._checkpoints(config, caller, name, token, inlet.position),
                self.settings.drift_notice_ppm,
                self.settings.log_text,
                lambda branch, name: self._reopen(session, branch, name),
            )
            for branch, task, side in branches:
                self._lease(session, branch, task, side)
        except BaseException:
            inlet.close()
            if session is not None:
                session.close()
            raise
        session.intake.packets_in = saved.get("packets_in", 0)
        if inlet.coded is None:  # else all of it comes again and is counted again
            session.intake.bytes_in = saved.get("bytes_in", 0)
            session.intake.messages_in = saved.get("messages_in", 0)
        return session

    def _branch(
        self, spec: m.TaskSpec, config: m.Config, caller: Caller, outbox: Outbox, side: Any
    ) -> tuple[Branch, Task, Any]:
        name, left = model_of(spec), snapshot.load(side[1]) if side else None
        model = self._allowed(name, caller)
        decoder = str(spec.options.get("decoder") or "none")
        if decoder != "none" and not caller.grant.allows_model(decoder):
            raise Denied(f"the token does not allow model {decoder}", known=True)
        check_ladder(spec)
        for rung in spec.ladder:
            if rung.kind == "smaller_model" and rung.model:
                check_smaller(spec, model, self._allowed(rung.model, caller))
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
            left,
            finals_only=bool(spec.options.get("finals_only")),
            heartbeats=not spec.options.get("no_heartbeat"),
        )
        branch = Branch(spec, started, outlet, left)
        if branch.now != name:  # a stream resumes on the model it had
            task = build(spec, self._allowed(branch.now, caller), config.pace == "live")
        return branch, task, side

    def _allowed(self, name: str, caller: Caller) -> Model:
        if not caller.grant.allows_model(name):
            raise Denied(f"the token does not allow model {name}", known=True)
        return self.engine.model(name)

    def _lease(self, session: Session, branch: Branch, task: Task, side: Any) -> None:
        if self.metrics is not None:
            branch.outlet.on_hop = self.metrics.hops(branch.spec.kind).add
        branch.lease = self._open(session, branch, task, side)
        drinks = task.input_format
        if drinks is not None:
            session.inlet.connect(AudioFormat(drinks.rate_hz, drinks.channels), branch.lease)

    def _reopen(self, session: Session | None, branch: Branch, name: str) -> Lease:
        """Return a lease of the same task on model ``name``."""
        assert session is not None
        model = self.engine.model(name)
        try:
            task = build(branch.spec, model, session.live)
        except QueryError:  # what was asked for in between was refused, and the client was told
            task = build(branch.first, model, session.live)
        return self._open(session, branch, task, None)

    def _open(self, session: Session, branch: Branch, task: Task, side: Any) -> Lease:
        spec, mailbox = branch.spec, self.mailbox

        def on_events(batch: Batch) -> None:
            mailbox.call(session.deliver, branch, batch)

        return self.engine.open(
            task,
            Budget(spec.latency_class or LatencyClass.OFFLINE, spec.deadline_ms),
            on_events,
            live=session.live,
            ladder=ladder_options(branch.rungs),
            restore=snapshot.load(side[0]) if side else None,
        )

    def token(self, config: m.Config) -> Token | None:
        """Return what the config's resume token names; nothing without one.

        Raises:
            SnapshotError: it was not made here.
            WireError: this server keeps no snapshots.
        """
        if not config.resume_token:
            return None
        if self.store is None:
            raise WireError(
                "this server keeps no snapshots (no --state-dir); open a new stream",
                field="config.resume_token",
                reason="RESUME",
            )
        return self.store.read_token(config.resume_token)

    def saved(self, token: Token | None, config: m.Config, caller: Caller) -> dict[str, Any]:
        """Return what the snapshot of ``token`` holds.

        Raises:
            SnapshotError: gone, foreign, or of another config.
        """
        if token is None or self.store is None:
            return {}
        return unpack(self.store.read(token), caller.grant.name, config)

    def _checkpoints(
        self, config: m.Config, caller: Caller, name: str, token: Token | None, position: int
    ) -> Checkpoints | None:
        wanted = config.checkpoints or token is not None
        if self.store is None or not wanted:
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


async def first_config(requests: AsyncIterator[m.Request], limit_s: float) -> m.Config:
    """Return a stream's first request.

    Raises:
        Closing: it did not come in time.
        WireError: it is no config.
    """
    try:
        async with asyncio.timeout(limit_s):
            first = await anext(requests, None)
    except TimeoutError:
        raise Closing(
            f"no config within {limit_s:g} s; send it first", reason="SLOW_START"
        ) from None
    if not isinstance(first, m.Config):
        raise WireError(
            f"the first message is {type(first).__name__ if first else 'missing'}; a config "
            "comes first",
            field="config",
        )
    return first


def check_tasks(config: m.Config) -> None:
    """Refuse a config without tasks, or with two of one name.

    Raises:
        WireError: with the field that is wrong.
    """
    if not config.tasks:
        raise WireError("config.tasks is empty; name at least one", field="config.tasks")
    tracks = [t.track for t in config.tasks]
    if len(set(tracks)) != len(tracks):
        raise WireError(
            f"two tasks of one name in {tracks}; give each its own", field="config.tasks.name"
        )


def stream_limits(s: Settings) -> m.StreamLimits:
    """Return the limits that every stream is told."""
    return m.StreamLimits(
        s.max_message_bytes, int(s.idle_s), int(s.max_duration_s), s.ring_ms, s.output_ms
    )


def _credit(config: m.Config, inlet: Inlet) -> int | None:
    if not config.credit_ms:
        return None
    return inlet.position + config.credit_ms * config.sample_rate_hz // 1000
