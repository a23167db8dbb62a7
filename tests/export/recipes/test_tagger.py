import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from ossicle.export.models import tagger as models  # noqa: E402
from ossicle.export.recipes import tagger as recipe  # noqa: E402
from ossicle.export.recipes import tagger_data as data  # noqa: E402
from ossicle.export.recipes import tagger_listen as listening  # noqa: E402
from ossicle.export.recipes import tagger_pupils as training  # noqa: E402
from ossicle.export.recipes import tagger_scenes as scenes  # noqa: E402
from ossicle.export.recipes import tagger_step as step  # noqa: E402
from ossicle.export.recipes.tagger_hysteresis import Rule, events_of  # noqa: E402
from ossicle.export.recipes.tagger_refine import Course  # noqa: E402
from ossicle.export.recipes.tagger_rules import (  # noqa: E402
    SLOT,
    Heard,
    Prices,
    best_rule,
    rules_for,
    summary,
    tally,
)
from ossicle.export.recipes.tagger_teacher import (  # noqa: E402
    MEL,
    Weights,
    Yamnet,
    arrange_causally,
    embed,
    log_mel,
)
from ossicle.runtime.errors import AudioError  # noqa: E402
from ossicle.runtime.model import Model  # noqa: E402
from ossicle.runtime.scene import alarms, everyday, speechlike  # noqa: E402
from ossicle.runtime.scene.labels import ENVIRONMENT, LABELS  # noqa: E402
from ossicle.runtime.scene.mix import Placement, mix, trim  # noqa: E402
from ossicle.runtime.scene.sound import Sound  # noqa: E402
from ossicle.streaming.captions.tracker import ClassRule, Tracker  # noqa: E402

TIERS = {"full": models.FULL, "tiny": models.TINY}


def small_library() -> data.Library:
    rng = np.random.default_rng(0)
    clips = {
        label: [everyday.synthesise("rain", rng, 2.0) if label not in everyday.KNOWN
                else everyday.synthesise(label, rng, 2.0)]
        for label in ENVIRONMENT
    }  # fmt: skip
    clips["speech"] = [speechlike.babble(rng, 2.0)]
    clips["music"] = [alarms.synthesise("phone_ring", rng, 3.0, variant="tune")]
    return data.Library(clips)


def fake_yamnet() -> list[Weights]:
    rng = np.random.default_rng(1)
    out, width = [], 1
    for cout in (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024):
        first = width == 1
        spread = rng.standard_normal((cout if first else width, 1, 3, 3)).astype(np.float32) / 3
        point = rng.standard_normal((cout, width, 1, 1)).astype(np.float32) / float(np.sqrt(width))
        bias = np.zeros(cout if first else width, np.float32)
        out.append(
            Weights(
                spread,
                bias,
                None if first else point,
                None if first else np.zeros(cout, np.float32),
            )
        )
        width = cout
    return out


@pytest.fixture(scope="module")
def pupils() -> training.Pupils:
    torch.manual_seed(0)
    made = training.Pupils()
    for module in made.modules():  # statistics as after training: not the identity
        if hasattr(module, "running_var") and module.running_var is not None:
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    return made.eval()


@pytest.mark.parametrize("tier", TIERS)
def test_a_stream_is_the_whole(pupils: training.Pupils, tier: str) -> None:
    net = pupils.tagger(tier)
    x = torch.randn(2, 40, 64)
    with torch.no_grad():
        scores, embedding, *_ = net(x, *net.fresh(2))
        past, parts = net.fresh(2), []
        for k in range(5):
            step, deep, *past = net(x[:, 8 * k : 8 * k + 8], *past)
            parts.append((step, deep))
    torch.testing.assert_close(torch.cat([p[0] for p in parts], 1), scores, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.cat([p[1] for p in parts], 1), embedding, atol=1e-5, rtol=1e-4)
    assert scores.shape == (2, 10, 20)
    assert [tuple(p.shape[1:]) for p in past] == [shape for _, shape in net.memory_shapes()]


