"""Separation and enhancement of files and pipes, as plain functions.

Any format of libsndfile comes in; what goes out has the rate, channels and length of the input.
Every channel is a stream of its own. Models of 16 kHz hear and give back what is below 8 kHz.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ossicle.runtime.audio import AudioFormat, Chunk, Samples
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import AudioError
from ossicle.runtime.model import Model
from ossicle.runtime.resample import Resampler
from ossicle.runtime.task import AudioEvent, Event, InlineRun
from ossicle.streaming.codec.audiofile import AudioSink, AudioSource, open_sink, open_source
from ossicle.streaming.separation.plot import plot_spectrograms
from ossicle.streaming.separation.query import QueryBook, sentence_encoder
from ossicle.streaming.separation.tasks import EnhanceTask, SeparateTask

Place = str | os.PathLike[str]
Progress = Callable[[float, float | None], None]  # seconds done, seconds in all if known
SEPARATOR = "separate-16k"
ENHANCER = "separate-16k-talk"
PLOT_S = 60.0  # a plot shows at most the first minute


@dataclass(frozen=True)
class SeparationSummary:
    """What was done: ``level_db`` is each track's power relative to the input's."""

    model: str
    tracks: tuple[str, ...]
    seconds: float
    rate_hz: int
    channels: int
    level_db: tuple[float, ...]


def separate_file(
    src: Place,
    query: str | Sequence[str],
    dst: Place | Sequence[Place],
    *,
    model: Place | Bundle = SEPARATOR,
    depth: float = 1.0,
    keep_alarms: bool = False,
    encoder: str | None = None,
    plot: Place | None = None,
    progress: Progress | None = None,
) -> SeparationSummary:
    """Write what ``query`` asks for out of ``src`` to ``dst``.

    Args:
        src: any format of libsndfile; ``-`` is standard input.
        query: what to hear, or a list of queries answered in one pass.
        dst: a file per query, written whole or not at all; ``-`` is WAV on standard output.
        model: name or path of a bundle of task ``separate``.
        depth: 1 is only what was asked for, 0 the input.
        keep_alarms: leave warning sounds in whatever was asked for.
        encoder: folder or hub name of a sentence encoder, for wider wording.
        plot: a PNG of the spectrograms before and after.
        progress: called about once a second of audio.

    Raises:
        AudioError: audio that cannot be read, a place that cannot be written.
        QueryError: an unknown query. BundleError: no such bundle.
    """
    runner = Model.load(model, "auto")
    queries = [query] if isinstance(query, str) else list(query)
    places = [dst] if isinstance(dst, str | os.PathLike) else list(dst)
    if len(places) != len(queries):
        raise AudioError(
            f"{len(queries)} queries, but files to write: {len(places)}; give one for each"
        )
    book = QueryBook.of(runner.bundle, sentence_encoder(encoder)) if encoder else None
    task = SeparateTask(
        runner,
        query if isinstance(query, str) else queries,
        depth=depth,
        keep_alarms=keep_alarms,
        book=book,
    )
    return _run(runner, task, src, places, queries, plot, progress)


def enhance_file(
    src: Place,
    dst: Place,
    model: Place | Bundle = ENHANCER,
    plot: Place | None = None,
    *,
    depth: float = 1.0,
    keep_alarms: bool = True,
    progress: Progress | None = None,
) -> SeparationSummary:
    """Write the speech (and the alarms) in ``src`` to ``dst``.

    ``model`` is a bundle of task ``separate``, or any imported enhancer with one audio input.
    The other arguments, and what is raised, are those of :func:`separate_file`.
    """
    runner = Model.load(model, "auto")
    task = EnhanceTask(runner, depth=depth, keep_alarms=keep_alarms)
    return _run(runner, task, src, [dst], [task.TRACK], plot, progress)


def plot_files(plot: Place, src: Place, outs: Sequence[Place], names: Sequence[str]) -> None:
    """Draw the spectrograms of ``src`` and of what was made of it, from the files.

    Raises:
        AudioError: one of them is a pipe, which cannot be heard again.
    """
    if "-" in [os.fspath(place) for place in (src, *outs)]:
        raise AudioError("a pipe cannot be heard again to be plotted; give files, or no --plot")
    kept: list[Samples] = []
    rate = 0
    for place in (src, *outs):
        with open_source(place) as source:
            rate, rows = source.rate_hz, []
            for run in source.runs:
                rows.append(run.mean(axis=0, keepdims=True))
                if sum(row.shape[1] for row in rows) >= PLOT_S * rate:
                    break
        kept.append(np.concatenate(rows, axis=1)[:, : round(PLOT_S * rate)])
    plot_spectrograms(plot, kept, ["input", *names], rate)


def _run(
    runner: Model,
    task: SeparateTask | EnhanceTask,
    src: Place,
    places: Sequence[Place],
    names: Sequence[str],
    plot: Place | None,
    progress: Progress | None,
) -> SeparationSummary:
    if sum(os.fspath(place) == "-" for place in places) > 1:
        raise AudioError("only one track can go to standard output")
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_source(src))
        rate, channels = source.rate_hz, source.channels
        sinks = [stack.enter_context(open_sink(p, rate, channels)) for p in places]
        job = _Job([_Channel(runner, task, rate, names) for _ in range(channels)], sinks)
        job.keep = round(PLOT_S * rate) if plot is not None else 0
        for made in job.run(source):
            if progress is not None:
                total = None if source.total is None else source.total / rate
                progress(made / rate, total)
        if plot is not None:
            plot_spectrograms(plot, job.kept, ["input", *names], rate)
        return SeparationSummary(
            runner.name, tuple(names), job.taken / rate, rate, channels,
            level_db(job.power[1:], job.power[0]),
        )  # fmt: skip


def power(samples: Samples) -> float:
    """Sum of the squares of what is finite in ``samples``."""
    finite = np.nan_to_num(samples.astype(np.float64), posinf=0.0, neginf=0.0)
    return float(np.square(finite).sum())


def level_db(tracks: Sequence[float], heard: float) -> tuple[float, ...]:
    """Level of each track's power against that of what was ``heard``, in dB."""
    whole = max(heard, 1e-12)
    return tuple(round(10 * float(np.log10(max(p, 1e-12) / whole)), 2) + 0.0 for p in tracks)


