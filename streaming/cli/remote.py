"""The commands on files, done by a server: the same files come out as in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ossicle.runtime.audio import AudioFormat, Chunk, Samples
from ossicle.runtime.errors import AudioError
from ossicle.runtime.resample import Resampler
from ossicle.streaming import messages as m
from ossicle.streaming.captions.cue import Cue, Op, Priority
from ossicle.streaming.cli.options import Remote
from ossicle.streaming.client import Sound, Stream

MAX_RATE_HZ = 48_000
Progress = Callable[[float, float | None], Any]


def caption_remote(
    remote: Remote,
    source: str,
    out: str,
    format: str,
    options: Any,
    model: str,
    rate_hz: int,
    channels: int,
) -> dict[str, Any]:
    """Caption a file or pipe into a sink; see ``captions.commands.caption_file``."""
    import sys

    from ossicle.streaming.captions.commands import caption_format, read_audio
    from ossicle.streaming.captions.sinks import Outlets, file_sink

    form = caption_format(None if out == "-" else out, format or None)
    chunks = read_audio(source, rate_hz or None, channels, sys.stdin.buffer)
    sinks = Outlets({form: file_sink(form, sys.stdout.buffer if out == "-" else out)},
                    when_full="wait")  # fmt: skip
    asked = {
        "min_score": options.min_score,
        "labels": options.labels,
        "alerts_only": options.alerts_only,
        "language": options.lang,
        "style": options.style,
    }
    spec = m.TaskSpec("caption", model=model, options=asked)
    told = {"seconds": 0.0, "cues": 0, "alerts": 0}

    async def run() -> None:
        async with remote.connect() as client:
            first = await asyncio.to_thread(next, chunks, None)
            if first is None:
                raise AudioError(f"{source} holds no audio")
            pieces = _chained(first, chunks)
            form = first.format
            wide = form.channels if form.channels <= 2 else 1
            stream = client.stream(spec, rate_hz=form.rate_hz, channels=wide, live=False)
            async for response in _drive(stream, _narrow(pieces, wide)):
                body = response.body
                if isinstance(body, Cue):
                    sinks.put(body)
                    told["cues"] += body.op is Op.OPEN
                    told["alerts"] += body.op is Op.OPEN and body.priority is Priority.ALERT
                elif isinstance(body, m.Ended):
                    told["seconds"] = body.samples / form.rate_hz

    try:
        asyncio.run(run())
    finally:
        sinks.close()
    return told


@dataclass(frozen=True, slots=True)
class RemoteSummary:
    """What became of a file at a server."""

    seconds: float
    samples: int
    rate_hz: int
    payload_kbps: float | None = None
    wire_kbps: float | None = None
    frames: int = 0


def encode_remote(
    remote: Remote,
    source: str,
    out: str,
    *,
    kbps: float,
    layers: int,
    frames: int,
    dtx: bool,
    model: str,
    progress: Progress,
) -> RemoteSummary:
    """Encode a file or pipe into an ``.osc`` file; see ``codec.commands.encode_file``."""
    from ossicle.streaming.codec.audiofile import open_source
    from ossicle.streaming.codec.container import ContainerWriter, FileHead
    from ossicle.streaming.codec.encodefile import byte_sink
    from ossicle.streaming.codec.layout import CodeLayout

    options = {"kbps": kbps, "layers": layers, "frames_per_packet": frames, "dtx": dtx}
    spec = m.TaskSpec("encode", model=model, options=options)

    async def run(taken: Any, write: Any) -> RemoteSummary:
        rate, wide = _wire_rate(taken.rate_hz), 1 if taken.channels > 2 else taken.channels
        async with remote.connect() as client:
            stream = client.stream(spec, rate_hz=rate, channels=wide, live=False)
            about = (await stream.opened()).tasks[0]
            layout = CodeLayout(about.books, about.hop_samples, about.model_rate_hz)
            head = FileHead(
                about.model, about.codec_identity, layout, about.delay_samples, taken.rate_hz
            )
            writer = ContainerWriter(head, write)
            reached, ended = 0, m.Ended()
            async for response in _drive(stream, _narrow(_at_rate(taken, rate), wide)):
                body = response.body
                if isinstance(body, m.PacketsOut):
                    for packet in body.packets:
                        writer.packet(packet.data, packet.start_sample // layout.hop)
                        reached = packet.start_sample + packet.samples
                    progress(reached / layout.sample_rate_hz, None)
                elif isinstance(body, m.Ended):
                    ended = body
            samples = -(-ended.samples * layout.sample_rate_hz // rate)
            count = ended.samples * taken.rate_hz // rate
            writer.close(samples, count)
            payload = ended.tasks[0].payload_kbps
            return RemoteSummary(
                ended.samples / rate, count, taken.rate_hz, payload, ended.wire_kbps_out,
                reached // layout.hop,
            )  # fmt: skip

    with open_source(source) as taken, byte_sink(out) as write:
        return asyncio.run(run(taken, write))


def decode_remote(
    remote: Remote, source: str, out: str, layers: int, rate_hz: int, model: str
) -> RemoteSummary:
    """Decode an ``.osc`` file; see ``codec.commands.decode_file``."""
    import sys

    from ossicle.streaming.codec.audiofile import open_sink
    from ossicle.streaming.codec.container import ContainerReader

    data = sys.stdin.buffer.read() if source == "-" else _read(source)
    reader = ContainerReader()
    records = reader.feed(data)
    reader.finish()
    head, end = reader.head, reader.end
    assert head is not None
    assert end is not None
    rate, hop = head.layout.sample_rate_hz, head.layout.hop
    options = {"layers": layers, "samples": end.samples}
    spec = m.TaskSpec("decode", model=model or head.model, options=options)
    packets = [m.WirePacket(r.packet, r.first * hop, r.frames * hop) for r in records]
    target = rate_hz or head.source_rate_hz
    back = Resampler(AudioFormat(rate), AudioFormat(target))
    state = back.open()
    limit = end.source_samples if target == head.source_rate_hz else None
    if limit is None:
        limit = -(-end.source_samples * target // head.source_rate_hz)
    written = 0

    def write(sink: Any, chunks: list[Chunk]) -> None:
        nonlocal written
        for chunk in chunks:
            samples = chunk.samples[:, : max(0, limit - written)]
            if samples.shape[1]:
                sink.write(samples)
                written += samples.shape[1]

    async def run(sink: Any) -> None:
        async with remote.connect() as client:
            stream = client.stream(spec, rate_hz=rate, live=False)
            about = (await stream.opened()).tasks[0]
            if about.codec_identity != head.manifest_hash:
                from ossicle.runtime.errors import BundleError

                raise BundleError(
                    f"the file was made by another {head.model} than the server has; its codes "
                    "mean something else there"
                )
            async for response in _drive_packets(stream, packets):
                if isinstance(response.body, Sound):
                    sound = response.body
                    chunk = Chunk(sound.samples, sound.start_sample, AudioFormat(rate))
                    write(sink, back.step(state, chunk))
            write(sink, back.flush(state))
            if written < limit:
                sink.write(np.zeros((1, limit - written), np.float32))

    with open_sink(out, target, 1) as sink:
        asyncio.run(run(sink))
    return RemoteSummary(limit / target, limit, target, frames=end.frames)


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
    specs = [
        m.TaskSpec("separate", f"query{i}", model, options={"query": q, **options})
        for i, q in enumerate(queries)
    ]
    return _each_channel(remote, source, specs, outs)


def enhance_remote(
    remote: Remote, source: str, out: str, options: dict[str, Any], model: str
) -> RemoteSummary:
    """Enhance a file; see ``separation.commands.enhance_file``."""
    return _each_channel(remote, source, [m.TaskSpec("enhance", "", model, options=options)], [out])


def _each_channel(
    remote: Remote, source: str, specs: list[m.TaskSpec], outs: list[str]
) -> RemoteSummary:
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
        return asyncio.run(_channels(remote, taken, specs, sinks))


async def _channels(
    remote: Remote, taken: Any, specs: list[m.TaskSpec], sinks: list[Any]
) -> RemoteSummary:
    tracks = [spec.track for spec in specs]
    ready: dict[str, list[Samples]] = {
        track: [np.zeros((1, 0), np.float32)] * taken.channels for track in tracks
    }

    def drain() -> None:
        for track, sink in zip(tracks, sinks, strict=True):
            count = min(row.shape[1] for row in ready[track])
            if count:
                sink.write(np.concatenate([row[:, :count] for row in ready[track]]))
                ready[track] = [row[:, count:] for row in ready[track]]

    async def listen(stream: Stream, channel: int) -> int:
        samples = 0
        async for response in stream:
            body = response.body
            if isinstance(body, Sound):
                rows = ready[response.task]
                rows[channel] = np.concatenate([rows[channel], body.samples[:1]], axis=1)
                drain()
            elif isinstance(body, m.Ended):
                samples = body.samples
        return samples

    async with remote.connect() as client:
        streams = [
            client.stream(*specs, rate_hz=taken.rate_hz, live=False) for _ in range(taken.channels)
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


async def _drive(stream: Stream, pieces: Iterator[Samples]) -> AsyncIterator[m.Response]:
    """Send every piece and yield every answer."""

    async def send() -> None:
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            await stream.send(piece)
        await stream.end()

    async for response in _both(stream, send()):
        yield response


async def _drive_packets(stream: Stream, packets: list[m.WirePacket]) -> AsyncIterator[m.Response]:
    async def send() -> None:
        for at in range(0, len(packets), 25):
            await stream.send_packets(packets[at : at + 25])
        await stream.end()

    async for response in _both(stream, send()):
        yield response


async def _both(stream: Stream, sending: Any) -> AsyncIterator[m.Response]:
    sender = asyncio.create_task(sending)
    sender.add_done_callback(lambda t: t.cancelled() or t.exception())
    try:
        async with stream:
            async for response in stream:
                yield response
                if sender.done() and not sender.cancelled() and sender.exception() is not None:
                    break
        await sender
    finally:
        sender.cancel()


def _chained(first: Chunk, rest: Iterator[Chunk]) -> Iterator[Samples]:
    yield first.samples
    for chunk in rest:
        yield chunk.samples


def _narrow(pieces: Iterator[Samples], channels: int) -> Iterator[Samples]:
    """Mix what has more channels than the wire carries, as the runtime would."""
    for piece in pieces:
        if piece.shape[0] == channels:
            yield piece
        else:
            yield piece.mean(axis=0, keepdims=True, dtype=np.float32)


def _wire_rate(rate_hz: int) -> int:
    return min(rate_hz, MAX_RATE_HZ)


def _at_rate(taken: Any, rate_hz: int) -> Iterator[Samples]:
    """Yield the runs of a source at a rate that the wire carries."""
    if taken.rate_hz == rate_hz:
        yield from taken.runs
        return
    stage = Resampler(
        AudioFormat(taken.rate_hz, taken.channels), AudioFormat(rate_hz, taken.channels)
    )
    state, at = stage.open(), 0
    for run in taken.runs:
        chunk = Chunk(run, at, stage.input)
        at = chunk.stop
        yield from (piece.samples for piece in stage.step(state, chunk))
    yield from (piece.samples for piece in stage.flush(state))


def _read(source: str) -> bytes:
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise AudioError(f"{source} cannot be read: {error.strerror}") from None
