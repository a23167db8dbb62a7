"""The gRPC face of the service: one asyncio loop for transport, one engine thread behind it."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ossicle.runtime.engine import Engine
from ossicle.runtime.errors import WireError
from ossicle.streaming.server.config import Settings
from ossicle.streaming.server.loop import ServerLoop
from ossicle.streaming.server.metrics import Metrics
from ossicle.streaming.server.models import load_models, make_engine
from ossicle.streaming.server.reflected import Symbols
from ossicle.streaming.server.security import TokenFile, check_exposure, is_loopback, read_pem
from ossicle.streaming.server.service import Service
from ossicle.streaming.server.servicer import SERVICE, Servicer, handlers
from ossicle.streaming.session.bridge import EngineBridge
from ossicle.streaming.session.seam import StreamEngine
from ossicle.streaming.session.store import SnapshotStore

log = logging.getLogger("ossicle.server")
# The engine's thread gives the interpreter lock up to the loop after so long at most; Python's own
# 5 ms would show in every tail.
SWITCH_S = 0.0005
# Young objects that a collection looks at. With Python's own 700 one took up to 1 ms in the midst
# of a step; more often and shorter, it costs the same in all.
YOUNG = 200


def transport_options(settings: Settings) -> list[tuple[str, Any]]:
    """Return gRPC's options: little audio may hide in buffers, dead peers are found out."""
    largest = max(settings.max_message_bytes, settings.max_file_bytes)
    return [
        ("grpc.http2.bdp_probe", 0),  # the window does not grow on its own
        ("grpc.http2.lookahead_bytes", 1024),  # so a stalled reader stalls its writer at once
        ("grpc.max_receive_message_length", largest + (64 << 10)),  # beyond it no reason is given
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.so_reuseport", int(settings.reuse_port)),
        ("grpc.max_connection_age_grace_ms", int(1000 * settings.drain_s)),
    ]


class Server:
    """A running server: ``async with Server(settings) as server: server.port``.

    Args:
        settings: what it is told.
        engine: instead of one made from the settings' models; started and stopped by its owner.
    """

    def __init__(self, settings: Settings, engine: StreamEngine | None = None) -> None:
        check_exposure(settings)
        self.settings = settings
        self.port = settings.port
        self.service: Service
        self.health = health.aio.HealthServicer()
        self.metrics = Metrics()
        self._given = engine
        self._own: Engine | None = None
        self._grpc: grpc.aio.Server | None = None
        self._stop_metrics: Callable[[], None] = lambda: None
        self._stopped = asyncio.Event()

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Bind at once, answer health checks with NOT_SERVING, calibrate, then take streams."""
        settings = self.settings
        store = None
        if settings.state_dir:
            store = SnapshotStore(
                settings.state_dir,
                settings.checkpoint_bytes,
                settings.state_dir_bytes,
                settings.resume_keep_s,
            )
        tokens = TokenFile.read(settings.tokens) if settings.tokens else TokenFile()
        engine = self._given
        if engine is None:
            self._own = make_engine(await asyncio.to_thread(load_models, settings), settings)
            engine = EngineBridge(self._own)
        self.service = Service(engine, settings, store, self.metrics)
        self.service.state = "STARTING"
        server = grpc.aio.server(options=transport_options(settings))
        methods = handlers(Servicer(self.service, tokens))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        server.add_registered_method_handlers(SERVICE, methods)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, server)
        await self._serving(False)
        if settings.reflection:
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server, pool=Symbols())
        self.port = self._bind(server)
        self._grpc = server
        await server.start()
        if self._own is not None:
            begun = time.monotonic()
            await asyncio.to_thread(self._own.calibrate)
            self._own.start()
            log.info("calibrated", extra={"seconds": round(time.monotonic() - begun, 3)})
        if settings.metrics_port:
            self._stop_metrics = self.metrics.serve(settings.metrics_port)
        self.service.start()
        loop = asyncio.get_running_loop()
        if isinstance(loop, ServerLoop):
            self.service.on_tightest(partial(_pace, loop, settings.pace_ms))
        self.service.state = "READY"
        await self._serving(True)
        log.info("ready", extra={"port": self.port})

    def _bind(self, server: grpc.aio.Server) -> int:
        settings = self.settings
        unix = settings.host.startswith("unix:")
        address = settings.host if unix else f"{_bracket(settings.host)}:{settings.port}"
        try:
            if settings.tls_cert:
                port = server.add_secure_port(address, _credentials(settings))
            else:
                port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise WireError(
                f"cannot bind {address}: {error}. Is another server there? Give another --port"
            ) from None
        return int(port)

    async def _serving(self, yes: bool) -> None:
        status = health_pb2.HealthCheckResponse
        for name in ("", SERVICE):
            await self.health.set(name, status.SERVING if yes else status.NOT_SERVING)

    async def drain(self) -> None:
        """Take no more streams, let the open ones end, then stop."""
        await self._serving(False)
        await self.service.drain()
        await self.stop()

    async def stop(self) -> None:
        """Stop now; calling it again does nothing."""
        if self._grpc is None:
            return
        server, self._grpc = self._grpc, None
        await self._serving(False)
        await self.service.stop()
        await server.stop(grace=1.0)
        if self._own is not None:
            await asyncio.to_thread(self._own.stop)
        await asyncio.to_thread(self._stop_metrics)
        self._stopped.set()

    async def wait(self) -> None:
        """Return once the server has stopped."""
        await self._stopped.wait()


def _pace(loop: ServerLoop, pace_ms: float, tightest_ms: float) -> None:
    """Let messages share wake-ups where the tightest budget of all streams is five times that."""
    loop.pace(pace_ms / 1e3 if tightest_ms >= 5 * pace_ms else 0.0)


def _bracket(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _credentials(settings: Settings) -> grpc.ServerCredentials:
    pair = (
        read_pem(settings.tls_key, "TLS key"),
        read_pem(settings.tls_cert, "TLS certificate"),
    )
    root = read_pem(settings.tls_client_ca, "client CA") if settings.tls_client_ca else None
    return grpc.ssl_server_credentials(
        [pair], root_certificates=root, require_client_auth=root is not None
    )


def steady() -> None:
    """Make this process fit for short tails; call it once all that stays has been made."""
    sys.setswitchinterval(SWITCH_S)
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
    gc.collect()
    gc.freeze()  # models, modules and protos are not looked through again by every collection


def run(settings: Settings, ready: Callable[[Server], None] = lambda _: None) -> None:
    """Run a server until it has stopped, on a loop made for it."""
    with asyncio.Runner(loop_factory=ServerLoop) as runner:
        runner.run(serve(settings, ready))


async def serve(settings: Settings, ready: Callable[[Server], None] = lambda _: None) -> None:
    """Run a server until SIGTERM or SIGINT; the first drains it, the second stops it at once."""
    server = Server(settings)
    await server.start()
    steady()
    if settings.insecure and not settings.tls_cert and not is_loopback(settings.host):
        log.warning("audio travels in the clear: no TLS", extra={"host": settings.host})
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[None]] = []

    def leave() -> None:
        tasks.append(asyncio.create_task(server.stop() if tasks else server.drain()))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave)
    ready(server)
    await server.wait()
