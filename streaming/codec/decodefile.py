"""``.osc`` files to audio files: what ``ossicle decode`` does."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ossicle.runtime.audio import AudioFormat, Chunk, Samples
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import AudioError, BundleError, PacketError
from ossicle.runtime.model import Model
from ossicle.runtime.resample import Resampler, ResamplerState
from ossicle.runtime.task import AudioEvent, Event, InlineRun
from ossicle.streaming.codec.audiofile import AudioSink, open_sink
from ossicle.streaming.codec.container import ContainerReader, Record, enter, read_ends
from ossicle.streaming.codec.decode import DecodeTask
from ossicle.streaming.codec.ends import FileEnd, FileHead, parse_head
from ossicle.streaming.codec.layout import identity
from ossicle.streaming.codec.packet import HEADER_BYTES
from ossicle.streaming.codec.packetreader import read_header
from ossicle.streaming.codec.summary import FileSummary, Place, Progress

READ_BYTES = 1 << 16
WARM_UP = 50  # frames decoded before the place that was asked for, and thrown away
SETTLE_S = 0.5  # decoded behind the place to stop at: resampling looks ahead


def decode_file(
    src: Place,
    dst: Place,
    layers: int | None = None,
    *,
    model: str | os.PathLike[str] | Bundle | None = None,
    rate_hz: int | None = None,
    start_s: float = 0.0,
    stop_s: float | None = None,
    partial: bool = False,
    progress: Progress | None = None,
) -> FileSummary:
    """Decode an ``.osc`` file or pipe (``-``) into an audio file or pipe of the same length.

    Args:
        src: ``-`` is standard input.
        dst: format by its name; ``-`` is WAV on standard output.
        layers: decode at most so many.
        model: the codec bundle, if not the installed one that the file names.
        rate_hz: of the output; that of the file that was encoded by default.
        start_s: begin here, by the seek table (files only).
        stop_s: and end here.
        partial: keep what a cut file still holds instead of refusing it.
        progress: called about once a second of audio.

    Raises:
        PacketError: not an ``.osc`` file, damaged, or cut. AudioError: cannot be written.
        BundleError: no such codec, or not the one that made the file.
    """
    if start_s < 0 or (stop_s is not None and stop_s <= start_s):
        raise AudioError(f"from {start_s} s to {stop_s} s; 0 <= start < stop expected")
    with _byte_source(src) as file:
        reader, end = _begin(file, os.fspath(src), start_s)
        first = reader.state.frame
        pieces = iter(lambda: file.read(READ_BYTES), b"")
        ready = _read_head(reader, pieces, os.fspath(src))
        head = reader.head
        assert head is not None
        runner = _load(head, model)
        task = DecodeTask(runner.bundle, layers=layers, strict=True, first=first)
        out = AudioFormat(rate_hz or head.source_rate_hz)
        total = None if end is None else end.samples / head.layout.sample_rate_hz
        with open_sink(dst, out.rate_hz, out.channels) as sink:
            job = _Decoding(InlineRun(task, runner), Resampler(task.output_format, out), sink, head)
            job.begin = round(start_s * out.rate_hz)
            job.limit = None if stop_s is None else round(stop_s * out.rate_hz)
            for record in _records(reader, pieces, ready, partial):
                job.feed(record)
                if progress is not None:
                    progress(job.seconds, total)
                if stop_s is not None and job.seconds > stop_s + SETTLE_S:
                    break
            else:
                job.end = reader.end
            return job.finish(reader.state.offset)


@dataclass(slots=True)
class _Decoding:
    """One file on its way out; samples before ``begin`` and from ``limit`` on are dropped."""

    run: InlineRun
    resampler: Resampler
    sink: AudioSink
    head: FileHead
    begin: int = 0  # at the output's rate
    limit: int | None = None
    end: FileEnd | None = None
    at: int = 0  # index of the next output sample
    written: int = 0
    frames: int = 0
    layers: int = 0
    payload_bits: int = 0
    seconds: float = 0.0  # of the place reached
    held: Record | None = None  # decoded when the next is there: the last may have to be cut
    resampled: ResamplerState = field(init=False)

    def __post_init__(self) -> None:
        self.resampled = self.resampler.open()

    def feed(self, record: Record) -> None:
        """Take one packet and decode the one before it."""
        self._decode_held()
        self.held = record
        self.frames += record.frames
        self.layers = max(self.layers, read_header(record.packet).layers)
        self.payload_bits += 8 * (len(record.packet) - HEADER_BYTES)
        layout = self.head.layout
        self.seconds = (record.first + record.frames) * layout.hop / layout.sample_rate_hz

    def finish(self, read_bytes: int) -> FileSummary:
        """Decode the last packet and write the tail, to the exact length where it is known."""
        rate = self.resampler.output.rate_hz
        if self.end is not None:
            exact = _output_samples(self.end, self.head, rate)
            self.limit = exact if self.limit is None else min(exact, self.limit)
            self.run.update({"samples": self.end.samples})
        self._decode_held()
        self._audio(self.run.finish())
        self._keep(self.resampler.flush(self.resampled))
        if self.end is not None and self.limit is not None:
            short = max(self.limit - max(self.at, self.begin), 0)
            self._write(np.zeros((self.resampler.output.channels, short), np.float32))
        layout = self.head.layout
        spent = max(self.frames, 1) * layout.hop / layout.sample_rate_hz
        return FileSummary(
            self.written / rate, self.written, rate, self.frames, read_bytes, self.layers,
            self.payload_bits / spent / 1000, 8 * read_bytes / spent / 1000,
            whole=self.end is not None,
        )  # fmt: skip

    def _decode_held(self) -> None:
        if self.held is not None:
            self._audio(self.run.feed(self.held.packet))
        self.held = None

    def _audio(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, AudioEvent):
                self._keep(self.resampler.step(self.resampled, event.chunk))

    def _keep(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            low = max(self.begin - chunk.start, 0)
            high = chunk.length if self.limit is None else self.limit - chunk.start
            self.at = chunk.stop
            self._write(chunk.samples[:, low : max(high, 0)])

    def _write(self, samples: Samples) -> None:
        if samples.shape[1]:
            self.sink.write(samples)
            self.written += samples.shape[1]


def _begin(file: BinaryIO, name: str, start_s: float) -> tuple[ContainerReader, FileEnd | None]:
    """Return a reader where decoding must begin, and the file's end if it can be looked at."""
    if not file.seekable():
        if start_s > 0:
            raise PacketError(f"{name}: a pipe cannot be entered at {start_s} s; give a file")
        return ContainerReader(), None
    end = None
    try:
        head, end = read_ends(file)
    except PacketError:
        if start_s > 0:
            raise
    if end is None or start_s == 0:
        file.seek(0)
        return ContainerReader(), end
    layout = parse_head(head).layout
    frame = int(start_s * layout.sample_rate_hz / layout.hop) - WARM_UP
    state = enter(head, end, max(frame, 0))
    file.seek(state.offset)
    return ContainerReader(state), end