@pytest.mark.parametrize("tier", TIERS)
def test_nothing_depends_on_the_future(pupils: training.Pupils, tier: str) -> None:
    net = pupils.tagger(tier)
    x = torch.randn(1, 48, 64)
    other = x.clone()
    other[:, 24:] += 3
    with torch.no_grad():
        a, b = (net(v, *net.fresh(1))[0] for v in (x, other))
    assert torch.equal(a[:, :6], b[:, :6])
    assert not torch.equal(a[:, 6:], b[:, 6:])


@pytest.mark.parametrize("tier", TIERS)
def test_folding_norms_changes_nothing(pupils: training.Pupils, tier: str) -> None:
    x = torch.randn(1, 24, 64)
    plain, folded = pupils.tagger(tier), recipe.fused(pupils.tagger(tier))
    with torch.no_grad():
        a, b = (net(x, *net.fresh(1)) for net in (plain, folded))
    torch.testing.assert_close(a[0], b[0], atol=1e-5, rtol=1e-4)
    assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in folded.modules())


def test_tiers_stay_within_their_means() -> None:
    full, tiny = models.Tagger(models.FULL), models.Tagger(models.TINY)
    front_end = 100 * (257 * 64 + 512 * 9 * 2)  # mel matrix and a radix-2 transform, per second
    assert sum(p.numel() for p in full.parameters()) <= 1_000_000
    assert models.macs_per_second(models.FULL) + front_end <= 60e6
    assert sum(p.numel() for p in tiny.parameters()) <= 125_000
    assert models.macs_per_second(models.TINY) + front_end <= 30e6


def test_the_trunk_is_yamnets_first_layers_looking_back() -> None:
    layers = fake_yamnet()
    trunk = models.Trunk(2)
    arrange_causally(trunk, layers)
    shapes = models.Tagger(models.FULL).memory_shapes()[:2]
    mel = torch.randn(1, 96, 64)
    fresh = [torch.zeros(1, *shape) for _, shape in shapes]
    with torch.no_grad():
        ours = trunk(mel, fresh)[0][1]
        theirs = Yamnet(layers[:2])
        x = mel.unsqueeze(1)
        for weights, stride in zip(theirs.layers, (2, 1), strict=True):
            groups = 1 if weights.point is None else x.shape[1]
            pads = (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1)
            x = torch.nn.functional.pad(x, pads)
            x = torch.conv2d(
                x, torch.from_numpy(weights.spread), None, stride, groups=groups
            ).relu()
            if weights.point is not None:
                x = torch.conv2d(x, torch.from_numpy(weights.point)).relu()
    # the causal trunk pairs frames one earlier, and its second layer looks back, not around:
    # heard one frame late, its row t + 2 is the centred row t
    rolled = torch.roll(mel, 1, 1)
    with torch.no_grad():
        late = trunk(rolled, fresh)[0][1]
    torch.testing.assert_close(late[:, :, 4:-1], x[:, :, 2:-3], atol=1e-4, rtol=1e-3)
    assert not torch.allclose(ours[:, :, 4:-1], x[:, :, 2:-3], atol=1e-2)


def test_the_teacher_gives_an_embedding_per_patch() -> None:
    mel = log_mel(np.random.default_rng(0).standard_normal(16_000 * 3).astype(np.float32) * 0.1)
    assert mel.shape == (300, 64)
    assert embed(Yamnet(fake_yamnet()), mel, 96).shape == (3, 1024)


def test_a_quick_teacher_sees_the_same() -> None:
    patches = torch.rand(3, 96, 64)
    exact, quick = Yamnet(fake_yamnet()), Yamnet(fake_yamnet(), torch.bfloat16)
    torch.testing.assert_close(quick(patches), exact(patches), atol=0.02, rtol=0.05)


