from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from ossicle.export.recipes import tagger_choose as choose
from ossicle.export.recipes.tagger_hysteresis import Rule
from ossicle.export.recipes.tagger_rules import SLOT, Heard, Tally, worth
from ossicle.runtime.scene.labels import ALERTS, LABELS

Offer = tuple[Rule, Tally]
SIREN, SMOKE = "siren", "smoke_alarm"


def offer(number: int, **figures: object) -> Offer:
    """A rule of its own with a tally."""
    return Rule(0.5, 0.3, number, 12), Tally(**figures)  # type: ignore[arg-type]


def alert(number: int, wrong: int, wait: float, told: int = 20, near: int = 0) -> Offer:
    waits = [wait] * told
    return offer(
        number, wrong=wrong, near=near, recalled=told, alarms=20, hits=told, alarm_waits=waits
    )


def others(**given: list[Offer]) -> dict[str, list[Offer]]:
    """Offers of every alert: those that are not ``given`` are told at once and never wrongly."""
    plain = [alert(1, 0, 0.2)]
    return {label: given.get(label, plain) for label in LABELS if label in ALERTS}


def rules(chosen: choose.Chosen) -> dict[str, int]:
    return {label: chosen[label][0].min_on for label in (SIREN, SMOKE)}


def test_each_alert_gets_the_rule_that_all_together_can_afford() -> None:
    """Sirens must be told sooner, or the wait of all is too long; smoke alarms need not be."""
    slow, fast = alert(2, 0, 1.5), alert(3, 2, 0.4)
    offered = others(**{SIREN: [slow, fast], SMOKE: [alert(4, 0, 0.5), alert(5, 1, 0.2)]})
    assert rules(choose.alerts_of(offered, choose.Bounds())) == {SIREN: 3, SMOKE: 4}
    # with all the time in the world, fewer false ones
    late = choose.Bounds(alert_wait_s=2.0)
    assert rules(choose.alerts_of(offered, late)) == {SIREN: 2, SMOKE: 4}


def test_false_by_a_hair_is_false_elsewhere() -> None:
    offered = others(**{SIREN: [alert(2, 0, 0.3, near=6), alert(3, 1, 0.3, near=2)]})
    assert rules(choose.alerts_of(offered, choose.Bounds()))[SIREN] == 3


def test_recall_comes_before_the_wait_and_the_wait_before_false_alerts() -> None:
    deaf, late, wrong = alert(2, 0, 0.2, told=2), alert(3, 0, 2.0), alert(4, 9, 0.9)
    offered = others(**{SIREN: [deaf, late, wrong]})
    assert rules(choose.alerts_of(offered, choose.Bounds()))[SIREN] == 4
    offered = others(**{SIREN: [deaf, late]})
    assert rules(choose.alerts_of(offered, choose.Bounds()))[SIREN] == 3


def mild(number: int, hits: int = 45, wait: float = 0.5, wrong: int = 0) -> Offer:
    """A rule that tells 40 of 50 sounds, each after ``wait``."""
    return offer(
        number, hits=hits, found=50, true=50, segments=(90, 10, 10), waits=[wait] * 40,
        wrong=wrong, near=wrong,
    )  # fmt: skip


def chosen_of(*kinds: Offer, bounds: choose.Bounds | None = None, **own: list[Offer]) -> set[int]:
    """Which of ``kinds`` the labels get, those with offers of their ``own`` aside."""
    alerts = choose.alerts_of(others(), choose.Bounds())
    rest = [label for label in LABELS if label not in ALERTS]
    offered = {label: own.get(label, list(kinds)) for label in rest}
    prices, chosen = choose.rest_of(offered, alerts, 1.0, bounds or choose.Bounds())
    assert prices in choose.FINE
    assert all(chosen[k] == alerts[k] for k in alerts)
    return {chosen[k][0].min_on for k in rest if k not in own}


def test_the_rest_get_what_misses_the_bounds_least_and_then_the_soonest() -> None:
    late, wrong, right = mild(1, wait=1.5), mild(2, wrong=30), mild(3, hits=40)
    assert chosen_of(late, wrong, right) == {3}
    # more are found late than the event F1 that is asked for allows to be left out
    assert chosen_of(late, wrong, right, bounds=choose.Bounds(event_f1=0.95)) == {1}
    # nothing keeps all bounds: so many false captions are further off than a lower F1
    poor = mild(4, hits=20)
    assert chosen_of(wrong, poor) == {4}


def test_one_slow_label_stays_where_the_bounds_need_it() -> None:
    slow, silent = mild(1, wait=1.5), offer(2, true=50, segments=(0, 0, 100))
    alerts = choose.alerts_of(others(), choose.Bounds())
    offered = {k: [mild(3)] for k in LABELS if k not in alerts} | {"clock_tick": [slow, silent]}
    for segment_f1, number in ((0.89, 1), (0.6, 2)):
        bounds = choose.Bounds(segment_f1=segment_f1)
        _, chosen = choose.rest_of(offered, alerts, 1.0, bounds)
        assert chosen["clock_tick"][0].min_on == number


def test_a_table_counts_what_a_tally_counts() -> None:
    """And what a rule is worth is what it was worth when it was looked for."""
    waits = [0.2, 1.2, 3.0]
    tallies = [
        Tally(9, 12, 14, (30, 4, 6), waits, wrong=2, near=5, recalled=3, alarms=4),
        Tally(4, 4, 14, (10, 0, 26), [0.3]),
    ]
    table = choose.table_of([(Rule(0.5, 0.3, i, 12), t) for i, t in enumerate(tallies)])
    assert table.late.tolist() == [2, 0]
    assert table.doubt.tolist() == [3.5, 0]
    for prices in choose.FINE[::500]:
        same = replace(prices, alarm=choose.HOPED.alarm)
        wanted = [worth("doorbell", t, same) for t in tallies]
        assert table.worth(prices).tolist() == pytest.approx(wanted)


def test_all_rules_tried_of_a_label_are_offered() -> None:
    scores = np.zeros((SLOT, len(LABELS)), np.float32)
    scores[50:70, LABELS.index("sneeze")] = 0.9
    heard = Heard(scores, {label: [] for label in LABELS} | {"sneeze": [(50, 70)]}, {}, {})
    made = choose.offers(heard, "sneeze")
    rules = [rule for rule, _ in made]
    assert len(set(rules)) == len(rules) > 500
    assert any(t.hits == 1 and t.found == 1 for _, t in made)
