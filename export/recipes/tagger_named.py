"""Recordings whose folder names what they hold, as items of the bank.

    python -m ossicle.export.recipes.tagger_named --named FOLDER --data FOLDER --out FOLDER \
        --teacher yamnet.tflite --names yamnet_class_map.csv

``FOLDER/<label>/*.flac`` is cut into parts of a few seconds. A part is taken where the teacher
hears something like its label in it, and left out where it is one of the recordings that the
model is measured on: collections of sounds on the web have their sources in common.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from ossicle.export.recipes.tagger_bank import MEL_HOP, Item, in_room, item_of, save
from ossicle.export.recipes.tagger_data import Library, Rng, load_library, recorded, vary
from ossicle.export.recipes.tagger_screen import heard, labels_like, open_teacher, read_names
from ossicle.export.recipes.tagger_teacher import log_mel
from ossicle.runtime.scene.labels import ENVIRONMENT, LABELS
from ossicle.runtime.scene.mix import trim
from ossicle.runtime.scene.sound import RATE_HZ, Samples1D, Sound

Mel = NDArray[np.float32]
PART_S: Final = 9.0
LIKELY: Final = 0.1  # what the teacher's score of a like class must reach
SAME: Final = 0.96  # correlation from which two recordings are one; two clocks reach .956
PROBE: Final = 100  # frames of 10 ms that are compared: a second
SHORT: Final = 500  # frames: a recording in which a shift by half a frame may tell
LEAST: Final = 15  # frames; what is shorter is like many things
LOUD: Final = 4.6  # of log-mel below the loudest frame: 40 dB


def heard_alike(x: Samples1D) -> Mel:
    """Log-mel [T, 64] of ``x`` for comparing: at a peak of 1, and each frame the mean of five.

    So two levels of a recording are the same, and so is one that starts between two frames.
    """
    mel = log_mel(x / max(1e-6, float(np.max(np.abs(x), initial=0.0))))
    return np.asarray(np.log(uniform_filter1d(np.exp(mel), 5, axis=0)), np.float32)


def liveliness(mel: Mel, size: int = PROBE) -> NDArray[np.float64]:
    """How much each ``size`` frames of log-mel [T, 64] vary about their mean [T - size + 1]."""
    sums = np.concatenate([np.zeros((1, mel.shape[1])), np.cumsum(mel, axis=0, dtype=np.float64)])
    squares = np.concatenate([[0.0], np.cumsum(np.square(mel, dtype=np.float64).sum(axis=1))])
    mean = (sums[size:] - sums[:-size]) / size
    return np.asarray(squares[size:] - squares[:-size] - size * np.square(mean).sum(axis=1))


def probe_of(mel: Mel) -> Mel:
    """The second [100, 64] of a recording's log-mel that varies most, less its mean.

    Of a recording shorter than that, what is loud of it.
    """
    if len(mel) >= PROBE:
        start = int(np.argmax(liveliness(mel)))
        part = mel[start : start + PROBE]
    else:
        level = mel.mean(axis=1)
        loud = np.flatnonzero(level > level.max() - LOUD)
        part = mel[loud[0] : loud[-1] + 1]
    return np.asarray(part - part.mean(axis=0), np.float32)


def likeness(mel: Mel, probe: Mel) -> float:
    """The highest correlation of ``probe`` with any part of log-mel [T, 64]; 1 is the same.

    0 where the probe is longer than that, or too short to say anything.
    """
    if not LEAST <= len(probe) <= len(mel):
        return 0.0
    size = 1 << (len(mel) + len(probe)).bit_length()
    cross = np.fft.irfft(
        (np.fft.rfft(mel, size, axis=0) * np.fft.rfft(probe, size, axis=0).conj()).sum(axis=1)
    )[: len(mel) - len(probe) + 1]
    wanted = float(np.square(probe).sum())
    # a second that hardly varies is none that varies most somewhere
    lively = np.maximum(liveliness(mel, len(probe)), 0.05 * wanted)
    return float(np.max(cross / np.sqrt(lively * wanted)))


def views_of(x: Samples1D) -> list[Mel]:
    """``x`` [T] as it is compared: a short one as it sounds from four places between two frames.

    One that is too short to be like anything is not compared at all.
    """
    if len(x) < (LEAST + 1) * MEL_HOP:
        return []
    starts = range(0, MEL_HOP, MEL_HOP // 4) if len(x) < SHORT * MEL_HOP else (0,)
    return [heard_alike(x[start:]) for start in starts]


def one_recording(views: Sequence[Mel], held: Mel) -> bool:
    """Whether ``views`` are of the recording that is measured on, log-mel [T, 64].

    Its liveliest second is looked for in them, and theirs in it: either may hold only a part of
    the other, a bark of half a second all there is of it.
    """
    wanted = probe_of(held)
    return any(max(likeness(mel, wanted), likeness(held, probe_of(mel))) > SAME for mel in views)


def parts_of(sound: Sound, seconds: float = PART_S) -> list[Sound]:
    """``sound`` in parts of ``seconds`` in which it sounds for a tenth of a second at least."""
    size = int(seconds * RATE_HZ)
    starts = range(0, max(1, len(sound.samples) - size // 3), size)
    parts = [trim(sound, a, min(len(sound.samples), a + size)) for a in starts]
    return [p for p in parts if sum(b - a for a, b in p.bursts) >= RATE_HZ // 10]


def items_of(
    rng: Rng, lib: Library, sound: Sound, likely: Callable[[Sound], bool], copies: int
) -> list[Item]:
    """``copies`` items of ``sound``, part after part of those that are ``likely``.

    A short recording gives the same part again, at another speed and in another room.
    """
    parts = parts_of(sound)
    taken = [parts[i] for i in rng.permutation(len(parts)) if likely(parts[i])][:copies]
    made = [
        item_of(in_room(rng, lib, sound.label, vary(rng, taken[i % len(taken)])))
        for i in range(copies if taken else 0)
    ]
    return [item for item in made if item is not None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Render every label's recordings into files of the bank."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OSSICLE_DATA", ".")))
    parser.add_argument("--named", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--names", type=Path, required=True, help="yamnet_class_map.csv")
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3], help="for rooms only")
    parser.add_argument("--val-folds", type=int, nargs="+", default=[4], help="measured on")
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--likely", type=float, default=LIKELY)
    parser.add_argument("--name", default="named")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    lib = load_library(asked.data, asked.folds)
    held = load_library(asked.data, asked.val_folds)
    known = {label: [heard_alike(s.samples) for s in held.clips[label]] for label in ENVIRONMENT}
    teacher, names = open_teacher(asked.teacher), read_names(asked.names)
    for label in LABELS:
        rng = np.random.default_rng((asked.seed, LABELS.index(label)))
        items, counts = [], {"files": 0, "unlikely": 0, "measured on": 0}

        def likely(part: Sound, label: str = label) -> bool:
            best = heard(teacher, part.samples)
            return label in labels_like(best, names, asked.likely)

        for path in sorted((asked.named / label).glob("*.flac")):
            sound = recorded(label, path)
            views = views_of(sound.samples)
            counts["files"] += 1
            if any(one_recording(views, each) for each in known.get(label, [])):
                counts["measured on"] += 1
                continue
            made = items_of(rng, lib, sound, likely, asked.copies)
            counts["unlikely"] += not made
            items += made
        if items:
            save(asked.out / f"{asked.name}-{label}.npz", items)
        print(label, len(items), counts, flush=True)


if __name__ == "__main__":
    main()
