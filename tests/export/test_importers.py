"""Models that nobody here trained, against the libraries that usually run them."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from ossicle.export.importers import FAMILIES, draft, import_model
from ossicle.runtime.audio import Chunk
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.conformance import verify
from ossicle.runtime.errors import ExportError
from ossicle.runtime.host import make_host_op
from ossicle.runtime.model import Model
from ossicle.runtime.modelstage import ModelStage

FOLDERS = {
    "dtln": "dtln",
    "gtcrn": "gtcrn",
    "lyra": "lyra_v2",
    "silero-vad": "silero_vad",
    "yamnet": "yamnet",
}


@pytest.fixture(scope="session")
def bundles(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    root = tmp_path_factory.mktemp("bundles")
    return {f: import_model(f, weights / place, root / f) for f, place in FOLDERS.items()}


@pytest.fixture(scope="session")
def noisy(weights: Path) -> np.ndarray:
    soundfile = pytest.importorskip("soundfile")
    return np.asarray(soundfile.read(weights / "gtcrn" / "mix.wav", dtype="float32")[0])


def run(model: Model, audio: np.ndarray, program: str = "step", name: str = "audio") -> dict:
    hop = model.manifest.hop
    state = model.open(1, program)
    rows = [
        model.step(state, {name: audio[None, None, i : i + hop]})
        for i in range(0, len(audio) - hop + 1, hop)
    ]
    return {key: np.stack([row[key][0] for row in rows]) for key in rows[0]}


def si_sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    scaled = reference * (estimate @ reference) / (reference @ reference)
    rest = estimate - scaled
    return float(10 * np.log10((scaled @ scaled) / (rest @ rest)))


@pytest.mark.parametrize("family", ["dtln", "gtcrn", "silero-vad", "lyra"])
def test_every_law_holds(family: str, bundles: dict[str, Bundle]) -> None:
    found = verify(bundles[family])
    assert found.ok, [row for row in found.rows if row.ok is False]


@pytest.mark.slow
def test_every_law_holds_for_yamnet(bundles: dict[str, Bundle]) -> None:
    found = verify(bundles["yamnet"])
    assert found.ok, [row for row in found.rows if row.ok is False]


@pytest.mark.parametrize("family", FOLDERS)
def test_same_files_give_the_same_bundle(
    family: str, weights: Path, bundles: dict[str, Bundle]
) -> None:
    made = draft(family, weights / FOLDERS[family])
    for graph in made.manifest.graphs.values():
        again = draft(family, weights / FOLDERS[family]).files[graph.file]
        assert again == made.files[graph.file]
    assert "sha256:" in bundles[family].manifest.source


def test_gtcrn_gives_its_golden_pair(
    bundles: dict[str, Bundle], weights: Path, noisy: np.ndarray
) -> None:
    soundfile = pytest.importorskip("soundfile")
    wanted = soundfile.read(weights / "gtcrn" / "enh_stream.wav", dtype="float32")[0]
    stage = ModelStage(Model.load(bundles["gtcrn"]))
    state = stage.open()
    made = stage.step(state, Chunk(noisy[None], 0, stage.input)) + stage.flush(state)
    got = np.concatenate([c.samples[0] for c in made])
    inner = slice(1024, min(len(got), len(wanted)) - 1024)  # the pair was made with centred frames
    assert len(got) == len(noisy)
    assert si_sdr(wanted[inner], got[inner]) >= 45


def test_gtcrn_equals_its_graph(bundles: dict[str, Bundle], weights: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    theirs = ort.InferenceSession(
        weights / "gtcrn" / "gtcrn_simple.onnx", providers=["CPUExecutionProvider"]
    )
    ours = ort.InferenceSession(
        bundles["gtcrn"].read("gtcrn.onnx"), providers=["CPUExecutionProvider"]
    )
    graph = bundles["gtcrn"].manifest.graphs["gtcrn"]
    mine = {s.input: np.zeros((1, *s.shape), np.float32) for s in graph.states}
    caches = {i.name: np.zeros(i.shape, np.float32) for i in theirs.get_inputs()[1:]}
    rng = np.random.default_rng(1)
    for _ in range(20):
        x = rng.standard_normal((1, 257, 1, 2)).astype(np.float32)
        got = ours.run(None, {"spectrum": x, **mine})
        want = theirs.run(None, {"mix": x, **caches})
        mine = {s.input: v for s, v in zip(graph.states, got[1:], strict=True)}
        caches = dict(zip(caches, want[1:], strict=True))
        assert np.abs(got[0] - want[0]).max() < 1e-5


def test_dtln_equals_its_loop(bundles: dict[str, Bundle], weights: Path, noisy: np.ndarray) -> None:
    ort = pytest.importorskip("onnxruntime")
    one, two = (
        ort.InferenceSession(
            weights / "dtln" / f"model_{k}.onnx", providers=["CPUExecutionProvider"]
        )
        for k in (1, 2)
    )
    audio = noisy[: 128 * 300]
    first = second = np.zeros((1, 2, 128, 2), np.float32)
    held, tail, wanted = np.zeros(512, np.float32), np.zeros(512, np.float32), []
    for start in range(0, len(audio), 128):
        held = np.concatenate([held[128:], audio[start : start + 128]])
        spectrum = np.fft.rfft(held)
        given = {"input_2": np.abs(spectrum).astype(np.float32)[None, None], "input_3": first}
        mask, first = one.run(None, given)
        frame = np.fft.irfft(spectrum * mask[0, 0]).astype(np.float32)[None, None]
        made, second = two.run(None, {"input_4": frame, "input_5": second})
        tail = np.concatenate([tail[128:], np.zeros(128, np.float32)]) + made.reshape(-1)
        wanted.append(tail[:128])
    got = run(Model.load(bundles["dtln"]), audio, "as_published")["audio_out"][:, 0]
    assert np.abs(got - np.stack(wanted)).max() < 1e-5


def test_dtln_does_not_mind_how_loud_it_is(bundles: dict[str, Bundle], noisy: np.ndarray) -> None:
    model = Model.load(bundles["dtln"])
    audio = noisy[: 128 * 400]

    def cleaned(gain_db: float, program: str) -> np.ndarray:
        gain = np.float32(10 ** (gain_db / 20))
        return run(model, audio * gain, program)["audio_out"][:, 0].reshape(-1) / gain

    def apart_db(a: np.ndarray, b: np.ndarray) -> float:
        return float(10 * np.log10(np.square(a - b).sum() / np.square(a).sum()))

    loud = cleaned(0.0, "step")
    assert all(apart_db(loud, cleaned(gain_db, "step")) < -40.0 for gain_db in (-20.0, 10.0))
    assert apart_db(cleaned(0.0, "as_published"), cleaned(-30.0, "as_published")) > -10.0


def test_silero_equals_its_graph(
    bundles: dict[str, Bundle], weights: Path, speech: np.ndarray
) -> None:
    ort = pytest.importorskip("onnxruntime")
    theirs = ort.InferenceSession(
        weights / "silero_vad" / "silero_vad_16k_op15.onnx", providers=["CPUExecutionProvider"]
    )
    audio = speech[: 512 * 100]
    state, past, wanted = np.zeros((2, 1, 128), np.float32), np.zeros(64, np.float32), []
    for start in range(0, len(audio), 512):
        hop = audio[start : start + 512]
        line = np.concatenate([past, hop])[None]
        score, state = theirs.run(None, {"input": line, "state": state, "sr": np.array(16000)})
        wanted.append(score[0, 0])
        past = hop[-64:]
    got = run(Model.load(bundles["silero-vad"]), audio)["scores"][:, 0]
    assert np.abs(got - np.array(wanted)).max() < 1e-5


class TFLite:
    """Lyra on the library that usually runs it."""

    def __init__(self, folder: Path) -> None:
        module = pytest.importorskip("ai_edge_litert.interpreter")
        plain = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self.encoder = module.Interpreter(str(folder / "soundstream_encoder.tflite"), num_threads=1)
        self.decoder = module.Interpreter(str(folder / "lyragan.tflite"), num_threads=1)
        quantiser = module.Interpreter(
            str(folder / "quantizer.tflite"), num_threads=1, experimental_op_resolver_type=plain
        )
        for part in (self.encoder, self.decoder):
            part.allocate_tensors()
        self.quantise = quantiser.get_signature_runner("encode")
        self.dequantise = quantiser.get_signature_runner("decode")

    @staticmethod
    def _call(part: Any, value: np.ndarray) -> np.ndarray:
        part.set_tensor(part.get_input_details()[0]["index"], value)
        part.invoke()
        return np.array(part.get_tensor(part.get_output_details()[0]["index"]))

    def encode(self, frame: np.ndarray) -> np.ndarray:
        features = self._call(self.encoder, frame[None])
        layers = np.array(46, np.int32)
        made = self.quantise(input_frames=features.reshape(1, 1, 64), num_quantizers=layers)
        return made["output_0"].reshape(46)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        made = self.dequantise(encoding_indices=codes.reshape(46, 1, 1).astype(np.int32))
        return self._call(self.decoder, made["output_0"].reshape(1, 1, 64)).reshape(-1)


@pytest.fixture(scope="session")
def lyra(weights: Path, speech: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Speech of eight seconds, TFLite's codes ``[N, 46]`` and its audio of 16 layers."""
    oracle = TFLite(weights / "lyra_v2")
    audio = speech[: 320 * 400]
    codes = np.stack([oracle.encode(frame) for frame in audio.reshape(-1, 320)])
    first = codes.copy()
    first[:, 16:] = -1
    return audio, codes, np.concatenate([oracle.decode(row) for row in first])


