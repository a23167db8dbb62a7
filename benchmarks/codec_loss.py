"""Does redundancy beat more layers when packets are lost? PESQ-WB at equal bits, and by what.

Ten per cent of the packets are lost in bursts (Gilbert, mean burst 1.5). The same number of payload
bits is spent once on layers alone and once as the rate control spends it when it has heard of that
loss: fewer layers, and the low layers of the two packets before. One packet holds one frame; the
jitter ring waits two frames (40 ms). Also: what zero features are worth against repeating the last
ones, and how many frames a decoder takes to forget a loss.

    python -m benchmarks.codec_loss [--data FOLDER] [--models codec-16k lyra]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.codec_models import DATA, load_codecs
from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.model import Model
from ossicle.runtime.task import AudioEvent, InlineRun, NoticeEvent, PacketEvent
from ossicle.streaming.codec.layout import CodeLayout
from ossicle.streaming.codec.loss import BadLink
from ossicle.streaming.codec.packet import Packet, write
from ossicle.streaming.codec.packetreader import read
from ossicle.streaming.codec.resync import resynchronisation
from ossicle.streaming.codec.tasks import DecodeTask, EncodeTask

LOSS, BURST, DELAY = 0.1, 1.5, 2
PIECE_S = 8.0

Signal = NDArray[np.float32]  # [T]


def test_speech(data: Path, cache: Path, pieces: int) -> list[Signal]:
    """Held-out speech of the recipe that trained codec-16k, in pieces of ``PIECE_S`` at 16 kHz."""
    from ossicle.export.recipes.codec import split

    clips = [corpus.audio(clip) for corpus, clip in split(data, cache).test["speech"]]
    order = np.random.default_rng(0).permutation(len(clips))
    joined = np.concatenate([clips[i] for i in order])
    size = round(PIECE_S * 16_000)
    count = min(pieces, len(joined) // size)
    step = len(joined) // count
    return [np.asarray(joined[i * step : i * step + size], np.float32) for i in range(count)]


def send(model: Model, signal: Signal, kbps: float, loss: float) -> tuple[list[bytes], float]:
    """Return packets and payload kbps at a target rate, by a sender that was told of ``loss``."""
    run = InlineRun(EncodeTask(model.bundle, kbps=kbps), model)
    for _ in range(4 if loss else 0):
        run.update({"loss": loss})
    events = run.feed(Chunk(signal[None], 0, AudioFormat(16_000))) + run.finish()
    (totals,) = [e.fields for e in events if isinstance(e, NoticeEvent) and e.kind == "encoded"]
    packets = [e.packet for e in events if isinstance(e, PacketEvent)]
    return packets, float(totals["payload_kbps"])


def hear(model: Model, packets: list[bytes], samples: int) -> tuple[Signal, dict[str, int]]:
    """Return what a decoder makes of the packets that arrived."""
    run = InlineRun(DecodeTask(model.bundle, delay=DELAY, samples=samples), model)
    events = [e for p in packets for e in run.feed(p)] + run.finish()
    chunks = [e.chunk.samples[0] for e in events if isinstance(e, AudioEvent)]
    (counts,) = [e.fields for e in events if isinstance(e, NoticeEvent) and e.kind == "decoded"]
    return np.concatenate(chunks), dict(counts)


def repeated(packets: list[bytes], kept: set[int], layout: CodeLayout) -> list[bytes]:
    """Return packets in which lost frames repeat the last one that arrived."""
    out, last = [], packets[0]
    for i, data in enumerate(packets):
        if i in kept:
            last = data
        out.append(write(Packet(i % 65_536, read(last, layout).codes, reset=i == 0), layout))
    return out


def scores(clean: list[Signal], heard: list[Signal]) -> dict[str, float]:
    """Mean PESQ-WB and STOI."""
    from pesq import pesq
    from pystoi import stoi

    pairs = list(zip(clean, heard, strict=True))
    return {
        "pesq_wb": round(float(np.mean([pesq(16_000, x, y, "wb") for x, y in pairs])), 3),
        "stoi": round(float(np.mean([stoi(x, y, 16_000) for x, y in pairs])), 4),
    }


def compare(model: Model, speech: list[Signal], kbps: float) -> dict[str, Any]:
    """Return the table of one model at one rate."""
    task = EncodeTask(model.bundle, kbps=kbps)
    row: dict[str, Any] = {"kbps": kbps}
    heard: dict[str, list[Signal]] = {n: [] for n in ("no loss", "layers", "repeat", "redundancy")}
    spent: dict[str, list[float]] = {"layers": [], "redundancy": []}
    counts = {"lost": 0, "recovered": 0}
    for i, signal in enumerate(speech):
        link = BadLink(LOSS, BURST, seed=i)
        plain, rate = send(model, signal, kbps, 0.0)
        mended, mended_rate = send(model, signal, kbps, LOSS)
        spent["layers"].append(rate)
        spent["redundancy"].append(mended_rate)
        arrived = [a.packet for a in link.carry(plain, 20.0)]
        kept = {a.index for a in link.carry(plain, 20.0)}
        heard["no loss"].append(hear(model, plain, len(signal))[0])
        heard["layers"].append(hear(model, arrived, len(signal))[0])
        again = repeated(plain, kept, task.layout)
        heard["repeat"].append(hear(model, again, len(signal))[0])
        got, seen = hear(model, [a.packet for a in link.carry(mended, 20.0)], len(signal))
        heard["redundancy"].append(got)
        counts = {name: counts[name] + seen[name] for name in counts}
    for name, signals in heard.items():
        row[name] = scores(speech, signals)
    state = task.open()
    for _ in range(4):
        task.update(state, {"loss": LOSS})
    row["plan"] = {"layers": EncodeTask(model.bundle, kbps=kbps).open().plan.layers,
                   "redundancy": asdict(state.plan)}  # fmt: skip
    row["payload_kbps"] = {name: round(float(np.mean(v)), 3) for name, v in spent.items()}
    row["frames"] = counts
    row["gain_pesq"] = round(row["redundancy"]["pesq_wb"] - row["layers"]["pesq_wb"], 3)
    return row


def resync(model: Model, speech: list[Signal]) -> dict[str, Any]:
    """Return frames until a decoder is over a loss, the worst of all pieces."""
    table: dict[str, Any] = {}
    for lost in (1, 5):
        found = [resynchronisation(model, s[None], lost) for s in speech[:6]]
        for name in ("quiet_frames", "identical_frames"):
            values = [getattr(f, name) for f in found]
            worst = None if None in values else max(values)
            table[f"{name} after {lost} lost"] = worst
    return table


def main() -> int:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with train/ and weights/")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "ossicle-audio")
    parser.add_argument("--models", nargs="+", default=["codec-16k", "lyra"])
    parser.add_argument("--pieces", type=int, default=12)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if not (args.data / "train").is_dir():
        print(f"no speech at {args.data / 'train'}: name a folder with --data")
        return 0
    speech = test_speech(args.data / "train", args.cache, args.pieces)
    result: dict[str, Any] = {
        "loss": LOSS, "burst": BURST, "delay_frames": DELAY, "pieces": len(speech),
        "seconds": PIECE_S, "models": {},
    }  # fmt: skip
    for model in load_codecs(args.models, args.data):
        layout = EncodeTask(model.bundle).layout
        rows = []
        for kbps in sorted({3.0, 6.0, layout.kbps()}):
            rows.append(row := compare(model, speech, kbps))
            print(
                f"{model.name} {kbps:.1f} kbps: PESQ without loss "
                f"{row['no loss']['pesq_wb']:.2f}; {100 * LOSS:.0f} % lost: layers "
                f"{row['layers']['pesq_wb']:.2f}, repeated {row['repeat']['pesq_wb']:.2f}, "
                f"redundancy {row['redundancy']['pesq_wb']:.2f} ({row['gain_pesq']:+.2f})",
                flush=True,
            )
        result["models"][model.name] = {"rows": rows, "resync": resync(model, speech)}
        print(model.name, result["models"][model.name]["resync"], flush=True)
    machine.save("codec_loss", result, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
