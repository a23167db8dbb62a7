"""Rules out of many price lists: the alerts' one by one, all others' by one list in common.

    python -m ossicle.export.recipes.tagger_choose --pupils work/run/pupils.pt \
        --tuning work/tune.npz --tier full --out rules.json

Recall and waits of alerts are figures of all of them together, and one kind of alarm is sure long
before another is: whichever offers are taken must keep both bounds with the fewest false alerts.
What is false by a hair on these recordings counts as much as what is false, for elsewhere it is.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

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
HOPED: Final = Prices(segment=0.35, alarm=3, event_f1=0.47, segment_f1=0.63)
MILD: Final = tuple(
    replace(HOPED, wrong=wrong, late=late)
    for wrong, late in itertools.product((2, 3, 4, 6, 9, 14), (0.5, 1.0, 2.0, 4.0))
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


def offers(heard: Heard, label: str) -> list[tuple[Rule, Tally]]:
    """The best rule of ``label`` for every list of prices, in their order."""
    known: dict[Rule, Tally] = {}
    return [best_rule(heard, label, p, known) for p in (LOUD if label in ALERTS else MILD)]


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
    """The list of prices that all other labels share: the soonest within the bounds.

    Where none keeps them, the one that misses them by the least share.
    """
    best: tuple[tuple[float, ...], Prices, Chosen] | None = None
    for i, prices in enumerate(MILD):
        chosen = {k: alerts[k] if k in alerts else offered[k][i] for k in LABELS}
        tallies = {k: t for k, (_, t) in chosen.items()}
        figures = summary(tallies, hours)
        missed = (
            max(0.0, doubtful(tallies.values()) / hours / bounds.wrong_per_hour - 1)
            + max(0.0, 1 - figures["event_f1"] / bounds.event_f1)
            + max(0.0, 1 - figures["segment_f1"] / bounds.segment_f1)
        )
        key = (missed, figures["wait_p95"], -figures["event_f1"])
        if best is None or key < best[0]:
            best = (key, prices, chosen)
    assert best is not None
    return best[1], best[2]


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
