"""Train the separator: seeded, resumable, on a processor or a GPU, against the clock.

    python -m ossicle.export.recipes.separator_train --data FOLDER --out FOLDER --minutes 60

The learning rate follows the wall clock, so a run ends annealed whatever else the machine did.
"""

from __future__ import annotations

import argparse
import copy
import json
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ossicle.export.models.separator import Separator, SeparatorConfig
from ossicle.export.recipes.common.muon import Muon
from ossicle.export.recipes.separator_data import LABELS, Pools
from ossicle.export.recipes.separator_loss import loss_of, validate
from ossicle.export.recipes.separator_scenes import Batch, Scenes, Shelf
from ossicle.export.recipes.separator_spoken import Spoken, add_further
from ossicle.export.recipes.separator_teacher import Teacher

VARIANTS = {
    "hearing": SeparatorConfig(labels=len(LABELS)),
    "talk": SeparatorConfig(hop=256, latency=512, trunk=224, head=192, labels=len(LABELS)),
}


class Training:
    """Everything that a run needs to go on where it stopped."""

    def __init__(self, config: SeparatorConfig, out: Path, seed: int, device: str) -> None:
        torch.manual_seed(seed)
        self.out, self.device, self.seed = out, device, seed
        self.net = Separator(config).to(device)
        self.optimiser = Muon(self.net.named_parameters(), plain=("film",))
        self.smooth = copy.deepcopy(self.net)
        self.step, self.spent_s = 0, 0.0
        self.history: list[dict[str, float]] = []

    @property
    def place(self) -> Path:
        """Where the checkpoint lies."""
        return self.out / "last.pt"

    def load(self) -> None:
        """Go on from the checkpoint, if there is one."""
        if self.place.exists():
            held = torch.load(self.place, map_location=self.device, weights_only=True)
            self.net.load_state_dict(held["net"])
            self.smooth.load_state_dict(held["smooth"])
            self.optimiser.load_state_dict(held["optimiser"])
            self.step, self.spent_s = held["step"], held["spent_s"]
            self.history = held["history"]

    def save(self) -> None:
        """Write the checkpoint whole or not at all."""
        self.out.mkdir(parents=True, exist_ok=True)
        scratch = self.place.with_suffix(".tmp")
        torch.save(
            {
                "config": self.net.config.to_dict(), "net": self.net.state_dict(),
                "smooth": self.smooth.state_dict(), "optimiser": self.optimiser.state_dict(),
                "step": self.step, "spent_s": self.spent_s, "history": self.history,
            },
            scratch,
        )  # fmt: skip
        scratch.replace(self.place)

    def settle_features(self, batch: Batch) -> None:
        """Set the features' mean and scale from one batch."""
        with torch.no_grad():
            self.net.norm_mean.zero_()
            self.net.norm_scale.fill_(1.0)
            seen = self.net.features(self.net.spectra(batch.mixture.to(self.device))).flatten(0, 1)
            self.net.norm_mean.copy_(seen.mean(0))
            self.net.norm_scale.copy_(1 / (seen.std(0) + 0.3))
            self.smooth.load_state_dict(self.net.state_dict())

    def begin_from(self, place: Path) -> None:
        """Take over another run's weights, into wider layers too."""
        held = torch.load(place, map_location=self.device, weights_only=True)["smooth"]
        own = self.net.state_dict()
        for name in ("analysis", "synthesis"):
            held.pop(name, None)
        grown = {
            name: widened(held[name], value, 4 if "_l0" in name else 2 if "film" in name else 1)
            for name, value in own.items()
            if name in held
        }
        self.net.load_state_dict(grown, strict=False)
        self.smooth.load_state_dict(self.net.state_dict())

    def advance(self, batch: Batch, rate: float, done: float = 1.0) -> dict[str, float]:
        """One optimiser step at learning rate ``rate``, ``done`` of the way through the run."""
        held = Batch(*(t.to(self.device) for t in (batch.mixture, batch.query, batch.target)))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device, torch.bfloat16):
            loss, parts = loss_of(self.net, held, done)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), 3.0)
        if torch.isfinite(norm):
            self.optimiser.step()
        self.step += 1
        keep = min(0.995, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for a, b in zip(self.smooth.parameters(), self.net.parameters(), strict=True):
                a.lerp_(b, 1 - keep)
        return {"loss": float(loss.detach()), **parts}


def widened(old: Tensor, fresh: Tensor, blocks: int) -> Tensor:
    """``old`` in the corner of each of ``blocks`` equal parts of ``fresh`` along the first axis.

    New units begin at random but old ones do not hear them yet, so that nothing is unlearned
    (Chen et al. 2016).
    """
    out = fresh.clone().reshape(blocks, -1, *fresh.shape[1:])
    parts = old.reshape(blocks, -1, *old.shape[1:])
    out[:, : parts.shape[1]] = 0.0
    out[(slice(None), *(slice(n) for n in parts.shape[1:]))] = parts
    return out.reshape(fresh.shape)


def rate_at(done: float, peak: float) -> float:
    """Warm up over the first 2 %, then fall in a straight line to nothing."""
    if done < 0.02:
        return peak * (0.05 + 0.95 * done / 0.02)
    return peak * max(0.0, 1.0 - done)


def train(
    data: Path,
    out: Path,
    config: SeparatorConfig,
    *,
    minutes: float,
    size: int = 32,
    peak: float = 1.2e-3,
    seed: int = 0,
    device: str = "cpu",
    check_s: float = 480.0,
    steps: int | None = None,
    cache: Path | None = None,
    begin: Path | None = None,
    alarms: int = 60,
    pairs: int = 40,
    speech: float = 0.55,
    reuse: float = 0.7,
    fuse: bool = False,
    teacher: Teacher | None = None,
    spoken: float = 0.0,
    more: Path | None = None,
) -> Training:
    """Train for ``minutes`` (or ``steps``) and return the run; resumes from ``out``.

    In a share ``spoken`` of the steps speech alone is asked for; ``more`` is a folder of further
    audio for them (:mod:`separator_spoken`), an eighth of speech included.
    """
    run = Training(config, out, seed, device)
    run.load()
    pools = Pools(data, seed=seed, cache=cache, alarms=alarms)
    if more is not None:
        add_further(pools, more, (0.87, 1.0, 1.14), seed)
    shelf = Shelf(pools, reuse)
    further = 0.12 if "+speech" in pools.by_label else 0.0
    scenes = Scenes(shelf, speech_share=speech, further=further)
    alone = Spoken(shelf, further=further)
    aside = Pools(data, held_out=True, seed=seed, speeds=(1.0,), alarms=max(1, alarms // 3))
    rng = np.random.default_rng([seed, run.step])
    if run.step == 0:
        if begin is None:
            run.settle_features(scenes.batch(rng, 64))
        else:
            run.begin_from(begin)
    if fuse:
        run.net.fuse()
    began, spent = time.monotonic(), run.spent_s
    told = checked = saved = began
    mean: dict[str, float] = {}
    stopped = _stop_on_signal()
    while not stopped and run.spent_s < 60 * minutes and (steps is None or run.step < steps):
        done = run.spent_s / (60 * minutes)
        turn = int((run.step + 1) * spoken) > int(run.step * spoken)
        batch = alone.batch(rng, size * 3 // 2) if turn else scenes.batch(rng, size)
        if teacher is not None:
            batch = teacher.blend(batch)
        parts = run.advance(batch, rate_at(done, peak), done)
        now = time.monotonic()
        run.spent_s = spent + now - began
        mean = {k: 0.98 * mean.get(k, v) + 0.02 * v for k, v in parts.items()}
        if now - saved > 120:
            saved = now
            run.save()
        if now - told > 20:
            told = now
            print(run.step, round(run.spent_s), {k: round(v, 2) for k, v in mean.items()},
                  flush=True)  # fmt: skip
        if now - checked > check_s:
            checked = now
            _check(run, aside, mean, pairs)
    _check(run, aside, mean, pairs)
    return run


def _stop_on_signal() -> list[int]:
    """A list that a polite request to end fills, so that a run ends with a checkpoint."""
    stopped: list[int] = []
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    return stopped


def _check(run: Training, aside: Pools, mean: dict[str, float], pairs: int) -> None:
    scores = validate(run.smooth, aside, pairs=pairs)
    entry = {"step": run.step, "minutes": round(run.spent_s / 60, 2), **scores,
             **{f"train_{k}": round(v, 3) for k, v in mean.items()}}  # fmt: skip
    run.history.append(entry)
    print(json.dumps(entry), flush=True)
    run.save()
    torch.save(
        {"config": run.net.config.to_dict(), "smooth": run.smooth.state_dict(),
         "history": run.history},
        run.out / f"step{run.step}.pt",
    )  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder of audio")
    parser.add_argument("--out", type=Path, required=True, help="where checkpoints go")
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="hearing")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--size", type=int, default=32, help="mixtures a step")
    parser.add_argument("--peak", type=float, default=1.2e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--trunk", type=int)
    parser.add_argument("--head", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cache", type=Path, help="where decoded audio is kept between runs")
    parser.add_argument("--begin", type=Path, help="a checkpoint whose weights to start from")
    parser.add_argument("--speech", type=float, default=0.55, help="share of mixtures with speech")
    parser.add_argument("--reuse", type=float, default=0.7, help="share of sources heard before")
    parser.add_argument("--fuse", action="store_true", help="compile (needs a C++ compiler)")
    parser.add_argument("--teacher", type=Path, help="a bundle of GTCRN or DTLN, for speech")
    parser.add_argument("--share", type=float, default=0.3, help="the teacher's, of such answers")
    parser.add_argument("--spoken", type=float, default=0.0, help="share of steps for speech alone")
    parser.add_argument("--more", type=Path, help="a folder of further audio for those steps")
    given = parser.parse_args()
    config = VARIANTS[given.variant]
    if given.trunk or given.head:
        config = replace(config, trunk=given.trunk or config.trunk, head=given.head or config.head)
    torch.set_num_threads(1)
    train(given.data, given.out, config, minutes=given.minutes, size=given.size, peak=given.peak,
          seed=given.seed, steps=given.steps, device=given.device, cache=given.cache,
          begin=given.begin, speech=given.speech, reuse=given.reuse, fuse=given.fuse,
          spoken=given.spoken, more=given.more,
          teacher=Teacher(given.teacher, given.share) if given.teacher else None)  # fmt: skip


if __name__ == "__main__":
    main()
