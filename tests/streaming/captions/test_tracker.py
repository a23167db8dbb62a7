"""A sound is the same however the frames came, and is what the definition says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossicle.runtime import snapshot
from ossicle.runtime.errors import CaptionError
from ossicle.streaming.captions.tracker import ClassRule, Edge, Tracker

F = 320
levels = st.sampled_from([0.0, 0.1, 0.3, 0.45, 0.6, 0.9])
rules = st.builds(
    lambda on, off, a, b, c, enough, most: ClassRule(
        "x", on, min(on, off), a * F, b * F, c * F, enough=enough, most=most
    ),
    st.sampled_from([0.4, 0.5, 0.7]), st.sampled_from([0.2, 0.4]),
    st.integers(0, 4), st.integers(0, 5), st.integers(0, 4),
    st.sampled_from([0.0, 0.0, 0.9, 2.3, 6.0]), st.sampled_from([0.5, 20.0]),
)  # fmt: skip


def track(tracker: Tracker, scores: list[float], base: int = 0) -> list[Edge]:
    state, edges = tracker.open(), list[Edge]()
    for i, score in enumerate(scores):
        found = tracker.step(state, np.float32([score]), base + i * F, base + (i + 1) * F)
        edges += [replace(e, sound=replace(e.sound)) for e in found]
    return edges + tracker.end(state)


def climbs(rule: ClassRule, scores: list[float], start: int, stop: int) -> list[tuple[int, int]]:
    """Where a run reached `on`, and where it is believed then; the run's end where it is not.

    Without evidence it reaches `on` once. With it, wherever the sum of what came since some frame
    was not yet above zero: evidence is the most that any stretch up to now adds up to.
    """
    reached = [k for k in range(start, stop) if scores[k] >= np.float32(rule.on)]
    if not reached:
        return []
    held = rule.min_on / F
    if not rule.enough:
        first = reached[0]
        return [(first, min(stop, max(first, first + math.ceil(held) - 1)))]
    odds = [math.log(s / (1 - s)) - math.log(rule.on / (1 - rule.on)) for s in scores[start:stop]]
    gains = [min(rule.most, x) for x in odds]
    out: list[tuple[int, int]] = []
    k = 0
    while k < len(gains):
        if gains[k] <= 0:
            k += 1
            continue
        end, total, told = k, 0.0, stop
        while end < len(gains) and total + gains[end] > 0:
            total += gains[end]
            end += 1
            if total >= rule.enough and end - k >= held and told == stop:
                told = start + end - 1
        out.append((start + k, told))
        k = end + 1
    return out


def reference(rule: ClassRule, scores: list[float]) -> list[tuple[int, int]]:
    """The definition, looking at the whole of it: runs, their rises, joined over short pauses."""
    sounds: list[tuple[int, int]] = []
    i = 0
    while i < len(scores):
        if scores[i] < np.float32(rule.off):
            i += 1
            continue
        j = i
        while j < len(scores) and scores[j] >= np.float32(rule.off):
            j += 1
        for reached, told in climbs(rule, scores, i, j):
            rise = max(i * F, reached * F - rule.max_rise)
            if sounds and rise - sounds[-1][1] < rule.min_off:
                sounds[-1] = (sounds[-1][0], j * F)
            elif told < j:
                sounds.append((rise, j * F))
            else:
                continue
            break
        i = j
    return sounds


@given(rule=rules, scores=st.lists(levels, max_size=60))
@settings(max_examples=300, deadline=None)
def test_sounds_are_what_the_definition_says(rule: ClassRule, scores: list[float]) -> None:
    scores = [float(np.float32(s)) for s in scores]
    ended = [(e.sound.onset, e.sound.offset) for e in track(Tracker([rule]), scores) if e.ended]
    assert ended == reference(rule, scores)


@given(rule=rules, scores=st.lists(levels, max_size=60))
@settings(max_examples=150, deadline=None)
def test_every_sound_begins_once_and_ends_once_in_order(
    rule: ClassRule, scores: list[float]
) -> None:
    edges = track(Tracker([rule]), scores)
    ids = [e.sound.sound_id for e in edges if not e.ended]
    assert ids == [e.sound.sound_id for e in edges if e.ended] == list(range(1, len(ids) + 1))
    previous = 0
    for edge in edges:
        if edge.ended:
            assert edge.sound.offset is not None
            assert previous <= edge.sound.onset < edge.sound.offset <= edge.seen
            previous = edge.sound.offset


@given(rule=rules, scores=st.lists(levels, max_size=40), cut=st.integers(0, 40))
@settings(max_examples=100, deadline=None)
def test_a_snapshot_goes_on_as_if_nothing_had_happened(
    rule: ClassRule, scores: list[float], cut: int
) -> None:
    tracker = Tracker([rule, replace(rule, name="y")])
    state, copy = tracker.open(), None
    whole: list[Edge] = []
    rest: list[Edge] = []
    for i, score in enumerate(scores):
        frame = np.float32([score, 1 - score])
        if i == cut:
            copy = snapshot.load(snapshot.dump(state))
        edges = tracker.step(state, frame, i * F, (i + 1) * F)
        if copy is not None:
            whole += [replace(e, sound=replace(e.sound)) for e in edges]
            again = tracker.step(copy, frame, i * F, (i + 1) * F)
            rest += [replace(e, sound=replace(e.sound)) for e in again]
    assert rest == whole
    if copy is not None:
        assert copy == state


@given(scores=st.lists(levels, max_size=40), base=st.sampled_from([0, 2**31 - 100, 2**40]))
@settings(deadline=None)
def test_times_move_with_the_clock_and_never_wrap(scores: list[float], base: int) -> None:
    tracker = Tracker([ClassRule("x", 0.5, 0.2, F, 2 * F, F)])
    here, there = track(tracker, scores), track(tracker, scores, base)
    assert [e.sound.onset + base for e in here] == [e.sound.onset for e in there]
    assert [e.seen + base for e in here] == [e.seen for e in there]


def test_a_score_that_lags_dates_the_onset_back_but_never_before_the_stream() -> None:
    tracker = Tracker([ClassRule("x", 0.5, 0.25, lag=3 * F)])
    late = track(tracker, [0.0, 0.0, 0.0, 0.0, 0.0, 0.9, 0.9, 0.0], base=7 * F)
    assert [e.sound.onset for e in late] == [9 * F, 9 * F]
    early = track(tracker, [0.0, 0.9, 0.0], base=7 * F)
    assert early[0].sound.onset == 7 * F
    assert early[1].sound.offset == 9 * F
    state = tracker.open()
    tracker.step(state, np.float32([0.0]), 0, F)
    tracker.interrupt(state)
    after_a_gap = tracker.step(state, np.float32([0.9]), 50 * F, 51 * F)
    assert after_a_gap[0].sound.onset == 50 * F


def test_nan_scores_are_silence_and_counted() -> None:
    tracker = Tracker([ClassRule("x", 0.5, 0.2)])
    state = tracker.open()
    assert tracker.step(state, np.float32([np.nan]), 0, F) == []
    assert tracker.step(state, np.float32([np.inf]), F, 2 * F) == []
    assert state.bad_scores == 2
    assert len(tracker.step(state, np.float32([0.9]), 2 * F, 3 * F)) == 1


def test_what_was_rising_when_samples_were_lost_is_forgotten() -> None:
    tracker = Tracker([ClassRule("x", 0.5, 0.2, min_on=4 * F, min_off=4 * F)])
    state = tracker.open()
    tracker.step(state, np.float32([0.9]), 0, F)
    tracker.interrupt(state)
    assert tracker.step(state, np.float32([0.9]), 100 * F, 101 * F) == []


@pytest.mark.parametrize(("on", "off", "min_on"), [(0.2, 0.5, 0), (0.5, -0.1, 0), (0.5, 0.2, -1)])
def test_thresholds_that_contradict_are_refused(on: float, off: float, min_on: int) -> None:
    with pytest.raises(CaptionError, match="class x"):
        ClassRule("x", on, off, min_on)


def test_scores_of_another_tagger_are_refused() -> None:
    tracker = Tracker([ClassRule("x", 0.5, 0.2)])
    with pytest.raises(CaptionError, match=r"shape \(2,\)"):
        tracker.step(tracker.open(), np.zeros(2, np.float32), 0, F)


def test_a_faint_sound_is_believed_late_and_a_clear_one_at_once() -> None:
    tracker = Tracker([ClassRule("x", 0.5, 0.25, enough=3.0)])
    told = {
        score: next(e.seen for e in track(tracker, [0.0, *[score] * 9, 0.0])) // F
        for score in (0.96, 0.7, 0.6)
    }
    assert told == {0.96: 2, 0.7: 5, 0.6: 9}
    assert track(tracker, [0.0, *[0.6, 0.3] * 9, 0.0]) == []  # doubt takes back what hope brought
    assert track(Tracker([ClassRule("x", 0.5, 0.25, enough=3.0, most=0.3)]), [0.96] * 9) == []


def test_evidence_is_forgotten_with_the_run_and_with_lost_samples() -> None:
    tracker = Tracker([ClassRule("x", 0.5, 0.25, enough=3.0)])
    assert track(tracker, [0.7, 0.7, 0.7, 0.0, 0.7, 0.7, 0.7]) == []
    state = tracker.open()
    for i in range(3):
        tracker.step(state, np.float32([0.7]), i * F, (i + 1) * F)
    tracker.interrupt(state)
    assert tracker.step(state, np.float32([0.7]), 9 * F, 10 * F) == []
    assert state.tracks[0].evidence < 1.0


@pytest.mark.parametrize("more", [{"enough": -1.0}, {"most": 0.0}, {"enough": math.nan}])
def test_evidence_that_makes_no_sense_is_refused(more: dict[str, float]) -> None:
    with pytest.raises(CaptionError, match="enough >= 0"):
        ClassRule("x", 0.5, 0.25, **more)


def test_doubt_is_no_debt_and_a_sound_begins_where_hope_last_did() -> None:
    scores = [0.0, 0.6, 0.3, 0.3, 0.3, 0.3, *[0.7] * 6]
    begun = track(Tracker([ClassRule("x", 0.5, 0.25, enough=3.0)]), scores)[0]
    assert (begun.sound.onset // F, begun.seen // F) == (6, 10)
    held = track(Tracker([ClassRule("x", 0.5, 0.25, min_on=5 * F, enough=3.0)]), scores)[0]
    assert (held.sound.onset // F, held.seen // F) == (6, 11)
