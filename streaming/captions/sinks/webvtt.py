"""A WebVTT file that every reader tried takes whole.

No byte-order mark, LF, ``WEBVTT`` and a blank line, no STYLE, REGION or metadata, full hours,
ordered starts, unique identifiers, plain text. (W3C WebVTT, Candidate Recommendation 2019.)
"""

from __future__ import annotations

from ossicle.streaming.captions.sinks.base import Shot, clock
from ossicle.streaming.captions.sinks.files import Target, TextSink

HEADER = "WEBVTT\n\n"


def render_vtt(number: int, shot: Shot) -> str:
    r"""Return one cue with the blank line after it.

    >>> render_vtt(1, Shot(7, 0, 900, "[dog barks]", "en"))
    'c7\n00:00:00.000 --> 00:00:00.900\n[dog barks]\n\n'
    """
    times = f"{clock(shot.start_ms)} --> {clock(shot.end_ms)}"
    return f"c{shot.cue_id}\n{times}\n{shot.text}\n\n"


def webvtt(target: Target) -> TextSink:
    """Return a sink that writes a WebVTT file or stream."""
    return TextSink(target, HEADER, render_vtt)
