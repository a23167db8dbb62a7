"""The processes that ``benchmarks.serving`` loads: the server itself, and a bare gRPC echo."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc

ECHO = "benchmarks.Echo"


def serve_model(model: str) -> None:
    """Serve ``model``; print the port and the engine's thread."""
    from ossicle.streaming.server.config import load
    from ossicle.streaming.server.run import run

    streams = {"max_streams": 1024, "max_streams_per_client": 1024}
    settings = load(flags={"port": 0, "models": (model,), **streams})  # OSSICLE_PACE_MS=0 and such

    def ready(server: Any) -> None:
        say(server.port, server._own._thread.native_id)

    run(settings, ready)


async def echo() -> None:
    """Answer each message with one of the size of a codec packet's: what gRPC alone costs."""
    server = grpc.aio.server(
        options=[("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024)]
    )

    async def call(_: Any, context: Any) -> None:
        while await context.read() is not grpc.aio.EOF:
            await context.write(bytes(60))

    methods = {"Stream": grpc.stream_stream_rpc_method_handler(call)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(ECHO, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    say(port, 0)
    leave = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave.set)
    await leave.wait()
    await server.stop(0)


def say(port: int, engine: int) -> None:
    """Tell the parent."""
    print(json.dumps({"port": port, "pid": os.getpid(), "engine": engine}), flush=True)


class Worker:
    """One of these processes, and how much CPU it has used."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.serving_worker", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        about = json.loads(self.process.stdout.readline())
        self.port, self._pid, self._engine = about["port"], about["pid"], about["engine"]

    def cpu_s(self) -> tuple[float, float]:
        """Return CPU seconds of the whole process and of the engine's thread."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        whole = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        engine = Path(f"/proc/{self._pid}/task/{self._engine}/schedstat")
        return whole, int(engine.read_text().split()[0]) / 1e9 if self._engine else 0.0

    def stop(self) -> None:
        """Stop it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)


def main() -> None:
    """Be one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", help="bundle to serve; none: echo")
    given = parser.parse_args()
    if given.model:
        serve_model(given.model)
    else:
        asyncio.run(echo())


if __name__ == "__main__":
    main()
