"""What a hysteresis rule finds in a tagger's scores: the caption tracker over whole recordings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.scene.sound import RATE_HZ

Scores = NDArray[np.float32]
Frames = NDArray[np.int64]
FRAME: Final = 640  # samples
FRAME_MS: Final = 1000 * FRAME // RATE_HZ
MOST: Final = 20.0  # evidence from one frame, where nothing else is said
TIE: Final = 1e-9  # of evidence: as much as is asked for is enough, however it was added up


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
    All runs above ``off`` are looked at together: rules are tried by the thousand.
    """
    loud = np.concatenate([[0], (score >= np.float32(rule.off)).view(np.int8), [0]])
    edges = np.flatnonzero(np.diff(loud)).reshape(-1, 2)
    if not len(edges):
        return []
    reach = score > rule.on if rule.enough else score >= np.float32(rule.on)
    edges = edges[np.maximum.reduceat(reach, edges[:, 0])]
    if not len(edges):
        return []
    first = _first(np.flatnonzero(reach), edges)
    reached, told = _believed(score, rule, edges)
    out: list[Found] = []
    for (a, b), high, since, end in zip(
        edges.tolist(), first.tolist(), reached.tolist(), told.tolist(), strict=True
    ):
        if out and max(a, high - rule.max_rise) - out[-1].stop < rule.min_off:
            out[-1] = Found(out[-1].start, b, out[-1].told)
        elif end <= b:
            out.append(Found(max(0, max(a, since - rule.max_rise) - rule.lag), b, end))
    return out


def _first(frames: Frames, edges: Frames) -> Frames:
    """The first of the sorted ``frames`` in each run [N, 2], and beyond its end where none is."""
    at = np.searchsorted(frames, edges[:, 0])
    found = np.append(frames, np.iinfo(np.int64).max)[at]
    return np.where(found < edges[:, 1], found, edges[:, 1])


def _believed(score: Scores, rule: Rule, edges: Frames) -> tuple[Frames, Frames]:
    """Where each run reached ``on``, and the end of the frame in which it is believed.

    That end is beyond the run's where it never is.
    """
    if rule.enough > 0:
        evidence = _evidence(score, rule, edges)
        # what has evidence reached ``on`` in the frame after it last had none
        frames = np.arange(len(score))
        since = np.maximum.accumulate(np.where(evidence == 0, frames + 1, 0))
        believed = (evidence > rule.enough - TIE) & (frames + 1 - since >= rule.min_on)
    else:
        high = _first(np.flatnonzero(score >= np.float32(rule.on)), edges)
        since = np.zeros(len(score), np.int64)
        since[edges[:, 0]] = np.diff(high, prepend=0)
        since = np.cumsum(since)
        believed = np.arange(len(score)) + 1 - since >= max(1, rule.min_on)
    told = _first(np.flatnonzero(believed | (score >= np.float32(rule.sure))), edges)
    reached = since[np.minimum(told, len(score) - 1)]
    return np.where(reached > told, -1, reached), told + 1  # sure before ``on``: the run's start


def _evidence(score: Scores, rule: Rule, edges: Frames) -> NDArray[np.float64]:
    """What each run has gathered so far [T], never below none: log odds above those of ``on``."""
    held = np.clip(score.astype(np.float64), 1e-6, 1 - 1e-6)
    gain = np.minimum(rule.most, np.log(held / (1 - held)) - math.log(rule.on / (1 - rule.on)))
    inside = np.zeros(len(score) + 1, np.int8)
    inside[edges[:, 0]] += 1
    inside[edges[:, 1]] -= 1
    gain[np.cumsum(inside[:-1]) == 0] = 0.0
    # a sum less its lowest so far starts anew where it falls by all that a run can have gathered
    rises = np.add.reduceat(np.append(np.maximum(gain, 0), 0.0), edges.ravel())[::2]
    ends = edges[:, 1] < len(score)
    gain[edges[ends, 1]] = -(rises[ends] + 1)
    total = np.cumsum(gain)
    return np.asarray(total - np.minimum.accumulate(np.minimum(total, 0.0)))
