"""What a hysteresis rule finds in a tagger's scores: the caption tracker over whole recordings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.scene.sound import RATE_HZ

Scores = NDArray[np.float32]
FRAME: Final = 640  # samples
FRAME_MS: Final = 1000 * FRAME // RATE_HZ
MOST: Final = 20.0  # evidence from one frame, where nothing else is said


@dataclass(frozen=True)
class Rule:
    """Hysteresis of one class, times in frames."""

    on: float
    off: float
    min_on: int
    min_off: int
    max_rise: int = 5
    lag: int = 0  # the onset is dated back by this
    sure: float = 2.0  # a score that is believed at once
    enough: float = 0.0  # evidence that a run must gather; 0: none
    most: float = MOST  # of it in one frame

    def to_dict(self) -> dict[str, float]:
        """The same as the manifest spells it, times in milliseconds."""
        return {
            "on": round(self.on, 3),
            "off": round(self.off, 3),
            "min_on_ms": self.min_on * FRAME_MS,
            "min_off_ms": self.min_off * FRAME_MS,
            "max_rise_ms": self.max_rise * FRAME_MS,
            "lag_ms": self.lag * FRAME_MS,
            **({"sure": round(self.sure, 4)} if self.sure <= 1 else {}),
            **({"enough": self.enough, "most": self.most} if self.enough else {}),
        }


@dataclass(frozen=True)
class Found:
    """A sound that a rule finds, in frames: its span, and the end of the frame that told."""

    start: int
    stop: int
    told: int


def events_of(score: Scores, rule: Rule) -> list[Found]:
    """Sounds that ``rule`` finds in the scores [T] of one class, as the tracker would.

    :mod:`ossicle.streaming.captions.tracker` has the definition; a test holds the two together.
    """
    loud = np.concatenate([[0], (score >= np.float32(rule.off)).view(np.int8), [0]])
    edges = np.flatnonzero(np.diff(loud)).reshape(-1, 2)
    if not len(edges):
        return []
    reach = score > rule.on if rule.enough else score >= np.float32(rule.on)
    peaks = np.maximum.reduceat(reach, edges[:, 0])
    out: list[Found] = []
    for a, b in edges[peaks].tolist():
        first = a + int(np.argmax(reach[a:b]))
        if out and max(a, first - rule.max_rise) - out[-1].stop < rule.min_off:
            out[-1] = Found(out[-1].start, b, out[-1].told)
        elif (found := _believed(score[a:b].tolist(), rule)) is not None:
            reached, told = found
            start = max(a, a + reached - rule.max_rise) - rule.lag
            out.append(Found(max(0, start), b, a + told))
    return out


def _believed(run: list[float], rule: Rule) -> tuple[int, int] | None:
    """Where a run reached ``on``, and the end of the frame in which it is believed."""
    on, sure, bar = float(np.float32(rule.on)), float(np.float32(rule.sure)), _log_odds(rule.on)
    hold, enough, reached, evidence = max(1, rule.min_on), rule.enough, -1, 0.0
    for t, score in enumerate(run, start=1):
        if score >= on and reached < 0:
            reached = t - 1
        if enough > 0:
            evidence = max(0.0, evidence + min(rule.most, _log_odds(score) - bar))
            reached = -1 if evidence == 0.0 else reached
        if score >= sure or (reached >= 0 and t - reached >= hold and evidence >= enough):
            return reached, t
    return None


def _log_odds(score: float) -> float:
    held = min(max(score, 1e-6), 1 - 1e-6)
    return math.log(held / (1 - held))
