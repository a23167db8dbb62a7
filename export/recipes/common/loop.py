"""A seeded, resumable training loop that runs for a budget of minutes and keeps a log.

The budget counts the CPU time of this process (wall time on a GPU), so that a busy machine
changes how long a training takes and not what it learns.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: warm-up, then a cosine from ``rate`` to ``rate * last``."""

    minutes: float
    rate: float = 1e-3
    last: float = 0.02
    warm_steps: int = 200
    clip: float = 3.0
    decay: float = 1e-3
    log_every: int = 50
    check_minutes: float = 5.0

    def at(self, step: int, spent: float) -> float:
        """Learning rate after ``spent`` seconds of the budget."""
        part = min(1.0, spent / (self.minutes * 60))
        curve = self.last + (1 - self.last) * 0.5 * (1 + math.cos(math.pi * part))
        return self.rate * min(1.0, (step + 1) / self.warm_steps) * curve


@dataclass
class Progress:
    """Where a training stands; saved with every checkpoint."""

    step: int = 0
    spent: float = 0.0  # seconds of budget


Terms = dict[str, Tensor]
Loss = Callable[[np.random.Generator, Progress], tuple[Tensor, Terms]]
Check = Callable[[Progress], dict[str, float]]


def train(
    model: nn.Module,
    loss: Loss,
    schedule: Schedule,
    out: Path,
    *,
    seed: int = 0,
    check: Check | None = None,
    resume: bool = False,
) -> Progress:
    """Minimises ``loss`` for the scheduled minutes; writes ``last.pt``, ``log.jsonl``, ``log.png``.

    ``loss`` draws its batch from the generator it is given, so a run is a function of its seed
    and its step count. ``check`` is called every ``check_minutes`` and at the end.
    """
    out.mkdir(parents=True, exist_ok=True)
    params = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(params, schedule.rate, (0.8, 0.99), weight_decay=schedule.decay)
    progress = Progress()
    if resume and (out / "last.pt").exists():
        progress = load_checkpoint(out / "last.pt", model, optimiser)
    mean: dict[str, float] = {}
    last_check = progress.spent
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    with (out / "log.jsonl").open("a" if resume else "w") as log:
        if check is not None and progress.step == 0:
            _note(log, progress, check(progress))
        while progress.spent < schedule.minutes * 60:
            begin = clock()
            rate = schedule.at(progress.step, progress.spent)
            for group in optimiser.param_groups:
                group["lr"] = rate
            rng = np.random.default_rng([seed, progress.step])
            value, terms = loss(rng, progress)
            optimiser.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(params, schedule.clip)
            if torch.isfinite(norm):
                optimiser.step()
            progress.step += 1
            progress.spent += clock() - begin
            terms["norm"] = norm
            for name, term in terms.items():
                now = float(term.detach())
                mean[name] = 0.95 * mean.get(name, now) + 0.05 * now
            if progress.step % schedule.log_every == 0:
                _note(log, progress, {"rate": rate, **mean})
            if progress.spent - last_check > schedule.check_minutes * 60:
                last_check = progress.spent
                _checkpoint(model, optimiser, progress, out, check, log)
        _checkpoint(model, optimiser, progress, out, check, log)
    plot_log(out / "log.jsonl", out / "log.png")
    return progress


def _checkpoint(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    out: Path,
    check: Check | None,
    log: Any,
) -> None:
    state: dict[str, Any] = {"model": model.state_dict()}
    state["optimiser"] = optimiser.state_dict()
    state |= {"step": progress.step, "spent": progress.spent}
    torch.save(state, out / "part.pt")
    (out / "part.pt").replace(out / "last.pt")
    if check is not None:
        _note(log, progress, check(progress))


def _note(log: Any, progress: Progress, figures: dict[str, float]) -> None:
    row = {"step": progress.step, "minutes": progress.spent / 60} | figures
    log.write(json.dumps({k: round(v, 5) for k, v in row.items()}) + "\n")
    log.flush()


def load_checkpoint(
    file: Path, model: nn.Module, optimiser: torch.optim.Optimizer | None = None
) -> Progress:
    """Fills ``model`` (and ``optimiser``) from a checkpoint and says where it stood."""
    state = torch.load(file, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    if optimiser is not None:
        optimiser.load_state_dict(state["optimiser"])
    return Progress(int(state["step"]), float(state["spent"]))


def plot_log(log: Path, image: Path) -> None:
    """Draws every logged term over the minutes spent."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [json.loads(line) for line in log.read_text().splitlines()]
    names = sorted({k for r in rows for k in r} - {"step", "minutes", "rate"})
    if not names:
        return
    figure, axes = pyplot.subplots(
        math.ceil(len(names) / 3), 3, figsize=(13, 2.6 * len(names) / 3 + 2)
    )
    for name, axis in zip(names, axes.flat, strict=False):
        points = [(r["minutes"], r[name]) for r in rows if name in r]
        axis.plot(*zip(*points, strict=True), lw=1)
        axis.set_title(name, fontsize=9)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(image, dpi=80)
    pyplot.close(figure)
