from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ossicle.export.commands import export_triton_repo_command
from ossicle.export.graph import StepWriter
from ossicle.export.importers.source import npy
from ossicle.export.triton_repo import write_repository
from ossicle.runtime.bundle import Bundle, write_bundle
from ossicle.runtime.errors import ExportError
from ossicle.runtime.manifest import Manifest, Op, Program, ProgramInput, ProgramOutput


@pytest.fixture(scope="session")
def official() -> Any:
    """The server's own protobuf of ``config.pbtxt``, without the gRPC stubs beside it."""
    try:
        files = importlib.metadata.files("tritonclient") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("tritonclient is not installed")
    file = next(f for f in files if f.name == "model_config_pb2.py")
    spec = importlib.util.spec_from_file_location("model_config_pb2", file.locate())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    g = StepWriter("adder")
    total = g.node("Add", g.input("x", (1, 4)), g.state("sum", (1, 4), init="start.npy"))
    g.keep("sum", total)
    g.keep(g.state("idle", (2, 3)), g.node("Neg", "idle"))
    g.output("y", total, (1, 4))
    manifest = Manifest(
        schema=1, name="the-adder", version="1", task="enhance", license="MIT",
        license_class="permissive", source="a test", sample_rate_hz=16000, hop=4, latency=4,
        batch=(1, 8), graphs={"net": g.entry("net.onnx")},
        programs={"step": Program(
            (ProgramInput("audio", "audio", (1, 4)),), (ProgramOutput("out", "audio", (1, 4)),),
            (Op("graph", ("audio",), ("out",), "net"),),
        )},
    )  # fmt: skip
    files = {"net.onnx": g.bytes(), "start.npy": npy(np.full((1, 4), 2, np.float32))}
    return write_bundle(tmp_path / "bundle", manifest, files)


def test_config_is_what_the_server_reads(official: Any, bundle: Bundle, tmp_path: Path) -> None:
    from google.protobuf import text_format

    root = export_triton_repo_command(bundle.root, tmp_path / "repo")
    folder = root / "the_adder_net"
    text = (folder / "config.pbtxt").read_text()
    config = text_format.Parse(text, official.ModelConfig())
    assert config.name == folder.name
    assert config.backend == "onnxruntime"
    assert config.max_batch_size == 8
    assert [(p.name, list(p.dims)) for p in config.input] == [("x", [1, 4])]
    assert [(p.name, list(p.dims)) for p in config.output] == [("y", [1, 4])]
    batching = config.sequence_batching
    assert batching.oldest.max_candidate_sequences == 8
    states = {s.input_name: s for s in batching.state}
    assert {n: s.output_name for n, s in states.items()} == {"sum": "sum_next", "idle": "idle_next"}
    assert all(s.data_type == official.TYPE_FP32 for s in batching.state)
    assert states["idle"].initial_state[0].zero_data
    assert states["sum"].initial_state[0].data_file == "sum.bin"
    start = np.fromfile(folder / "initial_state" / "sum.bin", np.float32)
    np.testing.assert_array_equal(start, np.full(4, 2))
    assert (folder / "1" / "model.onnx").read_bytes() == bundle.read("net.onnx")
    assert (root / "ossicle.json").is_file()


def test_existing_folder_is_left_alone(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    with pytest.raises(ExportError, match="exists"):
        write_repository(bundle, tmp_path / "repo")
    assert list((tmp_path / "repo").iterdir()) == []