def test_the_teacher_watches_the_patches_that_end_with_its_steps() -> None:
    teacher = Yamnet(fake_yamnet())
    course = Course.__new__(Course)
    course.teacher, course.rng = teacher, np.random.default_rng(0)
    course.asked = argparse.Namespace(looks=3)
    course.centre, course.spread = np.float32([0.5]), np.float32([2.0])
    mel = torch.rand(2, 240, 64)
    view, ends = course.watch(mel)
    assert view.shape == (2, 3, 1024)
    stop = (int(ends[1, 2]) + 1) * 8
    want = (teacher(mel[1:, stop - 96 : stop]) - 0.5) / 2
    torch.testing.assert_close(view[1, 2], want[0], atol=1e-4, rtol=1e-3)


def test_the_teachers_view_is_asked_for_where_it_looked() -> None:
    guess = torch.zeros(1, 4, 30)
    guess[0, :, 17] = 5.0
    logits = torch.zeros(1, 60, len(LABELS))
    target = torch.full((1, 1, 4), 5.0)
    for end, error in ((17, 0.0), (16, 4.5)):
        made = (logits, logits, guess)
        _, parts = step.loss_of(made, logits, target, torch.ones(1), ends=torch.tensor([[end]]))
        assert parts["view"] == pytest.approx(error)


def test_a_bundle_says_and_does_what_was_trained(pupils: training.Pupils, tmp_path: Path) -> None:
    torch.save(pupils.state_dict(), tmp_path / "pupils.pt")
    rules = {
        "rain": {"on": 0.7, "off": 0.2, "min_on_ms": 80, "min_off_ms": 240, "max_rise_ms": 200}
    }
    given = {"thresholds": rules, "score_delay": 640}
    learnt = recipe.trained("tiny", tmp_path / "pupils.pt")
    bundle = recipe.write("tiny", learnt, given, tmp_path / "b", {"README.md": b"#"})
    assert bundle.manifest.labels == LABELS
    assert bundle.manifest.extra["thresholds"] == rules
    assert bundle.manifest.extra["score_delay"] == 640
    assert bundle.manifest.extra["priority"]["smoke_alarm"] == "ALERT"
    assert json.loads(json.dumps(bundle.manifest.programs["step"].ops[0].params)) == dict(MEL)
    audio = np.random.default_rng(2).standard_normal(1280 * 6).astype(np.float32) * 0.1
    model = Model.load(bundle)
    state, streamed = model.open(batch=1), []
    for k in range(6):
        hop = audio[None, None, 1280 * k : 1280 * (k + 1)]
        streamed.append(np.array(model.step(state, {"audio": hop})["scores"][0]))
    net = pupils.tagger("tiny")
    with torch.no_grad():
        whole = net(torch.from_numpy(log_mel(audio))[None], *net.fresh(1))[0][0].numpy()
    np.testing.assert_allclose(np.concatenate(streamed), whole, atol=2e-4)


def test_activity_finds_the_sound_between_silences() -> None:
    rng = np.random.default_rng(0)
    x = np.zeros(32_000, np.float32)
    x[8000:12_000] = 0.3 * rng.standard_normal(4000)
    x[20_000:24_000] = 0.2 * rng.standard_normal(4000)
    found = data.activity(x, "dog_bark")
    assert [(round(a / 320), round(b / 320)) for a, b in found] == [(25, 38), (62, 75)]
    assert data.activity(np.zeros(16_000, np.float32), "rain") == []
    assert data.activity(np.zeros(10, np.float32), "rain") == []


def test_scenes_are_their_seed_and_truth_is_theirs() -> None:
    lib = small_library()
    for seed in range(6):
        one, two = (scenes.draw_scene(np.random.default_rng(seed), lib) for _ in range(2))
        np.testing.assert_array_equal(one.samples, two.samples)
        truth = scenes.frames_of(one)
        assert truth.shape == (250, len(LABELS))
        named = {e.label for e in one.events if e.label in LABELS and e.bursts}
        assert {LABELS[k] for k in np.flatnonzero(truth.any(0))} <= named
    assert np.abs(scenes.draw_clip(np.random.default_rng(0), lib).samples).max() > 0
    for kind in ("silence", "white", "speech", "music", "unknown"):
        assert scenes.calm(np.random.default_rng(0), lib, kind, 3).shape == (48_000,)


