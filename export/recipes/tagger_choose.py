"""Rules out of many price lists: the alerts' one by one, all others' by one list in common.

    python -m ossicle.export.recipes.tagger_choose --pupils work/run/pupils.pt \
        --tuning work/tune.npz --tier full --out rules.json

Recall and waits of alerts are figures of all of them together, and one kind of alarm is sure long
before another is: whichever offers are taken must keep both bounds with the fewest false alerts.
So it is with the other labels: which of them may be slow, and what their captions may cost, is
for one list of prices to say, out of thousands that all tried rules are held against.
What is false by a hair on these recordings counts as much as what is false, for elsewhere it is.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from ossicle.export.recipes.tagger_hysteresis import Rule
from ossicle.export.recipes.tagger_listen import delay_of, listen, scores_by, scores_of
from ossicle.export.recipes.tagger_pupils import Pupils
from ossicle.export.recipes.tagger_rules import (
    Heard,
    Prices,
    Tally,
    best_rule,
    summary,
)
from ossicle.export.recipes.tagger_scenes import FRAME
from ossicle.export.recipes.tagger_tune import load
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.scene.labels import ALERTS, LABELS

Chosen = dict[str, tuple[Rule, Tally]]
Counts = NDArray[np.float64]
SOON_S: Final = 1.0  # a caption in time
HOPED: Final = Prices(segment=0.35, alarm=3, event_f1=0.47, segment_f1=0.63)
MILD: Final = tuple(
    replace(HOPED, wrong=wrong, late=late, segment=segment)
    for wrong, late, segment in itertools.product(
        (0.5, 1, 2, 4, 8), (0, 0.5, 1, 2, 4, 8, 16), (0.2, 0.5)
    )
)
"""Lists that rules are looked for with; what they find is then offered to all the finer ones."""

FINE: Final = tuple(
    Prices(event_f1=0.5, segment_f1=hoped, segment=segment, wrong=wrong, late=late)
    for hoped, segment, wrong, late in itertools.product(
        (0.56, 0.62, 0.68, 0.74),
        (0.1, 0.2, 0.35, 0.5, 0.8, 1.2, 2),
        (0.4, 0.7, 1, 1.5, 2, 3, 4, 6, 9, 14, 20),
        (0, 0.3, 0.6, 1, 1.5, 2, 3, 4, 6, 8, 12, 20),
    )
)
LOUD: Final = tuple(
    replace(HOPED, wrong_alert=wrong, late=late)
    for wrong, late in itertools.product((2, 4, 6, 9, 15, 30, 60), (0.5, 1, 2, 4, 8, 16, 32))
)


@dataclass(frozen=True)
class Bounds:
    """What rules must keep on the recordings that they are tuned on."""

    alert_recall: float = 0.95
    alert_wait_s: float = 0.6  # the 95th percentile
    event_f1: float = 0.53
    segment_f1: float = 0.70
    wrong_per_hour: float = 6.0  # false captions, those by a hair counted by half


def doubtful(tallies: Iterable[Tally]) -> float:
    """False captions, and as many again as are false by a hair, halved."""
    return sum(t.wrong + t.near for t in tallies) / 2


@dataclass(frozen=True)
class Table:
    """Every rule of one label that was tried, and its tally in numbers [rules]."""

    rules: list[tuple[Rule, Tally]]
    hits: Counts
    counted: Counts  # found and true
    segments: Counts  # [rules, 3]
    doubt: Counts
    late: Counts
    told: Counts

    def worth(self, prices: Prices) -> Counts:
        """What each rule is worth; as :func:`tagger_rules.worth`, but for alarms in a household."""
        hit, false, missed = self.segments.T
        value = 2 * self.hits - prices.event_f1 * self.counted
        value += prices.segment * (2 * hit - prices.segment_f1 * (2 * hit + false + missed))
        value -= prices.wrong * self.doubt + prices.late * (self.late - 0.05 * self.told)
        alarms = np.array([t.recalled for _, t in self.rules])
        return value + HOPED.alarm * alarms


def table_of(tried: Iterable[tuple[Rule, Tally]]) -> Table:
    """``tried`` as a table."""
    rules = list(tried)
    tallies = [t for _, t in rules]

    def column(value: Callable[[Tally], object]) -> Counts:
        return np.array([value(t) for t in tallies], np.float64)

    return Table(
        rules,
        column(lambda t: t.hits),
        column(lambda t: t.found + t.true),
        column(lambda t: t.segments),
        column(lambda t: (t.wrong + t.near) / 2),
        column(lambda t: sum(w > SOON_S for w in t.waits)),
        column(lambda t: len(t.waits)),
    )


def offers(heard: Heard, label: str) -> list[tuple[Rule, Tally]]:
    """All rules of an alert that are best for some list; of another label, all that were tried."""
    known: dict[Rule, Tally] = {}
    best = [best_rule(heard, label, p, known) for p in (LOUD if label in ALERTS else MILD)]
    return best if label in ALERTS else list(known.items())


def alerts_of(offered: Mapping[str, Sequence[tuple[Rule, Tally]]], bounds: Bounds) -> Chosen:
    """One offer of each alert: the fewest false alerts in time, then the most found, then soonest.

    Where none keeps the recall and the wait, the recall goes first and the wait is the shortest.
    """
    names = [label for label in LABELS if label in ALERTS]
    best: tuple[tuple[float, ...], tuple[tuple[Rule, Tally], ...]] | None = None
    for each in itertools.product(*(list(dict(offered[name]).items()) for name in names)):
        tallies = [t for _, t in each]
        waits = [w for t in tallies for w in t.alarm_waits]
        wait = float(np.percentile(waits, 95)) if waits else np.inf
        told = sum(t.recalled for t in tallies) / max(1, sum(t.alarms for t in tallies))
        key = (
            max(0.0, bounds.alert_recall - told),
            max(0.0, wait - bounds.alert_wait_s),
            doubtful(tallies),
            -float(sum(t.hits for t in tallies)),
            wait,
        )
        if best is None or key < best[0]:
            best = (key, each)
    assert best is not None
    return dict(zip(names, best[1], strict=True))


def rest_of(
    offered: Mapping[str, Sequence[tuple[Rule, Tally]]],
    alerts: Chosen,
    hours: float,
    bounds: Bounds,
) -> tuple[Prices, Chosen]:
    """The list of prices that all other labels share: the one that misses the bounds least.

    Misses are shares of their bounds and add up. Of lists that miss as little, to a hundredth, the
    one with the fewest late captions, and of those the fewest in doubt.
    """
    tables = {label: table_of(offered[label]) for label in LABELS if label not in alerts}
    fixed = [table_of([offer]) for offer in alerts.values()]
    best: tuple[tuple[float, ...], Prices, dict[str, int]] | None = None
    for prices in FINE:
        taken = {label: int(np.argmax(t.worth(prices))) for label, t in tables.items()}
        rows = [(t, taken[label]) for label, t in tables.items()] + [(t, 0) for t in fixed]
        key = _missed(rows, hours, bounds)
        if best is None or key < best[0]:
            best = (key, prices, taken)
    assert best is not None
    chosen = {k: alerts[k] if k in alerts else tables[k].rules[best[2][k]] for k in LABELS}
    return best[1], chosen


def _missed(
    rows: Sequence[tuple[Table, int]], hours: float, bounds: Bounds
) -> tuple[float, float, float]:
    """By what share the rules miss the bounds, how many captions are late, what is in doubt."""

    def total(name: str) -> Counts:
        return np.asarray(sum(getattr(t, name)[i] for t, i in rows))

    hit, false, missed = total("segments")
    event = 2 * total("hits") / max(1.0, float(total("counted")))
    segment = 2 * hit / max(1.0, 2 * hit + false + missed)
    late = total("late") / max(1.0, float(total("told")))
    doubt = float(total("doubt")) / hours
    misses = (
        doubt / bounds.wrong_per_hour - 1,
        1 - float(event) / bounds.event_f1,
        1 - float(segment) / bounds.segment_f1,
    )
    return round(sum(max(0.0, miss) for miss in misses), 2), float(late), doubt


def choose(heard: Heard, bounds: Bounds, jobs: int = 1) -> tuple[Prices, Chosen]:
    """Rules for all labels, and the prices of those that are no alerts."""
    with Pool(jobs) as pool:
        offered = dict(zip(LABELS, pool.map(partial(offers, heard), LABELS, 1), strict=True))
    hours = sum(time for _, time in heard.calm.values())
    return rest_of(offered, alerts_of(offered, bounds), hours, bounds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Choose one tier's rules and print what they reach on the scenes they were tuned on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pupils", type=Path, required=True)
    parser.add_argument("--tuning", type=Path, required=True, help="of tagger_tune")
    parser.add_argument("--tier", choices=("full", "tiny"), default="full")
    parser.add_argument("--small", type=Path, help="bundle of the small tier in int8: heard too")
    parser.add_argument("--jobs", type=int, default=1)
    for name, value in vars(Bounds()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=float, default=value)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    tuning = load(asked.tuning)
    if asked.small and asked.tier == "tiny":
        heard = listen(partial(scores_by, Bundle.open(asked.small)), tuning)[asked.tier]
    else:
        pupils = Pupils()
        pupils.load_state_dict(torch.load(asked.pupils, weights_only=True))
        heard = listen(partial(scores_of, pupils.eval()), tuning)[asked.tier]
    heard = replace(heard, delay=delay_of(heard))
    bounds = Bounds(**{name: getattr(asked, name) for name in vars(Bounds())})
    prices, chosen = choose(heard, bounds, asked.jobs)
    hours = sum(time for _, time in heard.calm.values())
    print(prices, summary({k: t for k, (_, t) in chosen.items()}, hours))
    rules: dict[str, Any] = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    rules[asked.tier] = {
        "score_delay": heard.delay * FRAME,
        "thresholds": {label: rule.to_dict() for label, (rule, _) in chosen.items()},
    }
    asked.out.write_text(json.dumps(rules, indent=1))


if __name__ == "__main__":
    main()
