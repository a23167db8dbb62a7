"""Warnings learnt alone, by one process or by several as one."""

from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ossicle.export.recipes.tagger_blend import VARIED, WARNED, blend, load_bank  # noqa: E402
from ossicle.export.recipes.tagger_pair import Pair  # noqa: E402
from ossicle.export.recipes.tagger_pupils import Pupils  # noqa: E402
from ossicle.export.recipes.tagger_step import (  # noqa: E402
    UNKNOWABLE,
    features,
    loss_of_warnings,
    through,
)
from ossicle.export.recipes.tagger_warned import Warned  # noqa: E402
from ossicle.runtime.errors import ExportError  # noqa: E402
from ossicle.runtime.scene.alarms import ALARMS  # noqa: E402
from ossicle.runtime.scene.labels import LABELS  # noqa: E402

WARNINGS = [LABELS.index(name) for name in ALARMS]
REST = [k for k in range(len(LABELS)) if k not in WARNINGS]


@pytest.fixture(scope="module")
def asked(course: Namespace) -> Namespace:
    """A course of warnings, from and beside one model."""
    return Namespace(**{**vars(course), "freeze": 5, "events": 0.1, "keep": course.start})


def test_a_course_of_warnings_moves_only_what_it_may(asked: Namespace) -> None:
    course = Warned(asked)
    assert course.diet is WARNED
    before = {k: v.clone() for k, v in course.pupils.state_dict().items()}
    parts = course.step(1.0, 0)
    assert set(parts) == {"warnings", "events", "kept", "fooled"}
    assert 0 < parts["warnings"] < 3
    moved = {k for k, v in course.pupils.state_dict().items() if not torch.equal(v, before[k])}
    first = tuple(f"trunk.layers.{i}." for i in range(5))
    assert not [k for k in moved if k.startswith(("tiny.", "to_teacher.", *first))]
    assert {"full.score.weight", "trunk.layers.5.spread.weight"} <= moved
    assert not [p for p in course.kept.parameters() if p.requires_grad]


def test_a_model_with_other_first_layers_cannot_be_kept(asked: Namespace, tmp_path: Path) -> None:
    torch.manual_seed(1)
    torch.save(Pupils().state_dict(), tmp_path / "other.pt")
    other = Namespace(**{**vars(asked), "keep": tmp_path / "other.pt"})
    with pytest.raises(ExportError, match="first 5 layers"):
        Warned(other)
    assert Warned(Namespace(**{**vars(other), "freeze": 0})).kept is not None  # nothing is shared


def test_layer_by_layer_is_what_the_whole_trunk_gives() -> None:
    torch.manual_seed(0)
    trunk, mel = Pupils().trunk, torch.randn(2, 96, 64)
    low = through(trunk, mel.unsqueeze(1), 0, 5, mixed=False)
    made = low + through(trunk, low[-1], 5, 8, mixed=False)
    for ours, theirs in zip(made, features(trunk, mel), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_what_is_kept_has_no_gradient_until_it_differs() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 60, len(LABELS), requires_grad=True)
    truth, calm = torch.zeros(2, 60, len(LABELS)), torch.tensor([False, True])
    truth[0, 20:50, WARNINGS[0]] = 1
    truth[0, :, WARNINGS[1]] = UNKNOWABLE
    was = torch.sigmoid(logits.detach())
    loss, parts = loss_of_warnings(logits, truth, was, calm)
    loss.backward()
    assert logits.grad is not None
    assert float(logits.grad[..., REST].abs().max()) < 1e-9
    assert parts["kept"] == pytest.approx(0, abs=1e-6)
    assert bool((logits.grad[0, 25:50, WARNINGS[0]] < 0).all())  # believed more where it sounds
    assert float(logits.grad[0, :, WARNINGS[1]].abs().max()) == 0  # of what nobody knows
    assert bool((logits.grad[1][:, WARNINGS] > 0).all())
    _, parts = loss_of_warnings(logits + 1.0, truth, was, calm)
    assert parts["kept"] > 0.05


def test_a_false_alert_costs_more_where_all_is_calm() -> None:
    costs = []
    for calm in (False, True):
        logits = torch.zeros(1, 60, len(LABELS), requires_grad=True)
        empty = torch.zeros(1, 60, len(LABELS))
        loss_of_warnings(logits, empty, empty + 0.5, torch.tensor([calm]), events=0)[0].backward()
        assert logits.grad is not None
        costs.append(float(logits.grad[..., LABELS.index("siren")].sum()))
    assert costs[1] == pytest.approx(6 * costs[0])


def test_warnings_come_oftener_in_their_own_course(asked: Namespace) -> None:
    held = load_bank([asked.bank[0] / "bank.npz"])
    shares = []
    for diet in (VARIED, WARNED):
        assert sum(diet.kinds.values()) == pytest.approx(1)
        assert sum(diet.calm.values()) == pytest.approx(1)
        rng = np.random.default_rng(5)
        scenes = [blend(rng, held, diet) for _ in range(40)]
        shares.append(np.mean([s.truth[:, WARNINGS].any() for s in scenes]))
    assert shares[1] > shares[0]


def test_several_learn_as_one_would_from_all_their_scenes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = torch.nn.Linear(5, 3)
    scenes, clocks = torch.randn(4, 8, 5), (7.0, 11.0)

    def learn(rank: int) -> tuple[list[torch.Tensor], float]:
        pair = Pair(tmp_path / "meet", rank, 2)
        net = torch.nn.Linear(5, 3)
        net.load_state_dict(start.state_dict())
        unused = torch.nn.Parameter(torch.ones(2))
        net(scenes[2 * rank : 2 * rank + 2]).square().mean().backward()
        time = pair.clock(clocks[rank])
        pair.share([*net.parameters(), unused])
        assert unused.grad is None
        return [p.grad for p in net.parameters() if p.grad is not None], time

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(learn, range(2))
    start(scenes).square().mean().backward()
    for a, b, whole in zip(first[0], second[0], start.parameters(), strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, whole.grad)
    assert first[1] == second[1] == clocks[0]


def test_one_alone_waits_for_nobody() -> None:
    pair, net = Pair(), torch.nn.Linear(2, 1)
    net(torch.ones(1, 2)).sum().backward()
    before = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    pair.share(net.parameters())
    assert all(torch.equal(a, p.grad) for a, p in zip(before, net.parameters(), strict=True))
    assert pair.clock(3.5) == 3.5
    with pytest.raises(ExportError, match="--meet"):
        Pair(None, 0, 2)
    with pytest.raises(ExportError, match="process 2 of 2"):
        Pair(Path("x"), 2, 2)
