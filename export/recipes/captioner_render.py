"""Mixtures as a tagger heard them: its scores, frame by frame, beside what truly sounded.

    python -m ossicle.export.recipes.captioner_render --data FOLDER --out FOLDER --folds 1 2 3

No caption is made here: the same scores serve any rule for when to speak, and no audio is kept.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ossicle.export.recipes.tagger_data import Library, load_library
from ossicle.export.recipes.tagger_scenes import draw_scene
from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.framer import Framer
from ossicle.runtime.model import Model
from ossicle.runtime.scene.mix import Scene

SHARD = 50  # scenes
SECONDS, EVENTS = 20.0, 6


def heard_in(
    model: Model, samples: NDArray[np.float32]
) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """Return scores and embeddings of ``samples`` [T]: both `[hops, frames, ..]`."""
    form = AudioFormat(model.manifest.sample_rate_hz)
    framer = Framer(form, model.manifest.hop)
    memory, state = framer.open(), model.open()
    name = next(p.name for p in model.manifest.programs["step"].inputs if p.kind == "audio")
    hops = framer.step(memory, Chunk(samples[None], 0, form))
    scores, views = [], []
    for hop in hops:
        out = model.step(state, {name: hop.samples[None]})
        scores.append(out["scores"][0].astype(np.float16))
        views.append(out["embedding"][0].astype(np.float16))
    return np.asarray(scores), np.asarray(views)


def render(model: Model, lib: Library, seed: int, index: int, out: Path) -> Path:
    """Write shard ``index``: ``scores`` and ``embedding`` `[SHARD, hops, frames, ..]`, ``truth``.

    The truth of a scene is, in JSON, a list of [label, onset, offset] in samples.
    """
    scores, views, truth = [], [], []
    for k in range(SHARD):
        scene = draw_scene(np.random.default_rng((seed, index, k)), lib, SECONDS, EVENTS)
        found = heard_in(model, scene.samples)
        scores.append(found[0])
        views.append(found[1])
        truth.append(truth_of(scene))
    place = out / f"scenes{index:04d}.npz"
    part = place.with_suffix(".part.npz")
    told = np.array(json.dumps(truth))
    np.savez_compressed(part, scores=np.stack(scores), embedding=np.stack(views), truth=told)
    part.replace(place)
    return place


def truth_of(scene: Scene) -> list[tuple[str, int, int]]:
    """Return each event's label, onset and offset."""
    return [(e.label, e.onset, e.offset) for e in scene.events]


def main(arguments: Sequence[str] | None = None) -> None:
    """Render the shards that are not there yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OSSICLE_DATA", ".")))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tagger", default="sounds-16k", help="bundle that hears the mixtures")
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--shards", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", action="store_true")
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    model = Model.load(asked.tagger)
    lib = load_library(asked.data, asked.folds, asked.held_out)
    for index in range(asked.shards):
        if not (asked.out / f"scenes{index:04d}.npz").exists():
            print(render(model, lib, asked.seed, index, asked.out), flush=True)


if __name__ == "__main__":
    main()
