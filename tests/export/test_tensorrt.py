"""The TensorRT adapter against a module that checks calls, and the static operator tables."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ossicle.export.graph import StepWriter
from ossicle.export.importers import draft
from ossicle.export.tensorrt import build_engines, static_check
from ossicle.runtime.backend.tensorrt import TensorRtBackend, engine_key, import_tensorrt
from ossicle.runtime.bundle import Bundle, list_bundles, write_bundle
from ossicle.runtime.errors import BackendError, ExportError
from ossicle.runtime.manifest import Manifest, Op, Program, ProgramInput, ProgramOutput
from ossicle.runtime.model import Model

_SPEC = importlib.util.spec_from_file_location(
    "fake_tensorrt", Path(__file__).with_name("fake_tensorrt.py")
)
assert _SPEC is not None
assert _SPEC.loader is not None
fake = importlib.util.module_from_spec(_SPEC)
sys.modules["fake_tensorrt"] = fake
_SPEC.loader.exec_module(fake)

HOP = 4


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    g = StepWriter("adder")
    total = g.node("Add", g.input("x", (1, HOP)), g.state("sum", (1, HOP)))
    g.keep("sum", total)
    g.output("y", total, (1, HOP))
    manifest = Manifest(
        schema=1, name="adder", version="1", task="enhance", license="MIT",
        license_class="permissive", source="a test", sample_rate_hz=16000, hop=HOP, latency=HOP,
        batch=(1, 2, 4), graphs={"adder": g.entry("adder.onnx", target="trt10")},
        programs={"step": Program(
            (ProgramInput("audio", "audio", (1, HOP)),),
            (ProgramOutput("audio_out", "audio", (1, HOP)),),
            (Op("graph", ("audio",), ("audio_out",), "adder"),),
        )},
    )  # fmt: skip
    return write_bundle(tmp_path / "adder", manifest, {"adder.onnx": g.bytes()})


@pytest.fixture
def cuda() -> Iterator[Any]:
    fake.CALLS.clear()
    yield fake.Cuda()
    fake.CALLS.clear()


@pytest.mark.parametrize(("version", "flags"), [("10.3.0", 2), ("10.15.1", 2), ("11.5.0", 0)])
def test_builder_calls_in_order(bundle: Bundle, cuda: Any, version: str, flags: int) -> None:
    made = build_engines(bundle, tensorrt=fake.module(version, cuda), cuda=cuda)
    calls = list(fake.CALLS)
    assert ("network", flags) in calls
    shapes = [c[1] for c in calls if c[0] == "add_profile"]
    assert shapes == [{"x": (b, 1, HOP), "sum": (b, 1, HOP)} for b in (1, 2, 4)]
    order = [c[0] for c in calls]
    assert order.index("timing_in") < order.index("add_profile") < order.index("build")
    assert made["adder"].read_bytes() == b"engine"


def test_engines_are_built_once_per_key(bundle: Bundle, cuda: Any) -> None:
    trt = fake.module("10.3.0", cuda)
    build_engines(bundle, tensorrt=trt, cuda=cuda)
    build_engines(bundle, tensorrt=trt, cuda=cuda)
    assert fake.CALLS.count(("build",)) == 1
    build_engines(bundle, tensorrt=trt, cuda=cuda, rebuild=True)
    build_engines(bundle, tensorrt=fake.module("10.16.0", cuda), cuda=cuda)
    assert fake.CALLS.count(("build",)) == 3
    assert ("timing_in", 0) in fake.CALLS
    assert ("timing_in", 6) in fake.CALLS  # the second build starts from the first one's timings


def test_key_names_all_that_matters() -> None:
    keys = {
        engine_key(b"a", "10.3", (8, 7), (1, 2)),
        engine_key(b"b", "10.3", (8, 7), (1, 2)),
        engine_key(b"a", "10.4", (8, 7), (1, 2)),
        engine_key(b"a", "10.3", (9, 0), (1, 2)),
        engine_key(b"a", "10.3", (8, 7), (1, 4)),
    }
    assert len(keys) == 5


def ready(bundle: Bundle, cuda: Any, version: str = "10.3.0") -> Model:
    trt = fake.module(version, cuda)
    build_engines(bundle, tensorrt=trt, cuda=cuda)
    fake.CALLS.clear()
    return Model.load(bundle, TensorRtBackend(trt, cuda))


@pytest.mark.parametrize("version", ["10.3.0", "10.15.1", "11.5.0"])
def test_states_go_on_and_runs_are_captured(bundle: Bundle, cuda: Any, version: str) -> None:
    model = ready(bundle, cuda, version)
    state = model.open(3)
    assert ("profile", 2) in fake.CALLS  # three rows run in the bucket of four
    wanted = np.zeros((3, 1, HOP), np.float32)
    for hop in range(6):
        x = np.full((3, 1, HOP), hop + 1, np.float32) * np.arange(1, 4).reshape(3, 1, 1)
        wanted += x
        got = model.step(state, {"audio": x.astype(np.float32)})["audio_out"]
        np.testing.assert_array_equal(got, wanted)
    # One plain run, then each direction is captured once and only launched afterwards.
    order = [c[0] for c in fake.CALLS if c[0] in ("execute", "begin_capture", "launch")]
    assert order == [
        "execute", "begin_capture", "execute", "launch", "begin_capture", "execute", "launch",
        "launch", "launch", "launch",
    ]  # fmt: skip


def test_rows_are_exported_and_reset(bundle: Bundle, cuda: Any) -> None:
    model = ready(bundle, cuda)
    state = model.open(2)
    one = np.ones((2, 1, HOP), np.float32)
    for _ in range(3):
        model.step(state, {"audio": one})
    saved = model.export_row(state, 1)
    model.reset(state, 1)
    got = model.step(state, {"audio": one})["audio_out"]
    np.testing.assert_array_equal(got[0], np.full((1, HOP), 4))
    np.testing.assert_array_equal(got[1], np.full((1, HOP), 1))
    model.import_row(state, 1, saved)
    got = model.step(state, {"audio": one})["audio_out"]
    np.testing.assert_array_equal(got[0], np.full((1, HOP), 5))
    np.testing.assert_array_equal(got[1], np.full((1, HOP), 4))


def test_graphs_for_cpus_do_not_stop_the_others(
    weights: Path, tmp_path: Path, cuda: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ossicle.export.importers import import_model

    lyra = import_model("lyra", weights / "lyra_v2", tmp_path / "lyra")
    monkeypatch.setattr("ossicle.runtime.backend.tensorrt.TensorRtGraph", lambda *_: None)
    trt = fake.module("10.3.0", cuda)
    backend = TensorRtBackend(trt, cuda)
    backend.runtime.deserialize_cuda_engine = lambda data: SimpleNamespace(
        num_optimization_profiles=len(lyra.manifest.batch)
    )
    with pytest.raises(ExportError, match=r"does run \(encoder-float, decoder-float\)"):
        build_engines(lyra, tensorrt=trt, cuda=cuda)
    build_engines(lyra, tensorrt=trt, cuda=cuda, graphs=("encoder-float", "decoder-float"))
    model = Model.load(lyra, backend)
    with pytest.raises(BackendError, match="for CPUs"):
        model.open(1, "encode")


def test_memory_is_given_back(bundle: Bundle, cuda: Any) -> None:
    graph = TensorRtBackend(fake.module("10.3.0", cuda), cuda)
    build_engines(bundle, tensorrt=fake.module("10.3.0", cuda), cuda=cuda)
    bound = graph.load(bundle, "adder").bind(1)
    assert cuda.memory
    bound.close()
    assert not cuda.memory


def test_errors_say_what_to_do(bundle: Bundle, cuda: Any) -> None:
    with pytest.raises(BackendError, match="ossicle export tensorrt adder"):
        Model.load(bundle, TensorRtBackend(fake.module("10.3.0", cuda), cuda))
    with pytest.raises(ExportError, match="no importer for operator Fancy"):
        build_engines(bundle, tensorrt=fake.module("10.3.0", cuda, refuse="parse"), cuda=cuda)
    with pytest.raises(ExportError, match="built nothing"):
        build_engines(bundle, tensorrt=fake.module("10.3.0", cuda, refuse="build"), cuda=cuda)
    build_engines(bundle, tensorrt=fake.module("10.3.0", cuda), cuda=cuda)
    with pytest.raises(BackendError, match="delete it and build it again"):
        Model.load(bundle, TensorRtBackend(fake.module("10.3.0", cuda, refuse="engine"), cuda))
    with pytest.raises(BackendError, match="largest bucket is 4"):
        ready(bundle, cuda).open(5)


def test_missing_and_old_tensorrt_are_named(monkeypatch: pytest.MonkeyPatch, cuda: Any) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendError, match="not installed"):
        import_tensorrt()
    monkeypatch.setitem(sys.modules, "tensorrt", fake.module("8.6.1", cuda))
    with pytest.raises(BackendError, match=r"10\.x or 11\.x"):
        import_tensorrt()


def test_static_check_names_what_is_missing() -> None:
    g = StepWriter("bad")
    bits = g.node("BitwiseNot", g.input("x", (4,), "int32"))
    g.output("y", bits, (4,), "int32")
    found = static_check(g.bytes())
    assert found == {"10.3": ["BitwiseNot"], "10.15": ["BitwiseNot"]}


def test_built_in_bundles_pass_the_static_check() -> None:
    for name, place in list_bundles().items():
        bundle = Bundle.open(place)
        for graph in bundle.manifest.graphs.values():
            found = static_check(bundle.read(graph.file))
            if (graph.precision, graph.target) == ("int8", "cpu"):
                # Unsigned activations are for CPUs; TensorRT gets an artefact of its own.
                rest = [row for rows in found.values() for row in rows if "zero points" not in row]
                assert rest == [], (name, graph.file)
            else:
                assert found == {"10.3": [], "10.15": []}, (name, graph.file)


@pytest.mark.parametrize(
    ("family", "folder", "graphs"),
    [
        ("dtln", "dtln", ("magnitude", "basis")),
        ("gtcrn", "gtcrn", ("gtcrn",)),
        ("silero-vad", "silero_vad", ("vad",)),
        ("yamnet", "yamnet", ("yamnet", "yamnet-float")),
        ("lyra", "lyra_v2", ("encoder-float", "decoder-float")),
    ],
)
def test_imported_graphs_pass_the_static_check(
    family: str, folder: str, graphs: tuple[str, ...], weights: Path
) -> None:
    made = draft(family, weights / folder)
    for name in graphs:
        assert static_check(made.files[made.manifest.graphs[name].file]) == {
            "10.3": [],
            "10.15": [],
        }


def test_unsigned_activations_fail_the_static_check(weights: Path) -> None:
    found = static_check(draft("lyra", weights / "lyra_v2").files["encoder.onnx"])
    assert "zero points" in found["10.3"][0]


@pytest.mark.gpu
def test_real_tensorrt(bundle: Bundle) -> None:
    pytest.importorskip("tensorrt")
    build_engines(bundle)
    model = Model.load(bundle, "tensorrt")
    state = model.open(2)
    one = np.ones((2, 1, HOP), np.float32)
    for hop in range(5):
        got = model.step(state, {"audio": one})["audio_out"]
        np.testing.assert_array_equal(got, np.full((2, 1, HOP), hop + 1))
