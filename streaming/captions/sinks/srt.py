"""SubRip: numbered captions with comma milliseconds."""

from __future__ import annotations

from ossicle.streaming.captions.sinks.base import Shot, clock
from ossicle.streaming.captions.sinks.files import Target, TextSink


def render_srt(number: int, shot: Shot) -> str:
    r"""Return one caption with the blank line after it.

    >>> render_srt(1, Shot(7, 0, 900, "[dog barks]", "en"))
    '1\n00:00:00,000 --> 00:00:00,900\n[dog barks]\n\n'
    """
    times = f"{clock(shot.start_ms, ',')} --> {clock(shot.end_ms, ',')}"
    return f"{number}\n{times}\n{shot.text}\n\n"


def srt(target: Target) -> TextSink:
    """Return a sink that writes a SubRip file or stream."""
    return TextSink(target, "", render_srt)
