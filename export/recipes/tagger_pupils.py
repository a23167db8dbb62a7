"""Both tiers of the sound tagger as they learn, what they learn from, and how they are judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from ossicle.export.recipes.tagger_teacher import log_mel
from ossicle.runtime.scene.labels import ENVIRONMENT, LABELS

HEARD = (4, 5, 7)  # trunk layers that the heads look at
Clip = tuple[str, NDArray[np.float32]]  # a label, and the log-mel of a recording of it


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


def judge(pupils: Pupils, val: Shards, clips: list[Clip]) -> dict[str, object]:
    """:func:`figures` of both tiers."""
    pupils.eval()

    def hear(mel: Tensor) -> dict[str, Tensor]:
        full, tiny, _ = pupils(mel)
        return {"full": full, "tiny": tiny}

    found = figures(hear, val, clips)
    pupils.train()
    return found


@torch.no_grad()
def figures(
    hear: Callable[[Tensor], dict[str, Tensor]], val: Shards, clips: list[Clip]
) -> dict[str, object]:
    """Frame F1 at 0.4 and at the best threshold per class, and clip accuracy, by tier.

    ``hear`` gives each tier's logits [B, T', K] of log-mel [B, T, 64]. Of the first tier there is
    F1 by class, too.
    """
    scores: dict[str, list[NDArray[np.float32]]] = {}
    for i in range(0, len(val.mel), 16):
        mel = torch.from_numpy(val.mel[i : i + 16].astype(np.float32))
        for tier, logits in hear(mel).items():
            scores.setdefault(tier, []).append(torch.sigmoid(logits).numpy())
    out: dict[str, object] = {}
    for tier, parts in scores.items():
        found = np.concatenate(parts)
        best = [_best_f1(found[..., k], val.truth[..., k]) for k in range(len(LABELS))]
        on = found > 0.4
        hits = int(np.sum(on & (val.truth > 0)))
        out[f"{tier}_micro"] = round(2 * hits / max(1, int(on.sum() + val.truth.sum())), 4)
        out[f"{tier}_macro"] = round(float(np.mean(best)), 4)
        out.setdefault("by_class", dict(zip(LABELS, [round(b, 2) for b in best], strict=True)))
    right = dict.fromkeys(scores, 0)
    for label, mel_clip in clips:
        for tier, logits in hear(torch.from_numpy(mel_clip)[None]).items():
            mean = torch.sigmoid(logits)[0, :, : len(ENVIRONMENT)].mean(0)
            right[tier] += int(ENVIRONMENT[int(mean.argmax())] == label)
    for tier, count in right.items():
        out[f"{tier}_clips"] = round(count / max(1, len(clips)), 4)
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


def clip_features(data: Path, folds: Sequence[int]) -> list[Clip]:
    """Whole recordings of ``folds`` as (label, log-mel [T, 64], T a multiple of a step)."""
    lib = load_library(data, folds)
    out = []
    for label in ENVIRONMENT:
        for sound in lib.clips.get(label, []):
            mel = log_mel(sound.samples)
            out.append((label, mel[: len(mel) // STEP_FRAMES * STEP_FRAMES]))
    return out


def average(target: nn.Module, source: nn.Module, keep: float) -> None:
    """Move ``target`` towards ``source``: an average over the last steps."""
    with torch.no_grad():
        for a, b in zip(target.state_dict().values(), source.state_dict().values(), strict=True):
            if a.dtype.is_floating_point:
                a.mul_(keep).add_(b, alpha=1 - keep)
            else:
                a.copy_(b)


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
