"""Many real-time streams against a server, on an open loop, so that a slow server cannot hide.

Every message has a time at which its last sample would have been captured. It is sent then, late or
not, and an answer's latency counts from the time its last needed sample was *due*, not from when it
was sent: a stall delays every message behind it and each of them shows (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ossicle.runtime.errors import OssicleError
from ossicle.streaming import messages as m
from ossicle.streaming.captions.cue import Cue
from ossicle.streaming.client.transport import ServerError, Transport
from ossicle.streaming.encodings import encode

SETTLE_S = 1.0  # of each stream is not counted
RATE_HZ = 16_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What to load a server with."""

    tasks: tuple[str, ...] = ("encode",)
    model: str = ""
    streams: int = 10  # 0: search for the most that keep the budget
    seconds: float = 10.0
    budget_ms: float = 20.0
    message_ms: float = 20.0
    most_streams: int = 512
    query: str = "speech"

    @property
    def samples(self) -> int:
        """In one message."""
        return max(1, round(RATE_HZ * self.message_ms / 1000))


@dataclass
class Heard:
    """What all streams of a step got."""

    latency_ms: list[float] = field(default_factory=list)
    late_send_ms: list[float] = field(default_factory=list)
    stages: dict[str, list[int]] = field(default_factory=dict)
    answers: int = 0
    ledger_misses: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    opened: int = 0
    ended: list[m.Ended] = field(default_factory=list)

    def ledger(self, response: m.Response) -> None:
        """Note where the time of one answer went."""
        ledger = response.ledger
        if ledger is None:
            return
        for stage in ("wait", "queue", "batch", "compute", "post", "total"):
            self.stages.setdefault(stage, []).append(getattr(ledger, f"{stage}_us"))


class Player:
    """One stream of the load."""

    def __init__(self, plan: Plan, transport: Transport, heard: Heard, sound: list[bytes]) -> None:
        self.plan, self.transport, self.heard, self.sound = plan, transport, heard, sound
        self.begun_s = 0.0
        self.lead: dict[str, int] = {}  # samples after an answer's end that it also needs
        self._go = asyncio.Event()
        self._over = False

    async def run(self, phase_s: float) -> None:
        """Play one stream to its end."""
        await asyncio.sleep(phase_s)
        try:
            async for response in self.transport.stream(self._requests()):
                self._take(response, time.perf_counter())
        except ServerError as error:
            kind = self.heard.failed if self._go.is_set() else self.heard.refused
            reason = error.failure.reason or error.failure.code
            kind[reason] = kind.get(reason, 0) + 1
        finally:
            self._over = True
            self._go.set()  # whoever still waits to send may leave

    async def _requests(self) -> AsyncIterator[m.Request]:
        plan = self.plan
        options: dict[str, dict[str, Any]] = {
            "separate": {"query": plan.query},
            "encode": {"frames_per_packet": 1},
        }
        tasks = tuple(
            m.TaskSpec(
                kind, model=plan.model, deadline_ms=plan.budget_ms, options=options.get(kind, {})
            )
            for kind in plan.tasks
        )
        yield m.Config(RATE_HZ, tasks, encoding="pcm_s16", client="loadgen")
        await self._go.wait()
        if self._over:
            return
        self.begun_s = time.perf_counter()
        interval = plan.message_ms / 1000
        for index in range(int(plan.seconds / interval)):
            due = self.begun_s + (index + 1) * interval
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            self.heard.late_send_ms.append(max(0.0, 1000 * (time.perf_counter() - due)))
            yield m.AudioIn(self.sound[index % len(self.sound)])
        yield m.End()

    def _take(self, response: m.Response, now: float) -> None:
        body, plan = response.body, self.plan
        if isinstance(body, m.Started):
            self.heard.opened += 1
            for task in body.tasks:
                self.lead[task.name] = (
                    0 if task.kind in ("encode", "caption") else task.delay_samples
                )
            self._go.set()
            return
        if isinstance(body, m.Ended):
            self.heard.ended.append(body)
            return
        end = _end_of(body)
        if end is None or response.ledger is None:
            return
        needed = end + self.lead.get(response.task, 0)
        message = -(-needed // plan.samples)  # the message that brought the last needed sample
        due = self.begun_s + message * plan.message_ms / 1000
        if due - self.begun_s < SETTLE_S or message > int(plan.seconds * 1000 / plan.message_ms):
            return
        self.heard.answers += 1
        self.heard.latency_ms.append(1000 * (now - due))
        self.heard.ledger(response)
        self.heard.ledger_misses += response.ledger.total_us > 1000 * plan.budget_ms


def _end_of(body: Any) -> int | None:
    """Return the input sample at which the answer's sound ends (rates are equal here)."""
    if isinstance(body, m.PacketsOut):
        last = body.packets[-1]
        return last.start_sample + last.samples
    if isinstance(body, m.AudioOut):
        return body.start_sample + body.samples
    if isinstance(body, Cue):
        return body.audio_seen_sample
    return None


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
    return _figures(plan, heard)


def _figures(plan: Plan, heard: Heard) -> dict[str, Any]:
    latency = summary(heard.latency_ms)
    kept = bool(heard.latency_ms) and latency["p99"] <= plan.budget_ms and not heard.failed
    seconds = sum(e.samples for e in heard.ended) / RATE_HZ
    return {
        "streams": plan.streams,
        "opened": heard.opened,
        "refused": heard.refused,
        "failed": heard.failed,
        "answers": heard.answers,
        "latency_ms": latency,
        "late_send_ms": summary(heard.late_send_ms),
        "ledger_ms": {
            stage: summary([us / 1000 for us in values]) for stage, values in heard.stages.items()
        },
        "over_budget": sum(ms > plan.budget_ms for ms in heard.latency_ms),
        "over_budget_in_ledger": heard.ledger_misses,
        "engine_misses": sum(t.misses for e in heard.ended for t in e.tasks),
        "lost_samples": sum(e.lost_samples for e in heard.ended),
        "wire_kbps_in": _mean([e.wire_kbps_in for e in heard.ended]),
        "wire_kbps_out": _mean([e.wire_kbps_out for e in heard.ended]),
        "audio_s": round(seconds, 2),
        "kept": kept,
    }


def summary(values: list[float]) -> dict[str, float]:
    """Return the percentiles of values, rounded to a microsecond of a millisecond."""
    if not values:
        return {"count": 0, "p50": 0.0, "p95": 0.0, "p99": 0.0, "p999": 0.0, "max": 0.0}
    found = np.percentile(values, [50, 95, 99, 99.9, 100])
    names = ("p50", "p95", "p99", "p999", "max")
    return {"count": len(values), **{n: round(float(v), 3) for n, v in zip(names, found,
                                                                         strict=True)}}  # fmt: skip


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 2) if values else 0.0


async def search(plan: Plan, transport: Transport) -> list[dict[str, Any]]:
    """Double the streams until the budget breaks or one is refused, then halve the distance."""
    steps: list[dict[str, Any]] = []

    async def holds(streams: int) -> bool:
        figures = await play(_with(plan, streams), transport)
        steps.append(figures)
        return bool(figures["kept"]) and not figures["refused"]

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
        from ossicle.streaming.loadreport import plot_load

        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "load.json").write_text(json.dumps(report, indent=1) + "\n")
        plot_load(folder / "load.png", report)
    return report
