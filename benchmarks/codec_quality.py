"""How the built-in codec sounds beside Lyra, Opus and codec2.

    python -m benchmarks.codec_quality --data FOLDER [--peers lyra opus codec2] [--limit N]

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
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.codec_peers import (
    RATE_HZ,
    Coder,
    Samples,
    bundle_coder,
    codec2_coder,
    lyra_coder,
    opus_coder,
)

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
        "command": "python -m benchmarks.codec_quality --data FOLDER",
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
