"""One task of a stream: its lease, its outlet, and which model does it at the moment."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ossicle.runtime.budget import LatencyClass
from ossicle.streaming import messages as m
from ossicle.streaming.session.outlet import Outlet
from ossicle.streaming.session.seam import Lease


class Branch:
    """One task of the stream: its lease and its outlet.

    ``model`` is the bundle it was opened with, ``now`` the one that does it at the moment and
    ``wanted`` the one it shall go over to before the next audio; "" where it shall stay.
    """

    def __init__(
        self,
        spec: m.TaskSpec,
        started: m.TaskStarted,
        outlet: Outlet,
        left: Mapping[str, Any] | None = None,
    ) -> None:
        self.first, self.started, self.outlet = spec, started, outlet
        self.spec = spec  # with what was asked for since
        self.lease: Lease | None = None
        self.flushed = False
        self.model = started.model
        self.now = str((left or {}).get("model") or self.model)
        self.wanted = ""
        self.why = ""  # it shall go over
        self.rung = 0  # of ``rungs``, as the engine last said
        self.leaving: asyncio.Event | None = None  # set once the old lease has said everything
        self.asked: dict[str, Any] = {}
        self._remember((left or {}).get("asked") or {})
        outlet.on_rung = self.took

    @property
    def rungs(self) -> tuple[m.Rung, ...]:
        """What the engine may still take from it: the ladder behind the model it has now."""
        ladder = self.spec.ladder
        if self.now == self.model:
            return ladder
        return ladder[1 + next(i for i, rung in enumerate(ladder) if rung.model == self.now) :]

    def took(self, rung: int, why: str) -> dict[str, str] | None:
        """Take the engine's word that ``rung`` rungs are taken.

        Returns what that changes here, to be said; ``None`` where it is said once it has happened.
        """
        models = [r.model for r in self.rungs[:rung] if r.kind == "smaller_model"]
        before, self.wanted = self.wanted, models[-1] if models else ""
        deeper, self.rung, self.why = rung > self.rung, rung, why
        if deeper and self.wanted != before:
            return None
        interval, outlet = self.interval_ms, self.outlet
        if interval == outlet.interval_ms:
            return {}
        outlet.interval_ms = interval
        return {"interval_ms": str(interval)}

    @property
    def interval_ms(self) -> int:
        """How far apart changes of a caption have to be, by the rungs taken so far."""
        ladder = self.spec.ladder
        taken = ladder[: len(ladder) - len(self.rungs) + self.rung]
        return next((r.value for r in reversed(taken) if r.kind == "longer_interval"), 0)

    @property
    def reduced(self) -> bool:
        """Whether a smaller model does it, and nothing else is given up."""
        return self.now != self.model and not self.rung and not self.wanted

    def ask(self, changes: dict[str, Any]) -> None:
        """Change what it looks for, now and after it has gone over to another model."""
        self._remember(changes)
        self.opened.update(changes)

    def _remember(self, changes: Mapping[str, Any]) -> None:
        self.asked |= changes
        options = {**self.first.options, **self.asked}
        if isinstance(self.asked.get("query"), list):
            options |= {"query": "", "queries": tuple(self.asked["query"])}
        elif "query" in self.asked:
            options["queries"] = ()
        self.spec = replace(self.first, options=options)

    def export_bytes(self) -> bytes:
        """Return what this side of the lease remembers, as snapshot bytes."""
        return self.outlet.export_bytes({"model": self.now, "asked": self.asked})

    @property
    def promised_ms(self) -> float:
        """How long a hop may take: the deadline it was promised, else as long as it lasts."""
        if self.spec.deadline_ms is not None:
            return self.spec.deadline_ms
        if self.spec.latency_class in (None, LatencyClass.OFFLINE):
            return math.inf
        return 1000.0 * self.started.hop_samples / self.started.model_rate_hz

    @property
    def opened(self) -> Lease:
        """The lease, which is there before the first request is read."""
        assert self.lease is not None
        return self.lease
