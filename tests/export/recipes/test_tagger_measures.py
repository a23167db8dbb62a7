from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")

from benchmarks import caption_measures as measures  # noqa: E402
from benchmarks.caption_measures import Event, Heard, Run  # noqa: E402
from ossicle.export.recipes.tagger_card import credits_of  # noqa: E402
from ossicle.export.recipes.tagger_tiny import plain_biases  # noqa: E402


@dataclass(frozen=True)
class Label:
    name: str
    onset_sample: int
    offset_sample: int | None = None


@dataclass(frozen=True)
class Relation:
    kind: str


@dataclass(frozen=True)
class Cue:
    op: str
    cue_id: int
    text: str
    labels: tuple[Label, ...] = ()
    relations: tuple[Relation, ...] = ()
    end_sample: int = 0
    is_heartbeat: bool = False


def run(truth: list[Event], cues: list[tuple[int, Cue]]) -> Run:
    feed = tuple(Heard(c, at, at / 16_000 + 0.01) for at, c in cues)
    return Run(tuple(truth), feed, np.zeros((250, 2), np.float32), 160_000)


DOG = Event("dog_bark", 16_000, 32_000)
RAIN = Event("rain", 24_000, 80_000)
OPEN = Cue("OPEN", 1, "[dog barks]", (Label("dog_bark", 16_640),))
LONG = Cue("UPDATE", 1, "[dog barking]", (Label("dog_bark", 16_640),))
CLOSE = Cue("CLOSE", 1, "[dog barking]", (Label("dog_bark", 16_640, 31_360),))
WET = Cue("OPEN", 2, "[rain]", (Label("rain", 24_640),), (Relation("while"),), 30_000)


def test_found_events_are_told_once_with_their_last_times() -> None:
    found = measures.found_events(run([DOG], [(24_000, OPEN), (26_000, LONG), (40_000, CLOSE)]))
    assert found == [Event("dog_bark", 16_640, 31_360)]
    assert measures.found_events(run([], [(1, Cue("RETRACT", 1, "", OPEN.labels))])) == []


def test_latency_is_from_the_true_onset_to_the_first_cue() -> None:
    scores = np.zeros((250, 2), np.float32)
    scores[30:, 0] = 0.9
    made = run([DOG, RAIN], [(24_000, OPEN)])
    made = Run(made.truth, made.feed, scores, made.length)
    late = measures.latency(
        [made], ["dog_bark", "rain"], {"dog_bark": 0.5, "rain": 0.5}, 640,
        frozenset({"dog_bark", "rain"}),
    )  # fmt: skip
    assert (late["events"], late["captioned"]) == (2, 1)
    assert late["unaware"]["p50"] == pytest.approx(0.5)
    assert late["aware"]["p50"] == pytest.approx(0.51)
    assert late["evidence"]["p50"] == pytest.approx((31 * 640 - 16_000) / 16_000)
    assert late["evidence"]["p50"] + late["belief"]["p50"] == pytest.approx(0.5)


def test_what_begins_under_its_own_caption_is_captioned_and_not_timed() -> None:
    again = Event("dog_bark", 28_000, 36_000)
    scores, on = {"dog_bark": 0.5}, frozenset({"dog_bark"})
    for feed, standing in (
        ([(24_000, OPEN), (40_000, CLOSE)], 1),
        ([(20_000, OPEN), (26_000, CLOSE)], 0),
        ([(30_000, OPEN)], 0),
    ):
        late = measures.latency([run([again], feed)], ["dog_bark", "rain"], scores, 640, on)
        assert late["stood_already"] == standing
        assert late["captioned"] >= standing
        assert bool(late["unaware"]) == (feed[0][0] > again.onset)


def test_a_second_cue_for_one_sound_is_a_duplicate_unless_it_continues() -> None:
    again = Cue("OPEN", 3, "[dog barks]", (Label("dog_bark", 20_000),))
    going = Cue("OPEN", 3, "[continues]", again.labels, (Relation("continues"),))
    assert measures.duplicates([run([DOG], [(24_000, OPEN), (30_000, again)])])["duplicates"] == 1
    assert measures.duplicates([run([DOG], [(24_000, OPEN), (30_000, going)])])["duplicates"] == 0


def test_erasure_counts_words_taken_back() -> None:
    changed = measures.erasure([run([], [(1, OPEN), (2, LONG), (3, CLOSE)])])
    assert changed == {"deleted": 1, "final": 2, "erasure": 0.5}


def test_order_and_relation_are_judged_by_the_truth() -> None:
    good = measures.order([run([DOG, RAIN], [(24_000, OPEN), (30_000, WET)])])
    assert good == {"pairs": 1, "order_accuracy": 1.0, "related": 1, "relation_accuracy": 1.0}
    apart = Event("rain", 40_000, 80_000)
    late = Cue("OPEN", 2, "[rain]", (Label("rain", 40_640),), (Relation("while"),), 44_000)
    wrong = measures.order([run([DOG, apart], [(24_000, OPEN), (44_000, late)])])
    assert (wrong["pairs"], wrong["relation_accuracy"]) == (1, 0.0)


def test_biases_become_plain_and_nothing_else_changes() -> None:
    from onnx import TensorProto, helper, numpy_helper

    def held(name: str, value: object, dtype: str) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(value, dtype), name)

    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"]),
            helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["bf"]),
            helper.make_node("Gemm", ["x", "wf", "bf"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [held("w", [[1, 2], [3, 4]], "int8"), held("ws", 0.5, "float32"), held("wz", 0, "int8"),
         held("b", [100, -20], "int32"), held("bs", 0.01, "float32"), held("bz", 0, "int32")],
    )  # fmt: skip
    made = onnx.load_from_string(plain_biases(helper.make_model(graph).SerializeToString()))
    values = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    assert set(values) == {"w", "ws", "wz", "bf"}
    np.testing.assert_allclose(values["bf"], [1.0, -0.2])
    assert [n.op_type for n in made.graph.node] == ["DequantizeLinear", "Gemm"]


def test_credits_name_the_clips_that_are_there(tmp_path: Path) -> None:
    clips = tmp_path / "train" / "env_esc10_f1-4" / "001"
    clips.mkdir(parents=True)
    for name in ("1-5-A", "4-6-A"):
        (clips / f"{name}.flac").touch()
    rows = ["file\tauthor", "1-5-A.ogg\tann", "1-7-A.ogg\tbob", "4-6-A.ogg\tcem"]
    (tmp_path / "esc10_attribution.tsv").write_text("\n".join(rows))
    assert credits_of(tmp_path, [1, 2, 3]).decode().splitlines() == rows[:2]


def test_each_draw_has_its_own_figures() -> None:
    pytest.importorskip("sed_eval")
    told = run([DOG], [(24_000, OPEN), (40_000, CLOSE)])
    missed = run([DOG], [])
    first, second = measures.by_draw([told, told, told, missed], ["dog_bark", "rain"], 2)
    assert first == {"segment": 1.0, "event": 1.0}
    assert second["event"] == pytest.approx(2 / 3, abs=1e-3)
    assert 0.5 < second["segment"] < 1
