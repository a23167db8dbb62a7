"""Train both tiers of the sound tagger together: one trunk, two heads, one teacher.

    python -m ossicle.export.recipes.tagger_train --shards FOLDER --val FOLDER --out FOLDER

The learning rate follows the wall clock, so a run ends annealed whatever else the machine did.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ossicle.export.models.tagger import (
    FULL,
    STEP_FRAMES,
    TINY,
    Head,
    Tagger,
    TaggerConfig,
    Trunk,
    memory_shapes,
)
from ossicle.export.recipes.tagger_data import load_library
from ossicle.export.recipes.tagger_step import features, loss_of, vary
from ossicle.export.recipes.tagger_teacher import PATCH, log_mel
from ossicle.runtime.scene.labels import ENVIRONMENT, LABELS

HEARD = (4, 5, 7)  # trunk layers that the heads look at


@dataclass
class Shards:
    """Rendered scenes in memory."""

    mel: NDArray[np.float16]  # [N, 1000, 64]
    truth: NDArray[np.uint8]  # [N, 250, K]
    embedding: NDArray[np.float16]  # [N, 10, 1024]


def read_shards(folders: Sequence[Path]) -> Shards:
    """All shards of ``folders``."""
    parts = [np.load(p) for f in folders for p in sorted(f.glob("shard?????.npz"))]
    held = {k: np.concatenate([p[k] for p in parts]) for k in ("mel", "truth", "embedding")}
    return Shards(held["mel"], held["truth"], held["embedding"])


class Pupils(nn.Module):
    """The full tier, the tiny head on the same trunk, and the map to the teacher's embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk(FULL.layers)
        self.full = Head(FULL)
        self.tiny = Head(TINY)
        self.to_teacher = nn.Conv1d(FULL.width, 1024, 1)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of both tiers [B, T, K] and the guessed embedding [B, 1024, steps]."""
        return self.heads(mel, self.features(mel))

    def features(self, mel: Tensor) -> list[Tensor]:
        """Every trunk layer's output for log-mel [B, T, 64]."""
        outs: list[Tensor] = self.trunk(mel, fresh(FULL, len(mel))[: FULL.layers])[0]
        return outs

    def heads(self, mel: Tensor, outs: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What the heads make of the trunk's layers; only those in :data:`HEARD` are looked at."""
        batch = len(mel)
        logits, _, body, _ = self.full(mel, outs, fresh(FULL, batch)[FULL.layers :])
        small, _, _, _ = self.tiny(mel, outs, fresh(TINY, batch)[TINY.layers :])
        return logits, small, self.to_teacher(body)

    def tagger(self, tier: str) -> Tagger:
        """One tier alone, with its own copy of the trunk."""
        config, head = (FULL, self.full) if tier == "full" else (TINY, self.tiny)
        net = Tagger(config)
        state = self.trunk.state_dict()
        net.trunk.load_state_dict({k: state[k] for k in net.trunk.state_dict()})
        net.head.load_state_dict(head.state_dict())
        return net.eval()


@torch.no_grad()
def judge(
    pupils: Pupils, val: Shards, clips: list[tuple[str, NDArray[np.float32]]]
) -> dict[str, object]:
    """Frame F1 at 0.5 and at the best threshold per class, and clip accuracy, of both tiers."""
    pupils.eval()
    scores: dict[str, list[NDArray[np.float32]]] = {"full": [], "tiny": []}
    for i in range(0, len(val.mel), 16):
        mel = torch.from_numpy(val.mel[i : i + 16].astype(np.float32))
        logits, small, _ = pupils(mel)
        scores["full"].append(torch.sigmoid(logits).numpy())
        scores["tiny"].append(torch.sigmoid(small).numpy())
    out: dict[str, object] = {}
    for tier, parts in scores.items():
        found = np.concatenate(parts)
        best = [_best_f1(found[..., k], val.truth[..., k]) for k in range(len(LABELS))]
        on = found > 0.4
        hits = int(np.sum(on & (val.truth > 0)))
        out[f"{tier}_micro"] = round(2 * hits / max(1, int(on.sum() + val.truth.sum())), 4)
        out[f"{tier}_macro"] = round(float(np.mean(best)), 4)
        if tier == "full":
            out["by_class"] = dict(zip(LABELS, [round(b, 2) for b in best], strict=True))
    right = {"full": 0, "tiny": 0}
    for label, mel_clip in clips:
        x = torch.from_numpy(mel_clip)[None]
        logits, small, _ = pupils(x)
        for tier, value in (("full", logits), ("tiny", small)):
            mean = torch.sigmoid(value)[0, :, : len(ENVIRONMENT)].mean(0)
            right[tier] += int(ENVIRONMENT[int(mean.argmax())] == label)
    for tier, count in right.items():
        out[f"{tier}_clips"] = round(count / max(1, len(clips)), 4)
    pupils.train()
    return out


def fresh(config: TaggerConfig, batch: int) -> list[Tensor]:
    """Memory of ``batch`` streams of one tier that have heard nothing."""
    return [torch.zeros(batch, *shape) for _, shape in memory_shapes(config)]


def _best_f1(score: NDArray[np.float32], truth: NDArray[np.uint8]) -> float:
    best = 0.0
    for threshold in np.arange(0.1, 0.95, 0.05):
        on = score > threshold
        hits = int(np.sum(on & (truth > 0)))
        best = max(best, 2 * hits / max(1, int(on.sum()) + int(truth.sum())))
    return best


def clip_features(data: Path, folds: Sequence[int]) -> list[tuple[str, NDArray[np.float32]]]:
    """Whole recordings of ``folds`` as (label, log-mel [T, 64], T a multiple of a step)."""
    lib = load_library(data, folds)
    out = []
    for label in ENVIRONMENT:
        for sound in lib.clips.get(label, []):
            mel = log_mel(sound.samples)
            out.append((label, mel[: len(mel) // STEP_FRAMES * STEP_FRAMES]))
    return out


@dataclass
class Remembered:
    """Varied scenes as the trunk hears them: all that the heads need, computed once."""

    mel: NDArray[np.float16]  # [N, 1000, 64]
    layers: dict[int, NDArray[np.float16]]  # layer of HEARD -> [N, C, 125, F]
    truth: NDArray[np.float32]
    known: NDArray[np.bool_]  # [N] whether the teacher heard the same
    view: NDArray[np.float32]  # [N, 10, 1024] the teacher's embedding, to unit variance


@torch.no_grad()
def listen(pupils: Pupils, shards: Shards, rng: np.random.Generator, scenes: int) -> Remembered:
    """What the trunk makes of ``scenes`` varied scenes."""
    pick = rng.permutation(len(shards.mel))[:scenes]
    parts: dict[int, list[NDArray[np.float16]]] = {layer: [] for layer in HEARD}
    mels, truths, known = [], [], []
    for i in range(0, len(pick), 8):
        part = pick[i : i + 8]
        mel, truth, alone = vary(
            rng,
            torch.from_numpy(shards.mel[part].astype(np.float32)),
            torch.from_numpy(shards.truth[part].astype(np.float32)),
        )
        outs = pupils.features(mel)
        for layer in HEARD:
            parts[layer].append(outs[layer].contiguous().numpy().astype(np.float16))
        mels.append(mel.numpy().astype(np.float16))
        truths.append(truth.numpy())
        known.append(alone.numpy())
    centre, spread = scale(shards)
    view = (shards.embedding[pick].astype(np.float32) - centre) / spread
    layers = {layer: np.concatenate(parts.pop(layer)) for layer in HEARD}
    return Remembered(
        np.concatenate(mels), layers, np.concatenate(truths), np.concatenate(known), view
    )


def train_late(
    pupils: Pupils,
    heard: Remembered,
    rng: np.random.Generator,
    minutes: float,
    rate: float,
    cut: int = FULL.layers,
) -> Pupils:
    """Train what follows the first ``cut`` layers on what they made: many cheap steps.

    Heads that start at random would first spoil what the trunk has learnt (Kumar et al. 2022).
    Returns the average over the last steps.
    """
    mean = copy.deepcopy(pupils)
    heads = [p for n, p in pupils.named_parameters() if not n.startswith("trunk")]
    late = [p for layer in list(pupils.trunk.layers)[cut:] for p in layer.parameters()]
    optimiser = torch.optim.AdamW(
        [{"params": heads}, {"params": late}] if late else heads, lr=rate, weight_decay=0.02
    )
    begun, step, deadline = time.monotonic(), 0, minutes * 60
    while (now := time.monotonic() - begun) < deadline:
        share = min(1.0, (step + 1) / 60) * 0.5 * (1 + np.cos(np.pi * now / deadline)) + 0.02
        for group, base in zip(optimiser.param_groups, (rate, 0.25 * rate), strict=False):
            group["lr"] = base * share
        some = rng.integers(0, len(heard.mel), 24 if cut == FULL.layers else 12)
        loss, parts = loss_of(
            _from_memory(pupils, heard, some, cut),
            torch.from_numpy(heard.truth[some]),
            torch.from_numpy(heard.view[some]),
            torch.from_numpy(heard.known[some]).float(),
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([*heads, *late], 2.0)
        optimiser.step()
        average(mean, pupils, min(0.99, step / (step + 10)))
        step += 1
        if step % 50 == 0:
            print("late", cut, step, round(now), parts, flush=True)
    return mean


def _from_memory(
    pupils: Pupils, heard: Remembered, some: NDArray[np.int64], cut: int
) -> tuple[Tensor, Tensor, Tensor]:
    outs: list[Tensor] = [torch.empty(0)] * FULL.layers
    for layer in HEARD:
        if layer < cut:
            outs[layer] = torch.from_numpy(heard.layers[layer][some].astype(np.float32))
    memory = fresh(FULL, len(some))
    for layer in range(cut, FULL.layers):
        outs[layer], _ = pupils.trunk.layers[layer](outs[layer - 1], memory[layer])
    return pupils.heads(torch.from_numpy(heard.mel[some].astype(np.float32)), outs)


def average(target: Pupils, source: Pupils, keep: float) -> None:
    """Move ``target`` towards ``source``: an average over the last steps."""
    with torch.no_grad():
        for a, b in zip(target.state_dict().values(), source.state_dict().values(), strict=True):
            if a.dtype.is_floating_point:
                a.mul_(keep).add_(b, alpha=1 - keep)
            else:
                a.copy_(b)


def train(asked: argparse.Namespace) -> None:
    """Run until the clock says so; write ``pupils.pt`` and a line of JSON per look."""
    rng = np.random.default_rng(asked.seed)
    torch.manual_seed(asked.seed)
    asked.out.mkdir(parents=True, exist_ok=True)
    pupils = Pupils()
    if asked.start:
        pupils.load_state_dict(torch.load(asked.start, weights_only=True))
    if asked.trunk:
        held = torch.load(asked.trunk, weights_only=True)
        pupils.trunk.load_state_dict({k[6:]: v for k, v in held.items() if k.startswith("trunk.")})
    for layer in list(pupils.trunk.layers)[: asked.freeze]:
        layer.requires_grad_(False)
    pupils = pupils.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    clips = clip_features(asked.data, asked.val_folds)
    val = read_shards([asked.val])
    val = Shards(val.mel[:120], val.truth[:120], val.embedding[:120])
    shards, read_at = read_shards(asked.shards), time.monotonic()
    log = (asked.out / "log.jsonl").open("a")
    if asked.heads:
        heard = listen(pupils, shards, rng, asked.scenes)
        print("listened", len(heard.mel), flush=True)
        for minutes, rate, cut in ((asked.heads, 2e-3, FULL.layers), (asked.late, 7e-4, 6)):
            if minutes:
                pupils = train_late(pupils, heard, rng, minutes, rate, cut)
                _report(log, asked, pupils, val, clips, 0, 0, len(shards.mel), {"cut": cut})
        del heard
    mean = copy.deepcopy(pupils)
    groups = [
        {
            "params": [p for p in pupils.trunk.parameters() if p.requires_grad],
            "lr": asked.rate * asked.gentle,
        },
        {"params": [p for n, p in pupils.named_parameters() if not n.startswith("trunk")]},
    ]
    optimiser = torch.optim.AdamW(groups, lr=asked.rate, weight_decay=0.02)
    bases = [g["lr"] for g in optimiser.param_groups]
    centre, spread = scale(shards)
    chance = chances(shards)
    begun, step, looked, deadline = time.monotonic(), 0, time.monotonic(), asked.minutes * 60
    parts: dict[str, float] = {}
    while (now := time.monotonic() - begun) < deadline:
        if time.monotonic() - read_at > 180 and now < 0.6 * deadline:
            shards, read_at = read_shards(asked.shards), time.monotonic()
            chance = chances(shards)
        rate = min(1.0, (step + 1) / 80) * 0.5 * (1 + np.cos(np.pi * now / deadline)) + 0.01
        for group, base in zip(optimiser.param_groups, bases, strict=True):
            group["lr"] = base * rate
        pick = rng.choice(len(shards.mel), asked.batch, p=chance)
        part, size = int(rng.integers(0, 11 - asked.crop)), asked.crop  # patches of the teacher
        mel = torch.from_numpy(
            shards.mel[pick, part * PATCH : (part + size) * PATCH].astype(np.float32)
        )
        first = part * PATCH // 4  # 40 ms frames
        truth = torch.from_numpy(
            shards.truth[pick, first : first + size * PATCH // 4].astype(np.float32)
        )
        seen = shards.embedding[pick, part : part + size].astype(np.float32)
        view = torch.from_numpy((seen - centre) / spread)
        mel, truth, known = vary(rng, mel, truth)
        outs = features(pupils.trunk, mel, asked.freeze, asked.mixed)
        made = pupils.heads(mel, [y.float() for y in outs])
        loss, parts = loss_of(made, truth, view, known.float())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(pupils.parameters(), 2.0)
        optimiser.step()
        average(mean, pupils, min(0.995, step / (step + 10)))
        step += 1
        if step % 10 == 0 and time.monotonic() - looked > asked.look * 60:
            looked = time.monotonic()
            _report(log, asked, mean, val, clips, step, now, len(shards.mel), parts)
    _report(log, asked, mean, val, clips, step, deadline, len(shards.mel), parts)


def chances(shards: Shards) -> NDArray[np.float64]:
    """How often each scene is drawn [N]: as often as its rarest class asks, within a factor 3."""
    there = shards.truth.any(axis=1)  # [N, K]
    rare = 1 / np.maximum(there.mean(axis=0), 1e-3)
    need = np.where(there, rare, 0).max(axis=1)
    middle = float(np.median(rare))
    need = np.clip(np.sqrt(np.where(need > 0, need, middle) / middle), 0.6, 1.8)
    return np.asarray(need / need.sum(), np.float64)


def scale(shards: Shards) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and spread [1024] of the teacher's embedding."""
    flat = shards.embedding.reshape(-1, 1024).astype(np.float32)
    return flat.mean(0), np.maximum(flat.std(0), 0.05)


def _report(
    log: object, asked: argparse.Namespace, mean: Pupils, val: Shards,
    clips: list[tuple[str, NDArray[np.float32]]], step: int, now: float, scenes: int,
    parts: dict[str, float],
) -> None:  # fmt: skip
    row = {
        "step": step,
        "seconds": round(now),
        "scenes": scenes,
        **parts,
        **judge(mean, val, clips),
    }
    print(json.dumps(row), file=log, flush=True)  # type: ignore[call-overload]
    torch.save(mean.state_dict(), asked.out / "pupils.part")
    (asked.out / "pupils.part").replace(asked.out / "pupils.pt")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OSSICLE_DATA", ".")))
    parser.add_argument("--shards", type=Path, nargs="+", required=True)
    parser.add_argument("--val", type=Path, required=True)
    parser.add_argument("--val-folds", type=int, nargs="+", default=[4])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--trunk", type=Path, help="a checkpoint whose trunk to take")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--heads", type=float, default=0, help="minutes for the heads alone first")
    parser.add_argument("--late", type=float, default=0, help="then minutes with layers 7 and 8")
    parser.add_argument("--scenes", type=int, default=1500, help="remembered for these two")
    parser.add_argument("--look", type=float, default=4)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--gentle", type=float, default=0.25, help="the trunk's share of the rate")
    parser.add_argument("--crop", type=int, default=10, help="patches of 0.96 s per scene")
    parser.add_argument("--freeze", type=int, default=0, help="first layers left as they are")
    parser.add_argument("--mixed", action="store_true", help="1x1 products in bfloat16")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(asked.threads)
    train(asked)


if __name__ == "__main__":
    main()
