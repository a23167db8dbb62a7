"""``ossicle caption`` as plain functions: a file or a pipe to captions.

The command line, the demo and the tests call these; nothing here parses arguments.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

from ossicle.runtime.audio import Chunk
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import CaptionError
from ossicle.runtime.model import Model
from ossicle.runtime.resample import Resampler
from ossicle.runtime.task import CueEvent, Event, GapEvent, InlineRun, NoticeEvent
from ossicle.streaming.captions.cue import Cue, Op, Priority
from ossicle.streaming.captions.sinks import (
    FORMATS,
    LIVE,
    Outlets,
    Sink,
    SinkReport,
    file_sink,
)
from ossicle.streaming.captions.sinks.scc import LATIN
from ossicle.streaming.captions.source import read_audio
from ossicle.streaming.captions.task import CaptionOptions, CaptionTask

BUNDLE = "sounds-16k"


@dataclass(frozen=True, slots=True)
class CaptionReport:
    """What a run made."""

    seconds: float  # of audio
    cues: int
    alerts: int
    retracted: int
    erasure: float  # characters taken back for each that stayed
    gaps: tuple[GapEvent, ...]
    notices: tuple[NoticeEvent, ...]
    sinks: tuple[SinkReport, ...]


def caption_file(
    source: str | Path, out: str | Path | None = None, format: str | None = None, *,
    bundle: str | Path | Bundle = BUNDLE, options: CaptionOptions | None = None,
    rate_hz: int | None = None, channels: int = 1, stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | None = None, see: Callable[[Cue], None] | None = None,
) -> CaptionReport:  # fmt: skip
    """Caption ``source`` into ``out`` and return what was made.

    Args:
        source: an audio file, or ``-`` for raw 16-bit little-endian PCM from ``stdin``.
        out: a file, or for hls a folder; ``-`` or None for ``stdout``. A file of over 24 hours goes
            on in ``name.001.ext``.
        format: jsonl, vtt, srt, ttml, scc or hls; None takes it from the name of ``out``, or is
            jsonl.
        bundle: a tagger, by name or path.
        options: what to caption and how; times are those of the file unless ``options.live``.
        rate_hz: samples per second of a pipe.
        channels: interleaved channels of a pipe.
        stdin: where a pipe is read; None is the process's own.
        stdout: where a pipe is written; None is the process's own.
        see: is shown every line of the feed as it comes.

    Raises:
        AudioError: audio that cannot be read.
        CaptionError: a format or language that cannot be written, or an output that failed.
        BundleError: no such tagger.
    """
    to_pipe = out is None or str(out) == "-"
    chosen = options or CaptionOptions(live=False)
    form = caption_format(None if to_pipe else out, format, chosen.lang)
    chunks = read_audio(source, rate_hz, channels, stdin or sys.stdin.buffer)
    target: Any = (stdout or sys.stdout.buffer) if to_pipe else out
    sink = file_sink(form, target, whole=str(source) != "-")
    return check_written(caption_stream(chunks, {form: sink}, bundle, chosen, "wait", see))


def check_written(report: CaptionReport) -> CaptionReport:
    """Return ``report``, unless an output failed.

    Raises:
        CaptionError: it did.
    """
    failed = [s for s in report.sinks if s.failure]
    if failed:
        raise CaptionError(f"captions were not all written: {failed[0].failure}")
    return report


def caption_stream(
    chunks: Iterable[Chunk], sinks: dict[str, Sink], bundle: str | Path | Bundle = BUNDLE,
    options: CaptionOptions | None = None, when_full: str = "drop",
    see: Callable[[Cue], None] | None = None,
) -> CaptionReport:  # fmt: skip
    """Caption ``chunks`` of any one format into any number of sinks; a failed one is reported.

    Nothing is written before the tagger is loaded and the first audio has come.
    """
    tally = Tally()
    events = caption_events(chunks, bundle, options, tally)
    first = next(events, None)
    outlets = Outlets(sinks, when_full=when_full)
    try:
        for event in () if first is None else chain([first], events):
            if isinstance(event, CueEvent):
                outlets.put(event.cue)
                if see is not None:
                    see(event.cue)
    finally:
        tally.sinks = tuple(outlets.close())
    return tally.report()


class Tally:
    """Counts what passes."""

    def __init__(self) -> None:
        self.samples, self.rate_hz, self.erasure = 0, 1, 0.0
        self.cues = self.alerts = self.retracted = 0
        self.gaps: list[GapEvent] = []
        self.notices: list[NoticeEvent] = []
        self.sinks: tuple[SinkReport, ...] = ()

    def count(self, event: Event) -> None:
        """Take note of one event."""
        if isinstance(event, GapEvent):
            self.gaps.append(event)
        elif isinstance(event, NoticeEvent):
            self.notices.append(event)
        elif isinstance(event, CueEvent):
            self.cues += event.cue.op is Op.OPEN
            self.alerts += event.cue.op is Op.OPEN and event.cue.priority is Priority.ALERT
            self.retracted += event.cue.op is Op.RETRACT

    def report(self) -> CaptionReport:
        """Return the figures."""
        seconds = self.samples / self.rate_hz
        return CaptionReport(seconds, self.cues, self.alerts, self.retracted, self.erasure,
                             tuple(self.gaps), tuple(self.notices), self.sinks)  # fmt: skip


def caption_events(
    chunks: Iterable[Chunk], bundle: str | Path | Bundle = BUNDLE,
    options: CaptionOptions | None = None, tally: Tally | None = None,
) -> Iterator[Event]:  # fmt: skip
    """Yield the events of a captioned stream as its audio comes."""
    tally = tally or Tally()
    model = Model.load(bundle)
    task = CaptionTask(model.manifest, options)
    run = InlineRun(task, model)
    resampler: Resampler | None = None
    memory: Any = None
    for chunk in chunks:
        if resampler is None:
            resampler = Resampler(chunk.format, task.input_format)
            memory = resampler.open()
        tally.samples += chunk.length
        tally.rate_hz = chunk.format.rate_hz
        for ready in resampler.step(memory, chunk):
            yield from _counted(run.feed(ready), tally)
    if resampler is not None:
        for ready in resampler.flush(memory):
            yield from _counted(run.feed(ready), tally)
    yield from _counted(run.finish(), tally)
    tally.erasure = run.state.stabiliser.counts.erasure


def _counted(events: list[Event], tally: Tally) -> list[Event]:
    for event in events:
        tally.count(event)
    return events


def caption_format(out: str | Path | None, format: str | None, lang: str = "en") -> str:
    """Return the format asked for, or the one that the file name says.

    Raises:
        CaptionError: no such format, or one that cannot write the language.

    >>> caption_format("street.vtt", None), caption_format(None, None)
    ('vtt', 'jsonl')
    """
    form = _format(out, format)
    if form == "scc" and lang[:2] not in LATIN:
        raise CaptionError(
            f"CEA-608 cannot write language {lang!r}; {', '.join(LATIN)} it can. "
            "Choose another format or language"
        )
    return form


def _format(out: str | Path | None, format: str | None) -> str:
    if format is not None:
        if format not in (*FORMATS, LIVE):
            names = ", ".join((*FORMATS, LIVE))
            raise CaptionError(f"caption format {format!r}; one of {names} expected")
        return format
    suffix = Path(out).suffix.lower().lstrip(".") if out is not None else ""
    suffix = {"json": "jsonl", "xml": "ttml"}.get(suffix, suffix)
    if out is not None and suffix not in FORMATS:
        raise CaptionError(f"{out} does not say its format; name one of {', '.join(FORMATS)}")
    return suffix or "jsonl"
