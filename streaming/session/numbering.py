"""The numbers of captions, dense for the client whatever was left out or who made them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ossicle.streaming.captions.cue import Cue, Op


class Numbering:
    """Leaves out changes that follow too soon, and numbers what is left.

    Each change of a caption is a whole one, so a client that misses some is right again with the
    next; OPEN, CLOSE, RETRACT and heartbeats are never left out. As long as nothing was, captions
    pass as they are.
    """

    def __init__(self, saved: dict[str, Any] | None = None) -> None:
        given = saved or {}
        self._cues, self._lines = given.get("cues", 0), given.get("lines", 0)  # so far
        self._first = given.get("first", 0)  # captions of the models before
        self._shift = given.get("shift", 0)  # what is added to a line's number
        self._open: dict[int, list[int]] = {  # revisions left out, audio seen at the last one
            int(cue_id): list(held) for cue_id, held in given.get("open", {}).items()
        }

    def begin_anew(self) -> None:
        """Another model makes the captions from here on, and counts from its own beginning."""
        self._first, self._shift = self._cues, self._lines
        self._open.clear()

    def take(self, cue: Cue, interval_ms: int) -> Cue | None:
        """Return ``cue`` as the client shall see it, or nothing."""
        left_out = 0
        if not cue.is_heartbeat:
            held = self._open.setdefault(cue.cue_id, [0, cue.audio_seen_sample])
            since_ms = 1000 * (cue.audio_seen_sample - held[1]) // cue.sample_rate_hz
            if cue.op is Op.UPDATE and since_ms < interval_ms:
                held[0] += 1
                self._shift -= 1
                return None
            left_out, held[1] = held[0], cue.audio_seen_sample
            if cue.is_final:
                del self._open[cue.cue_id]
        if self._shift or self._first or left_out:
            cue = self._numbered(cue, left_out)
        self._cues, self._lines = max(self._cues, cue.cue_id), cue.seq + 1
        return cue

    def _numbered(self, cue: Cue, left_out: int) -> Cue:
        first = self._first
        return replace(
            cue,
            seq=cue.seq + self._shift,
            cue_id=0 if cue.is_heartbeat else cue.cue_id + first,
            revision=cue.revision - left_out,
            relations=tuple(replace(r, cue_id=r.cue_id + first) for r in cue.relations),
        )

    def export(self) -> dict[str, Any]:
        """Return everything that is remembered."""
        return {
            "cues": self._cues,
            "lines": self._lines,
            "first": self._first,
            "shift": self._shift,
            "open": {str(cue_id): held for cue_id, held in self._open.items()},
        }
