"""Whole bundles on the native executor: parity with ONNX Runtime, the laws, and the choice."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stepgraphs import Sketch, side_by_side

from ossicle.kernels.paths import core
from ossicle.runtime.backend import make_backend
from ossicle.runtime.backend.auto import AutoBackend
from ossicle.runtime.backend.native import NativeBackend
from ossicle.runtime.backend.ort import OrtBackend
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.conformance import LAWS, open_subject
from ossicle.runtime.errors import BackendError
from ossicle.runtime.model import Model

CORE = core()
if CORE is None or not hasattr(CORE, "StepPlan"):
    pytest.skip("no compiled part", allow_module_level=True)


NATIVE = [("codec-16k", "encoder"), ("codec-16k", "decoder"), ("separate-16k", "trunk"),
          ("separate-16k", "head"), ("sounds-16k", "tag")]  # fmt: skip


@pytest.mark.parametrize(("name", "graph"), NATIVE)
@pytest.mark.parametrize("batch", [1, 5])
def test_built_in_graphs_agree_with_onnx_runtime(name: str, graph: str, batch: int) -> None:
    side_by_side(Bundle.open(name), graph, batch, steps=8, make=quiet)


RNG = np.random.default_rng(2)


def quiet(name: str, shape: tuple[int, ...]) -> Any:
    """Noise at the level of speech; what levels are made of is never negative."""
    made = (0.1 * RNG.standard_normal(shape)).astype(np.float32)
    return np.abs(made) if "query" in name or "blend" in name else made


@pytest.mark.parametrize(("name", "graph"), NATIVE[:2])
def test_half_weights_stay_within_their_tolerance(name: str, graph: str) -> None:
    backends = (NativeBackend(half=True), OrtBackend())
    side_by_side(Bundle.open(name), graph, 2, 8, backends, "bfloat16", quiet)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", ["codec-16k", "separate-16k"])
def test_the_laws_hold_on_the_native_backend(name: str, law: str) -> None:
    row = LAWS[law](open_subject(name, "native"))
    assert row.ok is not False, row


@pytest.mark.parametrize("backend", ["native", "native-bf16"])
def test_a_stream_does_not_feel_its_neighbours_nor_its_slot(backend: str) -> None:
    """Bit-equal alone, in any slot of any batch, beside noise and beside NaN."""
    model = Model.load("codec-16k", backend)
    rng = np.random.default_rng(5)
    audio = (0.1 * rng.standard_normal((6, 1, 1, 320))).astype(np.float32)
    alone = model.open(1, "encode")
    wanted = [model.step(alone, {"audio": hop})["codes"] for hop in audio]
    memory = model.export_row(alone, 0)
    for batch, slot in ((2, 1), (7, 0), (16, 11)):
        state = model.open(batch, "encode")
        for hop, codes in zip(audio, wanted, strict=True):
            rows = rng.standard_normal((batch, 1, 320)).astype(np.float32)
            rows[(slot + 1) % batch] = np.nan
            rows[slot] = hop[0]
            with np.errstate(invalid="ignore"):
                made = model.step(state, {"audio": rows})["codes"]
            np.testing.assert_array_equal(made[slot], codes[0])
        for key, array in model.export_row(state, slot).items():
            np.testing.assert_array_equal(array, memory[key])


def test_memory_moves_between_backends() -> None:
    """A row exported under ONNX Runtime goes on under the native executor, and back."""
    native, ort = Model.load("codec-16k", "native"), Model.load("codec-16k", "ort")
    rng = np.random.default_rng(6)
    hops = (0.1 * rng.standard_normal((8, 3, 1, 320))).astype(np.float32)
    first, other = ort.open(3, "encode"), native.open(2, "encode")
    for hop in hops[:4]:
        ort.step(first, {"audio": hop})
    native.import_row(other, 1, ort.export_row(first, 2))
    for hop in hops[4:]:
        ort.step(first, {"audio": hop})
        native.step(other, {"audio": np.stack([hop[0], hop[2]])})
    got, want = native.export_row(other, 1), ort.export_row(first, 2)
    for key, array in want.items():
        np.testing.assert_allclose(got[key], array, atol=5e-5 * np.abs(array).max())


def test_a_step_is_taken_back() -> None:
    model = Model.load("codec-16k", "native")
    state = model.open(2, "encode")
    hop = (0.1 * RNG.standard_normal((2, 1, 320))).astype(np.float32)
    model.step(state, {"audio": hop})
    before = [model.export_row(state, row) for row in range(2)]
    model.step(state, {"audio": hop})
    after = model.export_row(state, 1)
    state.undo_row(0)
    for key, array in model.export_row(state, 0).items():
        np.testing.assert_array_equal(array, before[0][key])
    for key, array in model.export_row(state, 1).items():
        np.testing.assert_array_equal(array, after[key])


def test_auto_takes_what_runs_and_says_so() -> None:
    codec = Model.load("codec-16k", "auto")
    assert codec.backend.name == "native"
    words = Model.load("captioner-16k", "auto")
    assert words.backend.name == "ort"
    reasons = words.backend.reasons  # type: ignore[attr-defined]
    assert "word" in reasons


def test_auto_leaves_large_graphs_to_onnx_runtime() -> None:
    sketch = Sketch({"x": (400, 400)})
    sketch.end("out", sketch("Exp", sketch("Neg", sketch("Abs", "x"))), (400, 400))
    backend = AutoBackend()
    backend.load(sketch.bundle(), "step")
    assert backend.name == "ort"
    assert "floats" in backend.reasons["step"]


def test_without_the_compiled_part_the_word_is_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ossicle._core", None)
    monkeypatch.delattr(sys.modules["ossicle"], "_core", raising=False)
    with pytest.raises(BackendError, match=r"pure Python.*backend='ort'"):
        Model.load("codec-16k", "native")
    model = Model.load("codec-16k", "auto")
    assert model.backend.name == "ort"


def test_an_unknown_backend_names_the_known() -> None:
    with pytest.raises(BackendError, match="native"):
        make_backend("nativ")


@pytest.fixture(scope="module")
def lyra(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    from ossicle.export.importers import import_model

    return import_model("lyra", weights / "lyra_v2", tmp_path_factory.mktemp("lyra") / "lyra")


@pytest.mark.parametrize("graph", ["encoder-float", "decoder-float"])
def test_lyra_in_floats_agrees_with_onnx_runtime(lyra: Bundle, graph: str) -> None:
    side_by_side(lyra, graph, 3, steps=8, make=quiet)


def test_lyra_quantised_makes_the_codes_of_tflite(lyra: Bundle, weights: Path, data: Path) -> None:
    """The interpreter that the weights were made for is the judge, on real speech."""
    pytest.importorskip("ai_edge_litert")
    from benchmarks.importer_peers import LyraTFLite

    speech = next(iter(sorted((data / "train" / "speech_picovoice_sti").rglob("*.flac"))), None)
    if speech is None:
        pytest.skip("no speech in the folder of audio")
    audio = pytest.importorskip("soundfile").read(speech, dtype="float32")[0]
    hops = audio[: len(audio) // 320 * 320].reshape(-1, 320)[:150]
    theirs, model = LyraTFLite(weights / "lyra_v2"), Model.load(lyra, "native")
    state, same = model.open(1, "encode"), []
    for hop in hops:
        want = theirs.quantise(theirs.features(hop)).reshape(46)
        got = model.step(state, {"audio": hop[None, None]})["codes"][0, :, 0]
        same.append((got == want)[:16].mean())
    assert np.mean(same) >= 0.99
    memory = model.export_row(state, 0).items()
    kinds = {str(a.dtype) for name, a in memory if not name.startswith("held.")}
    assert kinds == {"float32", "uint8"}
