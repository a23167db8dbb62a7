"""The codecs that are listened to: ours through the runtime, peers through their programs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Coder = Callable[[Samples], Samples]
RATE_HZ, HOP = 16000, 320


def bundle_coder(where: str, layers: int) -> Coder:
    """Encode and decode through the runtime, as a client hears it."""
    from ossicle.runtime.model import Model

    model = Model.load(where)

    def code(x: Samples) -> Samples:
        up, down = model.open(1, "encode"), model.open(1, "decode")
        out = []
        for hop in x.reshape(-1, HOP):
            codes = model.step(up, {"audio": hop[None, None]})["codes"].copy()
            codes[:, layers:] = -1
            out.append(model.step(down, {"codes": codes})["audio"][0, 0].copy())
        return np.concatenate(out).astype(np.float32)

    return code


def lyra_coder(peers: Path, weights: Path, layers: int) -> Coder:
    """Lyra's own TFLite files, through ``lyra_tflite.py``."""
    sys.path.insert(0, str(peers))
    from lyra_tflite import Lyra  # type: ignore[import-not-found]

    lyra = Lyra(str(weights / "lyra_v2"))

    def code(x: Samples) -> Samples:
        lyra.reset()
        rows = []
        for hop in x.reshape(-1, HOP):
            index = lyra.quantize(lyra.features(hop), layers)
            rows.append(lyra.synth(lyra.dequantize(index)))
        return np.asarray(np.concatenate(rows), np.float32)

    return code


def opus_coder(kbps: float) -> Coder:
    """``opusenc`` and ``opusdec`` at a constrained bitrate, 20 ms frames, decoded at 16 kHz."""

    def code(x: Samples) -> Samples:
        with tempfile.TemporaryDirectory() as folder:
            wav, packed, back = (str(Path(folder) / n) for n in ("a.wav", "a.opus", "b.wav"))
            soundfile.write(wav, x, RATE_HZ, subtype="PCM_16")
            encode = ["opusenc", "--quiet", "--bitrate", str(kbps), "--hard-cbr", wav, packed]
            subprocess.run(encode, check=True)
            subprocess.run(["opusdec", "--quiet", "--rate", "16000", packed, back], check=True)
            return fit(soundfile.read(back, dtype="float32")[0], len(x))

    return code


def codec2_coder(mode: str) -> Coder:
    """``c2enc`` and ``c2dec`` (8 kHz inside); the delay is taken out by correlation."""

    def code(x: Samples) -> Samples:
        narrow = soxr.resample(x, RATE_HZ, 8000)
        with tempfile.TemporaryDirectory() as folder:
            raw, packed, back = (str(Path(folder) / n) for n in ("a.raw", "a.c2", "b.raw"))
            np.concatenate([narrow * 32767, np.zeros(640)]).astype(np.int16).tofile(raw)
            subprocess.run(["c2enc", mode, raw, packed], check=True, capture_output=True)
            subprocess.run(["c2dec", mode, packed, back], check=True, capture_output=True)
            out = np.fromfile(back, np.int16).astype(np.float32) / 32768
        late = np.asarray(soxr.resample(out, 8000, RATE_HZ), np.float32)
        return fit(late[delay_of(x, late) :], len(x))

    return code


def delay_of(x: Samples, late: Samples) -> int:
    """Samples (at most 100 ms) by which ``late`` trails ``x``, by their 5 ms envelopes."""
    a, b = (np.convolve(np.abs(v), np.ones(80) / 80, "same") for v in (x, late))
    n = min(len(a), len(b)) - 1600
    a = a[:n] - a[:n].mean()
    return int(np.argmax([float(np.dot(a, b[k : k + n])) for k in range(0, 1600, 8)]) * 8)


def fit(x: Samples, length: int) -> Samples:
    """Cut or zero-padded to ``length``."""
    return np.asarray(np.pad(x, (0, max(0, length - len(x))))[:length], np.float32)
