"""Train the heads, or the last layers too, on what a trunk made of scenes: many cheap steps."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ossicle.export.models.tagger import FULL
from ossicle.export.recipes.tagger_pupils import HEARD, Pupils, Shards, average, fresh, scale
from ossicle.export.recipes.tagger_step import loss_of, vary


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
