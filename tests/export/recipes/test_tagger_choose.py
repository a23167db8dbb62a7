import numpy as np
import pytest

pytest.importorskip("torch")

from ossicle.export.recipes import tagger_choose as choose
from ossicle.export.recipes.tagger_hysteresis import Rule
from ossicle.export.recipes.tagger_rules import SLOT, Heard, Tally
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


def mild(scale: float, wait: float, wrong: int) -> Tally:
    return Tally(
        hits=round(30 * scale), found=40, true=50, segments=(round(90 * scale), 10, 10),
        waits=[wait] * 20, wrong=wrong, near=wrong,
    )  # fmt: skip


def test_the_rest_share_the_soonest_list_that_keeps_the_bounds() -> None:
    """The third list is sooner, but tells too much that is not there."""
    alerts = choose.alerts_of(others(), choose.Bounds())
    kinds = [mild(1.0, 2.0, 0), mild(1.0, 1.5, 0), mild(1.0, 0.5, 3), mild(0.5, 0.5, 0)]
    kinds += [mild(1.0, 1.9, 0)] * (len(choose.MILD) - len(kinds))
    offered = {
        label: [(Rule(0.5, 0.3, i, 12), t) for i, t in enumerate(kinds)]
        for label in LABELS
        if label not in ALERTS
    }
    prices, chosen = choose.rest_of(offered, alerts, 1.0, choose.Bounds())
    assert prices == choose.MILD[1]
    assert {chosen[k][0].min_on for k in LABELS if k not in ALERTS} == {1}
    assert all(chosen[k] == alerts[k] for k in alerts)
    # where nothing keeps them, the list that misses them by least
    prices, _ = choose.rest_of(offered, alerts, 1.0, choose.Bounds(event_f1=0.99))
    assert prices == choose.MILD[1]


def test_a_label_has_an_offer_for_every_list() -> None:
    scores = np.zeros((SLOT, len(LABELS)), np.float32)
    k = LABELS.index("sneeze")
    scores[50:70, k] = 0.9
    heard = Heard(scores, {label: [] for label in LABELS} | {"sneeze": [(50, 70)]}, {}, {})
    made = choose.offers(heard, "sneeze")
    assert len(made) == len(choose.MILD)
    assert all(t.hits == 1 and t.found == 1 for _, t in made)