@pytest.mark.parametrize("kind", ["", "-float"])
@pytest.mark.parametrize("backend", ["ort", "auto"])
def test_lyra_gives_tflite_codes_and_audio(
    bundles: dict[str, Bundle],
    lyra: tuple[np.ndarray, np.ndarray, np.ndarray],
    kind: str,
    backend: str,
) -> None:
    audio, codes, wanted = lyra
    model = Model.load(bundles["lyra"], backend)
    got = run(model, audio, f"encode{kind}")["codes"][:, :, 0]
    assert (got[:, :16] == codes[:, :16]).mean() >= 0.95
    first = codes.copy()
    first[:, 16:] = -1
    state = model.open(1, f"decode{kind}")
    made = [model.step(state, {"codes": row[None, :, None]})["audio"][0, 0] for row in first]
    # Sums of floats may fall on the other side of a half than sums of integers; without any
    # rounding it would be 22 dB.
    as_integers = backend == "ort" and not kind
    assert si_sdr(wanted, np.concatenate(made)) > (60 if as_integers else 30)


def lyra_pesq(
    kind: str, bundle: Bundle, lyra: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> tuple[float, float]:
    """Get PESQ of TFLite's audio and of ours, both from their own codes at 3.2 kbps."""
    pesq = pytest.importorskip("pesq").pesq
    audio, _, theirs = lyra
    model = Model.load(bundle)
    codes = run(model, audio, f"encode{kind}")["codes"]
    codes[:, 16:] = -1
    state = model.open(1, f"decode{kind}")
    made = [model.step(state, {"codes": row[None]})["audio"][0, 0] for row in codes]
    wanted, got = (pesq(16000, audio, y, "wb") for y in (theirs, np.concatenate(made)))
    return wanted, got


@pytest.mark.parametrize("kind", ["", "-float"])
def test_lyra_sounds_as_in_tflite(
    bundles: dict[str, Bundle], lyra: tuple[np.ndarray, np.ndarray, np.ndarray], kind: str
) -> None:
    wanted, got = lyra_pesq(kind, bundles["lyra"], lyra)
    assert abs(got - wanted) <= 0.03


def test_lyra_in_floats_has_no_other_type(bundles: dict[str, Bundle]) -> None:
    for name in ("encoder-float", "decoder-float"):
        graph = bundles["lyra"].manifest.graphs[name]
        ports = (*graph.inputs, *graph.outputs, *graph.states)
        assert {port.dtype for port in ports} == {"float32"}
        nodes = onnx.load_from_string(bundles["lyra"].read(graph.file)).graph.node
        kinds = {node.op_type for node in nodes}
        assert "Round" in kinds
        assert not kinds & {"QuantizeLinear", "DequantizeLinear", "Cast"}


def test_lyra_streams_are_small_snapshots(bundles: dict[str, Bundle]) -> None:
    model = Model.load(bundles["lyra"])
    both = model.memory_bytes("encode") + model.memory_bytes("decode")
    assert 60_000 <= both <= 66_000  # int8 regions remember bytes; floats take 107 kB
    floats = model.memory_bytes("encode-float") + model.memory_bytes("decode-float")
    assert 100_000 <= floats <= 110_000


@pytest.fixture(scope="session")
def yamnet(data: Path) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Ten clips with the log-mel ``[N, 96, 64]`` and scores ``[N, 521]`` of TFLite, hop by hop."""
    soundfile = pytest.importorskip("soundfile")
    module = pytest.importorskip("ai_edge_litert.interpreter")
    oracle = module.Interpreter(str(data / "weights" / "yamnet" / "yamnet.tflite"), num_threads=1)
    oracle.allocate_tensors()
    given = oracle.get_input_details()[0]["index"]
    ports = {tuple(o["shape"]): o["index"] for o in oracle.get_output_details()}
    clips = sorted((data / "train" / "env_esc10_f1-4").rglob("*.flac"))[::32][:10]
    assert len(clips) == 10
    rows = []
    for clip in clips:
        audio, mels, scores = soundfile.read(clip, dtype="float32")[0], [], []
        for end in range(3 * 7680, len(audio) + 1, 7680):
            oracle.set_tensor(given, audio[None, end - 15600 : end])
            oracle.invoke()
            mels.append(np.array(oracle.get_tensor(ports[96, 64])))
            scores.append(np.array(oracle.get_tensor(ports[1, 521])[0]))
        rows.append((audio, np.stack(mels), np.stack(scores)))
    return rows


def test_yamnet_scores_are_those_of_tflite(
    bundles: dict[str, Bundle], yamnet: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> None:
    model = Model.load(bundles["yamnet"])
    for audio, _, wanted in yamnet:
        ours = run(model, audio)["scores"][2:]
        assert np.abs(ours.mean(0) - wanted.mean(0)).max() <= 0.01
        # Single frames move as much in TFLite itself when last bits of its log-mel do: see below.
        assert np.abs(ours - wanted).max() <= 0.03


def test_yamnet_without_rounding_keeps_the_scores_of_clips(
    bundles: dict[str, Bundle], yamnet: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> None:
    model = Model.load(bundles["yamnet"])
    for audio, _, wanted in yamnet:
        ours = run(model, audio, "step-float")["scores"][2:]
        assert np.abs(ours.mean(0) - wanted.mean(0)).max() <= 0.01


def test_yamnet_network_is_that_of_tflite_to_the_last_bits(
    bundles: dict[str, Bundle], yamnet: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> None:
    """From TFLite's own log-mel, every score of every frame is TFLite's."""
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(
        bundles["yamnet"].read("yamnet.onnx"), providers=["CPUExecutionProvider"]
    )
    for _, mels, wanted in yamnet:
        ours = session.run(["scores"], {"patch": mels})[0]
        assert np.abs(ours - wanted).max() <= 1e-6


def test_yamnet_front_end_is_that_of_tflite_but_for_its_roots(
    bundles: dict[str, Bundle], yamnet: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> None:
    """TFLite's square root and logarithm are approximations, two last bits off on some CPUs."""
    bundle = bundles["yamnet"]
    front = make_host_op(bundle.manifest.programs["step"].ops[0], bundle)
    off = []
    for audio, mels, _ in yamnet:
        for index, wanted in enumerate(mels):
            line = audio[7680 * (index + 3) - 15600 :][:15600]
            state = front.open(1)
            state["history"][:] = line[: 400 - 160]
            got = front.run(state, [line[None, None, 240:]])[0][0]
            off.append(np.abs(got - wanted))
    worst = np.stack(off)
    assert np.quantile(worst, 0.999) <= 1e-6
    assert worst.max() <= 0.01  # a magnitude that falls on the other side of an 8-bit rounding


def test_families_are_listed_and_others_refused(tmp_path: Path) -> None:
    for family in FAMILIES:
        with pytest.raises(ExportError, match=r"does not exist|holds none|has no"):
            draft(family, tmp_path / "nothing")
    with pytest.raises(ExportError, match="one of dtln"):
        draft("opus", tmp_path)


def _damaged(source: Path, target: Path, damage: str) -> None:
    data = source.read_bytes()
    if damage == "truncated":
        target.write_bytes(data[: len(data) // 3])
    elif damage == "empty":
        target.write_bytes(b"")
    elif damage == "pickle":
        target.write_bytes(b"\x80\x04cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    elif damage == "noise":
        target.write_bytes(np.random.default_rng(0).bytes(len(data)))
    else:
        _misshape(source, target, damage)


def _misshape(source: Path, target: Path, damage: str) -> None:
    model = onnx.load(source)
    for weight in model.graph.initializer:
        value = onnx.numpy_helper.to_array(weight)
        if value.dtype == np.float32 and value.ndim > 1:
            changed = {
                "shape": lambda v: v[..., :-1],
                "dtype": lambda v: v.astype(np.int32),
                "nan": lambda v: np.full_like(v, np.nan),
            }[damage](value)
            weight.CopyFrom(
                onnx.numpy_helper.from_array(np.ascontiguousarray(changed), weight.name)
            )
    target.write_bytes(model.SerializeToString())


ONNX_FILES = {
    "dtln": ("dtln", "model_1.onnx"),
    "gtcrn": ("gtcrn", "gtcrn_simple.onnx"),
    "silero-vad": ("silero_vad", "silero_vad_16k_op15.onnx"),
}
TFLITE_FILES = {
    "lyra": ("lyra_v2", "soundstream_encoder.tflite"),
    "yamnet": ("yamnet", "yamnet.tflite"),
}


@pytest.mark.parametrize(
    "damage", ["truncated", "empty", "pickle", "noise", "shape", "dtype", "nan"]
)
@pytest.mark.parametrize("family", [*ONNX_FILES, *TFLITE_FILES])
def test_damaged_files_are_refused_and_leave_nothing(
    family: str, damage: str, weights: Path, tmp_path: Path
) -> None:
    if family in TFLITE_FILES and damage in ("shape", "dtype", "nan"):
        pytest.skip("this damage is made of an ONNX file")
    folder, name = {**ONNX_FILES, **TFLITE_FILES}[family]
    here = tmp_path / "files"
    shutil.copytree(weights / folder, here, copy_function=shutil.copyfile)
    here.chmod(0o755)
    (here / name).unlink()
    _damaged(weights / folder / name, here / name, damage)
    with pytest.raises(ExportError):
        import_model(family, here, tmp_path / "out" / "bundle")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("family", ["gtcrn", "silero-vad"])
def test_wrong_family_is_named(family: str, weights: Path) -> None:
    with pytest.raises(ExportError, match=r"model_1\.onnx"):
        draft(family, weights / "dtln" / "model_1.onnx")


def test_tflite_of_another_family_is_named(weights: Path) -> None:
    with pytest.raises(ExportError, match=r"front end|not YAMNet"):
        draft("yamnet", weights / "lyra_v2" / "lyragan.tflite")
    with pytest.raises(ExportError, match=r"soundstream_encoder\.tflite"):
        draft("lyra", weights / "yamnet")
    with pytest.raises(ExportError, match=r"config\.json"):
        draft("encodec", weights / "lyra_v2")


def test_swapped_lyra_files_are_noticed(weights: Path, tmp_path: Path) -> None:
    for name, source in (
        ("soundstream_encoder.tflite", "lyragan.tflite"),
        ("lyragan.tflite", "soundstream_encoder.tflite"),
        ("quantizer.tflite", "quantizer.tflite"),
    ):
        (tmp_path / name).write_bytes((weights / "lyra_v2" / source).read_bytes())
    with pytest.raises(ExportError, match="each other's place"):
        draft("lyra", tmp_path)


def test_no_tensorflow_is_needed() -> None:
    assert importlib.util.find_spec("tensorflow") is None
