"""The libraries that usually run the imported models, one stream each, and a watch over time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import one_thread

one_thread()

import numpy as np  # noqa: E402 - after the thread counts are set
import onnxruntime  # noqa: E402
from ai_edge_litert.interpreter import Interpreter, OpResolverType  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

Array = NDArray[Any]


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


class YamnetTFLite:
    """YAMNet in TFLite, which keeps no memory: 0.975 s go in for each hop of 0.48 s."""

    def __init__(self, folder: Path) -> None:
        self.net = Interpreter(str(folder / "yamnet.tflite"), num_threads=1)
        self.net.allocate_tensors()
        self.given = self.net.get_input_details()[0]["index"]
        self.made = next(o["index"] for o in self.net.get_output_details() if o["shape"][-1] == 521)
        self.held = np.zeros((1, 15600), np.float32)

    def step(self, fresh: Array) -> Array:
        """One hop of 7680 samples."""
        self.held[:, :-7680] = self.held[:, 7680:]
        self.held[:, -7680:] = fresh
        self.net.set_tensor(self.given, self.held)
        self.net.invoke()
        return np.array(self.net.get_tensor(self.made)[0])


def session_of(path: Path) -> Any:
    """A single-threaded session of ONNX Runtime."""
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
