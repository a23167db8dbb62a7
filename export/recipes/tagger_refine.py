"""The second course: scenes mixed anew at every step, and what fools the model oftener.

    python -m ossicle.export.recipes.tagger_refine --bank FOLDER --shards FOLDER --val FOLDER \
        --start work/run/pupils.pt --minutes 60 --out work/run2

The first course (:mod:`tagger_train`) hears a few thousand scenes over and over. Here no scene
comes twice; a share of the batch comes from the rendered shards. With ``--teacher`` YAMNet hears
every scene as the model does, in patches that end anywhere, and its embedding of them is what the
model's memory should hold; without, only what the shards keep of it is known.
New files in the bank's folders are taken in while it runs.
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
from torch import Tensor, nn

from ossicle.export.models.tagger import STEP_FRAMES, Tagger
from ossicle.export.recipes.tagger_blend import (
    VARIED,
    Bank,
    Blend,
    blend,
    load_bank,
    remember,
    spoil,
)
from ossicle.export.recipes.tagger_pair import Pair
from ossicle.export.recipes.tagger_pupils import (
    Clip,
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
from ossicle.export.recipes.tagger_teacher import PATCH, Yamnet, read_weights
from ossicle.runtime.scene.labels import LABELS

SIZE = 10 * PATCH  # frames of a scene that are trained on: whole patches of the teacher


class Course:
    """What one step needs: scenes old and new, the model, and its running average."""

    diet = VARIED

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.pair = Pair(asked.meet, asked.rank, asked.ranks)
        self.rng = np.random.default_rng((asked.seed, asked.rank) if asked.rank else asked.seed)
        self.pupils = Pupils()
        self.pupils.load_state_dict(torch.load(asked.start, weights_only=True))
        self.pupils.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.learner = self.who_learns()
        for layer in list(self.learner.trunk.layers)[: asked.freeze]:
            layer.requires_grad_(False)
        self.mean = copy.deepcopy(self.learner)
        self.shards = read_shards(asked.shards)
        self.chance = chances(self.shards)
        self.centre, self.spread = scale(self.shards)
        self.paths: list[Path] = []
        self.bank = self.load()
        kind = torch.float32 if asked.float32 else torch.bfloat16
        self.teacher = Yamnet(read_weights(asked.teacher), kind) if asked.teacher else None
        trunk = [p for p in self.learner.trunk.parameters() if p.requires_grad]
        heads = [p for n, p in self.learner.named_parameters() if not n.startswith("trunk")]
        groups = [{"params": trunk, "lr": asked.rate * asked.gentle}, {"params": heads}]
        self.optimiser = torch.optim.AdamW(groups, lr=asked.rate, weight_decay=0.02)
        self.bases = [group["lr"] for group in self.optimiser.param_groups]

    def who_learns(self) -> Pupils | Tagger:
        """What of ``pupils`` learns: all."""
        return self.pupils

    def judged(self, val: Shards, clips: list[Clip]) -> dict[str, object]:
        """How the running average does on ``val`` and ``clips``."""
        assert isinstance(self.mean, Pupils)
        return judge(self.mean, val, clips)

    def load(self, old: Bank | None = None) -> Bank:
        """The bank as it lies on the disk now, new files behind the known ones."""
        found = sorted(p for f in self.asked.bank for p in f.glob("*.npz"))
        new = [p for p in found if not p.name.endswith(".part.npz") and p not in self.paths]
        self.paths += new
        return load_bank(self.paths, old)

    def renew(self) -> None:
        """Take in new files of the bank."""
        found = [p for f in self.asked.bank for p in f.glob("*.npz")]
        if {p for p in found if not p.name.endswith(".part.npz")} != set(self.paths):
            self.bank = self.load(self.bank)

    def batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Blend]]:
        """Log-mel, truth, the teacher's view, whether it is known, and the new scenes, first."""
        asked, rng = self.asked, self.rng
        scenes = [blend(rng, self.bank, self.diet) for _ in range(asked.batch - asked.rendered)]
        mel = np.stack([s.mel[:SIZE] for s in scenes])
        spoil(rng, mel)
        truth = np.stack([s.truth[: SIZE // 4] for s in scenes]).astype(np.float32)
        pick = rng.choice(len(self.shards.mel), asked.rendered, p=self.chance)
        old = vary(
            rng,
            torch.from_numpy(self.shards.mel[pick, :SIZE].astype(np.float32)),
            torch.from_numpy(self.shards.truth[pick, : SIZE // 4].astype(np.float32)),
        )
        seen = (self.shards.embedding[pick].astype(np.float32) - self.centre) / self.spread
        view = np.concatenate([np.zeros((len(scenes), *seen.shape[1:]), np.float32), seen])
        known = torch.cat([torch.zeros(len(scenes)), old[2].float()])
        return (
            torch.cat([torch.from_numpy(mel), old[0]]),
            torch.cat([torch.from_numpy(truth), old[1]]),
            torch.from_numpy(view),
            known,
            scenes,
        )

    def step(self, rate: float, count: int) -> dict[str, float]:
        """One step at ``rate`` of the full one; the losses."""
        for group, base in zip(self.optimiser.param_groups, self.bases, strict=True):
            group["lr"] = base * rate
        mel, truth, view, known, scenes = self.batch()
        calm = torch.zeros(len(mel), dtype=torch.bool)
        calm[: len(scenes)] = torch.tensor([s.calm for s in scenes])
        loss, parts, logits = self.lesson(mel, truth, view, known, calm)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.pair.share(self.learner.parameters())
        nn.utils.clip_grad_norm_(self.learner.parameters(), 2.0)
        self.optimiser.step()
        average(self.mean, self.learner, min(0.998, count / (count + 10)))
        parts["fooled"] = self.learn_doubt(logits.detach(), truth, scenes)
        return parts

    def lesson(
        self, mel: Tensor, truth: Tensor, view: Tensor, known: Tensor, calm: Tensor
    ) -> tuple[Tensor, dict[str, float], Tensor]:
        """The loss of a batch, its parts, and the larger tier's logits."""
        ends = None
        if self.teacher is not None:
            view, ends = self.watch(mel)
            known = torch.ones(len(mel))
        outs = features(self.pupils.trunk, mel, self.asked.freeze, not self.asked.float32)
        made = self.pupils.heads(mel, outs)
        loss, parts = loss_of(
            made, truth, view, known, calm, ends, self.asked.view, self.asked.events
        )
        return loss, parts, made[0]

    def watch(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's view [B, N, 1024] of ``mel`` [B, T, 64] up to N random steps [B, N]."""
        assert self.teacher is not None
        count, least = mel.shape[1] // STEP_FRAMES, PATCH // STEP_FRAMES
        ends = self.rng.integers(least - 1, count, (len(mel), self.asked.looks))
        stops = (ends + 1) * STEP_FRAMES
        patches = [
            x[b - PATCH : b] for x, row in zip(mel, stops.tolist(), strict=True) for b in row
        ]
        seen = self.teacher(torch.stack(patches))
        seen = (seen - torch.from_numpy(self.centre)) / torch.from_numpy(self.spread)
        return seen.reshape(len(mel), self.asked.looks, -1), torch.from_numpy(ends)

    @torch.no_grad()
    def learn_doubt(self, logits: Tensor, truth: Tensor, scenes: list[Blend]) -> float:
        """How surely calm scenes were taken for events: the mean, noted by sound."""
        wrongs = []
        never = truth.amax(1) == 0  # [B, K]
        never[:, LABELS.index("music")] = False
        for b, scene in enumerate(scenes):
            if scene.calm and scene.made_of:
                worst = torch.sigmoid(logits[b][:, never[b]]).amax(1)
                wrongs.append(float(worst.topk(6).values.mean()))
                remember(self.bank, scene, wrongs[-1])
        return float(np.mean(wrongs)) if wrongs else 0.0


def train(asked: argparse.Namespace, kind: type[Course] = Course) -> None:
    """Run until the clock says so; write ``pupils.pt`` and a line of JSON per look.

    Of several processes that learn as one, the first one does.
    """
    torch.manual_seed(asked.seed)
    asked.out.mkdir(parents=True, exist_ok=True)
    clips = clip_features(asked.data, asked.val_folds)
    val = read_shards([asked.val])
    val = Shards(val.mel[:120], val.truth[:120], val.embedding[:120])
    course = kind(asked)
    begun = looked = renewed = time.monotonic()
    count, deadline = 0, asked.minutes * 60
    sums: dict[str, float] = {}
    with (asked.out / "log.jsonl").open("a") as log:
        while (now := course.pair.clock(time.monotonic() - begun)) < deadline:
            warm = min(1.0, (count + 1) / 100)
            parts = course.step(warm * (0.5 + 0.5 * np.cos(np.pi * now / deadline)) + 0.01, count)
            count += 1
            for name, value in parts.items():
                sums[name] = 0.98 * sums.get(name, value) + 0.02 * value
            if time.monotonic() - renewed > 120:
                renewed = time.monotonic()
                course.renew()
            last = time.monotonic() - begun >= deadline
            due = last or time.monotonic() - looked > asked.look * 60
            if due and asked.rank == 0:
                looked = time.monotonic()
                row = {"step": count, "seconds": round(now), **sums,
                       **course.judged(val, clips)}  # fmt: skip
                row["bank"] = {k: len(v) for k, v in course.bank.items.items()}
                print(json.dumps(row), file=log, flush=True)
                torch.save(course.mean.state_dict(), asked.out / "pupils.part")
                (asked.out / "pupils.part").replace(asked.out / "pupils.pt")


def options(about: str | None) -> argparse.ArgumentParser:
    """What a course is asked for."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OSSICLE_DATA", ".")))
    parser.add_argument("--bank", type=Path, nargs="+", required=True)
    parser.add_argument("--shards", type=Path, nargs="+", required=True)
    parser.add_argument("--val", type=Path, required=True)
    parser.add_argument("--val-folds", type=int, nargs="+", default=[4])
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--look", type=float, default=5)
    parser.add_argument("--rate", type=float, default=1.2e-3)
    parser.add_argument("--gentle", type=float, default=0.3, help="the trunk's share of the rate")
    parser.add_argument("--freeze", type=int, default=3, help="first layers left as they are")
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--rendered", type=int, default=2, help="of the batch, from the shards")
    parser.add_argument("--teacher", type=Path, help="yamnet.tflite: hears every scene")
    parser.add_argument("--looks", type=int, default=6, help="patches of a scene that it hears")
    parser.add_argument("--view", type=float, default=0.15, help="what its view counts for")
    parser.add_argument(
        "--events",
        type=float,
        default=0.0,
        help="what whole events count for; the shipped taggers learnt without",
    )
    parser.add_argument("--float32", action="store_true", help="where bfloat16 is slow: no AVX512")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--meet", type=Path, help="a new file where processes meet; learn as one")
    parser.add_argument("--rank", type=int, default=0, help="of this one among them, from 0")
    parser.add_argument("--ranks", type=int, default=1, help="how many there are")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and train."""
    asked = options(__doc__).parse_args(arguments)
    torch.set_num_threads(1)
    train(asked)


if __name__ == "__main__":
    main()
