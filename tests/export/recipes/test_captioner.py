"""The sentence decoder's recipe: what it learns from, how it is measured, what it writes."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ossicle.export.models.captioner import Captioner, CaptionerShape  # noqa: E402
from ossicle.export.recipes import captioner_bundle, captioner_measure  # noqa: E402
from ossicle.export.recipes.captioner import (  # noqa: E402
    batches,
    build_language,
    gather,
    train,
    widened,
)
from ossicle.export.recipes.captioner_examples import (  # noqa: E402
    BEGIN,
    END,
    PAD,
    examples,
    from_captions,
    made_up,
    worded,
)
from ossicle.export.recipes.captioner_heard import (  # noqa: E402
    Tagged,
    eager,
    rules_of,
    scenes_told,
    sounds_in,
)
from ossicle.export.recipes.captioner_text import clauses_of, read_pair, reader  # noqa: E402
from ossicle.export.recipes.captioner_timing import fit, outcome, waits_in  # noqa: E402
from ossicle.export.recipes.tagger_hysteresis import Rule  # noqa: E402
from ossicle.runtime.bundle import Bundle  # noqa: E402
from ossicle.runtime.errors import ExportError  # noqa: E402
from ossicle.runtime.model import Model  # noqa: E402
from ossicle.runtime.worddecoder import GraphWords, KernelWords  # noqa: E402
from ossicle.runtime.wording import named  # noqa: E402

CAPTIONS = [
    "A dog barks while rain falls", "A man is speaking and a dog is barking",
    "Rain is falling then a siren wails", "Birds chirp as the wind blows",
]  # fmt: skip
TAGGED = Tagged((("dog", Rule(0.6, 0.3, 2, 3, 0)), ("rain", Rule(0.5, 0.25, 1, 3, 0))), 40.0)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Two shards' worth of scores: sounds that begin together, and sounds alone."""
    rng = np.random.default_rng(0)
    scores = np.zeros((8, 250, 2, 2), np.float16)
    for scene in range(8):
        for at in (20, 120, 220, 320, 420):
            scores[scene].reshape(-1, 2)[at : at + 30, 1] = 0.9
            if rng.random() < 0.5:  # the dog rises, and is believed half a second later
                flat = scores[scene].reshape(-1, 2)
                flat[at : at + 12, 0], flat[at + 12 : at + 30, 0] = 0.5, 0.8
    truth = [[["rain", 0, 1]]] * 8
    np.savez(tmp_path / "scenes0000.npz", scores=scores, truth=np.array(json.dumps(truth)))
    return tmp_path


def test_cider_d_is_that_of_the_coco_evaluation() -> None:
    said = ["a dog barks while rain falls", "a man speaks then a dog barks", "birds chirp"]
    meant = [
        ["a dog barks and rain falls", "rain falls while a dog is barking"],
        ["a man speaks followed by a dog barking", "a man talks and a dog barks"],
        ["birds chirp and sing", "birds are chirping in the trees"],
    ]
    found = captioner_measure.cider_d(said, meant)
    assert found == pytest.approx(2.5163816569043074)  # pycocoevalcap 1.2 gives this
    assert captioner_measure.cider_d([m[0] for m in meant], [[m[0]] for m in meant]) == 10.0
    assert captioner_measure.cider_d(["", "x y", "z"], meant) == 0.0


def test_sounds_are_found_as_the_tracker_would() -> None:
    scores = np.zeros((60, 2), np.float32)
    scores[5:20, 0] = 0.4  # never sure
    scores[30:33, 0] = 0.7
    scores[35:40, 0] = 0.7  # after a pause that is too short to part them
    scores[10:40, 1] = 0.9
    found = [(f.name, f.onset, f.believed, f.stop) for f in sounds_in(scores, TAGGED)]
    assert found == [("rain", 10, 11, 40), ("dog", 30, 32, 40)]
    assert [f.name for f in sounds_in(scores, eager(TAGGED, 0.5))] == ["dog", "rain", "dog"]


def test_what_is_told_has_moments_and_scores(scenes: Path) -> None:
    told = scenes_told(scenes, TAGGED)
    assert {len(t) for t in told} == {1, 2}
    assert all(m == 0 and 0.4 < s <= 1 for t in told for _, m, s in t)
    with pytest.raises(ExportError, match="captioner_render"):
        scenes_told(scenes / "nothing", TAGGED)


