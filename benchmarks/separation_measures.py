"""What is measured of separation and enhancement: mixtures with truth, runners and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.export.recipes.separator_data import RATE_HZ, coloured_noise, files_of, read
from ossicle.runtime.model import Model
from ossicle.runtime.scene.alarms import VARIANTS, synthesise
from ossicle.streaming.separation.alarm_guard import AlarmGuard

Signal = NDArray[np.float32]  # [T]
Signals = NDArray[np.float32]  # [N, T]
RMS = 0.05  # level of the louder source of a mixture


@dataclass(frozen=True)
class Mixtures:
    """``parts`` [N, S, T] add up to what is heard; ``labels`` name the parts of each."""

    parts: NDArray[np.float32]
    labels: list[tuple[str, ...]]

    @property
    def heard(self) -> Signals:
        """The mixtures [N, T]."""
        return np.asarray(self.parts.sum(axis=1), np.float32)


class HeldOut:
    """Recordings that the built-in separators were never trained on, by label."""

    def __init__(self, data: Path, seed: int = 0, seconds: float = 4.0) -> None:
        self.files = files_of(data, held_out=True)
        self.rng = np.random.default_rng(seed)
        self.length = round(seconds * RATE_HZ) // 256 * 256

    @property
    def labels(self) -> list[str]:
        """What can be drawn: recorded labels, then synthesised ones."""
        recorded = [label for label, paths in self.files.items() if paths]
        return [*recorded, *VARIANTS, "noise"]

    def draw(self, label: str) -> Signal:
        """``length`` samples of ``label`` at a level of ``RMS``, silence at most in between."""
        if label in VARIANTS:
            x = synthesise(label, self.rng, self.length / RATE_HZ).samples
        elif label == "noise":
            x = coloured_noise(self.rng, self.length)
        else:
            x = self._recorded(label)
        x = x[: self.length]
        return np.asarray(x * (RMS / (np.sqrt(np.mean(np.square(x))) + 1e-9)), np.float32)

    def _recorded(self, label: str) -> Signal:
        paths = self.files[label]
        if label == "speech":
            paths = [path for path in paths if "sti" in str(path.parent)]
        parts: list[Signal] = []
        while sum(map(len, parts)) < self.length:
            piece = read(paths[int(self.rng.integers(len(paths)))])
            if label == "speech" or len(piece) <= self.length:
                parts.append(piece)
                continue
            starts = self.rng.integers(0, len(piece) - self.length, 6)
            loud = [float(np.square(piece[s : s + self.length]).sum()) for s in starts]
            parts.append(piece[starts[int(np.argmax(loud))] :][: self.length])
        return np.concatenate(parts)[: self.length]

    def mixtures(self, casts: Sequence[Sequence[str]], snr_db: Sequence[float]) -> Mixtures:
        """One mixture per cast; every part after the first is ``snr_db`` below it."""
        parts = np.stack(
            [
                np.stack(
                    [self.draw(k) * (10 ** (-snr / 20) if i else 1) for i, k in enumerate(cast)]
                )
                for cast, snr in zip(casts, snr_db, strict=True)
            ]
        )
        return Mixtures(parts.astype(np.float32), [tuple(cast) for cast in casts])


def run_batch(
    model: Model, heard: Signals, conditions: Mapping[str, NDArray[Any]] | None = None
) -> Signals:
    """Aligned output [N, T] of every row of ``heard`` [N, T], all rows stepped as one batch."""
    hop, delay = model.manifest.hop, model.manifest.delay
    line = model.program("step")
    source = next(p.name for p in line.inputs if p.kind == "audio")
    sink = next(p.name for p in line.outputs if p.kind == "audio")
    count, length = heard.shape
    total = -(-(length + delay) // hop) * hop
    padded = np.pad(heard, ((0, 0), (0, total - length))).astype(np.float32)
    state = model.open(batch=count)
    given = dict(conditions or {})
    made = []
    for at in range(0, total, hop):
        out = model.step(state, {source: padded[:, None, at : at + hop], **given})
        made.append(out[sink][:, 0])
    return np.concatenate(made, axis=1)[:, delay : delay + length]


def guarded(heard: Signals, out: Signals, delay: int, hop: int) -> Signals:
    """``out`` with the alarm guard behind it, as the enhancer's delay would have it."""
    guard = AlarmGuard(RATE_HZ, delay=delay)
    length = heard.shape[1] // hop * hop - hop
    made = np.zeros_like(out)
    for row, (dry, wet) in enumerate(zip(heard, out, strict=True)):
        state = guard.open()
        late = np.pad(dry, (delay, 0))
        lag = np.pad(wet, (delay, 0))
        parts = [
            guard.step(state, dry[at : at + hop], late[at : at + hop], lag[at : at + hop])
            for at in range(0, length, hop)
        ]
        joined = np.concatenate(parts)[delay:]
        made[row, : len(joined)] = joined
        made[row, len(joined) :] = wet[len(joined) :]
    return made


