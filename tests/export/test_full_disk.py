"""A disk that fills up while something is written: a typed error, and nothing half-written."""

from __future__ import annotations

import errno
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ossicle.export.finish import finish
from ossicle.export.graph import StepWriter
from ossicle.export.importers import import_model
from ossicle.export.tensorrt import build_engines
from ossicle.export.triton_repo import write_repository
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import BundleError, ExportError, OssicleError
from ossicle.runtime.manifest import Manifest, Op, Program, ProgramInput, ProgramOutput

_SPEC = importlib.util.spec_from_file_location(
    "fake_tensorrt", Path(__file__).with_name("fake_tensorrt.py")
)
assert _SPEC is not None
assert _SPEC.loader is not None
fake = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(fake)


def adder() -> tuple[Manifest, dict[str, bytes]]:
    g = StepWriter("adder")
    total = g.node("Add", g.input("x", (1, 4)), g.state("sum", (1, 4)))
    g.keep("sum", total)
    g.output("y", total, (1, 4))
    manifest = Manifest(
        schema=1, name="adder", version="1", task="enhance", license="MIT",
        license_class="permissive", source="a test", sample_rate_hz=16000, hop=4, latency=4,
        batch=(1, 2, 4), graphs={"adder": g.entry("adder.onnx")},
        programs={"step": Program(
            (ProgramInput("audio", "audio", (1, 4)),), (ProgramOutput("out", "audio", (1, 4)),),
            (Op("graph", ("audio",), ("out",), "adder"),),
        )},
    )  # fmt: skip
    return manifest, {"adder.onnx": g.bytes()}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return finish(tmp_path / "adder", *adder())


@pytest.fixture
def filling(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Get a function after which so many files fit, and half of the next."""
    written = Path.write_bytes

    def fill(room: int) -> None:
        left = iter(range(room))

        def write(path: Path, data: Any) -> int:
            if next(left, None) is None:
                written(path, bytes(data)[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
            return written(path, data)

        monkeypatch.setattr(Path, "write_bytes", write)

    return fill


def test_bundle_is_whole_or_absent_wherever_the_disk_fills(
    filling: Callable[[int], None], tmp_path: Path
) -> None:
    manifest, files = adder()
    for room in range(6):  # two files of the draft, four of the bundle
        filling(room)
        out = tmp_path / str(room) / "bundle"
        with pytest.raises(OssicleError, match="No space left"):
            finish(out, manifest, files)
        assert not out.parent.exists() or not list(out.parent.iterdir())
    filling(50)
    assert finish(tmp_path / "bundle", manifest, files).manifest.golden


def test_import_leaves_nothing(
    weights: Path, filling: Callable[[int], None], tmp_path: Path
) -> None:
    filling(6)
    with pytest.raises(OssicleError, match="No space left"):
        import_model("dtln", weights / "dtln", tmp_path / "out" / "dtln")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_model_repository_leaves_nothing(
    bundle: Bundle, filling: Callable[[int], None], tmp_path: Path
) -> None:
    filling(0)
    with pytest.raises(ExportError, match="No space left"):
        write_repository(bundle, tmp_path / "served" / "repo")
    assert not list((tmp_path / "served").iterdir())


def test_engine_leaves_nothing(
    bundle: Bundle, filling: Callable[[int], None], private_cache: Path
) -> None:
    cuda = fake.Cuda()
    filling(0)
    with pytest.raises(ExportError, match="No space left"):
        build_engines(bundle, tensorrt=fake.module("10.3.0", cuda), cuda=cuda)
    assert not list((private_cache / "engines").iterdir())


def test_no_room_for_even_a_folder(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(ExportError, match="No space left"):
        write_repository(bundle, tmp_path / "repo")
    with pytest.raises(ExportError, match="No space left"):
        finish(tmp_path / "again", *adder())
    with pytest.raises(BundleError, match="No space left"):
        finish(tmp_path / "again", *adder(), golden_hops=0)
    assert np.all([not (tmp_path / name).exists() for name in ("repo", "again")])
