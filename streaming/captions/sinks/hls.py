"""Live WebVTT segments with a playlist, for HTTP Live Streaming (RFC 8216).

Captions are final some seconds after their sound, so segments are published ``delay_s`` behind the
feed, as the audio and video of a live stream are. A caption that comes later still is re-timed to
the next segment, never lost. Times in a segment count from the segment's start, and
``X-TIMESTAMP-MAP`` ties that to the programme's 90 kHz clock, so days of running change nothing.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ossicle.runtime.errors import CaptionError
from ossicle.streaming.captions.cue import Cue
from ossicle.streaming.captions.layout import LEAST_MS
from ossicle.streaming.captions.sinks.base import Finals, Shot, clock

PLAYLIST = "captions.m3u8"
MPEGTS_WRAP = 1 << 33


class HlsSegments:
    """Writes ``captions.m3u8`` and its segments into a folder; serve it as it is.

    Args:
        folder: made if missing.
        target_s: length of a segment.
        delay_s: how far the segments run behind the feed.
        window: segments in the playlist; 0 keeps all (an EVENT playlist).
        mpegts_start: the programme's 90 kHz clock at sample 0.

    Raises:
        CaptionError: the folder cannot be written.
    """

    def __init__(
        self, folder: str | Path, target_s: int = 6, delay_s: int = 9, window: int = 20,
        mpegts_start: int = 900_000,
    ) -> None:  # fmt: skip
        if target_s < 1 or delay_s < 0 or window < 0:
            raise CaptionError(
                f"HLS segments of {target_s} s, {delay_s} s late, window {window}; at least 1 s, "
                "no negative delay or window"
            )
        self.folder = Path(folder)
        self.target_ms, self.delay_ms = target_s * 1000, delay_s * 1000
        self.window, self.mpegts_start = window, mpegts_start
        self.late = 0  # captions re-timed to a later segment
        self._finals = Finals()
        self._shots: list[Shot] = []
        self._first = self._next = 0  # the first segment, and the first that is not out yet
        self._seen_ms = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CaptionError(f"folder {self.folder} cannot be made: {error}") from error

    def put(self, cue: Cue) -> None:
        """Take one line; publish the segments that are due."""
        self._shots += self._finals.put(cue)
        self._seen_ms = cue.audio_seen_sample * 1000 // cue.sample_rate_hz
        if self._next == 0:  # a feed need not begin at zero
            first = (self._seen_ms - self.delay_ms) // self.target_ms - 1
            self._first = self._next = max(0, first)
        self._publish(self._seen_ms - self.delay_ms, False)

    def close(self) -> None:
        """Publish what is left, to the end of the audio, and end the playlist."""
        self._shots += self._finals.close()
        last = max([self._seen_ms - 1, *(s.start_ms for s in self._shots)])
        self._publish(last + self.target_ms, True)

    def _publish(self, until_ms: int, ended: bool) -> None:
        fresh = False
        while (self._next + 1) * self.target_ms <= until_ms:
            begin, end = self._next * self.target_ms, (self._next + 1) * self.target_ms
            due = [s for s in self._shots if s.start_ms < end]
            self._shots = [s for s in self._shots if s.start_ms >= end]
            self._write(segment_name(self._next), self._segment(due, begin))
            self._next += 1
            fresh = True
        if fresh or ended:
            self._write(PLAYLIST, self._playlist(ended))
            self._forget()

    def _segment(self, shots: list[Shot], begin_ms: int) -> str:
        ticks = (self.mpegts_start + begin_ms * 90) % MPEGTS_WRAP
        parts = [f"WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:{ticks},LOCAL:00:00:00.000\n\n"]
        for shot in shots:
            start, end = shot.start_ms - begin_ms, shot.end_ms - begin_ms
            if start < 0:
                self.late += 1
                start, end = 0, max(end, LEAST_MS)
            parts.append(f"c{shot.cue_id}\n{clock(start)} --> {clock(end)}\n{shot.text}\n\n")
        return "".join(parts)

    def _playlist(self, ended: bool) -> str:
        first = max(self._first, self._next - self.window) if self.window else self._first
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{self.target_ms // 1000}",
                 f"#EXT-X-MEDIA-SEQUENCE:{first}"]  # fmt: skip
        if not self.window:
            lines.append("#EXT-X-PLAYLIST-TYPE:EVENT")
        for number in range(first, self._next):
            lines += [f"#EXTINF:{self.target_ms / 1000:.3f},", segment_name(number)]
        if ended:
            lines.append("#EXT-X-ENDLIST")
        return "\n".join(lines) + "\n"

    def _forget(self) -> None:
        """Delete segments that left the playlist a whole window ago, as RFC 8216 6.2.2 asks."""
        old = self._next - 2 * self.window - 1
        if self.window and old >= 0:
            with contextlib.suppress(OSError):  # a folder that cannot be written fails its writes
                (self.folder / segment_name(old)).unlink(missing_ok=True)

    def _write(self, name: str, text: str) -> None:
        scratch = self.folder / f".{name}.new"
        try:
            scratch.write_text(text, encoding="utf-8", newline="\n")
            os.replace(scratch, self.folder / name)  # noqa: PTH105  (atomic, over an existing file)
        except OSError as error:
            raise CaptionError(f"segment {self.folder / name} was not written: {error}") from error


def segment_name(number: int) -> str:
    """Return the file name of a segment.

    >>> segment_name(7)
    'captions-00000007.vtt'
    """
    return f"captions-{number:08}.vtt"
