"""A trunk of our own: random at first, it learns layer by layer to hear as the teacher does.

    python -m ossicle.export.recipes.tagger_imitate --teacher FILE --shards FOLDER --out trunk.pt

Every layer gets what the teacher's layer before it made and regresses what the teacher's own made
of it (hints as in FitNets, Romero et al., 2015), all layers at once; then the layers are joined
and the whole trunk is held to the teacher's last features. No number of the teacher is kept.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ossicle.export.models.tagger import FULL, STEP_FRAMES, Separable, Trunk
from ossicle.export.recipes.tagger_pupils import HEARD, fresh, read_shards
from ossicle.export.recipes.tagger_teacher import arrange_causally, read_weights

CROP = 25 * STEP_FRAMES  # frames: 2 s


def teacher_trunk(path: Path) -> Trunk:
    """The teacher's first layers, looking back only: of a TFLite file, or of a checkpoint."""
    trunk = Trunk(FULL.layers)
    if path.suffix == ".tflite":
        arrange_causally(trunk, read_weights(path))
    else:
        held = torch.load(path, weights_only=True)
        trunk.load_state_dict({k[6:]: v for k, v in held.items() if k.startswith("trunk.")})
    return trunk.eval().requires_grad_(False)


def spread_of(features: Tensor) -> Tensor:
    """Each channel's standard deviation [1, C, 1, 1], not below a twentieth of the layer's."""
    each = features.std((0, 2, 3), keepdim=True)
    return each.clamp(min=float(each.mean()) / 20 + 1e-4)


def error(ours: Tensor, theirs: Tensor) -> Tensor:
    """Squared error in units of each channel's spread: 1 is as bad as saying the mean."""
    return ((ours - theirs) / spread_of(theirs)).square().mean()


def apart(student: Trunk, inputs: list[Tensor], outs: list[Tensor]) -> list[Tensor]:
    """Every layer's error on the teacher's own input to it."""
    memory = fresh(FULL, len(outs[0]))
    return [
        error(layer(x, past)[0], y)
        for layer, x, past, y in zip(student.layers, inputs, memory, outs, strict=False)
    ]


def joined(student: Trunk, mel: Tensor, outs: list[Tensor]) -> list[Tensor]:
    """The error of each layer that the heads look at, errors of earlier layers included."""
    ours, _ = student(mel, fresh(FULL, len(mel))[: FULL.layers])
    return [error(ours[i], outs[i]) for i in HEARD]


def imitate(asked: argparse.Namespace) -> Trunk:
    """The trained trunk; the first part of the time apart, the rest joined."""
    rng = np.random.default_rng(asked.seed)
    torch.manual_seed(asked.seed)
    teacher, student = teacher_trunk(asked.teacher), Trunk(FULL.layers)
    for layer in student.layers:
        assert isinstance(layer, Separable)
        for conv in (layer.spread, layer.point):
            if conv is not None:
                torch.nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    if asked.start:
        held = torch.load(asked.start, weights_only=True)
        student.load_state_dict({k[6:]: v for k, v in held.items() if k.startswith("trunk.")})
    mels = read_shards(asked.shards).mel
    optimiser = torch.optim.Adam(student.parameters(), lr=asked.rate)
    begun, step, deadline = time.monotonic(), 0, asked.minutes * 60
    while (now := time.monotonic() - begun) < deadline:
        done = now / deadline
        for group in optimiser.param_groups:
            group["lr"] = asked.rate * (0.5 * (1 + np.cos(np.pi * done)) + 0.02)
        mel = _crops(rng, mels, asked.batch)
        with torch.no_grad():
            outs, _ = teacher(mel, fresh(FULL, len(mel))[: FULL.layers])
        alone = done < asked.apart
        inputs = [mel.unsqueeze(1), *outs[:-1]]
        errors = apart(student, inputs, outs) if alone else joined(student, mel, outs)
        loss = torch.stack(errors).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(student.parameters(), 20.0)
        optimiser.step()
        step += 1
        if step % 20 == 0:
            figures = " ".join(f"{float(e.detach()):.3f}" for e in errors)
            print(step, round(now), "apart" if alone else "joined", figures, flush=True)
            torch.save({f"trunk.{k}": v for k, v in student.state_dict().items()}, asked.out)
    return student


def _crops(rng: np.random.Generator, mels: np.ndarray, batch: int) -> Tensor:
    parts = []
    for _ in range(batch):
        start = int(rng.integers(0, mels.shape[1] - CROP + 1))
        parts.append(mels[int(rng.integers(len(mels))), start : start + CROP])
    return torch.from_numpy(np.stack(parts).astype(np.float32))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train a trunk and save it as a checkpoint whose keys begin with ``trunk.``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--shards", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--start", type=Path, help="a trunk to go on from")
    parser.add_argument("--apart", type=float, default=0.67, help="share of the time")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    student = imitate(asked)
    torch.save({f"trunk.{k}": v for k, v in student.state_dict().items()}, asked.out)


if __name__ == "__main__":
    main()
