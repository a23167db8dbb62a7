"""Host transforms against references that do not stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import fir_manifest, write_fir

from ossicle.kernels import paths
from ossicle.runtime.bundle import write_bundle
from ossicle.runtime.errors import AudioError, ManifestError
from ossicle.runtime.host.features import mel_filters
from ossicle.runtime.host.level import Level, Unlevel
from ossicle.runtime.manifest import Op, Program, ProgramInput, ProgramOutput
from ossicle.runtime.model import Model

HOP = 160


def host_model(place: Path, op: Op, **changes: Any) -> Model:
    program = Program(
        (ProgramInput("audio", "audio", (1, HOP)),), (ProgramOutput("out", "frame", (-1,)),), (op,)
    )
    manifest = fir_manifest("host", HOP, 1, graphs={}, programs={"step": program})
    return Model.load(write_bundle(place, manifest, changes.get("files", {})))


def stream(model: Model, signal: np.ndarray) -> np.ndarray:
    state = model.open()
    hops = signal.reshape(-1, 1, 1, HOP)
    return np.stack([model.step(state, {"audio": hop})["out"][0] for hop in hops])


@given(seed=st.integers(0, 99), n_fft=st.sampled_from([160, 256, 320, 512]))
@settings(max_examples=10)
def test_stft_frames_end_where_their_hop_ends(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n_fft: int
) -> None:
    op = Op("stft", ("audio",), ("out",), params={"n_fft": n_fft, "hop": HOP, "window": "hann"})
    model = host_model(tmp_path_factory.mktemp("b") / "m", op)
    signal = np.random.default_rng(seed).standard_normal(10 * HOP).astype(np.float32)
    made = stream(model, signal)[:, :, 0]
    padded = np.concatenate([np.zeros(n_fft - HOP), signal]).astype(np.float32)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    for t in range(10):
        expected = np.fft.rfft(padded[t * HOP : t * HOP + n_fft] * window)
        np.testing.assert_allclose(made[t, :, 0] + 1j * made[t, :, 1], expected, atol=2e-4)


@pytest.mark.parametrize("support", [320, 640])
def test_analysis_and_synthesis_give_the_signal_back(tmp_path: Path, support: int) -> None:
    params = {"n_fft": 640, "hop": HOP, "window": "sqrt_hann" if support == 640 else "rect"}
    back = {**params, "support": support}
    if support != 640:
        back["synthesis"] = "hann"
    program = Program(
        (ProgramInput("audio", "audio", (1, HOP)),),
        (ProgramOutput("out", "audio", (1, HOP)),),
        (Op("stft", ("audio",), ("s",), params=params), Op("istft", ("s",), ("out",), params=back)),
    )
    manifest = fir_manifest(
        "pr", HOP, 1, graphs={}, programs={"step": program}, latency=support, lookahead=0
    )
    model = Model.load(write_bundle(tmp_path / "pr", manifest, {}))
    signal = np.random.default_rng(1).standard_normal(40 * HOP).astype(np.float32)
    made = stream(model, signal).reshape(-1)
    delay = support - HOP
    np.testing.assert_allclose(made[delay:], signal[: len(signal) - delay], atol=1e-5)


def test_windows_that_leave_samples_unheard_are_refused(tmp_path: Path) -> None:
    op = Op("istft", ("audio",), ("out",), params={"n_fft": HOP, "hop": HOP, "window": "hann"})
    with pytest.raises(ManifestError, match="unheard"):
        host_model(tmp_path / "m", op)


@pytest.mark.parametrize(("formula", "htk", "norm"), [("htk", True, None),
                                                      ("slaney", False, "slaney")])  # fmt: skip
def test_mel_filters_are_those_of_the_field(formula: str, htk: bool, norm: str | None) -> None:
    ours = mel_filters(16_000, 512, 40, 60.0, 7600.0, formula)
    theirs = librosa.filters.mel(
        sr=16_000, n_fft=512, n_mels=40, fmin=60.0, fmax=7600.0, htk=htk, norm=norm
    ).T
    if formula == "slaney":
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    else:  # librosa draws HTK's triangles straight in Hz; HTK itself in mel
        assert float(np.abs(ours - theirs).max()) < 0.06


def test_log_mel_is_finite_on_silence_and_needs_a_floor(tmp_path: Path) -> None:
    params = {"n_fft": 400, "hop": HOP, "n_mels": 32, "floor": 1e-8}
    model = host_model(tmp_path / "m", Op("log_mel", ("audio",), ("out",), params=params))
    made = stream(model, np.zeros(4 * HOP, np.float32))
    np.testing.assert_allclose(made, np.log(1e-8), rtol=1e-5)
    del params["floor"]
    with pytest.raises(ManifestError, match="silence has no logarithm"):
        host_model(tmp_path / "n", Op("log_mel", ("audio",), ("out",), params=params))


@pytest.mark.parametrize("gain_db", [-40, -10, 0, 10])
def test_level_brings_every_input_to_one_loudness_and_back(tmp_path: Path, gain_db: int) -> None:
    params = {"target_dbfs": -26.0}
    program = Program(
        (ProgramInput("audio", "audio", (1, HOP)),),
        (ProgramOutput("loud", "audio", (1, HOP)), ProgramOutput("out", "audio", (1, HOP))),
        (Op("level", ("audio",), ("loud", "gain"), params=params),
         Op("unlevel", ("loud", "gain"), ("out",))),
    )  # fmt: skip
    manifest = fir_manifest("level", HOP, 1, graphs={}, programs={"step": program})
    model = Model.load(write_bundle(tmp_path / "level", manifest, {}))
    signal = np.random.default_rng(2).standard_normal((60, 1, 1, HOP)).astype(np.float32)
    signal *= np.float32(10 ** ((gain_db - 26) / 20))
    state = model.open()
    made = [model.step(state, {"audio": hop}) for hop in signal]
    rms = np.sqrt(np.mean(np.stack([m["loud"] for m in made[20:]]) ** 2))
    assert abs(20 * np.log10(rms) + 26) < 1.5
    np.testing.assert_allclose(np.stack([m["out"] for m in made]), signal, rtol=1e-5, atol=1e-9)


@pytest.mark.skipif(paths.core() is None, reason="no compiled part")
@pytest.mark.parametrize("delay", [0, 5, HOP, 3 * HOP])
def test_level_and_unlevel_compiled_equal_plain(
    delay: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(delay)
    shared = Level(-26.0, 4.0, 100.0, 40.0), Unlevel(delay)
    states = [[op.open(3) for op in shared] for _ in range(2)]
    for hop in range(40):
        x = (0.1 * rng.standard_normal((3, 1, HOP))).astype(np.float32)
        x *= np.float32(10.0) ** rng.uniform(-6, 1, (3, 1, 1)).astype(np.float32)
        x[rng.random(3) < (0.9 if hop < 4 else 0.2)] = 0.0
        made = []
        for core, (one, two) in zip((paths.core(), None), states, strict=True):
            monkeypatch.setattr(paths, "core", lambda core=core: core)
            loud, gain = shared[0].run(one, [x])
            made.append((loud, gain, shared[1].run(two, [loud, gain])[0]))
        for got, want in zip(*made, strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-12)
    for mine, theirs in zip(*states, strict=True):
        for name, array in mine.items():
            np.testing.assert_allclose(array, theirs[name], rtol=2e-5, atol=1e-20)


def test_level_of_one_stream_does_not_depend_on_others() -> None:
    rng = np.random.default_rng(1)
    level = Level(-26.0, 4.0, 100.0, 40.0)
    many, alone = level.open(5), level.open(1)
    for _ in range(9):
        x = rng.standard_normal((5, 1, HOP)).astype(np.float32)
        got, want = level.run(many, [x]), level.run(alone, [np.ascontiguousarray(x[3:4])])
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a[3:4], b)


def test_unlevel_waits_for_samples_that_are_late() -> None:
    unlevel = Unlevel(96)
    state = unlevel.open(1)
    gain = np.linspace(1, 3, 4 * HOP, dtype=np.float32)[None]
    late = np.pad(gain, ((0, 0), (96, 0)), mode="edge")[:, : 4 * HOP]
    made = [
        unlevel.run(state, [late[:, None, i : i + HOP], gain[:, i : i + HOP]])[0]
        for i in range(0, 4 * HOP, HOP)
    ]
    np.testing.assert_array_equal(np.concatenate(made, axis=-1), np.ones((1, 1, 4 * HOP)))


def test_codes_out_of_range_are_named(tmp_path: Path) -> None:
    import io

    held = io.BytesIO()
    np.save(held, np.random.default_rng(0).standard_normal((2, 8, 4)).astype(np.float32))
    program = Program(
        (ProgramInput("codes", "frame", (2, 1), "int32"),),
        (ProgramOutput("x", "frame", (1, 4)),),
        (Op("rvq_decode", ("codes",), ("x",), params={"books": "b.npy"}),),
    )
    manifest = fir_manifest("d", HOP, 1, graphs={}, programs={"step": program})
    model = Model.load(write_bundle(tmp_path / "d", manifest, {"b.npy": held.getvalue()}))
    state = model.open()
    absent = model.step(state, {"codes": np.full((1, 2, 1), -1, np.int32)})
    np.testing.assert_array_equal(absent["x"], np.zeros((1, 1, 4), np.float32))
    with pytest.raises(ManifestError, match="codes from 8 to 8; -1 to 7"):
        model.step(state, {"codes": np.full((1, 2, 1), 8, np.int32)})


def test_inputs_are_checked_by_name_shape_and_dtype(tmp_path: Path) -> None:
    model = Model.load(write_fir(tmp_path / "fir"))
    state = model.open(2)
    good = np.zeros((2, 1, 64), np.float32)
    for inputs, words in (
        ({}, "'audio' is missing"),
        ({"audio": good[:1]}, r"\(2, 1, 64\) expected"),
        ({"audio": good.astype(np.float64)}, "float64"),
        ({"audio": good, "tempo": good}, r"no input \['tempo'\]"),
    ):
        with pytest.raises(AudioError, match=words):
            model.step(state, inputs)