def _read_head(reader: ContainerReader, pieces: Iterator[bytes], name: str) -> list[Record]:
    ready: list[Record] = []
    while reader.head is None:
        piece = next(pieces, b"")
        if not piece:
            raise PacketError(f"{name}: ends inside its head; it was cut, or is not an .osc file")
        ready += reader.feed(piece)
    return ready


def _records(
    reader: ContainerReader, pieces: Iterator[bytes], ready: list[Record], partial: bool
) -> Iterator[Record]:
    """Give every packet; at the end, demand that it was the end."""
    yield from ready
    try:
        for piece in pieces:
            yield from reader.feed(piece)
        reader.finish()
    except PacketError as error:
        if not partial:
            raise PacketError(f"{error} (--partial keeps what can be decoded)") from error


def _load(head: FileHead, model: str | os.PathLike[str] | Bundle | None) -> Model:
    """Return the codec that made the file.

    Raises:
        BundleError: not installed, or another version of it.
    """
    runner = Model.load(head.model if model is None else model, "auto")
    ours = identity(runner.manifest)
    if ours != head.manifest_hash:
        raise BundleError(
            f"file was made by {head.model} {head.manifest_hash.hex()[:12]}; {runner.name} "
            f"{runner.manifest.version} here is {ours.hex()[:12]}. Its codes mean something else: "
            "install the version that made it"
        )
    return runner


def _output_samples(end: FileEnd, head: FileHead, rate_hz: int) -> int:
    """Return how many samples the output has at ``rate_hz``."""
    if rate_hz == head.source_rate_hz:
        return end.source_samples
    return -(-end.source_samples * rate_hz // head.source_rate_hz)


@contextlib.contextmanager
def _byte_source(where: Place) -> Iterator[BinaryIO]:
    if os.fspath(where) == "-":
        yield sys.stdin.buffer
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(Path(where).open("rb"))
        except OSError as error:
            raise PacketError(f"{where} cannot be read: {error.strerror}") from error
        yield file
