"""Figures for Prometheus: counted where things happen, read when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ossicle.streaming.server.hopfigures import HopFigures, families
from ossicle.streaming.server.traffic import TRAFFIC, Traffic

if TYPE_CHECKING:
    from ossicle.streaming.messages import Status
    from ossicle.streaming.session.seam import EngineFigures


class Metrics:
    """One server's figures in a registry of their own, so that two servers in a process differ."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter

        self.registry = CollectorRegistry()

        def counter(name: str, text: str, label: str) -> Counter:
            return Counter(f"ossicle_{name}", text, (label,), registry=self.registry)

        self.streams = counter("streams", "Streams that are over", "outcome")
        self.refused = counter("refused", "Calls refused", "reason")
        self._hops: dict[str, HopFigures] = {}

    def hops(self, kind: str) -> HopFigures:
        """Return where the hops of tasks of ``kind`` are counted."""
        return self._hops.setdefault(kind, HopFigures())

    def watch(
        self,
        status: Callable[[], Status],
        engine: Callable[[], EngineFigures],
        traffic: Callable[[], Traffic],
    ) -> None:
        """Also show the server's state, asked for at each scrape."""
        self.registry.register(_Live(status, engine, traffic, self._hops))

    def text(self) -> bytes:
        """Return the exposition text."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)

    def serve(self, port: int) -> Callable[[], None]:
        """Serve ``/metrics`` on loopback; return what stops it."""
        from prometheus_client import start_http_server

        server, thread = start_http_server(port, addr="127.0.0.1", registry=self.registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop


class _Live:
    """A collector of what is read from the service as it stands."""

    def __init__(
        self,
        status: Callable[[], Status],
        engine: Callable[[], EngineFigures],
        traffic: Callable[[], Traffic],
        hops: dict[str, HopFigures],
    ) -> None:
        self._status, self._engine, self._traffic, self._hops = status, engine, traffic, hops

    def describe(self) -> Iterator[Any]:
        """Say nothing in advance: asking would need a running engine."""
        return iter(())

    def collect(self) -> Iterator[Any]:
        """Yield every family as it stands."""
        from prometheus_client.core import CounterMetricFamily

        yield from families(dict(self._hops))
        traffic = self._traffic()
        for name, text in TRAFFIC.items():
            yield CounterMetricFamily(f"ossicle_{name}", text, value=getattr(traffic, name))
        yield from self._gauges()

    def _gauges(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily

        status, figures = self._status(), self._engine()
        ready = float(status.state == "READY")
        for name, text, value in (
            ("streams_open", "Streams open now", status.streams),
            ("streams_max", "Streams at most", status.max_streams),
            ("ready", "1 while new streams are taken", ready),
            ("capacity_used", "Share of the calibrated capacity promised", figures.used),
            ("engine_busy", "Share of the engine's thread that was busy", figures.measured),
        ):
            yield GaugeMetricFamily(f"ossicle_{name}", text, value)
        slots = GaugeMetricFamily("ossicle_slots", "Slots in use", labels=["model"])
        cost = GaugeMetricFamily(
            "ossicle_step_cost_seconds", "Calibrated time of one step", labels=["model", "batch"]
        )
        for model, used in figures.slots_used.items():
            slots.add_metric([model], used)
        for model, costs in figures.costs_us.items():
            for batch, us in costs.items():
                cost.add_metric([model, str(batch)], us / 1e6)
        yield slots
        yield cost
