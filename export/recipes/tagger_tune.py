"""The scenes that rules are tuned on, drawn once from what training never heard and kept.

    python -m ossicle.export.recipes.tagger_tune --folds 4 --more FOLDER --out tune.npz

Scenes of two sounds, alarms in a household and calm hours, from one half of the held-out
recordings (the benchmark draws from the other half), as log-mel with their truth.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ossicle.export.recipes.tagger_data import Library, load_library
from ossicle.export.recipes.tagger_rules import SLOT
from ossicle.export.recipes.tagger_scenes import (
    FRAME,
    QUIET,
    audible,
    calm,
    household,
    joined,
    two_events,
    unclear,
)
from ossicle.export.recipes.tagger_teacher import log_mel
from ossicle.runtime.scene.alarms import ALARMS
from ossicle.runtime.scene.labels import LABELS
from ossicle.runtime.scene.sound import Interval

Mel = NDArray[np.float16]
NOISES: Final = frozenset({"silence", "white", "pink"})


@dataclass
class Tuning:
    """Log-mels [T, 64] and, for the first two, where the sounds are in 40 ms frames of slots."""

    mixed: list[Mel] = field(default_factory=list)
    truth: dict[str, list[Interval]] = field(default_factory=dict)
    alarms: dict[str, list[Mel]] = field(default_factory=dict)
    spans: dict[str, list[Interval]] = field(default_factory=dict)
    calm: dict[str, list[Mel]] = field(default_factory=dict)
    unclear: frozenset[str] = frozenset()  # kinds of calm that may hold speech or music


def draw(lib: Library, seed: int, scenes: int, alarms: int, minutes: float) -> Tuning:
    """``scenes`` of two sounds, ``alarms`` households a class and ``minutes`` of each calm kind.

    Noise and silence get a fifth of the minutes.
    """
    out = Tuning(truth={label: [] for label in LABELS}, unclear=unclear(lib))
    for k in range(scenes):
        scene = two_events(np.random.default_rng((seed, k)), lib)
        out.mixed.append(_mel(scene.samples))
        for event in audible(scene):
            if event.label in out.truth:
                spans = joined(event.label, event.bursts)
                out.truth[event.label] += [_frames(k, a, b) for a, b in spans]
    for which, label in enumerate(ALARMS):
        for k in range(alarms):
            scene = household(np.random.default_rng((seed, 2, which, k)), lib, label)
            event = next(e for e in scene.events if e.label == label)
            out.alarms.setdefault(label, []).append(_mel(scene.samples))
            out.spans.setdefault(label, []).append(_frames(k, event.onset, event.offset))
    for which, kind in enumerate(QUIET):
        share = minutes / 5 if kind in NOISES else minutes
        out.calm[kind] = [
            _mel(calm(np.random.default_rng((seed, 1, which, k)), lib, kind))
            for k in range(max(1, round(share * 3)))
        ]
    return out


def _mel(samples: NDArray[np.float32]) -> Mel:
    return log_mel(samples).astype(np.float16)


def _frames(scene: int, start: int, stop: int) -> Interval:
    """Samples of scene number ``scene`` as frames of all scenes in their slots."""
    first = round(start / FRAME)
    return scene * SLOT + first, scene * SLOT + max(first + 1, round(stop / FRAME))


def save(path: Path, tuning: Tuning) -> None:
    """Write ``tuning`` as one file."""
    held: dict[str, Any] = {"unclear//": np.array(sorted(tuning.unclear))}
    groups = {"mixed": {"": tuning.mixed}, "alarms": tuning.alarms, "calm": tuning.calm}
    for group, kinds in groups.items():
        for kind, mels in kinds.items():
            held[f"{group}/{kind}/mel"] = np.concatenate(mels)
            held[f"{group}/{kind}/length"] = np.array([len(m) for m in mels])
    for group, spans in (("truth", tuning.truth), ("spans", tuning.spans)):
        for label, each in spans.items():
            held[f"{group}/{label}"] = np.array(each, np.int64).reshape(-1, 2)
    np.savez(path, **held)


def load(path: Path) -> Tuning:
    """What :func:`save` wrote."""
    held, out = np.load(path), Tuning()
    for name in held.files:
        group, kind, *rest = name.split("/")
        if group == "unclear":
            out.unclear = frozenset(held[name].tolist())
        elif group in ("truth", "spans"):
            getattr(out, group)[kind] = [(int(a), int(b)) for a, b in held[name]]
        elif rest == ["mel"]:
            ends = np.cumsum(held[f"{group}/{kind}/length"])[:-1]
            mels = np.split(held[name], ends)
            if group == "mixed":
                out.mixed = mels
            else:
                getattr(out, group)[kind] = mels
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OSSICLE_DATA", ".")))
    parser.add_argument("--more", type=Path, help="more music, speech and unknown sounds")
    parser.add_argument("--folds", type=int, nargs="+", default=[4])
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--alarms", type=int, default=20, help="households of each alarm")
    parser.add_argument("--minutes", type=float, default=15, help="of each kind of calm")
    parser.add_argument("--seed", type=int, default=99)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args(arguments)
    lib = load_library(asked.data, asked.folds, held_out=True, part="tune", more=asked.more)
    save(asked.out, draw(lib, asked.seed, asked.scenes, asked.alarms, asked.minutes))


if __name__ == "__main__":
    main()
