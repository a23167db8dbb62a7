"""Mixtures in which speech alone is asked for, among more sounds than have a name.

Speech in noise is the longest to learn, and what surrounds speech need not be known by name: any
recording will do. A folder of further audio holds ``speech``, ``music``, ``mixed``, ``notes`` and
``unknown``, each with mono FLAC files (any that is missing is passed over).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ossicle.export.recipes.separator_data import (
    LABELS,
    MUSIC,
    RATE_HZ,
    Audio,
    Pools,
    pool_of,
    read,
    varied,
)
from ossicle.export.recipes.separator_scenes import Scenes
from ossicle.runtime.scene.alarms import ALARMS
from ossicle.runtime.scene.labels import ENVIRONMENT as ESC

FURTHER = {
    "+speech": ("speech",),
    "+music": ("music", "mixed", "notes"),  # whole tracks and single notes
    "+sound": ("unknown",),
}
CLEAN_DB = 45.0  # least span of levels in a recording of speech that may be a target
CUT_S = 30  # of a track that is drawn from as one piece
ALARMS_TOO = 0.08  # share of queries that ask for speech and every alarm


def add_further(pools: Pools, folder: Path, speeds: tuple[float, ...], seed: int = 0) -> None:
    """Add the recordings of ``folder`` to ``pools``, under names that no query has."""
    rng = np.random.default_rng([seed, 2])
    for name, places in FURTHER.items():
        files = [path for place in places for path in sorted((folder / place).glob("*.flac"))]
        whole = [read(path) for path in files]
        if name == "+speech":
            kept = [piece for x in whole if clean(x) for piece in varied(x, speeds)]
        else:
            cut = CUT_S * RATE_HZ
            kept = [x[at : at + cut] for x in whole for at in range(0, len(x), cut)]
        if kept:
            pools.by_label[name] = pool_of(kept, rng, pools.length)


def clean(x: Audio) -> bool:
    """Whether pauses in ``x`` [T] are quiet enough for it to be taught as speech alone."""
    frames = x[: len(x) // 320 * 320].reshape(-1, 320)
    if len(frames) < 15:
        return False
    level = 10 * np.log10(np.square(frames).mean(1) + 1e-12)
    return bool(np.percentile(level, 95) - np.percentile(level, 8) > CLEAN_DB)


@dataclass(frozen=True)
class Spoken(Scenes):
    """Batches with one query a mixture: speech, and now and then every alarm beside it."""

    queries: int = 1
    speech_share: float = 0.96

    def _cast(self, rng: np.random.Generator) -> list[str]:
        cast = ["speech"] if rng.random() < self.speech_share else []
        want = len(cast) + int(rng.choice([1, 2], p=[0.72, 0.28]))
        while len(cast) < want:
            kind = int(rng.choice(6, p=[0.46, 0.16, 0.12, 0.12, 0.07, 0.07]))
            drawn = (ESC, MUSIC, ("+music",), ("+sound",), ALARMS, ("noise",))[kind]
            label = str(rng.choice(drawn))
            if label not in cast and label in self.shelf.pools.by_label:
                cast.append(label)
        if "noise" not in cast and rng.random() < 0.25:
            cast.append("noise")
        return cast

    def _queries(self, rng: np.random.Generator, cast: list[str]) -> NDArray[np.float32]:
        names = ["speech", *(ALARMS if rng.random() < ALARMS_TOO else ())]
        out = np.zeros((1, len(LABELS)), np.float32)
        out[0, [LABELS.index(name) for name in names]] = 1.0
        return out
