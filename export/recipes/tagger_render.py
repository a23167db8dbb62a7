"""Render training scenes to log-mel, truth and teacher embeddings, in shards, from a seed.

python -m ossicle.export.recipes.tagger_render --data FOLDER --out FOLDER --folds 1 2 3
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ossicle.export.recipes.tagger_data import Library
from ossicle.export.recipes.tagger_data import load_library as load
from ossicle.export.recipes.tagger_scenes import draw_training, frames_of
from ossicle.export.recipes.tagger_teacher import PATCH, Yamnet, embed, log_mel, read_weights

SHARD = 50  # scenes


def render(lib: Library, teacher: Yamnet, seed: int, out: Path, index: int) -> Path:
    """Shard ``index``: ``mel`` [N, 1000, 64] f16, ``truth`` [N, 250, K] u8, ``embedding`` f16."""
    mels, truths, embeddings = [], [], []
    for k in range(SHARD):
        rng = np.random.default_rng((seed, index, k))
        scene = draw_training(rng, lib)
        mel = log_mel(scene.samples)
        mels.append(mel.astype(np.float16))
        truths.append(frames_of(scene))
        embeddings.append(embed(teacher, mel, PATCH).astype(np.float16))
    place = out / f"shard{index:05d}.npz"
    part = place.with_suffix(".part.npz")
    np.savez(part, mel=np.stack(mels), truth=np.stack(truths), embedding=np.stack(embeddings))
    part.replace(place)
    return place


def main(arguments: Sequence[str] | None = None) -> None:
    """Render shards that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OSSICLE_DATA", ".")))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--shards", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", action="store_true")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    asked.out.mkdir(parents=True, exist_ok=True)
    lib = load(asked.data, asked.folds, asked.held_out)
    teacher = Yamnet(read_weights(asked.data / "weights" / "yamnet" / "yamnet.tflite"))
    for index in range(asked.shards):
        if not (asked.out / f"shard{index:05d}.npz").exists():
            print(render(lib, teacher, asked.seed, asked.out, index), flush=True)


if __name__ == "__main__":
    main()
