"""CEA-608 roll-up captions in a Scenarist SCC file, for broadcast encoders.

Times are 29.97 Hz drop-frame, which keeps to the wall clock. A word of two characters takes a
frame, so a caption that would be sent while another still is waits for it.
"""

from __future__ import annotations

from ossicle.streaming.captions.cue import Cue
from ossicle.streaming.captions.layout import MORE, lay_out
from ossicle.streaming.captions.sinks.base import Finals, Shot, within_day
from ossicle.streaming.captions.sinks.cea608 import (
    CARRIAGE_RETURN,
    COLUMNS,
    ERASE_DISPLAYED,
    ROLL_UP_2,
    ROW_15,
    encodable,
    with_parity,
    words_of,
)
from ossicle.streaming.captions.sinks.files import Output, Target

HEADER = "Scenarist_SCC V1.0\n\n"
LATIN = ("en", "de", "fr")  # languages of the lexicon that CEA-608 can write


class Scc:
    """Writes final captions as two-row roll-up. ``unwritable`` counts captions in other scripts."""

    def __init__(self, target: Target) -> None:
        self.output = Output(target)
        self.written = self.unwritable = 0
        self._finals = Finals()
        self._day = -1
        self._free = 0  # first frame on which nothing is being sent
        self._clear: int | None = None  # frame at which the screen is to be erased

    def put(self, cue: Cue) -> None:
        """Take one line of the feed."""
        if self._day < 0:
            self._turn(0)
        for shot in self._finals.put(cue):
            self._write(shot)

    def close(self) -> None:
        """Write what is left and erase the screen."""
        if self._day < 0:
            self._turn(0)
        for shot in self._finals.close():
            self._write(shot)
        self._erase(None)
        self.output.end()

    def _write(self, shot: Shot) -> None:
        text, lost = encodable(" ".join(shot.text.split("\n")))
        if lost and lost * 2 > len(shot.text):
            self.unwritable += 1
            return
        if self.output.path is not None:
            day, shot = within_day(shot)
            while self._day < day:
                self._erase(None)
                self._turn(self._day + 1)
        start = frame_of(shot.start_ms)
        self._erase(start)
        words: list[int] = []
        for line in lay_out(text, COLUMNS).split("\n"):
            for code in (ROLL_UP_2, CARRIAGE_RETURN, ROW_15):
                words += [code, code]
            words += words_of(f"{line[: COLUMNS - 3]}..." if line.endswith(MORE) else line)
        self._send(start, words)
        end = max(frame_of(shot.end_ms), self._free)
        self._clear = end if self._clear is None else max(end, self._clear)
        self.written += 1

    def _erase(self, before: int | None) -> None:
        """Erase the screen where that is due earlier than frame ``before``."""
        if self._clear is not None and (before is None or self._clear < before):
            self._send(self._clear, [ERASE_DISPLAYED] * 2)
            self._clear = None

    def _send(self, frame: int, words: list[int]) -> None:
        frame = max(frame, self._free)
        self._free = frame + len(words)
        line = " ".join(map(with_parity, words))
        self.output.write(f"{timecode(frame)}\t{line}\n\n".encode("ascii"))

    def _turn(self, day: int) -> None:
        self._day, self._free, self._clear = day, 0, None
        self.output.begin(day)
        self.output.write(HEADER.encode("ascii"))


def frame_of(ms: int) -> int:
    """Return the 29.97 Hz frame on which ``ms`` falls."""
    return ms * 30 // 1001


def timecode(frame: int) -> str:
    """Return a frame's drop-frame time code: two numbers are skipped every minute but the tenth.

    >>> timecode(1799), timecode(1800), timecode(17982)
    ('00:00:59;29', '00:01:00;02', '00:10:00;00')
    """
    tens, rest = divmod(frame, 17982)
    minutes = 0 if rest < 1800 else 1 + (rest - 1800) // 1798
    number = frame + 18 * tens + 2 * minutes
    seconds, count = divmod(number, 30)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02};{count:02}"
