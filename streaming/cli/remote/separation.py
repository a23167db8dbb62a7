"""Separation and enhancement of files, done by a server, channel by channel."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any

import numpy as np

from ossicle.runtime.audio import Samples
from ossicle.runtime.errors import AudioError
from ossicle.streaming import messages as m
from ossicle.streaming.cli.options import Remote
from ossicle.streaming.cli.remote.drive import MAX_RATE_HZ, RemoteSummary
from ossicle.streaming.client import Sound, Stream


def separate_remote(
    remote: Remote,
    source: str,
    queries: list[str],
    outs: list[str],
    options: dict[str, Any],
    model: str,
) -> RemoteSummary:
    """Separate a file; see ``separation.commands.separate_file``."""
    if len(queries) != len(outs):
        raise AudioError(
            f"{len(queries)} queries but {len(outs)} files to write; give one for each"
        )
    asked = {"queries": tuple(queries)} if len(queries) > 1 else {"query": queries[0]}
    spec = m.TaskSpec("separate", "", model, options={**asked, **options})
    return _each_channel(remote, source, spec, outs)


def enhance_remote(
    remote: Remote, source: str, out: str, options: dict[str, Any], model: str
) -> RemoteSummary:
    """Enhance a file; see ``separation.commands.enhance_file``."""
    return _each_channel(remote, source, m.TaskSpec("enhance", "", model, options=options), [out])


def _each_channel(remote: Remote, source: str, spec: m.TaskSpec, outs: list[str]) -> RemoteSummary:
    """Send every channel as a stream of its own, and write the tracks side by side."""
    from ossicle.streaming.codec.audiofile import open_sink, open_source

    with ExitStack() as stack:
        taken = stack.enter_context(open_source(source))
        if taken.rate_hz > MAX_RATE_HZ:
            raise AudioError(
                f"{source} has {taken.rate_hz} Hz; a server takes up to {MAX_RATE_HZ}. Work "
                "without --server"
            )
        sinks = [stack.enter_context(open_sink(o, taken.rate_hz, taken.channels)) for o in outs]
        return asyncio.run(_channels(remote, taken, spec, sinks))


def _slot(track: str) -> int:
    """The place of a track among those of its task: "query1" is the second, "speech" the only."""
    digits = track.removeprefix("query")
    return int(digits) if digits.isdigit() else 0


async def _channels(
    remote: Remote, taken: Any, spec: m.TaskSpec, sinks: list[Any]
) -> RemoteSummary:
    silence: Samples = np.zeros((1, 0), np.float32)
    ready = [[silence] * taken.channels for _ in sinks]

    def drain() -> None:
        for slot, sink in enumerate(sinks):
            count = min(row.shape[1] for row in ready[slot])
            if count:
                sink.write(np.concatenate([row[:, :count] for row in ready[slot]]))
                ready[slot] = [row[:, count:] for row in ready[slot]]

    async def listen(stream: Stream, channel: int) -> int:
        samples = 0
        async for response in stream:
            body = response.body
            if isinstance(body, Sound):
                rows = ready[_slot(body.track)]
                rows[channel] = np.concatenate([rows[channel], body.samples[:1]], axis=1)
                drain()
            elif isinstance(body, m.Ended):
                samples = body.samples
        return samples

    async with remote.connect() as client:
        streams = [
            client.stream(spec, rate_hz=taken.rate_hz, live=False) for _ in range(taken.channels)
        ]
        for stream in streams:
            await stream.opened()
        listeners = [asyncio.create_task(listen(s, i)) for i, s in enumerate(streams)]
        try:
            while (run := await asyncio.to_thread(next, taken.runs, None)) is not None:
                for row, stream in zip(run, streams, strict=True):
                    await stream.send(row[None])
            for stream in streams:
                await stream.end()
            counts = await asyncio.gather(*listeners)
        finally:
            for task in listeners:
                task.cancel()
            for stream in streams:
                await stream.close()
    return RemoteSummary(counts[0] / taken.rate_hz, counts[0], taken.rate_hz)
