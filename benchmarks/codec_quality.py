"""How the built-in codec sounds beside Lyra, Opus and codec2.

    python benchmarks/codec_quality.py --data FOLDER [--peers lyra opus codec2] [--limit N]

Speech: PESQ-WB, STOI, log-mel distance, DNSMOS (overall) and SI-SDR on held-out voices. Everyday
sounds and music: log-mel and multi-resolution STFT distance. Every codec gets the same clips;
Opus and codec2 are the Debian programs ``opusenc``/``opusdec`` and ``c2enc``/``c2dec``, left out
with a word where they are not installed. Writes JSON, Markdown and a plot to
``benchmarks/results/codec_quality.*``.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Coder = Callable[[Samples], Samples]
RATE_HZ, HOP = 16000, 320
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One codec at one rate."""

    name: str
    kbps: float  # payload, without headers
    code: Coder


def log_mel(x: Samples) -> NDArray[np.float64]:
    """Natural log of 80 mel magnitudes, window 1024, hop 256."""
    frames = np.lib.stride_tricks.sliding_window_view(x, 1024)[::256] * np.hanning(1024)
    magnitude = np.abs(np.fft.rfft(frames)) / 32
    edges = 700 * (10 ** (np.linspace(0, 2840.02, 82) / 2595) - 1)
    hz = np.arange(513) * RATE_HZ / 1024
    rise = (hz[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - hz[:, None]) / np.diff(edges)[1:]
    bank = np.clip(np.minimum(rise, fall), 0, None)
    return np.asarray(np.log(magnitude @ (bank / np.maximum(bank.sum(axis=0), 1e-3)) + 1e-4))


def mel_distance(x: Samples, y: Samples) -> float:
    """Mean absolute difference of log mels, nepers."""
    return float(np.mean(np.abs(log_mel(x) - log_mel(y))))


def stft_distance(x: Samples, y: Samples) -> float:
    """Spectral convergence plus log-magnitude distance, mean of windows 256, 512, 1024, 2048."""
    total = 0.0
    for n in (256, 512, 1024, 2048):
        window = np.hanning(n)
        a, b = (
            np.abs(np.fft.rfft(np.lib.stride_tricks.sliding_window_view(v, n)[:: n // 4] * window))
            for v in (x, y)
        )
        total += float(np.linalg.norm(a - b) / (np.linalg.norm(a) + 1e-9))
        total += float(np.mean(np.abs(np.log(a + 1e-3) - np.log(b + 1e-3))))
    return total / 4


def si_sdr(x: Samples, y: Samples) -> float:
    """Scale-invariant signal-to-distortion ratio, dB."""
    part = x * (np.dot(x, y) / (np.dot(x, x) + 1e-9))
    return float(10 * np.log10((np.dot(part, part) + 1e-9) / (np.sum((y - part) ** 2) + 1e-9)))


class Dnsmos:
    """Overall DNSMOS P.835 of a clip (raw network output, no calibration polynomial)."""

    def __init__(self, weights: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(weights / "sig_bak_ovr.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.name = self.session.get_inputs()[0].name

    def __call__(self, x: Samples) -> float:
        length = int(9.01 * RATE_HZ)
        padded = np.tile(x, -(-length // len(x)))[:length]
        out = self.session.run(None, {self.name: padded[None].astype(np.float32)})[0]
        return float(np.asarray(out).ravel()[2])


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


def rows_of(a: argparse.Namespace) -> list[Row]:
    """Every codec that can run here."""
    rows = []
    if a.bundle:
        for k, layers in ((1.5, 3), (3.0, 6), (6.0, 12)):
            rows.append(Row(f"codec-16k {k}", k, bundle_coder(a.bundle, layers)))
    weights, peers = a.data / "weights", a.data.parent / "peers"
    if "lyra" in a.peers and (weights / "lyra_v2").exists() and peers.exists():
        for k, layers in ((3.2, 16), (6.0, 30)):
            rows.append(Row(f"Lyra v2 {k}", k, lyra_coder(peers, weights, layers)))
    if "opus" in a.peers and shutil.which("opusenc"):
        rows += [Row(f"Opus {k:g}", k, opus_coder(k)) for k in (6.0, 9.0)]
    if "codec2" in a.peers and shutil.which("c2enc"):
        rows += [
            Row(f"codec2 {m}", int(m) / 1000, codec2_coder(m)) for m in ("1200", "2400", "3200")
        ]
    return rows


def clips_of(a: argparse.Namespace) -> dict[str, list[Samples]]:
    """Held-out clips by kind; short speech clips of one voice group are joined to over 2 s."""
    from ossicle.export.recipes.codec import split

    parts = split(a.data / "train", a.cache)
    spoken = [(c.audio(k), k.path) for c, k in parts.test["speech"]]
    commands = [x for x, path in spoken if "/" not in path]
    words = [x for x, path in spoken if "/" in path]
    joined = [np.concatenate(words[i : i + 2]) for i in range(0, len(words) - 1, 2)]
    sounds = [c.audio(k)[: 5 * RATE_HZ] for c, k in parts.tune["everyday"]]
    music = [c.audio(k)[at : at + 5 * RATE_HZ] for c, k in parts.test["music"] for at in
             range(0, k.length - 5 * RATE_HZ, 30 * RATE_HZ)]  # fmt: skip
    loud = [x for x in music if float(np.std(x)) > 1e-3]
    n = a.limit
    return {
        "commands": commands[:n], "words": joined[: n // 2],
        "everyday": sounds[:: max(1, 3 * len(sounds) // n)][: n // 3],
        "music": loud[:: max(1, 3 * len(loud) // n)][: n // 3],
    }  # fmt: skip


def judge(kind: str, x: Samples, y: Samples, mos: Dnsmos | None) -> dict[str, float]:
    """All measures that make sense for one clip."""
    out = {"mel": mel_distance(x, y), "sisdr": si_sdr(x, y)}
    if kind in {"commands", "words"}:
        from pesq import pesq
        from pystoi import stoi

        out["pesq"] = float(pesq(RATE_HZ, x, y, "wb"))
        out["stoi"] = float(stoi(x, y, RATE_HZ))
        if mos is not None and kind == "commands":
            out["dnsmos"] = mos(y)
    else:
        out["stft"] = stft_distance(x, y)
    return out


def measure(a: argparse.Namespace) -> dict[str, Any]:
    """The whole table."""
    clips = clips_of(a)
    place = a.data / "weights" / "dnsmos"
    mos = Dnsmos(place) if place.exists() else None
    table: dict[str, Any] = {}
    old = json.loads(a.keep.read_text()) if a.keep else {"table": {}, "clips": {}}
    if a.keep and old["clips"] != {k: len(v) for k, v in clips.items()}:
        raise SystemExit(f"{a.keep} was measured on {old['clips']}; measure the peers again")
    for row in [Row("original", 256.0, lambda x: x), *rows_of(a)]:
        if row.name in old["table"] and not row.name.startswith("codec-16k"):
            table[row.name] = old["table"][row.name]
            continue
        entry: dict[str, Any] = {"kbps": row.kbps}
        for kind, xs in clips.items():
            marks = [judge(kind, x, row.code(x), mos) for x in xs]
            entry[kind] = {k: round(float(np.mean([m[k] for m in marks])), 3) for k in marks[0]}
        table[row.name] = entry
        print(row.name, entry, flush=True)
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return {
        "table": table,
        "clips": {k: len(v) for k, v in clips.items()},
        "seconds": {k: round(sum(map(len, v)) / RATE_HZ, 1) for k, v in clips.items()},
        "machine": f"{platform.machine()}, {platform.platform()}",
        "commit": head.stdout.strip(),
        "command": "python benchmarks/codec_quality.py --data FOLDER",
    }


def markdown(result: dict[str, Any]) -> str:
    """The table for people."""
    lines = [
        "# Codec quality on held-out audio",
        "",
        (
            f"Clips: {result['clips']} ({result['seconds']} s). Speech: voices that were not "
            "trained on (`export/recipes/common/holdout.py`); *commands* are sentences, *words* "
            "pairs of single words. Everyday: ESC-10 fold 4. Music: Slakh test tracks. PESQ "
            "and STOI do not hear bandwidth (Opus at 6 kbps and codec2 are narrow band): read "
            "them beside mel. DNSMOS is the raw network output."
        ),
        "",
        (
            "| codec | kbps | PESQ-WB | STOI | mel | SI-SDR | DNSMOS | words PESQ / STOI "
            "| everyday mel / STFT | music mel / STFT |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in result["table"].items():
        c, w, e, m = row["commands"], row["words"], row["everyday"], row["music"]
        lines.append(
            f"| {name} | {row['kbps']:g} | {c['pesq']:.2f} | {c['stoi']:.3f} | {c['mel']:.3f} "
            f"| {c['sisdr']:.1f} | {c.get('dnsmos', float('nan')):.2f} "
            f"| {w['pesq']:.2f} / {w['stoi']:.3f} | {e['mel']:.2f} / {e['stft']:.2f} "
            f"| {m['mel']:.2f} / {m['stft']:.2f} |"
        )
    lines += ["", f"Measured at {result['commit']} by `{result['command']}`.", ""]
    return "\n".join(lines)


def plot(result: dict[str, Any], image: Path) -> None:
    """PESQ and STOI over the rate."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.6))
    for axis, mark in zip(axes, ("pesq", "stoi", "mel"), strict=True):
        for family in ("codec-16k", "Lyra", "Opus", "codec2"):
            points = [
                (r["kbps"], r["commands"][mark])
                for n, r in result["table"].items()
                if n.startswith(family)
            ]
            if points:
                axis.plot(*zip(*sorted(points), strict=True), "o-", label=family)
        axis.set_xlabel("kbps")
        axis.set_title(f"{mark}, held-out commands")
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(image, dpi=90)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and weights/")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "ossicle-audio")
    parser.add_argument("--bundle", default="codec-16k")
    parser.add_argument("--peers", nargs="*", default=["lyra", "opus", "codec2"])
    parser.add_argument(
        "--limit", type=int, default=16, help="sentences; half as many words, a third sounds"
    )
    parser.add_argument("--keep", type=Path, help="earlier JSON whose peers are not measured again")
    parser.add_argument("--out", type=Path, default=RESULTS)
    a = parser.parse_args()
    result = measure(a)
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "codec_quality.json").write_text(json.dumps(result, indent=1) + "\n")
    (a.out / "codec_quality.md").write_text(markdown(result))
    plot(result, a.out / "codec_quality.png")


if __name__ == "__main__":
    main()
