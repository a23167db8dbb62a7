"""Audio files to ``.osc`` files: what ``ossicle encode`` does."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.model import Model
from ossicle.runtime.resample import Resampler, ResamplerState
from ossicle.runtime.task import Event, InlineRun, PacketEvent
from ossicle.streaming.codec.audiofile import open_source, whole_file
from ossicle.streaming.codec.container import ContainerWriter
from ossicle.streaming.codec.encode import EncodeTask
from ossicle.streaming.codec.ends import FileHead
from ossicle.streaming.codec.layout import identity
from ossicle.streaming.codec.packet import MAX_FRAMES
from ossicle.streaming.codec.summary import FileSummary, Place, Progress


def encode_file(
    src: Place,
    dst: Place,
    kbps: float = 3.0,
    model: str | os.PathLike[str] | Bundle = "codec-16k",
    *,
    layers: int | None = None,
    frames: int = MAX_FRAMES,
    silence_dbfs: float | None = None,
    progress: Progress | None = None,
) -> FileSummary:
    """Encode an audio file or pipe (``-``) into an ``.osc`` file or pipe; channels are mixed.

    Args:
        src: any format of libsndfile; ``-`` is standard input.
        dst: written whole or not at all; ``-`` is standard output.
        kbps: of codes; rounded down to whole layers.
        model: name or path of a codec bundle.
        layers: number of layers instead of a rate.
        frames: per packet; fewer means more overhead and a finer grain to lose.
        silence_dbfs: below this level only a noise descriptor is kept; None: never.
        progress: called about once a second of audio.

    Raises:
        AudioError: audio that cannot be read, a place that cannot be written.
        BundleError: no such codec. PacketError: a rate or layer count out of range.
    """
    runner = Model.load(model, "auto")
    task = EncodeTask(
        runner.bundle, kbps=kbps, layers=layers, frames=frames, silence_dbfs=silence_dbfs
    )
    with open_source(src) as source, byte_sink(dst) as sink:
        form = AudioFormat(source.rate_hz, source.channels)
        head = FileHead(
            runner.name, identity(runner.manifest), task.layout, runner.manifest.delay, form.rate_hz
        )
        resampler = Resampler(form, task.input_format)
        job = _Encoding(task, InlineRun(task, runner), ContainerWriter(head, sink), resampler)
        total = None if source.total is None else source.total / form.rate_hz
        taken = 0
        for run in source.runs:
            job.feed(Chunk(run, taken, form))
            taken += run.shape[1]
            if progress is not None:
                progress(taken / form.rate_hz, total)
        return job.finish(taken)


@dataclass(slots=True)
class _Encoding:
    """One file on its way in."""

    task: EncodeTask
    run: InlineRun
    writer: ContainerWriter
    resampler: Resampler
    samples: int = 0  # at the model's rate
    payload_bits: int = 0
    resampled: ResamplerState = field(init=False)

    def __post_init__(self) -> None:
        self.resampled = self.resampler.open()

    def feed(self, chunk: Chunk) -> None:
        """Encode a run of the source."""
        self._encode(self.resampler.step(self.resampled, chunk))

    def finish(self, taken: int) -> FileSummary:
        """Write the end."""
        self._encode(self.resampler.flush(self.resampled))
        self._write(self.run.finish())
        layout = self.writer.head.layout
        frames = self.task.frames(self.run.state)
        self.writer.close(self.samples, taken)
        seconds = taken / self.resampler.input.rate_hz
        spent = max(seconds, layout.hop / layout.sample_rate_hz)
        return FileSummary(
            seconds, taken, self.resampler.input.rate_hz, frames, self.writer.size,
            self.run.state.plan.layers, self.payload_bits / spent / 1000,
            8 * self.writer.size / spent / 1000, self.resampler.input.channels,
        )  # fmt: skip

    def _encode(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            self.samples += chunk.length
            self._write(self.run.feed(chunk))

    def _write(self, events: list[Event]) -> None:
        hop = self.writer.head.layout.hop
        for event in events:
            if isinstance(event, PacketEvent):
                self.payload_bits += event.payload_bits
                self.writer.packet(event.packet, event.start // hop)


@contextlib.contextmanager
def byte_sink(where: Place) -> Iterator[Callable[[bytes], object]]:
    """Open a place for bytes, ``-`` being standard output; a file is written whole or not at all.

    Raises:
        AudioError: it cannot be written.
    """
    if os.fspath(where) == "-":
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    with whole_file(where) as part, part.open("wb") as file:
        yield file.write