class _Channel:
    """One channel's way to the model's rate, through it, and back."""

    def __init__(
        self, runner: Model, task: SeparateTask | EnhanceTask, rate_hz: int, names: Sequence[str]
    ) -> None:
        outer = AudioFormat(rate_hz, 1)
        self.down = Resampler(outer, task.input_format)
        self.up = [Resampler(task.input_format, outer) for _ in names]
        self.down_state = self.down.open()
        self.up_states = [stage.open() for stage in self.up]
        self.inline = InlineRun(task, runner)
        self.names = list(names)
        self.ready: list[list[Samples]] = [[] for _ in names]

    def feed(self, chunk: Chunk) -> None:
        for piece in self.down.step(self.down_state, chunk):
            self._collect(self.inline.feed(piece))

    def finish(self) -> None:
        for piece in self.down.flush(self.down_state):
            self._collect(self.inline.feed(piece))
        self._collect(self.inline.finish())
        for slot, (stage, state) in enumerate(zip(self.up, self.up_states, strict=True)):
            self.ready[slot] += [piece.samples for piece in stage.flush(state)]

    def _collect(self, events: Sequence[Event]) -> None:
        counts: dict[str, int] = {}
        for event in events:
            if not isinstance(event, AudioEvent):
                continue
            slot = self._slot(event.track, counts)
            for piece in self.up[slot].step(self.up_states[slot], event.chunk):
                self.ready[slot].append(piece.samples)

    def _slot(self, track: str, counts: dict[str, int]) -> int:
        """The place of a track; equal queries come in the order they were asked."""
        places = [i for i, name in enumerate(self.names) if name == track]
        nth = counts.get(track, 0)
        counts[track] = nth + 1
        return places[nth % len(places)]

    def drain(self, slot: int) -> Samples:
        """What has come back of one track, ``[1, T]``."""
        parts, self.ready[slot] = self.ready[slot], []
        return np.concatenate(parts, axis=1) if parts else np.zeros((1, 0), np.float32)


@dataclass
class _Job:
    """All channels in step with each other and with the files."""

    channels: list[_Channel]
    sinks: list[AudioSink]
    keep: int = 0
    taken: int = 0
    kept: list[Samples] = field(default_factory=list)
    power: list[float] = field(default_factory=list)

    def run(self, source: AudioSource) -> Iterator[int]:
        """Yield the samples written so far, about once a second of audio."""
        kept: list[list[Samples]] = [[] for _ in range(len(self.sinks) + 1)]
        self.power = [0.0] * (len(self.sinks) + 1)
        written = [0] * len(self.sinks)
        form = AudioFormat(source.rate_hz, 1)
        for run in source.runs:
            for row, channel in zip(run, self.channels, strict=True):
                channel.feed(Chunk(np.ascontiguousarray(row[None]), self.taken, form))
            self.taken += run.shape[1]
            self._note(0, run, kept)
            self._write(written, kept)
            yield min(written)
        if self.taken:
            for channel in self.channels:
                channel.finish()
        self._write(written, kept)
        self.kept = [
            np.concatenate(parts, axis=1) if parts else np.zeros((1, 0), np.float32)
            for parts in kept
        ]
        yield min(written)

    def _write(self, written: list[int], kept: list[list[Samples]]) -> None:
        for slot, sink in enumerate(self.sinks):
            rows = [channel.drain(slot) for channel in self.channels]
            samples = np.concatenate(rows)[:, : self.taken - written[slot]]
            if samples.shape[1]:
                sink.write(samples)
                written[slot] += samples.shape[1]
                self._note(slot + 1, samples, kept)

    def _note(self, which: int, samples: Samples, kept: list[list[Samples]]) -> None:
        self.power[which] += power(samples)
        room = self.keep - sum(part.shape[1] for part in kept[which])
        if room > 0:
            kept[which].append(samples.mean(axis=0, keepdims=True)[:, :room])
