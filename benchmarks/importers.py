"""Imported models against the libraries that usually run them, side by side in one process.

``python -m benchmarks.importers [--data FOLDER] [--hops 400] [--json PLACE]``

One thread, one core. The sides take turns of 20 hops, and the CPU time of the calling thread is
what counts, so that the rest of the machine falls out; medians over all hops. For 16 streams the
other side runs its 16 instances one after the other, as its fixed batch of one demands. A time
counts only over a green check: the same codes, or the same samples.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, one_thread, save

one_thread()

import numpy as np  # noqa: E402 - after the thread counts are set
import onnxruntime  # noqa: E402
import soundfile  # noqa: E402
from ai_edge_litert.interpreter import Interpreter, OpResolverType  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from ossicle.export.importers import import_model  # noqa: E402
from ossicle.runtime.backend import Backend  # noqa: E402
from ossicle.runtime.backend.native import NativeBackend  # noqa: E402
from ossicle.runtime.backend.ort import OrtBackend  # noqa: E402
from ossicle.runtime.bundle import Bundle  # noqa: E402
from ossicle.runtime.host import make_host_op  # noqa: E402
from ossicle.runtime.model import Model  # noqa: E402

Array = NDArray[Any]
STREAMS, ROUND = 16, 20


class Watch:
    """CPU microseconds of the calling thread, by name."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    def run(self, name: str, action: Callable[[], Any], share: int = 1) -> Any:
        """Run ``action`` and keep its time divided by ``share`` streams."""
        begin = time.thread_time_ns()
        made = action()
        self.times.setdefault(name, []).append((time.thread_time_ns() - begin) / 1e3 / share)
        return made

    def medians(self) -> dict[str, float]:
        """Return the median of each, without the first tenth (warm-up)."""
        return {n: round(float(np.median(t[len(t) // 10 :])), 1) for n, t in self.times.items()}


class LyraTFLite:
    """One stream of Lyra in TFLite: an interpreter is the stream, its memory inside."""

    def __init__(self, folder: Path) -> None:
        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES  # as the C++ codec runs it
        self.encoder = Interpreter(str(folder / "soundstream_encoder.tflite"), num_threads=1)
        self.decoder = Interpreter(str(folder / "lyragan.tflite"), num_threads=1)
        quantiser = Interpreter(
            str(folder / "quantizer.tflite"), num_threads=1, experimental_op_resolver_type=plain
        )
        self.ports = []
        for part in (self.encoder, self.decoder):
            part.allocate_tensors()
            ends = part.get_input_details()[0]["index"], part.get_output_details()[0]["index"]
            self.ports.append(ends)
        self._encode = quantiser.get_signature_runner("encode")
        self._decode = quantiser.get_signature_runner("decode")

    def features(self, frame: Array) -> Array:
        """Encoder."""
        return self._call(self.encoder, self.ports[0], frame[None])

    def quantise(self, features: Array) -> Array:
        """All 46 layers."""
        given = features.reshape(1, 1, 64)
        return np.asarray(
            self._encode(input_frames=given, num_quantizers=np.array(46, np.int32))["output_0"]
        )

    def dequantise(self, codes: Array) -> Array:
        """Sum of the code vectors."""
        return np.asarray(self._decode(encoding_indices=codes)["output_0"])

    def audio(self, features: Array) -> Array:
        """Decoder."""
        return self._call(self.decoder, self.ports[1], features.reshape(1, 1, 64))

    @staticmethod
    def _call(part: Any, ports: tuple[int, int], value: Array) -> Array:
        part.set_tensor(ports[0], value)
        part.invoke()
        return np.array(part.get_tensor(ports[1]))


def lyra(folder: Path, bundle: Bundle, audio: Array, hops: int, streams: int) -> dict[str, Any]:
    """Time both sides of Lyra, part by part, with ``streams`` streams."""
    watch = Watch()
    theirs = [LyraTFLite(folder) for _ in range(streams)]
    parts = {
        f"{kind}{mark}": _lyra_parts(bundle, suffix, streams, backend)
        for mark, backend in (("", OrtBackend()), (" native", NativeBackend()))
        for kind, suffix in (("QDQ", ""), ("float", "-float"))
    }
    same: dict[str, list[float]] = {"QDQ": [], "QDQ native": []}
    for start in range(0, hops, ROUND):
        frames = audio[320 * start : 320 * (start + ROUND)].reshape(-1, 1, 1, 320)
        wanted = [_lyra_hop(watch, theirs, frame[0, 0]) for frame in frames]
        for kind, steps in parts.items():
            for frame, codes in zip(frames, wanted, strict=True):
                value: Any = np.repeat(frame, streams, 0)
                for name, step in steps:
                    value = watch.run(f"{kind} {name}", partial(step, value), streams)
                    if kind in same and name == "quantise":
                        same[kind].append((value[0, :16, 0] == codes.reshape(46)[:16]).mean())
    result = watch.medians()
    for side in ("TFLite", *parts):
        names = ("encoder", "quantise", "dequantise", "decoder")
        result[f"{side} all"] = round(sum(result[f"{side} {n}"] for n in names), 1)
    return {
        "us_per_stream_and_frame": result,
        "codes_equal_first_16": round(float(np.mean(same["QDQ"])), 4),
        "codes_equal_first_16_native": round(float(np.mean(same["QDQ native"])), 4),
    }


def _lyra_hop(watch: Watch, streams: list[LyraTFLite], frame: Array) -> Array:
    """Run one frame through every stream of TFLite and return the codes."""
    for stream in streams:
        features = watch.run("TFLite encoder", partial(stream.features, frame))
        codes = watch.run("TFLite quantise", partial(stream.quantise, features))
        back = watch.run("TFLite dequantise", partial(stream.dequantise, codes))
        watch.run("TFLite decoder", partial(stream.audio, back))
    return np.asarray(codes)


def _lyra_parts(
    bundle: Bundle, suffix: str, streams: int, backend: Backend
) -> list[tuple[str, Callable[[Array], Array]]]:
    """Return the four parts as functions of one array."""
    encode, decode = (bundle.manifest.programs[p + suffix] for p in ("encode", "decode"))
    encoder = backend.load(bundle, f"encoder{suffix}").bind(streams)
    decoder = backend.load(bundle, f"decoder{suffix}").bind(streams)
    quantise = make_host_op(encode.ops[1], bundle)
    dequantise = make_host_op(decode.ops[0], bundle)
    return [
        ("encoder", lambda x: encoder.run({"audio": x})["features"]),
        ("quantise", lambda x: quantise.run({}, [x])[0]),
        ("dequantise", lambda x: dequantise.run({}, [x])[0]),
        ("decoder", lambda x: decoder.run({"features": x})["audio"]),
    ]


def lyra_quality(folder: Path, bundle: Bundle, clips: list[Array]) -> dict[str, float]:
    """Return PESQ (wide band, 3.2 kbps) of TFLite and of both artefacts, on average."""
    from pesq import pesq

    scores: dict[str, list[float]] = {"TFLite": [], "QDQ": [], "float": []}
    model = Model.load(bundle)
    for clip in clips:
        frames = clip[: len(clip) // 320 * 320].reshape(-1, 320)
        line = frames.reshape(-1)
        stream = LyraTFLite(folder)
        made = []
        for frame in frames:
            codes = stream.quantise(stream.features(frame)).copy()
            codes.reshape(46)[16:] = -1
            made.append(stream.audio(stream.dequantise(codes)).reshape(-1))
        scores["TFLite"].append(pesq(16000, line, np.concatenate(made), "wb"))
        for kind, suffix in (("QDQ", ""), ("float", "-float")):
            up, down = model.open(1, f"encode{suffix}"), model.open(1, f"decode{suffix}")
            made = []
            for frame in frames:
                codes = model.step(up, {"audio": frame[None, None]})["codes"]
                codes[:, 16:] = -1
                made.append(model.step(down, {"codes": codes})["audio"][0, 0])
            scores[kind].append(pesq(16000, line, np.concatenate(made), "wb"))
    return {name: round(float(np.mean(values)), 3) for name, values in scores.items()}


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class GtcrnOrt:
    """One stream of GTCRN's own graph in ONNX Runtime, its framing in NumPy."""

    hop = 256

    def __init__(self, session: Any) -> None:
        self.session = session
        self.names = [o.name for o in session.get_outputs()]
        self.states = {i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs()[1:]}
        self.window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)).astype("f4")
        self.held, self.tail = np.zeros(512, np.float32), np.zeros(512, np.float32)

    def step(self, fresh: Array) -> Array:
        """One hop."""
        self.held[:-256] = self.held[256:]
        self.held[-256:] = fresh
        spectrum = np.fft.rfft(self.held * self.window)
        given = np.empty((1, 257, 1, 2), np.float32)
        given[0, :, 0, 0], given[0, :, 0, 1] = spectrum.real, spectrum.imag
        made = dict(zip(self.names, self.session.run(self.names, {"mix": given, **self.states}),
                        strict=True))  # fmt: skip
        self.states = {name: made[f"{name}_out"] for name in self.states}
        pairs = made["enh"][0, :, 0]
        frame = np.fft.irfft(pairs[:, 0] + 1j * pairs[:, 1], 512).astype(np.float32) * self.window
        self.tail += frame
        done = self.tail[:256].copy()
        self.tail[:-256] = self.tail[256:]
        self.tail[-256:] = 0
        return done


class DtlnOrt:
    """One stream of DTLN's two graphs in ONNX Runtime, its framing in NumPy."""

    hop = 128

    def __init__(self, one: Any, two: Any) -> None:
        self.sessions = one, two
        self.names = [[p.name for p in s.get_inputs()] for s in self.sessions]
        self.states = [np.zeros((1, 2, 128, 2), np.float32) for _ in range(2)]
        self.held, self.tail = np.zeros(512, np.float32), np.zeros(512, np.float32)

    def step(self, fresh: Array) -> Array:
        """One hop."""
        self.held[:-128] = self.held[128:]
        self.held[-128:] = fresh
        spectrum = np.fft.rfft(self.held)
        mask = self._run(0, np.abs(spectrum).astype(np.float32)[None, None])
        frame = np.fft.irfft(spectrum * mask[0, 0]).astype(np.float32)[None, None]
        self.tail[:-128] = self.tail[128:]
        self.tail[-128:] = 0
        self.tail += self._run(1, frame).reshape(-1)
        return self.tail[:128].copy()

    def _run(self, index: int, value: Array) -> Array:
        names = self.names[index]
        given = {names[0]: value, names[1]: self.states[index]}
        made, self.states[index] = self.sessions[index].run(None, given)
        return np.asarray(made)


def enhancer(
    bundle: Bundle,
    make: Callable[[], Any],
    audio: Array,
    hops: int,
    streams: int,
    backend: str = "ort",
) -> dict[str, Any]:
    """Time both sides of a denoiser with ``streams`` streams, and compare what comes out."""
    watch, theirs = Watch(), [make() for _ in range(streams)]
    model = Model.load(bundle, backend)
    state, size, worst = model.open(streams), theirs[0].hop, 0.0
    hops = min(hops, len(audio) // size)
    for start in range(0, hops, ROUND):
        frames = [audio[size * h : size * (h + 1)] for h in range(start, min(start + ROUND, hops))]
        wanted = []
        for frame in frames:
            made = [watch.run("ORT", partial(stream.step, frame)) for stream in theirs]
            wanted.append(made[0])
        for frame, want in zip(frames, wanted, strict=True):
            given = {"audio": np.repeat(frame[None, None], streams, 0)}
            got = watch.run("ossicle", partial(model.step, state, given), streams)
            worst = max(worst, float(np.abs(got["audio_out"][0, 0] - want).max()))
    return {"us_per_stream_and_hop": watch.medians(), "largest_difference": float(f"{worst:.2g}")}


def run(data: Path, hops: int) -> dict[str, Any]:
    """Measure everything; raises where a check is red."""
    weights = data / "weights"
    noisy = soundfile.read(weights / "gtcrn" / "mix.wav", dtype="float32")[0]
    files = sorted((data / "train" / "speech_picovoice_sti").rglob("*.flac"))
    speech = np.concatenate([soundfile.read(f, dtype="float32")[0] for f in files[:4]])
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        made = {
            family: import_model(family, weights / folder, Path(scratch) / family)
            for family, folder in (("lyra", "lyra_v2"), ("gtcrn", "gtcrn"), ("dtln", "dtln"))
        }
        gtcrn = _session(weights / "gtcrn" / "gtcrn_simple.onnx")
        dtln = [_session(weights / "dtln" / f"model_{k}.onnx") for k in (1, 2)]
        for streams in (1, STREAMS):
            count = hops if streams == 1 else max(40, hops // 4)
            results[f"streams {streams}"] = {
                "lyra": lyra(weights / "lyra_v2", made["lyra"], speech, count, streams),
                "gtcrn": enhancer(made["gtcrn"], lambda: GtcrnOrt(gtcrn), noisy, count, streams),
                "dtln": enhancer(made["dtln"], lambda: DtlnOrt(*dtln), noisy, count, streams),
                "dtln native": enhancer(
                    made["dtln"], lambda: DtlnOrt(*dtln), noisy, count, streams, "native"
                ),
            }
        clips = [soundfile.read(f, dtype="float32")[0] for f in files[:: len(files) // 8][:8]]
        clips = [c for c in clips if len(c) >= 16000]
        results["lyra_pesq_3200_bps"] = {
            "clips": len(clips), **lyra_quality(weights / "lyra_v2", made["lyra"], clips),
        }  # fmt: skip
    for streams in (1, STREAMS):
        row = results[f"streams {streams}"]
        equal = min(v for k, v in row["lyra"].items() if k.startswith("codes_equal"))
        if equal < 0.95:
            raise SystemExit(f"Lyra's codes differ: {equal}")
        if max(row["gtcrn"]["largest_difference"], row["dtln"]["largest_difference"]) > 1e-4:
            raise SystemExit(f"samples differ: {row}")
    results["goals"] = _goals(results)
    return results


def _goals(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each goal with what was measured and whether it was met."""
    rows = []
    for streams, shares in ((1, {"lyra": 1.0, "others": 1.0}),
                            (STREAMS, {"lyra": 0.5, "others": 0.6})):  # fmt: skip
        found = results[f"streams {streams}"]
        us = found["lyra"]["us_per_stream_and_frame"]
        pairs = [
            (f"lyra {kind} {part}", us[f"{kind} {part}"], us[f"TFLite {part}"], shares["lyra"])
            for kind in ("QDQ", "float", "QDQ native", "float native")
            for part in ("all", "encoder", "quantise", "dequantise", "decoder")
        ]
        for family in ("gtcrn", "dtln", "dtln native"):
            us = found[family]["us_per_stream_and_hop"]
            pairs.append((family, us["ossicle"], us["ORT"], shares["others"]))
        rows += [
            {"what": name, "streams": streams, "ossicle_us": ours, "other_us": other,
             "share": round(ours / other, 3), "allowed": allowed, "met": ours <= allowed * other}
            for name, ours, other, allowed in pairs
        ]  # fmt: skip
    return rows


def page(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    machine = describe()
    lines = [
        "# Imported models against the libraries that usually run them",
        "",
        (
            f"{machine['cpu']}, one core, one thread; commit {machine['commit']}; "
            f"load average {machine['load_average']}; `{machine['command']}`"
        ),
        "",
        "CPU time of the thread, median, microseconds per stream and hop. `allowed` is the goal,",
        "as a share of the other side's time.",
        "",
        "| what | streams | Ossicle | TFLite / ORT loop | share | allowed | met |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['what']} | {row['streams']} | {row['ossicle_us']} | {row['other_us']} | "
        f"{row['share']} | {row['allowed']} | {'yes' if row['met'] else 'no'} |"
        for row in results["goals"]
    ]
    first, pesq = results["streams 1"], results["lyra_pesq_3200_bps"]
    lines += [
        "",
        "Lyra codes equal to TFLite's, first 16 layers, QDQ:",
        f"{first['lyra']['codes_equal_first_16']:.2%}; on the native backend",
        f"{first['lyra']['codes_equal_first_16_native']:.2%}.",
        f"PESQ at 3.2 kbps, {pesq['clips']} clips:",
        f"TFLite {pesq['TFLite']}, QDQ {pesq['QDQ']}, float {pesq['float']}.",
        f"Largest difference of a sample: GTCRN {first['gtcrn']['largest_difference']},",
        f"DTLN {first['dtln']['largest_difference']}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("OSSICLE_DATA", "../shared/data"))
    parser.add_argument("--hops", type=int, default=400)
    parser.add_argument("--json", default=None)
    options = parser.parse_args()
    results = run(Path(options.data), options.hops)
    place = save("importers", results, options.json)
    text = page(results)
    place.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
