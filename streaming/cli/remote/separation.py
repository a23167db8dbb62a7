"""Separation and enhancement of files, done by a server, channel by channel."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from ossicle.runtime.audio import Samples
from ossicle.runtime.errors import AudioError
from ossicle.streaming import messages as m
from ossicle.streaming.cli.options import Remote
from ossicle.streaming.cli.remote.drive import MAX_RATE_HZ
from ossicle.streaming.client import Sound, Stream
from ossicle.streaming.separation.commands import Progress, SeparationSummary, level_db, power

if TYPE_CHECKING:
    from ossicle.streaming.codec.audiofile import AudioSink, AudioSource


def separate_remote(
    remote: Remote,
    source: str,
    queries: list[str],
    outs: list[str],
    options: dict[str, Any],
    model: str,
    progress: Progress | None = None,
) -> SeparationSummary:
    """Separate a file; see ``separation.commands.separate_file``."""
    if len(queries) != len(outs):
        raise AudioError(
            f"{len(queries)} queries, but files to write: {len(outs)}; give one for each"
        )
    asked = {"queries": tuple(queries)} if len(queries) > 1 else {"query": queries[0]}
    spec = m.TaskSpec("separate", "", model, options={**asked, **options})
    return _each_channel(remote, source, spec, outs, queries, progress)


def enhance_remote(
    remote: Remote,
    source: str,
    out: str,
    options: dict[str, Any],
    model: str,
    progress: Progress | None = None,
) -> SeparationSummary:
    """Enhance a file; see ``separation.commands.enhance_file``."""
    spec = m.TaskSpec("enhance", "", model, options=options)
    return _each_channel(remote, source, spec, [out], ["speech"], progress)


def _each_channel(
    remote: Remote,
    source: str,
    spec: m.TaskSpec,
    outs: Sequence[str],
    names: Sequence[str],
    progress: Progress | None,
) -> SeparationSummary:
    """Send every channel as a stream of its own, and write the tracks side by side."""
    from ossicle.streaming.codec.audiofile import open_sink, open_source

    with ExitStack() as stack:
        taken = stack.enter_context(open_source(source))
        rate, channels = taken.rate_hz, taken.channels
        if rate > MAX_RATE_HZ:
            raise AudioError(
                f"{source} has {rate} Hz; a server takes up to {MAX_RATE_HZ}. Work without --server"
            )
        sinks = [stack.enter_context(open_sink(o, rate, channels)) for o in outs]
        tracks = _Tracks(taken, sinks, progress)
        model = asyncio.run(_channels(remote, taken, spec, tracks))
        return SeparationSummary(
            model, tuple(names), tracks.taken / rate, rate, channels,
            level_db(tracks.power, tracks.heard),
        )  # fmt: skip


def _slot(track: str) -> int:
    """The place of a track among those of its task: "query1" is the second, "speech" the only."""
    digits = track.removeprefix("query")
    return int(digits) if digits.isdigit() else 0


class _Tracks:
    """What has come back of each track and channel, written as soon as all channels have it."""

    def __init__(self, source: AudioSource, sinks: list[AudioSink], progress: Progress | None):
        silence: Samples = np.zeros((1, 0), np.float32)
        self.source, self.sinks, self.progress = source, sinks, progress
        self.ready = [[silence] * source.channels for _ in sinks]
        self.power = [0.0] * len(sinks)
        self.heard, self.taken, self.told = 0.0, 0, 0

    def read(self) -> Samples | None:
        """The next run of the input ``[C, T]``; None at its end."""
        run = next(self.source.runs, None)
        if run is not None:
            self.heard += power(run)
            self.taken += run.shape[1]
        return run

    def take(self, sound: Sound, channel: int) -> None:
        """Keep a piece of one track and channel, and write what is whole."""
        rows = self.ready[_slot(sound.track)]
        rows[channel] = np.concatenate([rows[channel], sound.samples[:1]], axis=1)
        for slot, sink in enumerate(self.sinks):
            rows = self.ready[slot]
            count = min(row.shape[1] for row in rows)
            if count:
                whole = np.concatenate([row[:, :count] for row in rows])
                sink.write(whole)
                self.power[slot] += power(whole)
                self.ready[slot] = [row[:, count:] for row in rows]
                if slot == 0:
                    self._tell(count)

    def _tell(self, count: int) -> None:
        self.told += count
        if self.progress is not None:
            rate, total = self.source.rate_hz, self.source.total
            self.progress(self.told / rate, None if total is None else total / rate)


async def _channels(remote: Remote, taken: AudioSource, spec: m.TaskSpec, tracks: _Tracks) -> str:
    """Drive a stream for every channel; the name of the model that the server took."""

    async def listen(stream: Stream, channel: int) -> None:
        async for response in stream:
            if isinstance(response.body, Sound):
                tracks.take(response.body, channel)

    async with remote.connect() as client:
        streams = [
            client.stream(spec, rate_hz=taken.rate_hz, live=False) for _ in range(taken.channels)
        ]
        begun = [await stream.opened() for stream in streams]
        listeners = [asyncio.create_task(listen(s, i)) for i, s in enumerate(streams)]
        try:
            while (run := await asyncio.to_thread(tracks.read)) is not None:
                for row, stream in zip(run, streams, strict=True):
                    await stream.send(row[None])
            for stream in streams:
                await stream.end()
            await asyncio.gather(*listeners)
        finally:
            for task in listeners:
                task.cancel()
            for stream in streams:
                await stream.close()
    model: str = begun[0].tasks[0].model
    return model
