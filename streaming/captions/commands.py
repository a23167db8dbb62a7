"""``ossicle caption`` as plain functions: a file or a pipe to captions, and a live view.

The command line, the demo and the tests call these; nothing here parses arguments.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import AudioError, CaptionError
from ossicle.runtime.model import Model
from ossicle.runtime.resample import Resampler
from ossicle.runtime.task import CueEvent, Event, GapEvent, InlineRun, NoticeEvent
from ossicle.streaming.captions.cue import Cue, Op, Priority
from ossicle.streaming.captions.sentences import SceneSentences, SentenceWriter
from ossicle.streaming.captions.sinks import FORMATS, Outlets, Sink, SinkReport, file_sink
from ossicle.streaming.captions.sinks.scc import LATIN
from ossicle.streaming.captions.task import CaptionOptions, CaptionTask

CHUNK_S = 0.1
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
    stdout: IO[bytes] | None = None, decoder: str | None = None,
) -> CaptionReport:  # fmt: skip
    """Caption ``source`` into ``out`` and return what was made.

    Args:
        source: an audio file, or ``-`` for raw 16-bit little-endian PCM from ``stdin``.
        out: a file; ``-`` or None for ``stdout``. A file of over 24 hours goes on in
            ``name.001.ext``.
        format: jsonl, vtt, srt, ttml or scc; None takes it from the name of ``out``, else jsonl.
        bundle: a tagger, by name or path.
        options: what to caption and how; times are those of the file unless ``options.live``.
        rate_hz: samples per second of a pipe.
        channels: interleaved channels of a pipe.
        stdin: where a pipe is read; None is the process's own.
        stdout: where a pipe is written; None is the process's own.
        decoder: a bundle (captioner-16k) that adds a sentence about each change of the scene.

    Raises:
        AudioError: audio that cannot be read.
        CaptionError: a format or language that cannot be written, or an output that failed.
        BundleError: no such tagger.
    """
    to_pipe = out is None or str(out) == "-"
    form = caption_format(None if to_pipe else out, format)
    chosen = options or CaptionOptions(live=False)
    if form == "scc" and chosen.lang[:2] not in LATIN:
        raise CaptionError(
            f"CEA-608 cannot write language {chosen.lang!r}; {', '.join(LATIN)} it can. "
            "Choose another format or language"
        )
    chunks = read_audio(source, rate_hz, channels, stdin or sys.stdin.buffer)
    target: Any = (stdout or sys.stdout.buffer) if to_pipe else out
    sink = file_sink(form, target)
    report = caption_stream(chunks, {form: sink}, bundle, chosen, "wait", decoder)
    failed = [s for s in report.sinks if s.failure]
    if failed:
        raise CaptionError(f"captions were not all written: {failed[0].failure}")
    return report


def caption_stream(
    chunks: Iterable[Chunk], sinks: dict[str, Sink], bundle: str | Path | Bundle = BUNDLE,
    options: CaptionOptions | None = None, when_full: str = "drop", decoder: str | None = None,
) -> CaptionReport:  # fmt: skip
    """Caption ``chunks`` of any one format into any number of sinks; a failed one is reported."""
    outlets = Outlets(sinks, when_full=when_full)
    tally = Tally()
    try:
        for event in caption_events(chunks, bundle, options, tally, decoder):
            if isinstance(event, CueEvent):
                outlets.put(event.cue)
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
    options: CaptionOptions | None = None, tally: Tally | None = None, decoder: str | None = None,
) -> Iterator[Event]:  # fmt: skip
    """Yield the events of a captioned stream as its audio comes."""
    events = _plain_events(chunks, bundle, options, tally or Tally())
    if decoder is None:
        yield from events
        return
    scenes = SceneSentences(SentenceWriter(Model.load(decoder)), (options or CaptionOptions()).lang)
    for event in events:
        if isinstance(event, CueEvent):
            yield from map(CueEvent, scenes.take(event.cue))
        else:
            yield event
    yield from map(CueEvent, scenes.end())


def _plain_events(
    chunks: Iterable[Chunk], bundle: str | Path | Bundle, options: CaptionOptions | None,
    tally: Tally,
) -> Iterator[Event]:  # fmt: skip
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


def caption_format(out: str | Path | None, format: str | None) -> str:
    """Return the format asked for, or the one that the file name says.

    >>> caption_format("street.vtt", None), caption_format(None, None)
    ('vtt', 'jsonl')
    """
    if format is not None:
        if format not in FORMATS:
            raise CaptionError(f"caption format {format!r}; one of {', '.join(FORMATS)} expected")
        return format
    suffix = Path(out).suffix.lower().lstrip(".") if out is not None else ""
    suffix = {"json": "jsonl", "xml": "ttml"}.get(suffix, suffix)
    if out is not None and suffix not in FORMATS:
        raise CaptionError(f"{out} does not say its format; name one of {', '.join(FORMATS)}")
    return suffix or "jsonl"


def read_audio(
    source: str | Path, rate_hz: int | None = None, channels: int = 1,
    stdin: IO[bytes] | None = None,
) -> Iterator[Chunk]:  # fmt: skip
    """Yield a file, or raw PCM from a pipe, in chunks of a tenth of a second.

    Raises:
        AudioError: a file that cannot be read, or a pipe without a rate.
    """
    if str(source) != "-":
        yield from _read_file(Path(source))
        return
    if rate_hz is None or stdin is None:
        raise AudioError("raw audio from a pipe needs its sample rate: --rate 16000, for example")
    form = AudioFormat(rate_hz, channels)
    size, start, held = round(CHUNK_S * rate_hz) * 2 * channels, 0, b""
    while data := stdin.read(size):
        data = held + data
        whole = len(data) - len(data) % (2 * channels)
        held = data[whole:]
        pcm = np.frombuffer(data[:whole], "<i2").reshape(-1, channels).T
        chunk = Chunk(np.divide(pcm, 32768, dtype=np.float32), start, form)
        start = chunk.stop
        if chunk.length:
            yield chunk
    if held:
        raise AudioError(
            f"the pipe ended in the middle of a sample: {len(held)} bytes of "
            f"{2 * channels} are left; is it 16-bit PCM of {channels} channel(s)?"
        )


def _read_file(path: Path) -> Iterator[Chunk]:
    try:
        import soundfile
    except ImportError as error:
        raise AudioError("audio files need soundfile; install ossicle[audio]") from error
    if not path.is_file():
        raise AudioError(f"no audio file at {path}")
    try:
        with soundfile.SoundFile(path) as file:
            form = AudioFormat(file.samplerate, file.channels)
            start, size = 0, round(CHUNK_S * file.samplerate)
            while len(frames := file.read(size, "float32", always_2d=True)):
                chunk = Chunk(np.ascontiguousarray(frames.T), start, form)
                start = chunk.stop
                yield chunk
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path} cannot be read as audio: {error}") from error


def live_view(events: Iterable[Event], console: Any = None, lines: int = 12) -> None:
    """Show cues in the terminal as they come: what is on now, and below it what was.

    Works on any iterable of events, so on a file, a microphone and a remote service alike.
    """
    from rich.console import Console
    from rich.live import Live

    view = LiveText(lines)
    with Live(view.render(), console=console or Console(), refresh_per_second=10) as live:
        for event in events:
            if isinstance(event, CueEvent):
                view.take(event.cue)
                live.update(view.render())


class LiveText:
    """What the terminal shows."""

    def __init__(self, lines: int = 12) -> None:
        self.lines = lines
        self.open: dict[int, Cue] = {}
        self.past: list[Cue] = []
        self.heard_s = 0.0

    def take(self, cue: Cue) -> None:
        """Take one line of the feed."""
        self.heard_s = cue.audio_seen_sample / cue.sample_rate_hz
        if cue.is_heartbeat:
            return
        self.open.pop(cue.cue_id, None)
        if not cue.is_final:
            self.open[cue.cue_id] = cue
        elif cue.op is Op.CLOSE:
            self.past = [*self.past, cue][-self.lines :]

    def render(self) -> Any:
        """Return the view as a rich renderable; cue text is never read as markup."""
        from rich.text import Text

        text = Text()
        for cue in self.past[-self.lines :]:
            text.append(f"{_at(cue)}  {cue.text.replace(chr(10), ' ')}\n", "dim")
        for cue in self.open.values():
            style = "bold white on red" if cue.priority is Priority.ALERT else "bold"
            text.append(f"{_at(cue)}  ", "dim")
            text.append(f"{cue.text}\n", style)
        minutes, seconds = divmod(int(self.heard_s), 60)
        text.append(f"listening {minutes // 60}:{minutes % 60:02}:{seconds:02}", "green")
        return text


def _at(cue: Cue) -> str:
    seconds = cue.start_sample // cue.sample_rate_hz
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
