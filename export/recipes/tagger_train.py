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
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ossicle.export.models.tagger import FULL
from ossicle.export.recipes.tagger_late import listen, train_late
from ossicle.export.recipes.tagger_pupils import (
    Pupils,
    Shards,
    average,
    chances,
    clip_features,
    judge,
    read_shards,
    scale,
)
from ossicle.export.recipes.tagger_step import features, loss_of, vary
from ossicle.export.recipes.tagger_teacher import PATCH


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
