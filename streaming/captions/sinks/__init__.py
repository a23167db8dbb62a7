"""Where captions go: files, live segments, browsers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ossicle.runtime.errors import CaptionError
from ossicle.streaming.captions.sinks.base import Sink
from ossicle.streaming.captions.sinks.files import Target
from ossicle.streaming.captions.sinks.hls import HlsSegments
from ossicle.streaming.captions.sinks.jsonl import JsonLines
from ossicle.streaming.captions.sinks.outlet import Outlet, Outlets, SinkReport
from ossicle.streaming.captions.sinks.scc import Scc
from ossicle.streaming.captions.sinks.srt import srt
from ossicle.streaming.captions.sinks.ttml import Ttml
from ossicle.streaming.captions.sinks.webvtt import webvtt

FORMATS = ("jsonl", "vtt", "srt", "ttml", "scc")
LIVE = "hls"  # a folder of segments with a playlist


def file_sink(format: str, target: Target, whole: bool = False) -> Sink:
    """Return the sink that writes ``format`` to a path or an open binary stream; hls to a folder.

    ``whole``: the source is a recording, so hls keeps every segment, not the last two minutes.

    Raises:
        CaptionError: no such format, or a file that cannot be written.
    """
    makers: dict[str, Callable[[Target], Sink]] = {
        "jsonl": JsonLines, "vtt": webvtt, "srt": srt, "ttml": Ttml, "scc": Scc,
    }  # fmt: skip
    if format == LIVE:
        if not isinstance(target, str | Path):
            raise CaptionError("hls is a folder of segments and no stream; name one with --out")
        return HlsSegments(target, window=0) if whole else HlsSegments(target)
    if format not in makers:
        raise CaptionError(f"caption format {format!r}; one of {', '.join(FORMATS)}, hls expected")
    return makers[format](target)


__all__ = [
    "FORMATS", "LIVE", "HlsSegments", "JsonLines", "Outlet", "Outlets", "Scc", "Sink", "SinkReport",
    "Ttml", "file_sink", "srt", "webvtt",
]  # fmt: skip