def queried(model: Model, wanted: Sequence[Sequence[str]]) -> dict[str, NDArray[Any]]:
    """Conditions [N, 1, ...] that ask each row for its labels."""
    labels = model.manifest.labels or ()
    query = np.zeros((len(wanted), 1, len(labels)), np.float32)
    for row, names in enumerate(wanted):
        query[row, 0, [labels.index(name) for name in names]] = 1.0
    blend = np.tile(np.array([0.0, 1.0], np.float32), (len(wanted), 1, 1))
    return {"query": query, "blend": blend}


def si_sdr(estimate: Signals, target: Signals) -> NDArray[np.float64]:
    """Scale-invariant signal-to-distortion ratio in dB of each row (Le Roux et al. 2019)."""
    estimate, target = estimate.astype(np.float64), target.astype(np.float64)
    estimate = estimate - estimate.mean(-1, keepdims=True)
    target = target - target.mean(-1, keepdims=True)
    scale = (estimate * target).sum(-1) / (np.square(target).sum(-1) + 1e-12)
    wanted = scale[..., None] * target
    noise = np.square(estimate - wanted).sum(-1)
    ratio = np.square(wanted).sum(-1) / (noise + 1e-12) + 1e-12
    return np.asarray(10 * np.log10(ratio))


def level_db(x: NDArray[Any]) -> NDArray[np.float64]:
    """Mean power of each row in dB."""
    return np.asarray(10 * np.log10(np.square(x.astype(np.float64)).mean(-1) + 1e-12))


def pesq_wb(target: Signals, estimate: Signals) -> list[float]:
    """PESQ-WB of each row; rows the tool cannot align are left out."""
    from pesq import NoUtterancesError, pesq

    scores = []
    for a, b in zip(target, estimate, strict=True):
        try:
            scores.append(float(pesq(RATE_HZ, a, b, "wb")))
        except NoUtterancesError:
            continue
    return scores


def stoi_of(target: Signals, estimate: Signals) -> list[float]:
    """STOI of each row."""
    from pystoi import stoi

    return [float(stoi(a, b, RATE_HZ)) for a, b in zip(target, estimate, strict=True)]


def dnsmos(weights: Path) -> Callable[[Signal], tuple[float, float, float]]:
    """DNSMOS P.835: a function from a signal to (speech, background, overall)."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        str(weights / "sig_bak_ovr.onnx"), options, providers=["CPUExecutionProvider"]
    )
    curves = (
        np.poly1d([-0.08397278, 1.22083953, 0.0052439]),
        np.poly1d([-0.13166888, 1.60915514, -0.39604546]),
        np.poly1d([-0.06766283, 1.11546468, 0.04602535]),
    )

    def score(x: Signal) -> tuple[float, float, float]:
        tiled = np.tile(x, -(-144_160 // len(x)))[:144_160].astype(np.float32)
        raw = session.run(None, {"input_1": tiled[None]})[0][0]
        sig, bak, ovr = (float(curve(v)) for curve, v in zip(curves, raw, strict=True))
        return sig, bak, ovr

    return score
