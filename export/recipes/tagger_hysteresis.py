"""What a hysteresis rule finds in a tagger's scores: the caption tracker over whole recordings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit
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
    out = np.empty((len(score) // 2 + 1, 3), np.int64)
    times = max(1, rule.min_on), rule.min_off, rule.max_rise, rule.lag
    levels = np.float32(rule.on), np.float32(rule.off), np.float32(rule.sure)
    bar = math.log(rule.on / (1 - rule.on))
    count = _scan(np.ascontiguousarray(score), levels, times, rule.enough, rule.most, bar, out)
    return [Found(*row) for row in out[:count].tolist()]


@njit(cache=False)
def _scan(
    score: Scores,
    levels: tuple[np.float32, np.float32, np.float32],
    times: tuple[int, int, int, int],
    enough: float,
    most: float,
    bar: float,
    out: NDArray[np.int64],
) -> int:
    """Write start, stop and end of the telling frame of every sound; their number."""
    (on, off, sure), (hold, pause, ahead, lag) = levels, times
    count, rise, reached, fall, stop = 0, -1, -1, -1, 0
    evidence, sounding = 0.0, False
    for t in range(len(score)):
        s = score[t]
        if s < off:
            rise = reached = -1
            evidence = 0.0
            if sounding and fall < 0:
                fall = stop
            continue
        rise = t if rise < 0 else rise
        if s >= on and reached < 0:
            reached = t
        if enough > 0:
            held = min(max(float(s), 1e-6), 1 - 1e-6)
            evidence = max(0.0, evidence + min(most, math.log(held / (1 - held)) - bar))
            reached = -1 if evidence == 0.0 else reached
        if sounding and fall >= 0:
            if reached < 0:
                continue
            if max(rise, reached - ahead) - fall >= pause:
                out[count - 1, 1], sounding = fall, False
            fall = -1
        if sounding:
            stop = t + 1
        elif s >= sure or (reached >= 0 and t + 1 - reached >= hold and evidence >= enough):
            start = max(0, max(rise, reached - ahead) - lag)
            out[count, 0], out[count, 2] = start, t + 1
            count, sounding, fall, stop = count + 1, True, -1, t + 1
    if sounding:
        out[count - 1, 1] = stop if fall < 0 else fall
    return count
