"""What serving costs: CPU a message over the engine's own, latency at 40 streams, overload.

``python -m benchmarks.serving [--model BUNDLE] [--seconds S] [--json PLACE]``

The load is ``ossicle loadgen``'s: an open loop of real-time streams, 20 ms a message, where latency
counts from the moment an answer's last sample was due. Server and load share this machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.machine import save
from ossicle.streaming import messages as m
from ossicle.streaming.client import connect
from ossicle.streaming.loadgen import Plan, play, summary

BUDGET_MS = 20.0
GOAL_US, GOAL_P99_MS, STREAMS = 200.0, 20.0, 40


def worker(model: str) -> None:
    """Serve ``model``; say the port and the engine's thread, and at the end how long it held on."""
    from ossicle.streaming.server.config import Settings
    from ossicle.streaming.server.run import serve

    lags: list[float] = []
    over = threading.Event()

    def watch() -> None:  # how long does another thread wait for the interpreter?
        while not over.is_set():
            begun = time.perf_counter()
            time.sleep(0.001)
            lags.append(1000 * (time.perf_counter() - begun) - 1.0)

    watcher = threading.Thread(target=watch, daemon=True)
    settings = Settings(port=0, models=(model,), max_streams=1024, max_streams_per_client=1024)

    def ready(server: Any) -> None:
        thread = server._own._thread
        about = {"port": server.port, "pid": os.getpid(), "engine": thread.native_id}
        print(json.dumps(about), flush=True)
        watcher.start()

    asyncio.run(serve(settings, ready))
    over.set()
    watcher.join()
    print(json.dumps(summary(lags)), flush=True)


class Served:
    """The worker, and how much CPU it has used."""

    def __init__(self, model: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.serving", "--worker", model],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        about = json.loads(self.process.stdout.readline())
        self.port, self._pid, self._engine = about["port"], about["pid"], about["engine"]

    def cpu_s(self) -> tuple[float, float]:
        """Return CPU seconds of the whole process and of the engine's thread."""
        return _cpu(f"/proc/{self._pid}/stat"), _cpu(f"/proc/{self._pid}/task/{self._engine}/stat")

    def stop(self) -> dict[str, float]:
        """Stop it and return how long its other threads waited for the interpreter."""
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=60)
        found: dict[str, float] = json.loads(out.strip().splitlines()[-1])
        return found


def _cpu(path: str) -> float:
    fields = Path(path).read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def agrees(port: int, model: str) -> bool:
    """Whether the server's packets are those of this process."""
    from ossicle.runtime.audio import AudioFormat, Chunk
    from ossicle.runtime.model import Model
    from ossicle.runtime.task import InlineRun, PacketEvent
    from ossicle.streaming.tasks import build

    x = 0.1 * np.random.default_rng(0).standard_normal((1, 32_000)).astype(np.float32)
    loaded = Model.load(model)
    run = InlineRun(build(m.TaskSpec("encode"), loaded, False), loaded)
    events = run.feed(Chunk(x, 0, AudioFormat(16_000))) + run.finish()
    own = [e.packet for e in events if isinstance(e, PacketEvent)]
    async with connect(f"127.0.0.1:{port}") as client:
        found = [p.data async for p in client.encode(x, rate_hz=16_000, model=loaded.name)]
    return found == own and len(own) > 50


async def step(served: Served, streams: int, seconds: float, name: str) -> dict[str, Any]:
    """Run one load and add what it cost the server."""
    plan = Plan(("encode",), name, streams, seconds, BUDGET_MS)
    async with connect(f"127.0.0.1:{served.port}") as client:
        before = served.cpu_s()
        found = await play(plan, client.transport)
        after = served.cpu_s()
    whole, engine = (b - a for a, b in zip(before, after, strict=True))
    messages = found["opened"] * int(seconds * 1000 / plan.message_ms)
    if messages:
        found["server_us_a_message"] = round(1e6 * (whole - engine) / messages, 1)
        found["engine_us_a_message"] = round(1e6 * engine / messages, 1)
        found["messages"] = messages
    return found


async def run(model: str, seconds: float) -> dict[str, Any]:
    """Run every step against one server."""
    from ossicle.runtime.model import Model

    name = Model.load(model).name
    served = Served(model)
    try:
        if not await agrees(served.port, model):
            raise SystemExit("the server's packets differ from this process's: nothing measured")
        results: dict[str, Any] = {"model": name, "packets_agree": True}
        results["20 streams"] = await step(served, 20, seconds, name)
        results[f"{STREAMS} streams"] = await step(served, STREAMS, seconds, name)
        offered = await step(served, 512, 3.0, name)
        capacity = offered["opened"]
        results["capacity"] = {"streams": capacity, "refused": offered["refused"]}
        results["50 % of capacity"] = await step(served, max(1, capacity // 2), seconds, name)
        results["150 % of capacity"] = await step(served, 3 * capacity // 2, seconds, name)
    finally:
        waits = served.stop()
    results["other_threads_wait_ms"] = waits
    cost = results["20 streams"]["server_us_a_message"]
    p99 = results[f"{STREAMS} streams"]["latency_ms"]["p99"]
    half = results["50 % of capacity"]
    results["goals"] = {
        f"server CPU over the engine's <= {GOAL_US:g} us a message": cost <= GOAL_US,
        f"p99 at {STREAMS} streams <= {GOAL_P99_MS:g} ms": p99 <= GOAL_P99_MS,
        "no misses at 50 % of capacity": half["engine_misses"] == 0 and not half["failed"],
        "at 150 % the admitted keep their budget": bool(results["150 % of capacity"]["kept"]),
    }
    return results


def show(results: dict[str, Any]) -> None:
    """Print the steps and the goals."""
    from rich.table import Table

    table = Table("load", "opened", "p50", "p99", "p99.9 ms", "misses", "us/message", "engine us")
    for name, found in results.items():
        if not isinstance(found, dict) or "latency_ms" not in found:
            continue
        ms = found["latency_ms"]
        table.add_row(
            name, f"{found['opened']} of {found['streams']}", f"{ms['p50']:.2f}",
            f"{ms['p99']:.2f}", f"{ms['p999']:.2f}", str(found["engine_misses"]),
            str(found.get("server_us_a_message", "")), str(found.get("engine_us_a_message", "")),
        )  # fmt: skip
    console = Console()
    console.print(table)
    waits = results["other_threads_wait_ms"]
    console.print(f"another thread waits for the interpreter: p99.9 {waits['p999']} ms")
    for goal, reached in results["goals"].items():
        console.print(f"{'reached' if reached else 'not reached'}: {goal}")


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="codec-16k")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker)
        return
    results = asyncio.run(run(given.model, given.seconds))
    show(results)
    save("serving", results, given.json)


if __name__ == "__main__":
    main()
