"""What a sink is, and what sinks that write final captions share."""

# ruff: noqa: RUF001  (full-width characters are the point)

from __future__ import annotations

import heapq
import unicodedata
from dataclasses import dataclass, replace
from typing import Protocol

from ossicle.streaming.captions.cue import Cue, Op
from ossicle.streaming.captions.layout import LEAST_MS

MARGIN_MS = 2000  # a cue may still open with a start this long before the audio seen
PATIENCE_MS = 60_000  # an open cue holds later ones back no longer than this


class Sink(Protocol):
    """Takes the feed's lines in order. ``put`` may raise: the sink is then given up, alone."""

    def put(self, cue: Cue) -> None:
        """Take one line."""
        ...

    def close(self) -> None:
        """Write what is held and let go of files."""
        ...


@dataclass(frozen=True, slots=True)
class Shot:
    """One caption as a player needs it: whole, final, in order."""

    cue_id: int
    start_ms: int
    end_ms: int
    text: str  # clean lines separated by "\n", none empty
    language: str


class Finals:
    """Puts final cues in order of their start.

    A final is held until nothing that is open, or may still open, can start before it; one that
    comes later than that is re-timed to the last start given, never lost. Holds at most a minute.
    """

    def __init__(self) -> None:
        self._open: dict[int, Cue] = {}
        self._ready: list[tuple[int, int, Cue]] = []
        self._last_ms = 0

    def put(self, cue: Cue) -> list[Shot]:
        """Return the captions that are now certain, ordered by start."""
        if cue.op in (Op.OPEN, Op.UPDATE):
            self._open[cue.cue_id] = cue
        else:
            self._open.pop(cue.cue_id, None)
        if cue.op is Op.CLOSE:
            heapq.heappush(self._ready, (cue.display_start_ms, cue.seq, cue))
        now_ms = cue.audio_seen_sample * 1000 // cue.sample_rate_hz
        return self._release(min(
            [now_ms - MARGIN_MS]
            + [c.display_start_ms for c in self._open.values()
               if now_ms - c.display_start_ms < PATIENCE_MS]
        ))  # fmt: skip

    def close(self) -> list[Shot]:
        """Return the rest; cues that the feed left open are shown for as long as they said."""
        for cue in self._open.values():
            heapq.heappush(self._ready, (cue.display_start_ms, cue.seq, cue))
        self._open.clear()
        return self._release(None)

    def _release(self, until_ms: int | None) -> list[Shot]:
        shots = []
        while self._ready and (until_ms is None or self._ready[0][0] <= until_ms):
            _, _, cue = heapq.heappop(self._ready)
            text = clean_lines(cue.text)
            if not text:
                continue
            start = max(cue.display_start_ms, self._last_ms)
            end = max(cue.display_end_ms, start + (LEAST_MS if start > cue.display_start_ms else 1))
            self._last_ms = start
            shots.append(Shot(cue.cue_id, start, end, text, cue.language))
        return shots


_PLAIN = str.maketrans({"&": "＆", "<": "＜", ">": "＞", "{": "（", "}": "）", "\\": "＼"})


def clean_lines(text: str) -> str:
    r"""Return ``text`` without what some player takes for markup, timing or the end of a cue.

    The characters that WebVTT, SRT and ASS readers interpret become their full-width twins: of the
    escapes, each is read literally by some reader. Blank lines, control characters and byte-order
    marks go; so do direction overrides, while the marks that scripts need stay.

    >>> clean_lines("a --> <b>\n\n & c")
    'a --＞ ＜b＞\n＆ c'
    """
    lines = []
    for raw in text.splitlines():
        kept = "".join(c for c in raw if _shown(c))
        line = " ".join(kept.translate(_PLAIN).split())
        if line:
            lines.append(line)
    return "\n".join(lines)


def _shown(char: str) -> bool:
    if char in "\u200c\u200d\u200e\u200f\ufe0f":  # joiners and direction marks
        return True
    return char.isspace() or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn")


def clock(ms: int, mark: str = ".") -> str:
    """Return ``HH:MM:SS.mmm`` from integer milliseconds.

    >>> clock(3_723_004)
    '01:02:03.004'
    """
    seconds, milli = divmod(ms, 1000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}{mark}{milli:03}"


DAY_MS = 24 * 3600 * 1000


def within_day(shot: Shot) -> tuple[int, Shot]:
    """Return which day of the feed a caption falls in, and the caption on that day's clock.

    Players agree on hours 00 to 23 only. A caption across midnight ends with the day, unless there
    is no time left to read it: then it begins the next.

    >>> within_day(Shot(1, DAY_MS + 5, DAY_MS + 900, "x", "en"))[0]
    1
    """
    day, start = divmod(shot.start_ms, DAY_MS)
    length = shot.end_ms - shot.start_ms
    if start + length > DAY_MS - 1 and DAY_MS - 1 - start < LEAST_MS:
        day, start = day + 1, 0
    return day, replace(shot, start_ms=start, end_ms=min(start + length, DAY_MS - 1))
