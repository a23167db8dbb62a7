"""What the sinks write, read back by programs that other people wrote."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ossicle.streaming.captions.cue import Cue, Op, check_feed
from ossicle.streaming.captions.sinks import HlsSegments, file_sink
from ossicle.streaming.captions.sinks.base import clean_lines
from ossicle.streaming.captions.sinks.cea608 import encodable
from ossicle.streaming.captions.sinks.sse import EventHub

pycaption = pytest.importorskip("pycaption", reason="pycaption is not installed")
ttconv_model = pytest.importorskip("ttconv.model", reason="ttconv is not installed")
webvtt = pytest.importorskip("webvtt", reason="webvtt-py is not installed")

NODE = Path(__file__).parent / "node"
Found = list[tuple[int, int, str]]  # start ms, end ms, text
FEEDS = {
    "hostile": {"seed": 3, "count": 60},
    "crowded": {"seed": 4, "count": 80, "gap_s": 0.3},
    "late file": {"seed": 5, "count": 60, "live": False},
}


def write(format: str, cues: list[Cue], place: Path) -> Path:
    path = place / f"feed.{format}"
    sink = file_sink(format, path)
    for cue in cues:
        sink.put(cue)
    sink.close()
    return path


def expected(cues: list[Cue]) -> list[str]:
    finals = [c for c in cues if c.op is Op.CLOSE and clean_lines(c.text)]
    finals.sort(key=lambda c: (c.display_start_ms, c.seq))
    return [clean_lines(c.text) for c in finals]


def plain(text: str) -> str:
    return " ".join(text.replace("\u200e", "").replace("\u200f", "").split())


def by_webvtt_py(path: Path) -> Found:
    def ms(stamp: str) -> int:
        hours, minutes, seconds = stamp.split(":")
        return (int(hours) * 60 + int(minutes)) * 60_000 + round(float(seconds) * 1000)

    return [(ms(c.start), ms(c.end), c.text) for c in webvtt.read(str(path))]


def by_pycaption(path: Path) -> Found:
    readers = {".vtt": pycaption.WebVTTReader, ".srt": pycaption.SRTReader,
               ".ttml": pycaption.DFXPReader, ".scc": pycaption.SCCReader}  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pycaption parses XML with an HTML parser
        made = readers[path.suffix]().read(path.read_text(encoding="utf-8"))
        captions = [c for lang in made.get_languages() for c in made.get_captions(lang)]
    found = [(round(c.start / 1000), round(c.end / 1000), c.get_text()) for c in captions]
    return sorted(found, key=lambda c: c[0])


def by_ttconv(path: Path) -> Found:
    import ttconv.imsc.reader
    import ttconv.scc.reader
    import ttconv.srt.reader
    import ttconv.vtt.reader

    if path.suffix == ".ttml":
        doc = ttconv.imsc.reader.to_model(ET.parse(path))
    else:
        module = {".vtt": ttconv.vtt.reader, ".srt": ttconv.srt.reader}.get(path.suffix)
        text = path.read_text(encoding="utf-8")
        doc = module.to_model(io.StringIO(text)) if module else ttconv.scc.reader.to_model(text)
    found: Found = []

    def text_of(element: Any) -> str:
        if isinstance(element, ttconv_model.Text):
            return str(element.get_text())
        if isinstance(element, ttconv_model.Br):
            return "\n"
        return "".join(map(text_of, element))

    def walk(element: Any) -> None:
        if isinstance(element, ttconv_model.P):
            begin, end = element.get_begin() or 0, element.get_end() or 0
            found.append((round(begin * 1000), round(end * 1000), text_of(element)))
        else:
            for child in element:
                walk(child)

    walk(doc.get_body())
    return found


def by_node(reader: str, *files: str) -> tuple[Found, list[str]]:
    if shutil.which("node") is None or not (NODE / "node_modules" / "imsc").is_dir():
        pytest.skip(f"no node, or no node_modules: run `npm ci` in {NODE}")
    done = subprocess.run(
        ["node", str(NODE / "read.mjs"), reader, *files],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    made = json.loads(done.stdout)
    return [(start, end, text) for start, end, text, *_ in made["cues"]], made["errors"]


def by_ffprobe(path: Path) -> list[int]:
    """Start times only: ffprobe shows packets, not text."""
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed (Debian package ffmpeg)")
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "packet=pts_time", "-of", "json", str(path)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert not done.stderr, done.stderr
    return [round(float(p["pts_time"]) * 1000) for p in json.loads(done.stdout)["packets"]]


@pytest.fixture(scope="module", params=list(FEEDS))
def feed(request: pytest.FixtureRequest, make_feed: Callable[..., list[Cue]]) -> list[Cue]:
    cues = make_feed(**FEEDS[request.param])
    check_feed(cues)
    return cues


def agree(found: Found, cues: list[Cue]) -> None:
    # the late ones are re-timed and so change places; none is lost, none is there twice
    assert sorted(plain(t) for _, _, t in found) == sorted(plain(t) for t in expected(cues))
    starts = [s for s, _, _ in found]
    assert starts == sorted(starts)
    assert all(s < e for s, e, _ in found)


@pytest.mark.parametrize("reader", [by_webvtt_py, by_pycaption, by_ttconv])
def test_webvtt_is_read_whole_in_python(
    feed: list[Cue], tmp_path: Path, reader: Callable[[Path], Found]
) -> None:
    agree(reader(write("vtt", feed, tmp_path)), feed)


@pytest.mark.parametrize("reader", ["w3c", "vttjs", "hlsjs"])
def test_webvtt_is_read_whole_in_javascript(feed: list[Cue], tmp_path: Path, reader: str) -> None:
    found, errors = by_node(reader, str(write("vtt", feed, tmp_path)))
    if reader != "hlsjs":  # which takes a file without a time map as lying 10 s earlier
        agree(found, feed)
    assert errors == []


@pytest.mark.parametrize("format", ["vtt", "srt"])
def test_ffprobe_sees_every_cue(feed: list[Cue], tmp_path: Path, format: str) -> None:
    path = write(format, feed, tmp_path)
    assert by_ffprobe(path) == [start for start, _, _ in by_ttconv(path)]


@pytest.mark.parametrize("format", ["srt", "ttml"])
@pytest.mark.parametrize("reader", [by_pycaption, by_ttconv])
def test_srt_and_ttml_are_read_whole(
    feed: list[Cue], tmp_path: Path, format: str, reader: Callable[[Path], Found]
) -> None:
    agree(reader(write(format, feed, tmp_path)), feed)


def test_ttml_is_read_whole_by_the_reader_of_players(feed: list[Cue], tmp_path: Path) -> None:
    """imsc.js, which knows nothing of ttconv, which wrote it."""
    found, errors = by_node("imsc", str(write("ttml", feed, tmp_path)))
    agree(found, feed)
    assert errors == []


def closed(cues: list[Cue]) -> list[tuple[int, int, str]]:
    return [(c.display_start_ms, c.display_end_ms, c.text) for c in cues if c.op is Op.CLOSE]


def test_json_lines_are_read_by_anything_that_reads_json(feed: list[Cue], tmp_path: Path) -> None:
    path = write("jsonl", feed, tmp_path)
    found, _ = by_node("json", str(path))
    lines = [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
    here = [(x["display_start_ms"], x["display_end_ms"], x["text"])
            for x in lines if x["op"] == "CLOSE"]  # fmt: skip
    assert found == here == closed(feed)
    assert [x["seq"] for x in lines] == list(range(len(feed)))


async def test_events_are_read_whole_by_event_source_readers(
    feed: list[Cue], tmp_path: Path
) -> None:
    sse = pytest.importorskip("httpx_sse", reason="httpx-sse is not installed")
    hub = EventHub()
    for cue in feed:
        hub.put(cue)
    hub.close()
    text = "".join([block async for block in hub.events()])
    path = tmp_path / "events"
    path.write_text(text, encoding="utf-8")
    decoder = sse._decoders.SSEDecoder()
    read = [e for line in text.split("\n") if (e := decoder.decode(line)) is not None]
    found = [json.loads(e.data) for e in read if e.event == "cue"]
    assert [x["seq"] for x in found] == [c.seq for c in feed]
    cues, errors = by_node("events", str(path))
    assert cues == closed(feed)
    assert errors == []


@pytest.mark.parametrize("reader", [by_pycaption, by_ttconv])
def test_roll_up_shows_what_cea_608_can_write(
    make_feed: Callable[..., list[Cue]], tmp_path: Path, reader: Callable[[Path], Found]
) -> None:
    texts = ["[dog barks]", "[fire crackling]", "[naïve café ½ ♪ Ñandú]", "[ÀÉÎÕÜ ß ç «x»]",
             "[{curly} back\\slash]"]  # fmt: skip
    cues = make_feed(seed=8, count=40, texts=texts, gap_s=4.0)
    found = reader(write("scc", cues, tmp_path))
    shown = " ".join(text.replace("\n", " ") for _, _, text in found)
    for text in texts:
        assert encodable(clean_lines(text))[0] in shown
    first = min(c.display_start_ms for c in cues if c.op is Op.CLOSE)
    assert abs(found[0][0] - first) < 500


@pytest.mark.parametrize("start_s", [23 * 3600, 26 * 3600])
def test_roll_up_keeps_time_for_days(
    make_feed: Callable[..., list[Cue]], tmp_path: Path, start_s: int
) -> None:
    """A second day is a second file, whose clock begins anew."""
    cues = make_feed(seed=8, count=10, texts=["[dog barks]"], start_s=start_s)
    path = write("scc", cues, tmp_path)
    if start_s >= 24 * 3600:
        path = tmp_path / "feed.001.scc"
    first = min(c.display_start_ms for c in cues if c.op is Op.CLOSE) % (24 * 3600_000)
    assert abs(by_ttconv(path)[0][0] - first) < 500
    assert abs(by_pycaption(path)[0][0] - first) < 500


@pytest.mark.parametrize("start_s", [0, 26 * 3600, 27 * 3600])
def test_hls_segments_lie_where_they_belong(
    make_feed: Callable[..., list[Cue]], tmp_path: Path, start_s: int
) -> None:
    cues = make_feed(seed=3, count=40, start_s=float(start_s))
    sink = HlsSegments(tmp_path, window=0)
    for cue in cues:
        sink.put(cue)
    sink.close()
    listed = [x for x in (tmp_path / "captions.m3u8").read_text().split() if x.endswith(".vtt")]
    assert listed == sorted(p.name for p in tmp_path.glob("*.vtt"))
    assert "#EXT-X-ENDLIST" in (tmp_path / "captions.m3u8").read_text()
    files = [f"{tmp_path / name}@{int(name[9:17]) * 6}" for name in listed]
    found, errors = by_node("hlsjs", *files)
    assert errors == []
    agree(found, cues)
    starts = sorted(c.display_start_ms for c in cues if c.op is Op.CLOSE and clean_lines(c.text))
    assert [s for s, _, _ in found] == starts
    assert sum(len(webvtt.read(str(tmp_path / name))) for name in listed) == len(found)


def test_26_hours_turn_over_into_files_that_every_reader_takes(
    make_feed: Callable[..., list[Cue]], tmp_path: Path
) -> None:
    cues = make_feed(seed=2, count=320, gap_s=300.0, texts=["[dog barks]", "[rain falling]"])
    assert cues[-1].audio_seen_sample > 24 * 3600 * 16_000
    for kind in ("vtt", "srt", "ttml"):
        first = write(kind, cues, tmp_path)
        second = tmp_path / f"feed.001.{kind}"
        assert second.is_file()
        readers: list[Callable[[Path], Found]] = [by_pycaption, by_ttconv]
        if kind == "ttml" and shutil.which("node") and (NODE / "node_modules" / "imsc").is_dir():
            readers.append(lambda path: by_node("imsc", str(path))[0])
        for reader in readers:
            days = [reader(first), reader(second)]
            assert sum(map(len, days)) == len(expected(cues))
            assert all(0 <= s < e < 24 * 3600_000 for day in days for s, e, _ in day)