def test_a_folder_without_recordings_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="OSSICLE_DATA"):
        data.load_library(tmp_path, [1])


def test_what_is_covered_is_not_true_and_what_comes_out_is() -> None:
    rng = np.random.default_rng(3)
    n = 48_000
    loud = Sound("rain", rng.standard_normal(n).astype(np.float32), ((0, n),), {})
    beep = np.sin(np.arange(n) * 2 * np.pi * 1000 / 16_000).astype(np.float32)
    tone = Sound("siren", beep, ((0, n),), {})
    bed = 1e-4 * rng.standard_normal(n)
    drowned = mix([Placement(loud, 0, 60.0), Placement(tone, 8000, 0.0)], bed)
    assert [e.label for e in scenes.audible(drowned)] == ["rain"]
    half = trim(loud, 0, 24_000)
    late = mix([Placement(half, 0, 60.0), Placement(tone, 8000, 20.0)], bed)
    heard = {e.label: e for e in scenes.audible(late)}
    assert abs(heard["siren"].onset - 24_000) <= 2 * scenes.FRAME
    assert heard["siren"].offset == n
    assert scenes.frames_of(late)[:30, LABELS.index("siren")].sum() == 0


def test_a_scene_cut_keeps_its_truth_in_place() -> None:
    scene = scenes.household(np.random.default_rng(0), small_library(), "siren")
    part = scenes.cut(scene, 16_000, 80_000)
    assert len(part.samples) == 64_000
    whole = next(e for e in scene.events if e.label == "siren")
    inside = next(e for e in part.events if e.label == "siren")
    assert inside.onset == max(0, whole.onset - 16_000)
    assert inside.offset == min(64_000, whole.offset - 16_000)


@pytest.mark.parametrize("mixed", [False, True])
def test_the_quick_way_through_the_trunk_is_the_streamed_one(
    pupils: training.Pupils, mixed: bool
) -> None:
    mel = torch.randn(2, 80, 64)
    want = pupils.features(mel)
    found = step.features(pupils.trunk, mel, frozen=3, mixed=mixed)
    for i, (a, b) in enumerate(zip(want, found, strict=True)):
        assert b.requires_grad == (i >= 3)
        torch.testing.assert_close(a, b.float(), atol=0.05 if mixed else 1e-5, rtol=0.05)


def test_early_frames_count_most_and_the_first_ones_little() -> None:
    truth = torch.zeros(1, 60, len(LABELS))
    truth[0, 10:40, 0] = 1
    truth[0, 10:40, LABELS.index("siren")] = 1
    weight = step.weights_of(truth)
    assert float(weight[0, 13, LABELS.index("siren")]) == 6.0
    assert float(weight[0, 5, 0]) == float(weight[0, 20, 1]) == 1.0
    assert float(weight[0, 10, 0]) < 1.0
    assert float(weight[0, 13, 0]) == 4.0
    assert float(weight[0, 35, 0]) == 2.0
    assert float(weight[0, 41, 0]) == 0.5


scores = st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.9]), min_size=1, max_size=60)


