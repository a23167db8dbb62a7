"""Play the scene through the server and write what came back."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ossicle.runtime.errors import OssicleError, WireError
from ossicle.streaming import messages as m
from ossicle.streaming.client import AsyncClient, Stream, connect
from ossicle.streaming.client.sources import ArraySource
from ossicle.streaming.demo.results import write_results
from ossicle.streaming.demo.scene import Played, choose
from ossicle.streaming.demo.server import running_server
from ossicle.streaming.demo.summary import show_summary
from ossicle.streaming.demo.tally import Tally
from ossicle.streaming.demo.view import LiveView, PlainView, View
from ossicle.streaming.tasks import BUILT_IN

QUERY = "speech"
MARK_EVERY_S = 0.5


def run_demo(
    file: str | None,
    out: str,
    query: str = "",
    kbps: float = 3.0,
    seconds: float = 40.0,
    view: bool = True,
) -> dict[str, Any]:
    """Run the demo and return its report, which also lies in ``out/report.json``.

    Raises:
        AudioError: a file that cannot be read.
        WireError: the server did not start, or has no model to show.
    """
    played = choose(file, seconds)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    tally = Tally()
    with running_server() as (port, models):
        tasks = _tasks(models, query or QUERY, kbps)
        duration = played.samples.shape[1] / played.rate_hz
        asked = f"server on 127.0.0.1:{port}, {played.title}"
        screen: View | None = None
        if view and sys.stdout.isatty():
            screen = LiveView(tally, asked, ["separate", "decode"], duration)
        elif view:
            screen = PlainView(tally, asked)
        try:
            asyncio.run(_play(port, played, tasks, "codec-16k" in models, tally, screen))
        finally:
            if screen is not None:
                screen.close()
    report = write_results(folder, played, tally, query or QUERY, kbps)
    if view:
        show_summary(folder, report)
    return report


def _tasks(models: list[str], query: str, kbps: float) -> list[m.TaskSpec]:
    wanted = [
        m.TaskSpec("caption"),
        m.TaskSpec("encode", options={"kbps": kbps, "frames_per_packet": 1}),
        m.TaskSpec("separate", options={"query": query}),
    ]
    tasks = [spec for spec in wanted if BUILT_IN[spec.kind] in models]
    if not tasks:
        raise WireError("no built-in model is installed; reinstall, or `ossicle pull` one")
    return tasks


async def _play(
    port: int,
    played: Played,
    tasks: list[m.TaskSpec],
    decode: bool,
    tally: Tally,
    screen: View | None,
) -> None:
    async with connect(f"127.0.0.1:{port}", name="demo") as client:
        stream = client.stream(*tasks, rate_hz=played.rate_hz, live=True, encoding="pcm_s16")
        tally.started["scene"] = await stream.opened()
        back = await _decoder(client, tally) if decode and _has(tasks, "encode") else None
        tally.begun_s = time.monotonic()
        jobs = [
            asyncio.create_task(_send(stream, played, tally)),
            asyncio.create_task(_listen("scene", stream, tally, back)),
        ]
        if back is not None:
            jobs.append(asyncio.create_task(_listen("decode", back, tally, None)))
        drawing = asyncio.create_task(_draw(screen))
        try:
            await asyncio.gather(*jobs)
        finally:
            drawing.cancel()
            for job in jobs:
                job.cancel()
            with suppress(asyncio.CancelledError):
                await drawing
            await stream.close()
            if back is not None:
                await back.close()


def _has(tasks: list[m.TaskSpec], kind: str) -> bool:
    return any(spec.kind == kind for spec in tasks)


async def _decoder(client: AsyncClient, tally: Tally) -> Stream:
    """Open the way back: packets in, audio out, at the codec's own rate."""
    about = tally.started["scene"]
    rate = next(t.model_rate_hz for t in about.tasks if t.kind == "encode")
    back = client.stream(m.TaskSpec("decode"), rate_hz=rate, live=True)
    tally.started["decode"] = await back.opened()
    return back


async def _send(stream: Stream, played: Played, tally: Tally) -> None:
    source = ArraySource(played.samples, played.rate_hz, live=True)
    sent, marked, number = 0, 0.0, 0
    async for piece in source.chunks():
        await stream.send(piece, time.time_ns())
        sent += piece.shape[1]
        seconds = sent / played.rate_hz
        tally.sent(piece, seconds)
        if seconds - marked >= MARK_EVERY_S:
            marked, number = seconds, number + 1
            await stream.mark(number)
    await stream.end()


async def _listen(name: str, stream: Stream, tally: Tally, back: Stream | None) -> None:
    try:
        async for response in stream:
            tally.take(name, response)
            if back is not None and isinstance(response.body, m.PacketsOut):
                await back.send_packets(list(response.body.packets))
    finally:
        if back is not None:
            with suppress(OssicleError):
                await back.end()


async def _draw(screen: View | None) -> None:
    while True:
        await asyncio.sleep(0.1)
        if screen is not None:
            screen.update()
