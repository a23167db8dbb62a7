"""A bundle is read only when it is what it says; bad ones are refused in words one can act on."""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import fir_manifest, fir_onnx, write_fir

from ossicle.runtime.bundle import (
    BUILT_IN,
    Bundle,
    find_bundle,
    list_bundles,
    write_bundle,
)
from ossicle.runtime.errors import BackendError, BundleError, ManifestError, OssicleError
from ossicle.runtime.manifest import Op, Program, ProgramInput, ProgramOutput, parse_manifest
from ossicle.runtime.model import Model

TAPS = np.array([0.5, 0.25], np.float32)


def edit(bundle: Bundle, change: Callable[[dict[str, Any]], None]) -> Path:
    place = bundle.root / "manifest.json"
    held = json.loads(place.read_text())
    change(held)
    place.write_text(json.dumps(held))
    return bundle.root


def set_at(*path_and_value: Any) -> Callable[[dict[str, Any]], None]:
    *path, key, value = path_and_value

    def change(held: dict[str, Any]) -> None:
        for step in path:
            held = held[step]
        held[key] = value

    return change


def test_folder_and_zip_hold_the_same(tmp_path: Path) -> None:
    folder, packed = write_fir(tmp_path / "a"), write_fir(tmp_path / "a.ossicle")
    assert folder.manifest == packed.manifest
    assert folder.read("main.onnx") == packed.read("main.onnx")
    with zipfile.ZipFile(packed.root) as archive:
        assert {i.compress_type for i in archive.infolist()} == {zipfile.ZIP_STORED}


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = write_fir(tmp_path / "one" / "a.ossicle"), write_fir(tmp_path / "two" / "a.ossicle")
    assert one.root.read_bytes() == two.root.read_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_at("colour", "red"), "colour"),
        (set_at("schema", 99), "schema 99; this release reads 1"),
        (set_at("task", "juggle"), "task is 'juggle'; one of caption"),
        (set_at("sample_rate_hz", 5), "sample_rate_hz is 5; 8000 to 192000"),
        (set_at("hop", 0), "hop is 0"),
        (set_at("hop", 1 << 40), "hop is"),
        (set_at("latency", 3), "latency is 3; 64 to"),
        (set_at("lookahead", 9), "lookahead is 9; 0 to 0"),
        (set_at("batch", [4, 2]), "not ascending"),
        (set_at("batch", []), "batch buckets"),
        (set_at("programs", {}), "no programs"),
        (set_at("graphs", "main", "states", 0, "shape", [1, 0]), "cannot be"),
        (set_at("graphs", "main", "states", 0, "shape", [1 << 40]), "at most"),
        (set_at("graphs", "main", "states", 0, "dtype", "object"), "dtype is 'object'"),
        (set_at("graphs", "main", "states", 0, "output", "out"), "stands twice"),
        (set_at("graphs", "main", "file", "../main.onnx"), "not listed"),
        (set_at("graphs", "main", "file", "other.onnx"), "not listed"),
        (set_at("programs", "step", "ops", 0, "inputs", ["sound"]), "nothing has made"),
        (set_at("programs", "step", "ops", 0, "graph", "side"), "not listed"),
        (set_at("programs", "step", "outputs", 0, "name", "echo"), "no operator makes"),
        (set_at("files", "main.onnx", "size", 3), "larger than the 3 bytes"),
        (set_at("files", "main.onnx", "sha256", "0" * 64), "SHA-256 differs"),
        (set_at("files", "../etc", {"sha256": "0", "size": 1}), "leaves the bundle"),
        (set_at("files", "/etc/passwd", {"sha256": "0", "size": 1}), "leaves the bundle"),
        (set_at("files", "gone.npy", {"sha256": "0", "size": 1}), "cannot be read"),
    ],
)
def test_a_manifest_that_cannot_be_right_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    place = edit(write_fir(tmp_path / "a"), change)
    with pytest.raises(BundleError, match=words):
        Bundle.open(place)


def test_a_program_that_reads_its_own_later_result_is_refused(tmp_path: Path) -> None:
    program = Program(
        (ProgramInput("audio", "audio", (1, 64)),),
        (ProgramOutput("out", "audio", (1, 64)),),
        (Op("reshape", ("b",), ("a",), params={"shape": [1, 64]}),
         Op("reshape", ("a",), ("b",), params={"shape": [1, 64]})),
    )  # fmt: skip
    manifest = fir_manifest("loop", 64, 1, graphs={}, programs={"step": program})
    with pytest.raises(ManifestError, match="nothing has made yet"):
        write_bundle(tmp_path / "loop", manifest, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("op", "words"),
    [
        (Op("stft", ("audio",), ("out",), params={"n_fft": 128, "hop": 64, "colour": 1}), "colour"),
        (Op("stft", ("audio",), ("out",), params={"n_fft": "big", "hop": 64}), "n_fft is 'big'"),
        (Op("stft", ("audio",), ("out",), params={"n_fft": 64, "hop": 65}), "hop is 65"),
        (Op("sing", ("audio",), ("out",)), "'sing' is unknown"),
    ],
)
def test_operators_refuse_what_they_do_not_know(tmp_path: Path, op: Op, words: str) -> None:
    program = Program(
        (ProgramInput("audio", "audio", (1, 64)),), (ProgramOutput("out", "frame", (1,)),), (op,)
    )
    manifest = fir_manifest("op", 64, 1, graphs={}, programs={"step": program})
    bundle = write_bundle(tmp_path / "op", manifest, {})
    with pytest.raises(ManifestError, match=words):
        Model.load(bundle)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    bundle = write_fir(tmp_path / "a")
    secret = tmp_path / "secret"
    secret.write_bytes((bundle.root / "main.onnx").read_bytes())
    (bundle.root / "main.onnx").unlink()
    (bundle.root / "main.onnx").symlink_to(secret)
    with pytest.raises(BundleError, match="points outside"):
        Bundle.open(bundle.root)


