"""Run a plan: one step, or a search for the most streams that keep the budget."""

from __future__ import annotations

import asyncio
import gc
import json
import random
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ossicle.runtime.errors import OssicleError
from ossicle.streaming.client.transport import Transport
from ossicle.streaming.encodings import encode
from ossicle.streaming.loadgen.heard import Heard, figures
from ossicle.streaming.loadgen.plan import RATE_HZ, Plan
from ossicle.streaming.loadgen.player import Player


async def play(plan: Plan, transport: Transport) -> dict[str, Any]:
    """Run one step of ``plan.streams`` streams and return its figures."""
    heard = Heard()
    rng = random.Random(plan.streams)
    noise = np.random.default_rng(3).standard_normal((1, RATE_HZ * 4)).astype(np.float32)
    swell = 0.05 + 0.05 * np.sin(2 * np.pi * np.arange(noise.shape[1]) / RATE_HZ)
    data = encode((noise * swell).astype(np.float32), "pcm_s16")
    step = 2 * plan.samples
    sound = [data[i : i + step] for i in range(0, len(data) - step + 1, step)]
    spread = max(plan.message_ms / 1000, 0.002 * plan.streams)
    players = [Player(plan, transport, heard, sound) for _ in range(plan.streams)]
    gc.collect()
    gc.freeze()
    try:
        await asyncio.gather(*(p.run(rng.uniform(0, spread)) for p in players))
    finally:
        gc.unfreeze()
    return figures(plan, heard)


async def search(plan: Plan, transport: Transport) -> list[dict[str, Any]]:
    """Double the streams until the budget breaks or one is refused, then halve the distance."""
    steps: list[dict[str, Any]] = []

    async def holds(streams: int) -> bool:
        found = await play(_with(plan, streams), transport)
        steps.append(found)
        return bool(found["kept"]) and not found["refused"]

    good, bad = 0, 0
    streams = 1
    while not bad and streams <= plan.most_streams:
        if await holds(streams):
            good, streams = streams, 2 * streams
        else:
            bad = streams
    while bad - good > max(1, good // 8):
        middle = (good + bad) // 2
        if await holds(middle):
            good = middle
        else:
            bad = middle
    return steps


def _with(plan: Plan, streams: int) -> Plan:
    return Plan(**{**asdict(plan), "streams": streams})


async def load(plan: Plan, remote: Any) -> dict[str, Any]:
    """Run the plan against a server that is there."""
    async with remote.connect() as client:
        transport = client.transport
        status = await client.status()
        steps = [await play(plan, transport)] if plan.streams else await search(plan, transport)
    best = max((s["streams"] for s in steps if s["kept"] and not s["refused"]), default=0)
    return {
        "plan": asdict(plan),
        "server": status.version,
        "steps": steps,
        "capacity_streams": best if not plan.streams else None,
        "kept": bool(best) if not plan.streams else steps[0]["kept"],
    }


def run_load(plan: Plan, remote: Any, out: str | None) -> dict[str, Any]:
    """Run the plan, on a server of its own where none is given, and write JSON and a plot.

    Raises:
        OssicleError: no server, or one that takes none of the streams.
    """
    from ossicle.streaming.cli.options import Remote

    with ExitStack() as stack:
        if remote is None:
            from ossicle.streaming.demo.server import running_server

            models = ["--model", plan.model] if plan.model else []
            port, _ = stack.enter_context(running_server("--log-level", "warning", *models))
            remote = Remote(f"127.0.0.1:{port}")
        report = asyncio.run(load(plan, remote))
    first = report["steps"][0]
    if not any(step["opened"] for step in report["steps"]):
        raise OssicleError(f"no stream was admitted: {first['refused'] or first['failed']}")
    if out:
        from ossicle.streaming.loadgen.report import plot_load

        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "load.json").write_text(json.dumps(report, indent=1) + "\n")
        plot_load(folder / "load.png", report)
    return report