@settings(max_examples=300, deadline=None)
@given(
    scores, st.integers(0, 3), st.integers(1, 6), st.integers(0, 4), st.integers(0, 3),
    st.sampled_from([0.6, 0.9, 2.0]), st.sampled_from([0.0, 0.7, 2.1, 5.0]),
    st.sampled_from([0.3, 1.0, 20.0]),
)  # fmt: skip
def test_tuning_hears_what_the_tracker_hears(
    values: list[float], hold: int, pause: int, rise: int, lag: int, sure: float, enough: float,
    most: float,
) -> None:  # fmt: skip
    rule = Rule(0.5, 0.3, hold, pause, rise, lag, sure, enough, most)
    found = [(e.start, e.stop) for e in events_of(np.float32(values), rule)]
    times = (t * 640 for t in (hold, pause, rise, lag))
    tracker = Tracker([ClassRule("x", 0.5, 0.3, *times, sure=sure, enough=enough, most=most)])
    state, edges = tracker.open(), []
    for i, value in enumerate(values):
        edges += tracker.step(state, np.float32([value]), i * 640, i * 640 + 640)
    told = [e.seen // 640 for e in edges if not e.ended]
    edges += tracker.end(state)
    heard = [(e.sound.onset // 640, (e.sound.offset or 0) // 640) for e in edges if e.ended]
    assert found == heard
    assert [e.told for e in events_of(np.float32(values), rule)] == told


def test_a_manifest_spells_evidence_where_a_rule_asks_for_it() -> None:
    assert "enough" not in Rule(0.5, 0.3, 1, 12).to_dict()
    rule = Rule(0.5, 0.3, 1, 12, enough=8.0, most=2.0)
    assert rule.to_dict() == {
        "on": 0.5, "off": 0.3, "min_on_ms": 40, "min_off_ms": 480, "max_rise_ms": 200,
        "lag_ms": 0, "enough": 8.0, "most": 2.0,
    }  # fmt: skip
    assert {bool(r.enough) for r in rules_for("rain")} == {False, True}


def test_rules_are_tuned_on_the_scores_it_gives() -> None:
    """Recordings of different lengths together, as one stream alone hears each."""
    model = Model.load("sounds-16k-tiny", "ort")
    rng = np.random.default_rng(7)
    sounds = [alarms.synthesise(name, rng, 3.0).samples for name in ("siren", "doorbell")]
    sounds = [x[: len(x) // model.manifest.hop * model.manifest.hop] for x in sounds]
    sounds[1] = sounds[1][: 20 * model.manifest.hop]
    found = listening.scores_by(model.bundle, [log_mel(x) for x in sounds])["tiny"]
    for x, scores in zip(sounds, found, strict=True):
        state = model.open(1, "step")
        hops = x.reshape(-1, 1, 1, model.manifest.hop)
        alone = [
            model.step(state, {"audio": hop})["scores"].reshape(-1, len(LABELS)) for hop in hops
        ]
        np.testing.assert_allclose(scores, np.concatenate(alone), atol=0.05)
        assert float(np.max(scores)) > 0.5


def heard_once(label: str) -> Heard:
    """Two scenes: one with ``label`` from frame 50 to 100, seen 3 frames late; calm with a slip."""
    found = np.zeros((2 * SLOT, len(LABELS)), np.float32)
    found[53:103, LABELS.index(label)] = 0.8
    slip = np.zeros((1000, len(LABELS)), np.float32)
    slip[500:502, LABELS.index(label)] = 0.6
    truth = {name: [(50, 100)] if name == label else [] for name in LABELS}
    return Heard(found, truth, {}, {"white": (slip, 0.01)}, delay=3)


def test_a_tally_counts_what_was_told() -> None:
    heard = heard_once("dog_bark")
    t = tally(heard, "dog_bark", Rule(0.5, 0.3, 1, 12))
    assert (t.hits, t.found, t.true, t.segments, t.wrong) == (1, 1, 1, (2, 0, 0), 1)
    assert t.waits == [pytest.approx((54 + 2 - 50) / 25)]
    assert tally(heard, "rain", Rule(0.5, 0.3, 1, 12)).found == 0
    figures = summary({"dog_bark": t}, 0.01)
    assert figures["event_f1"] == figures["segment_f1"] == 1.0
    assert figures["wrong_per_hour"] == 100.0


def test_a_dear_false_caption_makes_a_stricter_rule() -> None:
    heard = heard_once("dog_bark")
    for price in (0.0, 5.0):
        rule, t = best_rule(heard, "dog_bark", Prices(wrong=price))
        assert t.hits == 1
        if price:
            assert t.wrong == 0
            assert rule.on > 0.6 or rule.min_on > 2


def test_what_nobody_knows_teaches_nothing() -> None:
    logits = torch.zeros(1, 24, 20, requires_grad=True)
    truth = torch.zeros(1, 24, 20)
    truth[:, :, 4] = step.UNKNOWABLE
    made = (logits, logits, torch.zeros(1, 1024, 12))
    step.loss_of(made, truth, torch.zeros(1, 1, 1024), torch.zeros(1))[0].backward()
    assert logits.grad is not None
    # the tiny tier's own lesson, to say what the full one says, is the same for every class
    assert abs(float(logits.grad[0, 0, 4])) < 0.5 * abs(float(logits.grad[0, 0, 5]))


def test_a_false_alert_of_a_calm_scene_costs_more_than_a_false_caption() -> None:
    logits = torch.zeros(1, 24, 20, requires_grad=True)
    truth, alert, other = torch.zeros(1, 24, 20), LABELS.index("co_alarm"), LABELS.index("rain")
    made = (logits, torch.zeros(1, 24, 20), torch.zeros(1, 1024, 12))
    for calm, ratio in ((False, 1.0), (True, step.FALSE_ALERT)):
        logits.grad = None
        view = torch.zeros(1, 1, 1024)
        step.loss_of(made, truth, view, torch.zeros(1), torch.tensor([calm]))[0].backward()
        assert logits.grad is not None
        costs = logits.grad[0].sum(0)
        assert float(costs[alert] / costs[other]) == pytest.approx(ratio)


def test_a_few_steps_lower_the_loss(pupils: training.Pupils) -> None:
    torch.manual_seed(0)
    learner = training.Pupils()
    rng = np.random.default_rng(0)
    mel, truth = torch.randn(4, 96, 64), torch.zeros(4, 24, 20)
    truth[:, :, 3] = 1
    view, known = torch.zeros(4, 1, 1024), torch.ones(4)
    optimiser = torch.optim.AdamW(learner.parameters(), 1e-3)
    losses = []
    for _ in range(6):
        loss, parts = step.loss_of(learner(mel), truth, view, known)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        assert set(parts) == {"full", "tiny", "view"}
    assert losses[-1] < 0.8 * losses[0]
    varied, more, alone = step.vary(rng, mel.clone(), truth)
    assert varied.shape == mel.shape
    assert torch.isfinite(varied).all()
    assert bool((more >= truth).all())
    assert alone.dtype == torch.bool


def events_of_loss(*changes: tuple[slice, int, float]) -> float:
    """The loss of one scene in which only class 0 sounds, from frame 40 on; changed in places."""
    truth = torch.zeros(1, 120, 3)
    truth[:, 40:80, 0] = 1
    unknown = torch.zeros(1, 120, 3, dtype=torch.bool)
    unknown[:, :5, 2] = True
    logits = torch.full((1, 120, 3), -6.0)
    for frames, kind, value in changes:
        logits[:, frames, kind] = value
    return float(step.loss_of_events(logits, truth, unknown))


def test_a_caption_too_late_or_of_nothing_costs() -> None:
    early, late = slice(43, 63), slice(63, 80)
    right = events_of_loss((early, 0, 6.0))
    assert right < 0.01
    assert events_of_loss((late, 0, 6.0)) > right + 5  # too late to be in time
    half = events_of_loss((slice(53, 63), 0, 6.0))
    assert half < 0.01  # sure in half of that time is in time
    short = slice(80, 80 + step.PEAK)
    assert events_of_loss((early, 0, 6.0), (short, 1, 3.0)) > right + 2  # of what is not there
    assert events_of_loss((early, 0, 6.0), (short, 2, 3.0)) == right  # of what nobody knows
    assert events_of_loss((early, 0, 6.0), (short, 0, 3.0)) == right  # of what was there before


def test_where_nothing_begins_only_false_captions_cost() -> None:
    truth = torch.zeros(2, 60, 3)
    loss = step.loss_of_events(torch.full((2, 60, 3), -6.0), truth, truth > 0)
    assert 0 < float(loss) < 0.01
