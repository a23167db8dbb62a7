"""What a tagger heard in mixtures: which sounds a sentence would be about, and when to say it.

From the shards of ``captioner_render``. Sounds begin, are believed and end as the caption tracker
has it, by the tagger's own thresholds.
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
from ossicle.export.recipes.tagger_hysteresis import Rule, Scores, events_of
from ossicle.runtime.errors import ExportError
from ossicle.runtime.manifest import Manifest
from ossicle.runtime.worddecoder import as_vector

THEN_MS = 3000  # a sound that begins within this after the last one ended is the next moment


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
    """The sounds that a tagger's classes mean, their rules, and the length of its frames."""

    rules: tuple[tuple[str, Rule], ...]  # times in frames
    frame_ms: float

    @property
    def on(self) -> Scores:
        """Return `[classes]`."""
        return np.array([r.on for _, r in self.rules], np.float32)

    @property
    def off(self) -> Scores:
        """Return `[classes]`."""
        return np.array([r.off for _, r in self.rules], np.float32)


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

    def rule(given: Mapping[str, Any]) -> Rule:
        def count(name: str) -> int:
            return round(float(given[name]) / frame_ms)

        return Rule(
            given["on"], given["off"], max(1, count("min_on_ms")), count("min_off_ms"),
            *(count(name) if name in given else 0 for name in ("max_rise_ms", "lag_ms")),
            **{name: given[name] for name in ("sure", "enough", "most") if name in given},
        )  # fmt: skip

    names = sound_names()
    return Tagged(
        tuple((names.get(label, label), rule(table[label])) for label in labels), frame_ms
    )


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
    found = [
        Found(name, e.start, e.told, e.stop, float(scores[e.start : e.stop, index].max()))
        for index, (name, rule) in enumerate(tagged.rules)
        for e in events_of(scores[:, index], rule)
    ]
    if views is not None:
        last = len(views) - 1
        found = [replace(f, vector=as_vector(views[min(f.believed - 1, last)])) for f in found]
    return sorted(found, key=lambda f: (f.believed, f.onset, f.name))


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
    """Return rules that believe a sound at once, at ``share`` of its threshold."""
    rules = (
        (name, replace(r, on=r.on * share, off=r.off * share, min_on=1, enough=0.0))
        for name, r in tagged.rules
    )
    return replace(tagged, rules=tuple(rules))


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
