"""The clock over all streams: silence, stalled readers, age, and old snapshots."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping

from ossicle.streaming.failures import Closing
from ossicle.streaming.server.caller import Caller
from ossicle.streaming.server.config import Settings
from ossicle.streaming.session.session import Session
from ossicle.streaming.session.store import SnapshotStore

TICK_S = 0.25
SWEEP_S = 10.0
CALM_LOAD, CALM_S = 0.6, 3.0  # as long and as low as the engine's own ladder waits for a step up


class Watch:
    """Looks at every open stream four times a second."""

    def __init__(
        self,
        settings: Settings,
        sessions: Mapping[str, tuple[Session, Caller]],
        store: SnapshotStore | None,
        load: Callable[[], float],
    ) -> None:
        self._settings, self._sessions, self._store = settings, sessions, store
        self._load = load
        self._calm_s = 0.0  # since when the engine is
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="ossicle-watch")

    async def stop(self) -> None:
        """Stop; calling it again does nothing."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        swept = 0.0
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            for session, caller in list(self._sessions.values()):
                self._look(session, caller, now)
            self._relieve(now)
            if self._store is not None and now - swept > SWEEP_S:
                swept = now
                await asyncio.to_thread(self._store.sweep)

    def _relieve(self, now: float) -> None:
        """Once the engine has been calm for long, give one stream its own model back."""
        reduced = [
            session
            for session, _ in self._sessions.values()
            if any(branch.reduced for branch in session.branches.values())
        ]
        if not reduced or self._load() >= CALM_LOAD:
            self._calm_s = now
        elif now - self._calm_s >= CALM_S:
            self._calm_s = now
            reduced[0].relieve()

    def _look(self, session: Session, caller: Caller, now: float) -> None:
        s = self._settings
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
            self._age(session, session.opened_s + s.max_duration_s - now)

    def _age(self, session: Session, left: float) -> None:
        s = self._settings
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
