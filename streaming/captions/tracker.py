"""Sounds with true beginnings and ends, from frame scores: thresholds with hysteresis.

A sound is the union of runs of frames at or above ``off`` that reach ``on`` and are believed,
joined where the pauses are shorter than ``min_off``. A run is believed ``min_on`` samples after it
reached ``on`` and once its evidence is ``enough``, or else at ``sure``. Evidence is the sum of the
frames' log-odds over those of ``on``, never below zero: the cumulative sum of E. S. Page
("Continuous inspection schemes", Biometrika 1954), which notices a change the soonest for a given
rate of false ones; a clear sound is believed at once, a faint one later.

A sound's onset is the start of the frame where the score began to rise (less ``lag``), not of the
one where it was believed; its offset the end of the last frame that held. All times are sample
indices of the capture clock, so nothing depends on how the audio was cut, and nothing drifts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime import snapshot
from ossicle.runtime.errors import CaptionError

Scores = NDArray[np.float32]
NEVER = -1


@dataclass(frozen=True, slots=True)
class ClassRule:
    """When one class counts as heard. Times in samples; scores 0 to 1."""

    name: str
    on: float
    off: float
    min_on: int = 0  # held this long since it reached `on` before it is believed
    min_off: int = 0  # a pause shorter than this joins, a longer one splits
    max_rise: int = 0  # the onset lies at most this long before `on` was reached
    lag: int = 0  # the score rises this long after its sound: the onset is dated back
    sure: float = math.inf  # a score that is believed at once, whatever the rest
    enough: float = 0.0  # log-odds over those of `on` that a run must gather; 0: none
    most: float = 20.0  # what one frame can add to that

    def __post_init__(self) -> None:
        if not 0.0 <= self.off <= self.on:
            raise CaptionError(
                f"class {self.name}: off threshold {self.off} and on threshold {self.on}; "
                "0 <= off <= on expected"
            )
        if min(self.min_on, self.min_off, self.max_rise, self.lag) < 0:
            raise CaptionError(f"class {self.name}: a negative duration")
        if not self.sure >= self.on:
            raise CaptionError(f"class {self.name}: sure at {self.sure}, on from {self.on} already")
        if not (self.enough >= 0 and self.most > 0):
            raise CaptionError(
                f"class {self.name}: evidence of {self.enough} with at most {self.most} a frame; "
                "enough >= 0 and most > 0 expected"
            )


@snapshot.record("captions.Sound")
@dataclass(slots=True)
class Sound:
    """One sound event. ``heard`` is where it was last certain; ``offset`` is set when it ended."""

    sound_id: int
    class_id: int
    onset: int  # sample
    heard: int  # sample
    peak: float
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """A sound that began to be believed, or ended, as of sample ``seen`` of the audio."""

    sound: Sound
    ended: bool
    seen: int


@snapshot.record("captions.ClassTrack")
@dataclass(slots=True)
class ClassTrack:
    """What is remembered of one class between frames; sample indices or NEVER."""

    rise: int = NEVER  # start of the run at or above `off`
    reached: int = NEVER  # start of the first frame of that run at or above `on`
    fall: int = NEVER  # end of the last frame that held, while in a pause
    peak: float = 0.0
    sound: Sound | None = None
    evidence: float = 0.0  # of the run, where its rule asks for any


@snapshot.record("captions.TrackerState")
@dataclass(slots=True)
class TrackerState:
    """One stream's tracks."""

    tracks: list[ClassTrack] = field(default_factory=list)
    sounds: int = 0  # sounds numbered so far
    seen: int = 0  # end of the last frame
    bad_scores: int = 0  # NaN or Inf, taken as silence
    live: list[int] = field(default_factory=list)  # classes that rise or sound
    first: int = NEVER  # first frame since the start or a gap; no sound is dated before it


def log_odds(score: float) -> float:
    """Of a score in 0..1, which is taken for at least and at most a millionth from its ends.

    >>> round(log_odds(0.75), 3), round(log_odds(1.0), 1)
    (1.099, 13.8)
    """
    held = min(max(score, 1e-6), 1 - 1e-6)
    return math.log(held / (1 - held))


