"""One bad sink never stops the feed, and a command writes what it says."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import AudioError, CaptionError, OssicleError
from ossicle.runtime.manifest import Manifest
from ossicle.runtime.task import CueEvent
from ossicle.streaming.captions.commands import caption_events, caption_file, caption_stream
from ossicle.streaming.captions.cue import (
    Cue,
    Op,
    check_feed,
    from_json_line,
    to_json_line,
)
from ossicle.streaming.captions.liveview import LiveText, watching
from ossicle.streaming.captions.sinks import FORMATS, HlsSegments, Outlet, Outlets, file_sink
from ossicle.streaming.captions.source import read_audio
from ossicle.streaming.captions.task import STYLES, CaptionOptions, CaptionTask

RATE = 16_000
MONO = AudioFormat(RATE)
Tones = Callable[[list[tuple[str, float, float]], float], NDArray[np.float32]]


class Kept:
    def __init__(self) -> None:
        self.cues: list[Cue] = []
        self.closed = False

    def put(self, cue: Cue) -> None:
        self.cues.append(cue)

    def close(self) -> None:
        self.closed = True


class Stalled(Kept):
    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def put(self, cue: Cue) -> None:
        self.go.wait(30)
        super().put(cue)


class Full(io.RawIOBase):
    """A disk with room for ``room`` bytes."""

    def __init__(self, room: int) -> None:
        self.room = room

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.room -= len(bytes(data))  # type: ignore[call-overload]
        if self.room < 0:
            raise OSError(28, "No space left on device")
        return len(bytes(data))  # type: ignore[call-overload]


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_fails_its_sink_alone(form: str, make_feed: Callable[..., list[Cue]]) -> None:
    good, cues = Kept(), make_feed(seed=1, texts=["[dog barks]"])
    outlets = Outlets({"full": file_sink(form, Full(300)), "good": good})  # type: ignore[arg-type]
    for cue in cues:
        outlets.put(cue)
    full, fine = outlets.close()
    assert full.failure is not None
    assert "No space left" in full.failure
    assert full.failure.startswith("CaptionError")
    assert (fine.failure, fine.written, good.closed) == (None, len(cues), True)
    assert good.cues == cues


def test_a_folder_that_goes_away_fails_its_segments_alone(
    make_feed: Callable[..., list[Cue]], tmp_path: Path
) -> None:
    folder, good = tmp_path / "live", Kept()
    outlets = Outlets({"hls": HlsSegments(folder), "good": good}, when_full="wait")
    cues = make_feed(seed=1, texts=["[dog barks]"])
    for number, cue in enumerate(cues):
        outlets.put(cue)
        if number == len(cues) // 2:
            folder.rename(tmp_path / "gone")
            folder.write_text("no longer a folder")
    hls, fine = outlets.close()
    assert hls.failure is not None
    assert hls.failure.startswith("CaptionError")
    assert (fine.failure, fine.written) == (None, len(cues))


@pytest.mark.parametrize("style", STYLES)
def test_a_tagger_with_hostile_labels_is_captioned_and_written(
    manifest: Manifest, hostile: list[str], tmp_path: Path, style: str
) -> None:
    webvtt = pytest.importorskip("webvtt", reason="webvtt-py is not installed")
    for first in range(0, len(hostile), 6):
        names = tuple(f"{text} {i}" for i, text in enumerate((hostile * 2)[first : first + 6]))
        task = CaptionTask(msgspec.structs.replace(manifest, labels=names), {"style": style})
        state, cues = task.open(), list[Cue]()
        for at in range(200):
            (hop,) = task.push(state, Chunk(np.zeros((1, 640), np.float32), at * 640, MONO))
            scores = np.zeros((2, 6), np.float32)
            scores[:, at // 30 % 6] = 0.9
            events = task.take(state, hop, {"scores": scores})
            cues += [e.cue for e in events if isinstance(e, CueEvent)]
        cues += [e.cue for e in task.end(state) if isinstance(e, CueEvent)]
        check_feed([from_json_line(to_json_line(c)) for c in cues])
        sink = file_sink("vtt", tmp_path / f"{first}.vtt")
        for cue in cues:
            sink.put(cue)
        sink.close()
        read = webvtt.read(str(tmp_path / f"{first}.vtt"))
        shown = [c for c in cues if c.op is Op.CLOSE and c.text]
        assert len(read) == len(shown)
        assert shown or style == "off"


def test_a_stalled_reader_drops_heartbeats_first_and_counts_them(
    make_feed: Callable[..., list[Cue]],
) -> None:
    cues, sink = make_feed(seed=1, count=100), Stalled()
    outlet = Outlet("slow", sink, capacity=100)
    for cue in cues:
        outlet.put(cue)
    sink.go.set()
    report = outlet.close()
    assert report.dropped == len(cues) - len(sink.cues) > 0
    assert report.written == len(sink.cues)
    seqs = [c.seq for c in sink.cues]
    assert seqs == sorted(seqs)


def test_a_sink_that_never_returns_is_left_behind(make_feed: Callable[..., list[Cue]]) -> None:
    sink = Stalled()
    outlet = Outlet("stuck", sink)
    for cue in make_feed(seed=1, count=5):
        outlet.put(cue)
    report = outlet.close(timeout_s=0.2)
    assert report.failure == "did not finish within 0.2 s"
    sink.go.set()


def test_an_outlet_that_waits_loses_nothing(make_feed: Callable[..., list[Cue]]) -> None:
    cues, sink = make_feed(seed=1, count=200), Kept()
    outlet = Outlet("file", sink, capacity=2, when_full="wait")
    for cue in cues:
        outlet.put(cue)
    assert outlet.close().dropped == 0
    assert sink.cues == cues


def test_places_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CaptionError, match="cannot be made"):
        HlsSegments(tmp_path / "file" / "sub")
    with pytest.raises(CaptionError, match="cannot be written"):
        file_sink("jsonl", tmp_path / "absent" / "x.jsonl")
    with pytest.raises(CaptionError, match="one of"):
        file_sink("doc", tmp_path / "x.doc")


@pytest.fixture
def wav(tmp_path: Path, make_tones: Tones) -> Path:
    soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
    path = tmp_path / "street.wav"
    samples = make_tones([("dog_bark", 1.0, 1.4), ("smoke_alarm", 2.0, 3.0)], 5.0)
    soundfile.write(path, samples.T, RATE)
    return path


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_becomes_captions(form: str, wav: Path, tone_bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / f"street.{form}"
    report = caption_file(wav, out, bundle=tone_bundle)
    assert (report.cues, report.alerts, report.seconds) == (2, 1, 5.0)
    text = out.read_text()
    if form == "vtt":
        assert text == (
            "WEBVTT\n\nc1\n00:00:01.000 --> 00:00:01.834\n[dog barks]\n\n"
            "c2\n00:00:02.000 --> 00:00:03.050\n[smoke alarm beeping]\n\n"
        )
    elif form != "scc":
        assert "[dog barks]" in text
    if form == "jsonl":
        check_feed([from_json_line(line) for line in text.splitlines()])


def test_a_pipe_becomes_a_live_playlist_that_ends(
    wav: Path, tone_bundle: Bundle, tmp_path: Path
) -> None:
    report = caption_file(wav, tmp_path / "live", "hls", bundle=tone_bundle)
    assert report.cues == 2
    playlist = (tmp_path / "live" / "captions.m3u8").read_text()
    assert playlist.endswith("#EXT-X-ENDLIST\n")
    told = "".join((tmp_path / "live" / n).read_text() for n in playlist.split() if "vtt" in n)
    assert "[dog barks]" in told
    with pytest.raises(CaptionError, match="--out"):
        caption_file(wav, "-", "hls", bundle=tone_bundle, stdout=io.BytesIO())


def test_a_recording_keeps_all_its_segments_to_its_end(
    make_tones: Tones, tone_bundle: Bundle, tmp_path: Path
) -> None:
    """A pipe may run for days and keeps two minutes; a recording is watched from its start."""
    samples = make_tones([("dog_bark", 1.0, 1.4)], 153.0)
    soundfile.write(tmp_path / "long.wav", samples[0], RATE)
    caption_file(tmp_path / "long.wav", tmp_path / "whole", "hls", bundle=tone_bundle)
    pcm = np.round(samples[0] * 32767).astype("<i2").tobytes()
    caption_file("-", tmp_path / "live", "hls", bundle=tone_bundle, rate_hz=RATE,
                 stdin=io.BytesIO(pcm))  # fmt: skip
    whole, live = (
        [n for n in (tmp_path / f / "captions.m3u8").read_text().split() if n.endswith(".vtt")]
        for f in ("whole", "live")
    )
    assert len(whole) == 26  # 153 s in sixes
    assert "[dog barks]" in (tmp_path / "whole" / whole[0]).read_text()
    assert live == whole[-20:]


def test_a_pipe_becomes_captions_on_a_pipe(make_tones: Tones, tone_bundle: Bundle) -> None:
    samples = make_tones([("dog_bark", 1.0, 1.4)], 3.0)
    pcm = np.round(np.repeat(samples[0], 2) * 32767).astype("<i2").tobytes()
    out = io.BytesIO()
    caption_file("-", "-", "srt", bundle=tone_bundle, rate_hz=2 * RATE, stdin=io.BytesIO(pcm),
                 stdout=out)  # fmt: skip
    assert b"[dog barks]" in out.getvalue()
    assert not out.closed


def test_input_that_cannot_be_read_is_refused(tmp_path: Path, tone_bundle: Bundle) -> None:
    with pytest.raises(AudioError, match="--rate"):
        list(read_audio("-", stdin=io.BytesIO(b"")))
    with pytest.raises(AudioError, match="middle of a sample"):
        list(read_audio("-", RATE, stdin=io.BytesIO(b"\0\0\0")))
    with pytest.raises(AudioError, match="no audio file"):
        caption_file(tmp_path / "none.wav", "-", bundle=tone_bundle, stdout=io.BytesIO())
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(AudioError, match="cannot be read"):
        caption_file(tmp_path / "text.wav", "-", bundle=tone_bundle, stdout=io.BytesIO())
    out = tmp_path / "kept.vtt"
    out.write_text("older captions")
    for source, bundle in ((tmp_path / "none.wav", tone_bundle), (tmp_path / "text.wav", "none")):
        with pytest.raises(OssicleError):
            caption_file(source, out, bundle=bundle)
    assert out.read_text() == "older captions"
    with pytest.raises(CaptionError, match="CEA-608"):
        caption_file("x.wav", "x.scc", options=CaptionOptions(lang="zh"))
    with pytest.raises(CaptionError, match="its format"):
        caption_file("x.wav", "x.doc")


def test_a_failed_output_of_a_command_is_an_error(wav: Path, tone_bundle: Bundle) -> None:
    with pytest.raises(CaptionError, match="No space left"):
        caption_file(wav, "-", "vtt", bundle=tone_bundle, stdout=Full(5))  # type: ignore[arg-type]


def test_a_stream_goes_on_without_its_bad_sink(make_tones: Tones, tone_bundle: Bundle) -> None:
    samples, kept = make_tones([("dog_bark", 1.0, 1.4)], 3.0), Kept()
    chunk = Chunk(samples, 0, AudioFormat(RATE))
    report = caption_stream(
        [chunk],
        {"bad": file_sink("vtt", Full(3)), "kept": kept},
        tone_bundle,  # type: ignore[arg-type]
    )
    assert [s.failure is None for s in report.sinks] == [False, True]
    assert [c.op for c in kept.cues if not c.is_heartbeat][-1] is Op.CLOSE


def test_the_live_view_shows_what_is_on_and_never_markup(
    make_tones: Tones, tone_bundle: Bundle, make_feed: Callable[..., list[Cue]]
) -> None:
    from rich.console import Console

    samples = make_tones([("dog_bark", 1.0, 1.4), ("smoke_alarm", 2.0, 4.9)], 5.0)
    out = io.StringIO()
    console = Console(file=out, width=60)
    with watching(True, console) as see:
        assert see is not None
        for event in caption_events([Chunk(samples, 0, AudioFormat(RATE))], tone_bundle):
            if isinstance(event, CueEvent):
                see(event.cue)
    with watching(False) as nothing:
        assert nothing is None
    assert "[dog barks]" in out.getvalue()
    view = LiveText(lines=3)
    for cue in make_feed(seed=1):
        view.take(cue)
        Console(file=io.StringIO()).print(view.render())
    assert len(view.past) == 3
    assert not view.open


def test_commands_import_no_torch() -> None:
    import subprocess

    code = "import ossicle.streaming.captions.commands, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
