"""What a tagger heard in mixtures: which sounds a sentence would be about, and when to say it.

From the shards of ``captioner_render``. A sound begins where its class reaches ``on`` for
``min_on_ms`` and ends after ``min_off_ms`` below ``off``, as the caption tracker has it; the
thresholds are the tagger's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.export.recipes.captioner_text import MAX_SOUNDS, SLOTS, sound_names
from ossicle.runtime.errors import ExportError
from ossicle.runtime.manifest import Manifest
from ossicle.runtime.worddecoder import as_vector

THEN_MS = 3000  # a sound that begins within this after the last one ended is the next moment
Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rule:
    """One class's thresholds; times in frames."""

    name: str
    on: float
    off: float
    min_on: int
    min_off: int


@dataclass(frozen=True, slots=True)
class Found:
    """A sound in frames: ``believed`` is where it was first sure, ``stop`` where it ended."""

    name: str
    onset: int
    believed: int
    stop: int
    score: float
    vector: NDArray[np.float32] | None = None  # the tagger's embedding when it was believed


@dataclass(frozen=True, slots=True)
class Tagged:
    """A tagger's rules and the length of its frames."""

    rules: tuple[Rule, ...]
    frame_ms: float

    @property
    def on(self) -> Scores:
        """Return `[classes]`."""
        return np.array([r.on for r in self.rules], np.float32)

    @property
    def off(self) -> Scores:
        """Return `[classes]`."""
        return np.array([r.off for r in self.rules], np.float32)


def rules_of(manifest: Manifest) -> Tagged:
    """Return the thresholds that a tagger's manifest names.

    Raises:
        ExportError: a tagger without labels or thresholds.
    """
    labels, table = manifest.labels, manifest.extra.get("thresholds")
    if labels is None or not table:
        raise ExportError(f"{manifest.name} names no labels or no thresholds; a tagger is needed")
    frames = next(o.shape[0] for o in manifest.programs["step"].outputs if o.name == "scores")
    frame_ms = manifest.hop * 1000 / manifest.sample_rate_hz / frames

    def count(rule: Mapping[str, Any], name: str) -> int:
        return max(1, round(float(rule[name]) / frame_ms))

    names = sound_names()
    return Tagged(
        tuple(
            Rule(names.get(label, label), r["on"], r["off"], count(r, "min_on_ms"),
                 count(r, "min_off_ms"))
            for label in labels
            for r in [table[label]]
        ),
        frame_ms,
    )  # fmt: skip


def shards(
    folder: Path,
) -> Iterator[tuple[Scores, NDArray[np.float16] | None, list[tuple[str, int, int]]]]:
    """Yield each scene's scores `[frames, classes]`, embeddings `[frames, E]` and its truth.

    Raises:
        ExportError: no shard in ``folder``.
    """
    places = sorted(folder.glob("scenes*.npz"))
    if not places:
        raise ExportError(f"no scenes*.npz in {folder}; run captioner_render first")
    for place in places:
        with np.load(place, allow_pickle=False) as shard:
            truth = json.loads(str(shard["truth"]))
            views = shard.get("embedding")
            for n, (scores, events) in enumerate(
                zip(shard["scores"].astype(np.float32), truth, strict=True)
            ):
                seen = None if views is None else views[n].reshape(-1, views.shape[-1])
                yield scores.reshape(-1, scores.shape[-1]), seen, [tuple(e) for e in events]


def sounds_in(
    scores: Scores, tagged: Tagged, views: NDArray[np.float16] | None = None
) -> list[Found]:
    """Return the sounds in ``scores`` `[frames, classes]`, in the order they were believed.

    Each with the embedding of the frame that told, of ``views`` `[frames, E]`.
    """
    found: list[Found] = []
    for index, rule in enumerate(tagged.rules):
        found += _runs(scores[:, index], rule)
    if views is not None:
        last = len(views) - 1
        found = [replace(f, vector=as_vector(views[min(f.believed - 1, last)])) for f in found]
    return sorted(found, key=lambda f: (f.believed, f.onset, f.name))


def _runs(scores: Scores, rule: Rule) -> Iterator[Found]:
    """Yield the joined runs of one class."""
    start = reached = last = -1
    peak = 0.0
    for at, score in enumerate([*scores.tolist(), *[0.0] * rule.min_off]):
        if score >= rule.off:
            start, last, peak = (at if start < 0 else start), at, max(peak, score)
            if score >= rule.on and reached < 0:
                reached = at
        elif start >= 0 and (reached < 0 or at - last >= rule.min_off):
            if reached >= 0 and last + 1 - reached >= rule.min_on:
                yield Found(rule.name, start, reached + rule.min_on, last + 1, peak)
            start, reached, peak = -1, -1, 0.0


def told_of(
    new: Sequence[Found], behind: Sequence[Found], frame_ms: float
) -> list[tuple[Any, ...]]:
    """Return (sound, moment, score, embedding if any) of what is new, after what goes on behind."""
    told: dict[str, tuple[Any, ...]] = {}
    moment, end = 0, 0
    for sound in [*behind, *sorted(new, key=lambda f: f.onset)]:
        gap = (sound.onset - end) * frame_ms
        moment += bool(told) and 0 <= gap <= THEN_MS
        end = max(end, sound.stop)
        row = (sound.name, min(moment, SLOTS - 1), sound.score)
        told.setdefault(sound.name, row if sound.vector is None else (*row, sound.vector))
    return list(told.values())[:MAX_SOUNDS]


def eager(tagged: Tagged, share: float) -> Tagged:
    """Return rules that believe a sound at ``share`` of its threshold."""
    return replace(
        tagged,
        rules=tuple(replace(r, on=r.on * share, off=r.off * share, min_on=1) for r in tagged.rules),
    )


def scenes_told(
    folder: Path, tagged: Tagged, settle_ms: float = 1500.0
) -> list[list[tuple[Any, ...]]]:
    """Return what each sentence about the mixtures of ``folder`` would be told."""
    settle = round(settle_ms / tagged.frame_ms)
    told = []
    for scores, views, _ in shards(folder):
        found = sounds_in(scores, tagged, views)
        new: list[Found] = []
        for at, sound in enumerate(found):
            new.append(sound)
            if at + 1 == len(found) or found[at + 1].believed > sound.believed + settle:
                first = new[0].believed
                behind = [f for f in found if f.believed < first < f.stop]
                told.append(told_of(new, behind, tagged.frame_ms))
                new = []
    return told
