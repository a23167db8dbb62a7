"""Hysteresis rules for a tagger's scores: what a rule finds in them, and which rule to take.

Every figure a rule is judged by adds up over classes (sounds found, false captions, late ones), so
the best set of rules is the best rule of each class for one common price list.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from ossicle.export.recipes.tagger_data import BRIDGE_S
from ossicle.export.recipes.tagger_hysteresis import (
    FRAME_MS,
    Found,
    Rule,
    Scores,
    events_of,
)
from ossicle.runtime.scene.alarms import ALARMS
from ossicle.runtime.scene.labels import ALERTS, LABELS
from ossicle.runtime.scene.sound import Interval

SECOND: Final = 25  # frames
SCENE: Final = 10 * SECOND  # frames of a scene of two sounds
SLOT: Final = 400  # frames from one scene's start to the next one's; silence in between
ENOUGH: Final = (2.0, 4.0, 8.0, 14.0, 22.0, 34.0)
"""Evidence that is tried."""

SURE: Final = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998)
LONG: Final = frozenset(
    {"rain", "sea_waves", "helicopter", "chainsaw", "fire_crackling", "music", "siren",
     "clock_tick", "phone_ring", "alarm_clock"}
)  # fmt: skip
"""Labels whose sounds go on, so that a dip of the score is no end."""


@dataclass(frozen=True)
class Heard:
    """Scores of many scenes, and what was true in them, in frames."""

    scores: Scores  # [scenes * SLOT, classes], of scenes of two sounds
    truth: dict[str, list[Interval]]
    alarms: dict[str, tuple[Scores, list[Interval]]]  # label -> scores, where it sounds
    calm: dict[str, tuple[Scores, float]]  # kind -> scores, hours
    delay: int = 0  # by which scores trail the truth
    unclear: frozenset[str] = frozenset()  # kinds of calm that may hold speech or music


@dataclass
class Tally:
    """What one rule finds of one class."""

    hits: int = 0  # true sounds found with their times
    found: int = 0
    true: int = 0
    segments: tuple[int, int, int] = (0, 0, 0)  # seconds hit, false, missed
    waits: list[float] = field(default_factory=list)  # seconds from onset to caption
    wrong: int = 0  # sounds found in the calm
    near: int = 0  # the same if scores were a little higher
    recalled: int = 0  # alarms noticed in a household
    alarms: int = 0
    alarm_waits: list[float] = field(default_factory=list)


def tally(heard: Heard, label: str, rule: Rule) -> Tally:
    """What ``rule`` makes of ``label`` in all that was heard."""
    k, d = LABELS.index(label), heard.delay
    events = events_of(heard.scores[:, k], rule)
    true = heard.truth[label]
    shifted = [(e.start - d, e.stop - d) for e in events]
    out = Tally(_hits(shifted, true), len(events), len(true))
    out.segments = _segments(shifted, true, len(heard.scores))
    out.waits = _waits(events, true, d, label)
    calm = [
        scores[:, k]
        for kind, (scores, _) in heard.calm.items()
        if kind != label and not (kind in heard.unclear and label in ("speech", "music"))
    ]
    out.wrong = sum(len(events_of(score, rule)) for score in calm)
    out.near = sum(len(events_of(score, eased(rule))) for score in calm)
    if label in heard.alarms:
        scores, spans = heard.alarms[label]
        out.alarm_waits = _waits(events_of(scores[:, k], rule), spans, d, label)
        out.recalled, out.alarms = len(out.alarm_waits), len(spans)
    return out


def eased(rule: Rule, odds: float = 2.0) -> Rule:
    """``rule`` as scores of ``odds`` times the odds would meet it.

    What is false by a hair elsewhere is counted here too, for an hour of calm holds few of those:
    rules that told 3.6 false captions an hour where they were tuned, and 13 when eased like this,
    told 8.3 an hour of other recordings.
    """

    def lower(score: float) -> float:
        return score if score >= 1 else score / (score + odds * (1 - score))

    on = lower(rule.on)
    return replace(rule, on=on, off=min(rule.off, on), sure=lower(rule.sure))


def _hits(found: Sequence[Interval], true: Sequence[Interval]) -> int:
    """True sounds found: onset within 200 ms, offset within that or half the length."""
    used: set[int] = set()
    starts = np.array([a for a, _ in found])
    for a, b in true:
        for i in np.flatnonzero(np.abs(starts - a) <= 5).tolist() if len(found) else ():
            if i not in used and abs(found[i][1] - b) <= max(5, (b - a) / 2):
                used.add(i)
                break
    return len(used)


def _segments(
    found: Sequence[Interval], true: Sequence[Interval], frames: int
) -> tuple[int, int, int]:
    """Seconds of the scenes that are told of rightly, wrongly, and not."""
    sides = []
    for events in (true, found):
        on = np.zeros(frames, bool)
        for a, b in events:
            on[max(0, a) : max(0, b)] = True
        scenes = on.reshape(-1, SLOT)[:, :SCENE]
        sides.append(scenes.reshape(len(scenes), -1, SECOND).any(axis=2))
    want, got = sides
    return int((want & got).sum()), int((got & ~want).sum()), int((want & ~got).sum())


def _waits(
    events: Sequence[Found], true: Sequence[Interval], delay: int, label: str
) -> list[float]:
    """Seconds from true onsets to the first caption of each, if any came after it."""
    hold = 0 if label in ALERTS else 2  # the stabiliser's second look
    out = []
    for a, b in true:
        for e in events:
            if e.start - delay < b + SECOND // 2 and e.stop - delay > a:
                if e.told >= a:  # else its caption stands already
                    out.append((2 * -(-e.told // 2) + hold - a) / SECOND)  # two frames at once
                break
            if e.start > b + SECOND:
                break
    return out


@dataclass(frozen=True)
class Prices:
    """What the figures are worth to each other; the unit is one sound found with its times."""

    event_f1: float = 0.5  # the F1 hoped for: the price of one more found or missed is half this
    segment_f1: float = 0.65
    segment: float = 0.35  # a second told rightly
    wrong: float = 1.5  # a false caption in the calm
    wrong_alert: float = 15.0
    late: float = 1.0  # a caption more than a second (an alert: 0.6) after its onset
    alarm: float = 1.5  # an alarm noticed in a household


def worth(label: str, t: Tally, prices: Prices) -> float:
    """What a rule is worth: linear in its counts, so that classes add up."""
    alert = label in ALERTS
    limit = 0.6 if alert else 1.0
    late = sum(w > limit for w in t.waits) + 2 * sum(w > limit for w in t.alarm_waits)
    told = len(t.waits) + 2 * len(t.alarm_waits)
    hit, false, missed = t.segments
    value = 2 * t.hits - prices.event_f1 * (t.found + t.true)
    value += prices.segment * (2 * hit - prices.segment_f1 * (2 * hit + false + missed))
    value -= (prices.wrong_alert if alert else prices.wrong) * (t.wrong + t.near) / 2
    value -= prices.late * (late - 0.05 * told)
    return value + prices.alarm * t.recalled * (2 if alert else 1)


def rules_for(label: str) -> Iterator[Rule]:
    """All rules that are tried for ``label``: those that wait, and those that weigh."""
    pause = round(1000 * BRIDGE_S.get(label, 0.5) / FRAME_MS)
    more = (0, 15, 40) if label in LONG else (0, 12)
    ons = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.87, 0.93, 0.97, 0.985, 0.995)
    holds = (1, 2, 3, 5) if label in ALERTS else (1, 3, 6, 10)
    for on, low, hold, extra in itertools.product(ons, (0.3, 0.5, 0.75), holds, more):
        yield Rule(on, on * low, hold, pause + extra)
    bars = (0.3, 0.5, 0.7, 0.85, 0.93, 0.97, 0.985)
    for on, low, enough, extra in itertools.product(bars, (0.3, 0.5, 0.75, 1), ENOUGH, more):
        yield Rule(on, on * low, 1, pause + extra, enough=enough)


def like(rule: Rule) -> Iterator[Rule]:
    """``rule`` and others of its kind: with a score that is sure, or with less from one frame."""
    yield rule
    if rule.enough:
        for on, enough, most in itertools.product(
            (0.3, 0.5, 0.7, 0.85, 0.93), (1.0, 2.0, 4.0, 6.0, 10.0, 16.0, 24.0), (1.0, 2.0, 4.0)
        ):
            yield replace(rule, on=on, off=on * rule.off / rule.on, enough=enough, most=most)
    elif rule.min_on > 1:
        for sure in SURE:
            if sure > rule.on:
                yield replace(rule, sure=sure)


def best_rule(
    heard: Heard, label: str, prices: Prices, known: dict[Rule, Tally] | None = None
) -> tuple[Rule, Tally]:
    """The rule of ``label`` that is worth most, its onset's date tuned last.

    ``known`` remembers tallies from one list of prices to the next.
    """
    tallies = {} if known is None else known

    def best(rules: Iterator[Rule]) -> Rule:
        tried = list(rules)
        for rule in tried:
            if rule not in tallies:
                tallies[rule] = tally(heard, label, rule)
        return max(tried, key=lambda r: worth(label, tallies[r], prices))

    first = list(rules_for(label))
    kinds = [[r for r in first if bool(r.enough) is weighs] for weighs in (False, True)]
    rule = best(best(like(best(iter(kind)))) for kind in kinds)
    dates = itertools.product((0, 2, 5, 9), (0, 2, 4))
    rule = best(replace(rule, max_rise=rise, lag=lag) for rise, lag in dates)
    return rule, tallies[rule]


def summary(tallies: Mapping[str, Tally], hours: float) -> dict[str, float]:
    """The figures of a whole set of rules."""
    every = list(tallies.values())
    hit, false, missed = (sum(t.segments[i] for t in every) for i in range(3))
    waits = [w for t in every for w in t.waits]
    alerts = [t for name, t in tallies.items() if name in ALERTS]
    alert_waits = [w for t in alerts for w in t.alarm_waits]
    sounding = [t for name, t in tallies.items() if name in ALARMS]

    def share(part: float, whole: float) -> float:
        return round(part / max(1.0, whole), 3)

    return {
        "event_f1": share(2 * sum(t.hits for t in every), sum(t.found + t.true for t in every)),
        "segment_f1": share(2 * hit, 2 * hit + false + missed),
        "captioned": share(len(waits), sum(t.true for t in every)),
        "wait_p95": round(float(np.percentile(waits, 95)), 3) if waits else 0.0,
        "alert_wait_p95": round(float(np.percentile(alert_waits, 95)), 3) if alert_waits else 0.0,
        "alert_recall": share(sum(t.recalled for t in alerts), sum(t.alarms for t in alerts)),
        "alarm_recall": share(sum(t.recalled for t in sounding), sum(t.alarms for t in sounding)),
        "wrong_per_hour": round(sum(t.wrong for t in every) / hours, 2),
        "wrong_alerts_per_hour": round(sum(t.wrong for t in alerts) / hours, 2),
    }