def test_a_tagger_that_gives_embeddings_is_told_along(scenes: Path) -> None:
    with np.load(scenes / "scenes0000.npz") as plain:
        held = dict(plain)
    count = held["scores"].reshape(8, -1, held["scores"].shape[-1]).shape[1]
    views = np.random.default_rng(0).random((8, count, 6)).astype(np.float16) * 9
    np.savez(scenes / "scenes0000.npz", embedding=views, **held)
    told = scenes_told(scenes, TAGGED)
    assert all(len(row) == 4 for rows in told for row in rows)
    assert all(abs(float(np.mean(row[3] ** 2)) - 1) < 0.01 for rows in told for row in rows)
    pairs = [p for c in CAPTIONS if (p := read_pair(c)) is not None]
    language = build_language(pairs * 4, clauses_of())
    shape = CaptionerShape(len(language.words), len(language.sounds), embedding=6)
    sources = gather(pairs * 4, told, language, shape)
    _, memory = next(batches(sources, shape, 64, seed=0))
    felt = memory[..., -6:].abs().amax(-1) > 0
    assert 0.05 < float(felt.any(1).float().mean()) < 0.8  # of the mixtures alone, and not of all
    row = captioner_measure.memory_about(told[0], language, shape)
    np.testing.assert_allclose(row[0, -6:], told[0][0][3], atol=1e-3)
    narrow = Captioner(replace(shape, embedding=0))
    wide = Captioner(shape)
    wide.load_state_dict(widened(narrow.state_dict(), shape))
    tokens, plain_memory = torch.zeros(1, 3, dtype=torch.long), torch.from_numpy(row)[None]
    with torch.no_grad():
        same = narrow.whole(tokens, plain_memory[..., :-6])
        torch.testing.assert_close(wide.whole(tokens, plain_memory), same)


def test_the_head_waits_for_what_rises(scenes: Path) -> None:
    waits = waits_in(scenes, TAGGED)
    head = fit(waits)
    found = outcome(head, waits)
    assert found["missed"] <= 0.25
    assert found["wait_ms"] < 700
    assert 0 < found["followed"] < 0.6


def test_made_up_sentences_say_what_they_are_told() -> None:
    rng, clauses = random.Random(1), clauses_of()
    for name, forms in clauses.items():
        assert all(named(form, reader().sounds) == {name} for form in forms), name
    for told, words in made_up(rng, clauses, 200):
        text = " ".join(words)
        assert named(text, reader().sounds) == {name for name, _, _ in told}, text
        assert len(words) > 1
    assert worded(rng, clauses, [("kazoo", 0, 1.0)]) is None


def test_a_batch_holds_every_source_and_little_padding(scenes: Path) -> None:
    pairs = [p for c in CAPTIONS if (p := read_pair(c)) is not None]
    language = build_language(pairs * 4, clauses_of())
    shape = CaptionerShape(len(language.words), len(language.sounds))
    sources = gather(pairs * 4, scenes_told(scenes, TAGGED), language, shape)
    assert set(sources) == {"captions", "made up", "mixtures"}
    tokens, memory = next(batches(sources, shape, 64, seed=0))
    assert (tokens[:, 0] == BEGIN).all()
    assert ((tokens == END).sum(1) == 1).all()
    assert int((tokens != PAD).sum(1).max()) == tokens.shape[1]
    assert memory.shape[1:] == (shape.rows, shape.features)
    assert (memory[..., : shape.sounds].sum((1, 2)) >= 1).all()


def test_a_trained_decoder_becomes_a_bundle_that_both_paths_read(
    scenes: Path, tmp_path: Path
) -> None:
    pairs = [p for c in CAPTIONS if (p := read_pair(c)) is not None]
    language = build_language(pairs * 4, clauses_of())
    shape = CaptionerShape(len(language.words), len(language.sounds), width=32, layers=1)
    sources = gather(pairs * 4, scenes_told(scenes, TAGGED), language, shape)
    held = examples(from_captions(pairs), language, shape)
    work = tmp_path / "work"
    work.mkdir()
    model = train(sources, held, shape, work, minutes=0.02)
    again = train(sources, held, shape, work, minutes=0.02)  # nothing is left to do
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    captioner_bundle._round(model)
    waits = fit(waits_in(scenes, TAGGED))
    timing = {"weights": waits.weights, "bias": waits.bias, "cut": waits.cut,
              "least_ms": waits.least_ms, "most_ms": waits.most_ms}  # fmt: skip
    facts = {"captions": len(pairs), "mixtures": 8}
    bundle = captioner_bundle._export(tmp_path / "out", model, language, timing, facts, {})
    assert "{" not in bundle.read("README.md").decode()
    graph, kernels = GraphWords(Model.load(bundle)), KernelWords(bundle)
    told = [[("dog", 0, 0.9)], [("dog", 0, 0.9), ("rain", 1, 0.5)], []]
    memories = [captioner_measure.memory_about(t, language, shape) for t in told]
    found = captioner_measure.side_by_side(graph, kernels, memories, beam=2)
    assert found["parity"] < 1e-4
    assert found["same"] == 1.0


def test_step_by_step_is_the_whole_at_once() -> None:
    torch.manual_seed(0)
    shape = CaptionerShape(40, 7, width=32)
    model = Captioner(shape).eval()
    tokens = torch.randint(3, 40, (2, shape.length))
    memory = torch.rand(2, shape.rows, shape.features)
    cache = torch.zeros(2, 2 * shape.layers, shape.length, shape.width)
    filled = torch.zeros(2, shape.length)
    with torch.no_grad():
        whole = model.whole(tokens, memory)
        for at in range(shape.length):
            scores, cache, filled = model(tokens[:, at : at + 1], memory, cache, filled)
            torch.testing.assert_close(scores, whole[:, at], atol=1e-5, rtol=1e-4)


def test_a_decoder_is_no_tagger_to_learn_from() -> None:
    with pytest.raises(ExportError, match="a tagger is needed"):
        rules_of(Bundle.open("captioner-16k").manifest)
