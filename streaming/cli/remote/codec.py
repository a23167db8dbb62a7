"""Encoding and decoding of files, done by a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ossicle.runtime.audio import AudioFormat, Chunk, Samples
from ossicle.runtime.errors import AudioError
from ossicle.runtime.resample import Resampler
from ossicle.streaming import messages as m
from ossicle.streaming.cli.options import Remote
from ossicle.streaming.cli.remote.drive import MAX_RATE_HZ, drive, drive_packets, narrow
from ossicle.streaming.client import Sound
from ossicle.streaming.codec.summary import FileSummary

Progress = Callable[[float, float | None], Any]


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
) -> FileSummary:
    """Encode a file or pipe into an ``.osc`` file; see ``codec.commands.encode_file``."""
    from ossicle.streaming.codec.audiofile import open_source
    from ossicle.streaming.codec.container import ContainerWriter
    from ossicle.streaming.codec.encodefile import byte_sink
    from ossicle.streaming.codec.ends import FileHead
    from ossicle.streaming.codec.layout import CodeLayout
    from ossicle.streaming.codec.packetreader import read_header

    options = {"kbps": kbps, "layers": layers, "frames_per_packet": frames, "dtx": dtx}
    spec = m.TaskSpec("encode", model=model, options=options)

    async def run(taken: Any, write: Any) -> FileSummary:
        rate, wide = _wire_rate(taken.rate_hz), 1 if taken.channels > 2 else taken.channels
        async with remote.connect() as client:
            stream = client.stream(spec, rate_hz=rate, channels=wide, live=False)
            about = (await stream.opened()).tasks[0]

            def writing(hop: int) -> ContainerWriter:
                layout = CodeLayout(about.books, hop, about.model_rate_hz)
                return ContainerWriter(
                    FileHead(
                        about.model, about.codec_identity, layout, about.delay_samples,
                        taken.rate_hz,
                    ),
                    write,
                )  # fmt: skip

            writer: ContainerWriter | None = None
            reached, sent, ended = 0, 1, m.Ended()
            async for response in drive(stream, narrow(_at_rate(taken, rate), wide)):
                body = response.body
                if isinstance(body, m.PacketsOut):
                    for packet in body.packets:
                        # a model's hop may be several frames: packets know how long one is
                        kind = read_header(packet.data)
                        frame, sent = packet.samples // kind.frames, max(sent, kind.layers)
                        writer = writer or writing(frame)
                        writer.packet(packet.data, packet.start_sample // frame)
                        reached = packet.start_sample + packet.samples
                    progress(reached / about.model_rate_hz, None)
                elif isinstance(body, m.Ended):
                    ended = body
            writer = writer or writing(about.hop_samples)
            samples = -(-ended.samples * about.model_rate_hz // rate)
            count = ended.samples * taken.rate_hz // rate
            writer.close(samples, count)
            form = writer.head.layout
            spent = max(ended.samples / rate, form.hop / form.sample_rate_hz)
            return FileSummary(
                ended.samples / rate, count, taken.rate_hz, reached // form.hop, writer.size, sent,
                ended.tasks[0].payload_kbps, 8 * writer.size / spent / 1000, taken.channels,
            )  # fmt: skip

    with open_source(source) as taken, byte_sink(out) as write:
        return asyncio.run(run(taken, write))


def decode_remote(
    remote: Remote, source: str, out: str, layers: int, rate_hz: int, model: str
) -> FileSummary:
    """Decode an ``.osc`` file; see ``codec.commands.decode_file``."""
    import sys

    from ossicle.streaming.codec.audiofile import open_sink
    from ossicle.streaming.codec.container import ContainerReader
    from ossicle.streaming.codec.packet import HEADER_BYTES
    from ossicle.streaming.codec.packetreader import read_header

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
            async for response in drive_packets(stream, packets):
                if isinstance(response.body, Sound):
                    sound = response.body
                    chunk = Chunk(sound.samples, sound.start_sample, AudioFormat(rate))
                    write(sink, back.step(state, chunk))
            write(sink, back.flush(state))
            if written < limit:
                sink.write(np.zeros((1, limit - written), np.float32))

    with open_sink(out, target, 1) as sink:
        asyncio.run(run(sink))
    spent = max(end.frames, 1) * hop / rate
    bits = sum(8 * (len(r.packet) - HEADER_BYTES) for r in records)
    kept = max((read_header(r.packet).layers for r in records), default=0)
    return FileSummary(
        limit / target, limit, target, end.frames, len(data), kept, bits / spent / 1000,
        8 * len(data) / spent / 1000,
    )  # fmt: skip


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