def zipped(place: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(place, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return place


def test_hostile_zips_are_refused(tmp_path: Path) -> None:
    source = write_fir(tmp_path / "a")
    text = (source.root / "manifest.json").read_bytes()
    good = {"manifest.json": text, "main.onnx": source.read("main.onnx")}
    for name in ("../up", "/abs", "a\\b"):
        with pytest.raises(BundleError, match="leaves the bundle"):
            Bundle.open(zipped(tmp_path / "x.ossicle", {**good, name: b""}))
    bomb = {**good, "manifest.json": b" " * (3 << 20) + text}
    with pytest.raises(BundleError, match="decompression bomb"):
        Bundle.open(zipped(tmp_path / "bomb.ossicle", bomb, zipfile.ZIP_DEFLATED))
    (tmp_path / "torn.ossicle").write_bytes((tmp_path / "bomb.ossicle").read_bytes()[:99])
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.open(tmp_path / "torn.ossicle")


def test_a_truncated_graph_is_refused(tmp_path: Path) -> None:
    data = fir_onnx(64, TAPS)
    manifest = fir_manifest("torn", 64, 1)
    bundle = write_bundle(tmp_path / "torn", manifest, {"main.onnx": data[: len(data) // 2]})
    with pytest.raises(BackendError, match=r"refuses main\.onnx"):
        Model.load(bundle)


def test_external_data_outside_the_bundle_is_refused(tmp_path: Path) -> None:
    import onnx

    model = onnx.load_from_string(fir_onnx(64, TAPS))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../../etc/passwd"
    bundle = write_bundle(
        tmp_path / "ext", fir_manifest("ext", 64, 1), {"main.onnx": model.SerializeToString()}
    )
    with pytest.raises(BackendError, match=r"refuses main\.onnx"):
        Model.load(bundle)


def test_states_that_the_graph_does_not_have_are_named(tmp_path: Path) -> None:
    bundle = write_bundle(
        tmp_path / "a", fir_manifest("a", 64, 1), {"main.onnx": fir_onnx(64, TAPS)}
    )
    edit(bundle, set_at("graphs", "main", "states", 0, "input", "past"))
    with pytest.raises(BackendError, match=r"\['audio', 'history'\]; the manifest says"):
        Model.load(bundle.root)


def test_nothing_is_left_of_a_bundle_that_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BundleError, match="No space left"):
        write_fir(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(BundleError, match="installed bundles"):
        find_bundle("nonsense")


def test_the_cache_folder_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSSICLE_CACHE", os.fspath(tmp_path))
    write_fir(tmp_path / "mine")
    assert "mine" in list_bundles()
    assert Bundle.open("mine").manifest.name == "mine"


@given(data=st.binary(max_size=300))
def test_any_bytes_for_a_manifest_give_a_typed_error(data: bytes) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(data)


@given(seed=st.integers(0, 2**32), cut=st.integers(0, 4000))
def test_damaged_zips_give_a_typed_error_or_the_same_bundle(
    tmp_path_factory: pytest.TempPathFactory, seed: int, cut: int
) -> None:
    home = tmp_path_factory.mktemp("zip")
    data = bytearray(write_fir(home / "a.ossicle").root.read_bytes())
    rng = np.random.default_rng(seed)
    for at in rng.integers(0, len(data), 3):
        data[at] ^= int(rng.integers(1, 256))
    place = home / "b.ossicle"
    place.write_bytes(bytes(data[: len(data) - cut]))
    with contextlib.suppress(OssicleError):  # anything else fails the test
        Model.load(place)


def test_arrays_are_never_unpickled(tmp_path: Path) -> None:
    held = io.BytesIO()
    np.save(held, np.array([{"a": 1}], object), allow_pickle=True)
    files = {"main.onnx": fir_onnx(64, TAPS), "evil.npy": held.getvalue()}
    bundle = write_bundle(tmp_path / "a", fir_manifest("a", 64, 1), files)
    with pytest.raises(BundleError, match=r"evil.npy is not a readable"):
        bundle.array("evil.npy")


def test_built_in_bundles_are_small_documented_and_free() -> None:
    total = 0
    for name, place in list_bundles().items():
        if place.parent != BUILT_IN:
            continue
        total += sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        manifest = Bundle.open(place).manifest
        assert manifest.name == name
        assert manifest.license_class == "permissive"
        assert len((place / "README.md").read_text()) > 500, f"{name} has no model card"
    assert 0 < total <= 24_000_000
