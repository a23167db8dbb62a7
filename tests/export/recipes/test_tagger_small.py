"""The smaller tier learns alone, from the larger one, on layers of its own."""

from argparse import Namespace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from ossicle.export.models.tagger import Tagger  # noqa: E402
from ossicle.export.recipes import tagger  # noqa: E402
from ossicle.export.recipes.tagger_pupils import Pupils  # noqa: E402
from ossicle.export.recipes.tagger_small import Small  # noqa: E402
from ossicle.export.recipes.tagger_step import UNKNOWABLE, loss_of_small  # noqa: E402
from ossicle.runtime.scene.labels import LABELS  # noqa: E402


@pytest.fixture(scope="module")
def asked(course: Namespace) -> Namespace:
    """A course of the smaller tier that leaves three layers as they are."""
    return Namespace(**{**vars(course), "freeze": 3, "gentle": 0.5, "events": 0.1, "small": None})


@torch.no_grad()
def heard(net: Tagger, mel: torch.Tensor) -> torch.Tensor:
    return net(mel, *net.fresh(len(mel)))[0]


def test_only_the_smaller_tier_learns(asked: Namespace) -> None:
    small = Small(asked)
    larger = {k: v.clone() for k, v in small.pupils.state_dict().items()}
    before = {k: v.clone() for k, v in small.learner.state_dict().items()}
    parts = small.step(1.0, 0)
    assert set(parts) == {"tiny", "apart", "events", "fooled"}
    assert 0 < parts["tiny"] < 3
    assert 0 < parts["apart"] < 1
    assert all(torch.equal(v, larger[k]) for k, v in small.pupils.state_dict().items())
    moved = {k for k, v in small.learner.state_dict().items() if not torch.equal(v, before[k])}
    frozen = tuple(f"trunk.layers.{i}." for i in range(3))
    assert {"trunk.layers.3.point.weight", "trunk.layers.4.spread.bias"} <= moved
    assert "head.score.weight" in moved
    assert not [k for k in moved if k.startswith(frozen)]


def test_layers_that_are_alike_are_passed_once_and_give_the_same(
    asked: Namespace, tmp_path: Path
) -> None:
    """With a trunk that differs in its first layers nothing may be taken from the larger one."""
    torch.manual_seed(2)
    other = Pupils().tagger("tiny")
    torch.save(other.state_dict(), tmp_path / "other.pt")
    mel, truth = torch.randn(2, 960, 64) - 4, torch.zeros(2, 240, len(LABELS))
    none = torch.zeros(2)
    for given, shared in ((None, 3), (tmp_path / "other.pt", 0)):
        small = Small(Namespace(**{**vars(asked), "small": given}))
        assert small.shared == shared
        small.learner.eval()
        made = small.lesson(mel, truth, none, none, none.bool())[2]
        torch.testing.assert_close(torch.sigmoid(made), heard(small.learner, mel))
        worse = small.lesson(mel, truth, none, none, none == 0)[1]
        assert worse["tiny"] > 1.5 * small.lesson(mel, truth, none, none, none.bool())[1]["tiny"]
        joint = heard(small.pupils.tagger("tiny"), mel)
        assert (float((torch.sigmoid(made) - joint).detach().abs().max()) > 1e-4) == (shared == 0)


def test_what_is_told_pulls_where_the_truth_is_silent() -> None:
    logits = torch.zeros(1, 60, len(LABELS), requires_grad=True)
    truth, told = torch.zeros(1, 60, len(LABELS)), torch.full((1, 60, len(LABELS)), 0.5)
    truth[..., :2] = UNKNOWABLE
    told[..., 0] = 0.9
    loss, parts = loss_of_small(logits, truth, told, torch.tensor([False]), events=0)
    loss.backward()
    assert logits.grad is not None
    pull = logits.grad.mean((0, 1))
    assert float(pull[0]) < 0  # told, and nobody knows better
    assert float(pull[1]) == pytest.approx(0, abs=1e-9)
    assert float(pull[2]) > 0
    exact = torch.logit(told)
    assert loss_of_small(exact, truth, told, torch.tensor([False]))[1]["apart"] < 1e-6
    assert parts["apart"] > 0.01


def test_a_false_alert_costs_more_where_all_is_calm() -> None:
    pulls = []
    for calm in (False, True):
        logits = torch.zeros(1, 60, len(LABELS), requires_grad=True)
        never = torch.zeros(1, 60, len(LABELS))
        loss_of_small(logits, never, never + 0.5, torch.tensor([calm]), events=0)[0].backward()
        assert logits.grad is not None
        pulls.append(logits.grad.sum((0, 1)))
    ratio = pulls[1] / pulls[0]
    assert float(ratio[LABELS.index("siren")]) == pytest.approx(4)
    assert float(ratio[LABELS.index("rain")]) == pytest.approx(2)


def test_its_checkpoint_becomes_a_bundle_with_its_own_trunk(
    asked: Namespace, tmp_path: Path
) -> None:
    small = Small(asked)
    with torch.no_grad():
        small.mean.trunk.layers[4].point.weight.mul_(1.5)
    torch.save(small.mean.state_dict(), tmp_path / "small.pt")
    mel = torch.randn(1, 64, 64) - 4
    own = tagger.trained("tiny", asked.start, tmp_path / "small.pt")
    torch.testing.assert_close(heard(own, mel), heard(small.mean.eval(), mel))
    joint = tagger.trained("tiny", asked.start)
    assert float((heard(own, mel) - heard(joint, mel)).abs().max()) > 1e-4
    assert tagger.trained("full", asked.start, tmp_path / "small.pt").config.layers == 8
