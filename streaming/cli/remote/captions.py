"""Captions of a file or pipe, made by a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ossicle.runtime.errors import AudioError
from ossicle.runtime.task import CueEvent
from ossicle.streaming import messages as m
from ossicle.streaming.captions.cue import Cue
from ossicle.streaming.cli.options import Remote
from ossicle.streaming.cli.remote.drive import chained, drive, narrow


def caption_remote(
    remote: Remote,
    source: str,
    out: str,
    format: str,
    options: Any,
    model: str,
    rate_hz: int,
    channels: int,
    see: Callable[[Cue], None] | None = None,
) -> Any:
    """Caption a file or pipe into a sink; see ``captions.commands.caption_file``."""
    import sys

    from ossicle.streaming.captions.commands import Tally, caption_format, check_written
    from ossicle.streaming.captions.options import DECODER
    from ossicle.streaming.captions.sinks import Outlets, file_sink
    from ossicle.streaming.captions.source import read_audio

    form = caption_format(None if out == "-" else out, format or None, options.lang)
    chunks = read_audio(source, rate_hz or None, channels, sys.stdin.buffer)
    sink = file_sink(form, sys.stdout.buffer if out == "-" else out, whole=source != "-")
    sinks = Outlets({form: sink}, when_full="wait")
    asked = {
        "min_score": options.min_score,
        "labels": options.labels,
        "alerts_only": options.alerts_only,
        "language": options.lang,
        "style": options.style,
        "decoder": options.decoder if options.decoder != DECODER else "",
    }
    spec = m.TaskSpec("caption", model=model, options=asked)
    tally = Tally()

    async def run() -> None:
        async with remote.connect() as client:
            first = await asyncio.to_thread(next, chunks, None)
            if first is None:
                raise AudioError(f"{source} holds no audio")
            pieces = chained(first, chunks)
            form = first.format
            wide = form.channels if form.channels <= 2 else 1
            stream = client.stream(spec, rate_hz=form.rate_hz, channels=wide, live=False)
            async for response in drive(stream, narrow(pieces, wide)):
                body = response.body
                if isinstance(body, Cue):
                    sinks.put(body)
                    tally.count(CueEvent(body))
                    if see is not None:
                        see(body)
                elif isinstance(body, m.Ended):
                    tally.samples, tally.rate_hz = body.samples, form.rate_hz

    try:
        asyncio.run(run())
    finally:
        tally.sinks = tuple(sinks.close())
    return check_written(tally.report())
