"""Figures for Prometheus: counted where things happen, read when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ossicle.runtime.budget import Ledger
    from ossicle.streaming.messages import Status
    from ossicle.streaming.session.seam import EngineFigures

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """One server's figures in a registry of their own, so that two servers in a process differ."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"ossicle_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(
                f"ossicle_{name}_seconds", text, labels, buckets=SECONDS, registry=self.registry
            )

        self.streams = counter("streams", "Streams opened", "outcome")
        self.refused = counter("refused", "Calls refused", "reason")
        self.bytes_in = counter("bytes_in", "Audio and packet bytes received")
        self.bytes_out = counter("bytes_out", "Answer bytes sent")
        self.samples = counter("samples", "Samples taken in, at the clients' rates")
        self.hops = counter("hops", "Hops answered", "task")
        self.misses = counter("misses", "Hops answered after their deadline", "task")
        self.gaps = counter("gaps", "Gaps in streams", "reason")
        self.ladder = counter("ladder_steps", "Steps on the overload ladder")
        self.checkpoints = counter("checkpoints", "Snapshots", "outcome")
        self.step = histogram("step", "Time in the model, per hop", "task")
        self.queue = histogram("queue", "Time until the engine took a hop", "task")
        self.total = histogram("total", "From the last sample's arrival to the answer", "task")
        self._label: dict[str, tuple[Any, ...]] = {}

    def hop(self, kind: str, ledger: Ledger) -> None:
        """Count one hop."""
        found = self._label.get(kind)
        if found is None:
            found = self._label[kind] = (
                self.hops.labels(kind),
                self.step.labels(kind),
                self.queue.labels(kind),
                self.total.labels(kind),
                self.misses.labels(kind),
            )
        hops, step, queue, total, misses = found
        hops.inc()
        step.observe(ledger.compute_us / 1e6)
        queue.observe(ledger.queue_us / 1e6)
        total.observe(ledger.total_us / 1e6)
        if ledger.missed:
            misses.inc()

    def watch(self, status: Callable[[], Status], engine: Callable[[], EngineFigures]) -> None:
        """Also show the server's state, asked for at each scrape."""
        self.registry.register(_Live(status, engine))

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
    """A collector of gauges that are read from the service."""

    def __init__(self, status: Callable[[], Status], engine: Callable[[], EngineFigures]) -> None:
        self._status, self._engine = status, engine

    def describe(self) -> Iterator[Any]:
        """Say nothing in advance: asking would need a running engine."""
        return iter(())

    def collect(self) -> Iterator[Any]:
        """Return the gauges as they stand."""
        from prometheus_client.core import GaugeMetricFamily

        status, figures = self._status(), self._engine()
        yield GaugeMetricFamily("ossicle_streams_open", "Streams open now", status.streams)
        yield GaugeMetricFamily("ossicle_streams_max", "Streams at most", status.max_streams)
        yield GaugeMetricFamily(
            "ossicle_ready", "1 while new streams are taken", float(status.state == "READY")
        )
        yield GaugeMetricFamily(
            "ossicle_capacity_used", "Share of the calibrated capacity promised", figures.used
        )
        yield GaugeMetricFamily(
            "ossicle_engine_busy", "Share of the engine's thread that was busy", figures.measured
        )
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
