"""The kit passes what is right, and each law is seen to fail on something broken on purpose."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from toys import fir_manifest, fir_onnx, write_fir, write_stft

from ossicle.runtime.audio import Chunk
from ossicle.runtime.bundle import Bundle, list_bundles, write_bundle
from ossicle.runtime.conformance import LAWS, Subject, open_subject, verify
from ossicle.runtime.errors import BundleError
from ossicle.runtime.manifest import Golden
from ossicle.runtime.model import Model


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="module")
def fir(home: Path) -> Bundle:
    return write_fir(home / "fir")


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("kind", ["fir", "stft"])
def test_a_right_bundle_keeps_every_law(home: Path, kind: str, law: str) -> None:
    place = home / kind
    if not place.exists():
        (write_fir if kind == "fir" else write_stft)(place)
    row = LAWS[law](open_subject(place))
    assert row.ok is not False, row


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", sorted(list_bundles()))
def test_each_built_in_bundle_keeps_every_law(name: str, law: str) -> None:
    row = LAWS[law](open_subject(name))
    assert row.ok is not False, row


class Broken:
    """A model that is right but for one method."""

    def __init__(self, model: Model, **methods: Callable[..., Any]) -> None:
        self._model, self._methods = model, methods

    def __getattr__(self, name: str) -> Any:
        if name in self._methods:
            return lambda *given: self._methods[name](self._model, *given)
        return getattr(self._model, name)


def broken(bundle: Bundle, **methods: Callable[..., Any]) -> Subject:
    return Subject(Broken(Model.load(bundle), **methods))  # type: ignore[arg-type]


def mixing(model: Model, state: Any, inputs: Any) -> Any:
    made = model.step(state, inputs)
    return {k: v + 0.01 * v.sum(axis=0, keepdims=True) - 0.01 * v for k, v in made.items()}


def biased(model: Model, state: Any, inputs: Any) -> Any:
    return {k: v + np.float32(0.1) for k, v in model.step(state, inputs).items()}


def doubled(model: Model, state: Any, inputs: Any) -> Any:
    return {k: v.astype(np.float64) for k, v in model.step(state, inputs).items()}


def exploding(model: Model, state: Any, inputs: Any) -> Any:
    made = model.step(state, inputs)
    loud = np.abs(inputs["audio"]).max() > 0.3
    return {k: np.full_like(v, np.inf) for k, v in made.items()} if loud else made


def remembering() -> Callable[..., Any]:
    """A model that keeps memory in itself: streams mix, and nothing can be continued."""
    steps = [0]

    def step(model: Model, state: Any, inputs: Any) -> Any:
        steps[0] += 1
        return {
            k: v * np.float32(1 + 0.01 * steps[0]) for k, v in model.step(state, inputs).items()
        }

    return step


BROKEN_MODELS = {
    "shapes": {"step": doubled},
    "slot_isolation": {"step": mixing},
    "reset": {"reset": lambda model, state, row: None},
    "continuation": {"step": remembering()},
    "level_sweep": {"step": exploding},
    "silence": {"step": biased},
}


@pytest.mark.parametrize("law", BROKEN_MODELS)
def test_the_law_goes_red_for_a_broken_model(fir: Bundle, law: str) -> None:
    assert LAWS[law](broken(fir, **BROKEN_MODELS[law])).ok is False


class Careless:
    """A stage that is right but for how it treats a chunk on its way in."""

    def __init__(self, stage: Any, spoil: Callable[[Chunk], Chunk]) -> None:
        self._stage, self._spoil = stage, spoil

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)

    def step(self, state: Any, chunk: Chunk) -> list[Chunk]:
        return list(self._stage.step(state, self._spoil(chunk)))


def windowed(chunk: Chunk) -> Chunk:
    return msgspec.structs.replace(
        chunk, samples=chunk.samples * np.float32(min(1, chunk.length / 999))
    )


def wrapping(chunk: Chunk) -> Chunk:
    return msgspec.structs.replace(chunk, start=chunk.start & 0x7FFFFFFF)


def loud_for_bad(chunk: Chunk) -> Chunk:
    return msgspec.structs.replace(
        chunk, samples=np.nan_to_num(chunk.samples, nan=0.5, posinf=1, neginf=-1)
    )


@pytest.mark.parametrize(
    ("law", "spoil"),
    [("chunk_invariance", windowed), ("far_counters", wrapping), ("bad_samples", loud_for_bad)],
)
def test_the_law_goes_red_for_a_broken_stage(
    fir: Bundle, law: str, spoil: Callable[[Chunk], Chunk]
) -> None:
    subject = Subject(Model.load(fir))
    subject.stage = Careless(subject.stage, spoil)  # type: ignore[assignment]
    assert LAWS[law](subject).ok is False


class Peeking(Subject):
    """Hands out what a model that looks one hop ahead would."""

    def through(self, signal: Any) -> Any:
        return np.roll(super().through(signal), -self.manifest.hop - 10, axis=1)


def test_looking_ahead_is_seen(fir: Bundle) -> None:
    row = LAWS["causality"](Peeking(Model.load(fir)))
    assert row.ok is False
    assert "looks 10 samples" in row.measured or "looks 7" in row.measured


def test_a_wrong_latency_is_seen(home: Path) -> None:
    taps = np.zeros(9, np.float32)
    taps[8] = 1.0  # a pure delay of 8 samples that the manifest does not declare
    row = LAWS["latency"](open_subject(write_fir(home / "late", taps=taps)))
    assert row.ok is False
    assert "delay 8" in row.measured
    honest = fir_manifest("honest", 64, 8, latency=72)
    bundle = write_bundle(home / "honest", honest, {"main.onnx": fir_onnx(64, taps)})
    assert LAWS["latency"](Subject(Model.load(bundle))).ok is True


def test_golden_vectors_are_compared(home: Path, fir: Bundle) -> None:
    subject = Subject(Model.load(fir))
    hops = subject.examples("step", 5)
    given = np.stack([hop["audio"] for hop in hops])
    made = subject.run("step", hops)["out"]
    for name, expected, ok in (("gold", made, True), ("lead", made * 1.01, False)):
        files = {"main.onnx": fir.read("main.onnx")}
        for file, arrays in (("in.npz", {"audio": given}), ("out.npz", {"out": expected})):
            np.savez(home / file, **arrays)
            files[f"golden/{file}"] = (home / file).read_bytes()
        golden = (Golden("step", "golden/in.npz", "golden/out.npz", 1e-5),)
        manifest = msgspec.structs.replace(fir.manifest, golden=golden, name=name)
        bundle = write_bundle(home / name, manifest, files)
        assert LAWS["golden"](Subject(Model.load(bundle))).ok is ok


def test_an_onnx_file_with_a_manifest_by_hand(home: Path) -> None:
    place = home / "loose.onnx"
    place.write_bytes(fir_onnx(64, np.ones(5, np.float32)))
    text = fir_manifest("loose", 64, 4).to_json()
    told = msgspec.json.decode(text)
    told["files"] = {told["graphs"]["main"]["file"]: {"sha256": "0" * 64, "size": 5}}
    (home / "loose.manifest.json").write_bytes(msgspec.json.encode(told))
    with pytest.raises(BundleError, match="SHA-256 differs"):  # what is said of the file is held to
        verify(place, laws=["shapes"])
    (home / "loose.manifest.json").write_bytes(text)
    assert verify(place, laws=["shapes", "reset"]).ok
    (home / "loose.manifest.json").unlink()
    model = onnx.load(place)
    entry = model.metadata_props.add()
    entry.key, entry.value = "ossicle.manifest", text.decode()
    place.write_bytes(model.SerializeToString())
    report = verify(place, laws=["shapes", "reset"])
    assert report.ok
    assert report.name == "loose"


def test_the_command_prints_json_and_names_the_first_broken_law(home: Path) -> None:
    taps = np.zeros(9, np.float32)
    taps[8] = 1.0
    place = write_fir(home / "crooked", taps=taps).root
    command = [sys.executable, "-m", "ossicle.streaming.cli", "verify", str(place), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert [row["law"] for row in report["rows"] if row["ok"] is False] == ["declared latency"]
    assert "declared latency" in done.stderr
