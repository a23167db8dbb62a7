"""The engine's thread, seen from a session: leases whose answers come as one ordered feed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ossicle.runtime import snapshot
from ossicle.runtime.budget import Budget
from ossicle.runtime.engine import Engine
from ossicle.runtime.engine import Lease as SlotLease
from ossicle.runtime.errors import BundleError, OssicleError
from ossicle.runtime.model import Model
from ossicle.runtime.task import Task
from ossicle.streaming.session.seam import EngineFigures, Exported, Failed, Flushed, Mark, OnEvents


class BridgeLease:
    """A slot of the engine, with its end and its exports in line with its events."""

    def __init__(self, on_events: OnEvents) -> None:
        self._on_events = on_events
        self._lease: SlotLease | None = None
        self._over = False

    def attach(self, lease: SlotLease) -> None:
        """Set the slot's lease, which is made after this."""
        self._lease = lease

    def ended(self, error: OssicleError | None) -> None:
        """Pass the engine's word on how the stream ended; on the engine's thread."""
        self._over = True
        self._on_events([(Flushed() if error is None else Failed(error), None)])

    def push(self, item: Any, arrival_ns: int) -> bool:
        """Hand over a chunk or packet."""
        assert self._lease is not None
        return self._over or self._lease.push(item, arrival_ns)

    def update(self, options: Mapping[str, Any]) -> None:
        """Change the task's options."""
        assert self._lease is not None
        if not self._over:
            self._lease.update(options)

    def mark(self, tag: Any) -> None:
        """Ask for a mark."""
        assert self._lease is not None
        if not self._over:
            self._lease.mark(lambda: self._on_events([(Mark(tag), None)]))

    def export(self, tag: int) -> None:
        """Ask for the memory; it is turned to bytes before the engine goes on."""
        assert self._lease is not None
        if not self._over:
            self._lease.export_later(
                lambda tree: self._on_events([(Exported(tag, snapshot.dump(tree)), None)])
            )

    def flush(self) -> None:
        """Ask for the tail."""
        assert self._lease is not None
        if not self._over:
            self._lease.flush()

    def close(self) -> None:
        """Give the slot back."""
        self._over = True
        if self._lease is not None:
            self._lease.close()


class EngineBridge:
    """An :class:`Engine` as sessions need it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def open(
        self,
        task: Task,
        budget: Budget,
        on_events: OnEvents,
        *,
        live: bool = True,
        ladder: tuple[Mapping[str, Any], ...] = (),
        restore: Any = None,
    ) -> BridgeLease:
        """Admit one task."""
        bridge = BridgeLease(on_events)
        bridge.attach(
            self.engine.open(
                task,
                budget,
                on_events,  # type: ignore[arg-type]
                bridge.ended,
                live=live,
                ladder=ladder,
                restore=restore,
            )
        )
        return bridge

    def model(self, name: str) -> Model:
        """Return a loaded model."""
        try:
            return self.engine.models[name]
        except KeyError:
            known = ", ".join(sorted(self.engine.models))
            raise BundleError(f"no model {name!r} here; this server has {known}") from None

    def models(self) -> list[Model]:
        """Return every loaded model."""
        return list(self.engine.models.values())

    def figures(self) -> EngineFigures:
        """Return how busy the engine is."""
        status = self.engine.status()
        costs: dict[str, dict[int, float]] = {}
        for name, table in status["costs_us"].items():
            model = name.rpartition(".")[0]
            kept = costs.setdefault(model, {})
            for bucket, us in table.items():
                kept[bucket] = kept.get(bucket, 0.0) + us
        return EngineFigures(
            used=min(1.0, status["load"] / status["max_load"]),
            measured=status["measured_load"],
            slots_used=Counter(slot["model"] for slot in status["slots"]),
            slots_total=status["max_streams"],
            costs_us=costs,
            steps=status["steps"],
            rows=status["rows"],
        )
