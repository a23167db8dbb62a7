"""A bank of single sounds as mel magnitudes, so that training can mix new scenes at every step.

    python -m ossicle.export.recipes.tagger_bank --data FOLDER --out FOLDER --folds 1 2 3

A sound is rendered once, in a room or dry, and kept as the front end hears it. Magnitudes of
sounds that have nothing to do with each other add as powers in a mel band, so a scene costs a few
array operations instead of a synthesis (:mod:`tagger_blend`).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from ossicle.export.recipes.tagger_data import (
    HELD_OUT,
    Library,
    Rng,
    activity,
    draw_sound,
    load_library,
    vary,
)
from ossicle.export.recipes.tagger_teacher import log_mel
from ossicle.runtime.errors import AudioError
from ossicle.runtime.scene import alarms, everyday
from ossicle.runtime.scene.labels import ENVIRONMENT, LABELS
from ossicle.runtime.scene.mix import loudness, quiet_room, reverberate, synthetic_room, trim
from ossicle.runtime.scene.music import compose
from ossicle.runtime.scene.sound import RATE_HZ, Array, Interval, Sound, bridge, noise
from ossicle.runtime.scene.strange import invent

MEL_HOP: Final = 160  # samples
LONGEST: Final = 10 * RATE_HZ  # samples of a sound
UNKNOWN: Final = "unknown"
ODD: Final = "odd"  # may be speech or music
BED: Final = "bed"
COMPOSED: Final = "composed"
INVENTED: Final = "invented"
COUNTS: Final = {
    **dict.fromkeys(ENVIRONMENT, 150),
    **dict.fromkeys(alarms.ALARMS, 350),
    "speech": 900,
    "music": 900,
    UNKNOWN: 900,
    BED: 200,
    COMPOSED: 1500,
    INVENTED: 1500,
}
"""How many sounds of each kind a bank holds at first."""


@dataclass(frozen=True)
class Item:
    """One sound alone: log-mel [T, 64], where it sounds in 10 ms frames, and its RMS there."""

    label: str  # of LABELS, or UNKNOWN, or BED, or ODD and, after a colon, what else it may be
    mel: NDArray[np.float16]
    bursts: tuple[Interval, ...]
    rms: float


def item_of(sound: Sound) -> Item | None:
    """``sound`` as the bank keeps it; None where nothing is heard of it."""
    sound = trim(sound, 0, LONGEST) if len(sound.samples) > LONGEST else sound
    bursts = bridge([(a // MEL_HOP, -(-b // MEL_HOP)) for a, b in sound.bursts], 0)
    rms = loudness(sound.samples, sound.bursts)
    mel = log_mel(sound.samples).astype(np.float16)
    bursts = [(a, min(b, len(mel))) for a, b in bursts if a < len(mel)]
    return Item(sound.label, mel, tuple(bursts), rms) if bursts and rms > 1e-4 else None


def render(rng: Rng, lib: Library, label: str) -> Item | None:
    """One sound of ``label``, in a room three times of five."""
    if label == BED:
        return item_of(_whole(BED, _bed(rng)))
    if label == COMPOSED:
        return item_of(in_room(rng, lib, "music", compose(rng, float(rng.uniform(4, 10)))))
    if label == INVENTED:
        return item_of(in_room(rng, lib, UNKNOWN, invent(rng, float(rng.uniform(2, 9)))))
    if label == UNKNOWN:
        names = [name for name in everyday.UNKNOWN if name not in HELD_OUT]
        sound = everyday.synthesise(str(rng.choice(names)), rng, float(rng.uniform(1, 9)))
    else:
        sound = draw_sound(rng, lib, label, float(rng.uniform(4, 10)))
    return item_of(in_room(rng, lib, label, sound))


def in_room(rng: Rng, lib: Library, label: str, sound: Sound) -> Sound:
    """``sound`` named ``label``, dry or heard through a room, at a peak of 0.9."""
    x = sound.samples.astype(np.float64)
    kind = rng.random()
    if kind > 0.4 and len(x):
        real = bool(lib.rooms) and kind < 0.7
        room = lib.rooms[int(rng.integers(len(lib.rooms)))] if real else (
            synthetic_room(rng, float(rng.uniform(0.1, 0.6)))
        )  # fmt: skip
        x = reverberate(x, room)
    peak = float(np.max(np.abs(x), initial=1e-9))
    return Sound(label, (0.9 / peak * x).astype(np.float32), sound.bursts)


def _bed(rng: Rng) -> Array:
    if rng.random() < 0.4:
        x = quiet_room(rng, LONGEST)
    else:
        x = noise(rng, LONGEST, float(rng.uniform(-7, 1)))
    return np.asarray(0.3 * x / np.max(np.abs(x)))


def _whole(label: str, x: Array) -> Sound:
    return Sound(label, x.astype(np.float32), ((0, len(x)),))


def save(path: Path, items: Sequence[Item]) -> None:
    """Write ``items`` as one file, whole or not at all."""
    spans = [[i, a, b] for i, item in enumerate(items) for a, b in item.bursts]
    part = path.with_suffix(".part.npz")
    np.savez(
        part,
        mel=np.concatenate([i.mel for i in items]),
        length=np.array([len(i.mel) for i in items]),
        label=np.array([i.label for i in items]),
        rms=np.array([i.rms for i in items], np.float32),
        bursts=np.array(spans, np.int32).reshape(-1, 3),
    )
    part.replace(path)


def read(path: Path) -> list[Item]:
    """The items of one file."""
    held = np.load(path)
    ends = np.cumsum(held["length"])
    bursts: list[list[Interval]] = [[] for _ in ends]
    for i, a, b in held["bursts"].tolist():
        bursts[i].append((a, b))
    mel, label, rms = held["mel"], held["label"].tolist(), held["rms"].tolist()
    return [
        Item(label[i], mel[end - n : end], tuple(bursts[i]), rms[i])
        for i, (end, n) in enumerate(zip(ends.tolist(), held["length"].tolist(), strict=True))
    ]


def recordings(
    rng: Rng, lib: Library, label: str, path: Path, most: int, seconds: float = 9.0
) -> list[Item]:
    """At most ``most`` parts of ``seconds`` of the recording at ``path``, some at other speeds."""
    x, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if rate != RATE_HZ:
        raise AudioError(f"{path} is at {rate} Hz; this recipe needs {RATE_HZ} Hz")
    whole, size = x.mean(axis=1), int(seconds * RATE_HZ)
    starts = np.arange(0, max(1, len(whole) - size // 3), size)
    out = []
    for start in rng.permutation(starts)[:most].tolist():
        part = whole[start : start + size].astype(np.float32)
        bursts = activity(part, "music") if label == "music" else [(0, len(part))]
        if len(part) > RATE_HZ // 8 and bursts:
            sound = vary(rng, Sound(label, part, tuple(bursts)))
            out.append(item_of(in_room(rng, lib, label, sound)))
    return [item for item in out if item is not None]


def gather(
    rng: Rng, lib: Library, paths: Sequence[Path], screened: Mapping[str, str]
) -> list[Item]:
    """Recordings at ``paths``: music, speech, and in other folders what has no name here.

    ``screened`` names those of the last that a teacher took for one of the classes, and which
    they may be, with commas; they are left out where that is empty.
    """
    out: list[Item] = []
    for path in paths:
        kind = path.parent.name
        label = kind if kind in ("music", "speech") else ODD
        if label == ODD and (maybe := screened.get(path.name)):
            label = f"{ODD}:{maybe}"
        if path.exists() and not (label == ODD and path.name in screened):
            out += recordings(rng, lib, label, path, 6 if label == "music" else 3)
    return out


def read_screened(path: Path) -> dict[str, str]:
    """File names of :mod:`tagger_screen`'s list, each with the labels it may be."""
    lines = path.read_text().splitlines()
    return {name: maybe for name, _, maybe in (line.partition("\t") for line in lines)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Render the files that are not there yet, a share of every kind in each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OSSICLE_DATA", ".")))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--only", nargs="+", default=[*LABELS, UNKNOWN, BED])
    parser.add_argument("--name", default="bank")
    parser.add_argument("--more", type=Path, help="a folder of recordings instead")
    parser.add_argument("--screened", type=Path, help="names of its files that are left out")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    lib = load_library(asked.data, asked.folds)
    more = sorted(asked.more.rglob("*.flac")) if asked.more else []
    if asked.more and not more:
        raise AudioError(f"{asked.more} holds no recordings (*.flac)")
    order = np.random.default_rng(asked.seed).permutation(len(more)).tolist()
    meant = read_screened(asked.screened) if asked.screened else {}
    for part in range(asked.parts):
        path = asked.out / f"{asked.name}{part:03d}.npz"
        if path.exists():
            continue
        rng = np.random.default_rng((asked.seed, part))
        some = [more[i] for i in order[part :: asked.parts]]
        made = gather(rng, lib, some, meant) if more else [
            render(rng, lib, label)
            for label in asked.only
            for _ in range(-(-COUNTS[label] // asked.parts))
        ]  # fmt: skip
        save(path, [item for item in made if item is not None])
        print(path, len(made), flush=True)


if __name__ == "__main__":
    main()