class Tracker:
    """Follows every class of a tagger through its frame scores.

    >>> tracker = Tracker([ClassRule("dog", on=0.5, off=0.25)])
    >>> state = tracker.open()
    >>> edges = []
    >>> for i, score in enumerate([0.1, 0.3, 0.9, 0.3, 0.0]):
    ...     edges += tracker.step(state, np.float32([score]), i * 320, i * 320 + 320)
    >>> [(e.ended, e.sound.onset, e.sound.offset, e.seen) for e in edges]
    [(False, 640, 1280, 960), (True, 640, 1280, 1600)]
    """

    def __init__(self, rules: Sequence[ClassRule]) -> None:
        self.rules = tuple(rules)
        self._on = np.array([r.on for r in rules], np.float32)
        self._off = np.array([r.off for r in rules], np.float32)
        self._sure = np.array([r.sure for r in rules], np.float32)
        self._bars = [log_odds(r.on) for r in rules]

    def open(self) -> TrackerState:
        """Return the memory of a new stream."""
        return TrackerState([ClassTrack() for _ in self.rules])

    def step(self, state: TrackerState, scores: Scores, start: int, stop: int) -> list[Edge]:
        """Advance by one frame over samples ``[start, stop)`` with ``scores`` `[classes]`.

        Classes are looked at in their order, so ties in time have one order.
        """
        if scores.shape != (len(self.rules),):
            raise CaptionError(f"scores of shape {scores.shape}; ({len(self.rules)},) expected")
        good = np.isfinite(scores)
        if not good.all():
            state.bad_scores += int((~good).sum())
            scores = np.where(good, scores, np.float32(0))
        state.seen = max(state.seen, stop)
        if state.first == NEVER:
            state.first = start
        above_off, above_on = scores >= self._off, scores >= self._on
        sure = scores >= self._sure
        edges: list[Edge] = []
        for index in sorted({*np.flatnonzero(above_off).tolist(), *state.live}):
            rule, track = self.rules[index], state.tracks[index]
            if above_off[index]:
                self._hold(state, index, bool(above_on[index]), bool(sure[index]),
                           float(scores[index]), start, stop, edges)  # fmt: skip
            else:
                self._fall(rule, track, stop, edges)
        state.live = [i for i, t in enumerate(state.tracks) if t.rise != NEVER or t.sound]
        return edges

    def interrupt(self, state: TrackerState) -> None:
        """Note that samples were lost: what was rising is forgotten, what was on pauses."""
        state.first = NEVER
        for track in state.tracks:
            track.rise = track.reached = NEVER
            track.evidence = 0.0
            if track.sound is not None and track.fall == NEVER:
                track.fall = track.sound.heard

    def end(self, state: TrackerState) -> list[Edge]:
        """End every sound that is still on, where it was last heard."""
        edges = []
        for index, track in enumerate(state.tracks):
            if track.sound is not None:
                edges.append(_ended(track.sound, state.seen))
            state.tracks[index] = ClassTrack()
        state.live = []
        return edges

    def _hold(
        self, state: TrackerState, index: int, on: bool, sure: bool, score: float,
        start: int, stop: int, edges: list[Edge],
    ) -> None:  # fmt: skip
        rule, track = self.rules[index], state.tracks[index]
        if track.rise == NEVER:
            track.rise, track.peak = start, 0.0
        track.peak = max(track.peak, score)
        if on and track.reached == NEVER:
            track.reached = start
        if rule.enough > 0:
            more = min(rule.most, log_odds(score) - self._bars[index])
            track.evidence = max(0.0, track.evidence + more)
            if track.evidence == 0.0:
                track.reached = NEVER
        sound = track.sound
        if sound is not None and track.fall != NEVER:  # in a pause
            if track.reached == NEVER:  # a rise too weak to join; the pause goes on
                self._maybe_end(rule, track, stop, edges)
                return
            if max(track.rise, track.reached - rule.max_rise) - track.fall >= rule.min_off:
                edges.append(_ended(sound, stop))
                track.sound = sound = None
            track.fall = NEVER
        if sound is not None:
            sound.heard, sound.peak = stop, max(sound.peak, track.peak)
        elif sure or (
            track.reached != NEVER
            and stop - track.reached >= rule.min_on
            and track.evidence >= rule.enough
        ):
            state.sounds += 1
            rise = max(track.rise, track.reached - rule.max_rise)
            onset = max(rise - rule.lag, state.first)
            track.sound = Sound(state.sounds, index, onset, stop, track.peak)
            edges.append(Edge(track.sound, False, stop))

    def _fall(self, rule: ClassRule, track: ClassTrack, stop: int, edges: list[Edge]) -> None:
        track.rise = track.reached = NEVER
        track.evidence = 0.0
        if track.sound is None:
            return
        if track.fall == NEVER:
            track.fall = track.sound.heard
        self._maybe_end(rule, track, stop, edges)

    @staticmethod
    def _maybe_end(rule: ClassRule, track: ClassTrack, stop: int, edges: list[Edge]) -> None:
        """End the sound once its pause is too long for anything to join it."""
        assert track.sound is not None
        # a weak rise that began in time may still reach `on` within max_rise and join
        patience = rule.min_off + (rule.max_rise if track.rise != NEVER else 0)
        if stop - track.fall >= patience:
            edges.append(_ended(track.sound, stop))
            track.sound, track.fall = None, NEVER


def _ended(sound: Sound, seen: int) -> Edge:
    sound.offset = sound.heard
    return Edge(sound, True, seen)
