"""Mixtures that the separator learns from, with what each query should give.

Sources go through rooms and microphones, which costs more than all else, so a source that has been
through one stays on a shelf for a while and is heard again at another level among other sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ossicle.export.recipes.separator_data import GROUPS, LABELS, MUSIC, RATE_HZ, Pools
from ossicle.runtime.scene.alarms import ALARMS
from ossicle.runtime.scene.labels import ENVIRONMENT as ESC

TAPS = 6_400  # of a room
SOURCE_RMS = 0.1
_PLACE = {label: place for place, label in enumerate(LABELS)}


@dataclass(frozen=True)
class Batch:
    """Mixtures [B, T], what each of ``Q`` queries asks [B, Q, labels] and the answer [B, Q, T]."""

    mixture: Tensor
    query: Tensor
    target: Tensor


@dataclass
class Shelf:
    """Sources [T] ready to be mixed, by label.

    ``reuse`` is the share of draws that take one from the shelf once ``spare`` of that label are
    there; it holds ``room_for`` of each, and a fresh one takes the place of a random one.
    """

    pools: Pools
    reuse: float = 0.0
    room_share: float = 0.35
    colour_share: float = 0.3  # of those in no room
    spare: int = 6
    room_for: int = 32
    kept: dict[str, list[Tensor]] = field(default_factory=dict)

    def take(self, labels: Sequence[str], rng: np.random.Generator) -> Tensor:
        """One source for each of ``labels``, [N, T], all of one level."""
        found: dict[int, Tensor] = {}
        for row, label in enumerate(labels):
            held = self.kept.get(label, [])
            if len(held) >= self.spare and rng.random() < self.reuse:
                found[row] = held[int(rng.integers(len(held)))]
        missing = [row for row in range(len(labels)) if row not in found]
        if missing:
            dry = np.stack([self.pools.draw(labels[row], rng) for row in missing])
            fresh = self._heard(torch.from_numpy(dry), rng)
            fresh = fresh * (SOURCE_RMS / (fresh.square().mean(-1, keepdim=True).sqrt() + 1e-4))
            for row, source in zip(missing, fresh, strict=True):
                found[row] = source
                if self.reuse:
                    self._put(labels[row], source, rng)
        return torch.stack([found[row] for row in range(len(labels))])

    def _put(self, label: str, source: Tensor, rng: np.random.Generator) -> None:
        held = self.kept.setdefault(label, [])
        if len(held) < self.room_for:
            held.append(source.clone())
        else:
            held[int(rng.integers(len(held)))] = source.clone()

    def _heard(self, dry: Tensor, rng: np.random.Generator) -> Tensor:
        """Put some of the rows [N, T] into rooms, and those and others behind microphones."""
        draw = rng.random(len(dry))
        share = self.room_share + (1 - self.room_share) * self.colour_share
        chosen = np.flatnonzero(draw < share)
        if not len(chosen):
            return dry
        size = 1 << 16 if dry.shape[1] + TAPS > 46_656 else 46_656
        spectrum = torch.fft.rfft(dry[chosen], size) * _colours(rng, len(chosen), size)
        inside = np.flatnonzero(draw[chosen] < self.room_share)
        if len(inside):
            rooms = torch.from_numpy(np.stack([self.pools.room(rng, TAPS) for _ in inside]))
            spectrum[inside] = spectrum[inside] * torch.fft.rfft(rooms, size)
        wet = dry.clone()
        wet[chosen] = torch.fft.irfft(spectrum, size)[:, : dry.shape[1]]
        return wet


def _colours(rng: np.random.Generator, count: int, size: int) -> Tensor:
    """Gains [count, size // 2 + 1] of microphones that tilt and bend."""
    hz = torch.fft.rfftfreq(size, 1 / RATE_HZ).clamp(min=50)
    octaves = torch.log2(hz / 1000)
    tilt = torch.tensor(rng.uniform(-3, 3, (count, 1)), dtype=torch.float32)
    bow = torch.tensor(rng.uniform(-1.5, 1.5, (count, 1)), dtype=torch.float32)
    bent = (tilt * octaves + bow * octaves.square()).clamp(-18, 12)
    return torch.exp(bent * (np.log(10) / 20))


@dataclass(frozen=True)
class Scenes:
    """Draws batches of mixtures: 1-3 sources, some background, rooms, any loudness."""

    shelf: Shelf
    queries: int = 2
    speech_share: float = 0.55  # of mixtures with somebody speaking
    further: float = 0.0  # share of speech from the pool of further speech

    def batch(self, rng: np.random.Generator, size: int) -> Batch:
        """``size`` mixtures with a query for someone there, then for someone else or no one."""
        casts = [self._cast(rng) for _ in range(size)]
        rows = [(b, label) for b, cast in enumerate(casts) for label in cast]
        levels = [_level(rng, label, k) for cast in casts for k, label in enumerate(cast)]
        wet = self.shelf.take([self._source(rng, label) for _, label in rows], rng)
        wet = wet * torch.tensor(levels, dtype=torch.float32)[:, None]
        query = torch.from_numpy(np.stack([self._queries(rng, cast) for cast in casts]))
        place = torch.tensor([b for b, _ in rows])
        named = torch.tensor([_PLACE.get(label, len(LABELS)) for _, label in rows])
        mixture = torch.zeros(size, wet.shape[1]).index_add_(0, place, wet)
        target = torch.zeros(size, self.queries, wet.shape[1])
        wanted = functional.pad(query, (0, 1))  # what has no name is never asked for
        for q in range(self.queries):
            asked = torch.nonzero(wanted[place, q, named])[:, 0]
            target[:, q].index_add_(0, place[asked], wet[asked])
        loud = 10 ** (rng.uniform(-30, 10, size) / 20)
        scale = torch.tensor(loud, dtype=torch.float32)
        scale = torch.minimum(scale, 0.99 / (mixture.abs().amax(-1) + 1e-6))
        hiss = torch.randn(mixture.shape) * 2e-5
        return Batch(mixture * scale[:, None] + hiss, query, target * scale[:, None, None])

    def _source(self, rng: np.random.Generator, label: str) -> str:
        """The pool that ``label`` is drawn from."""
        more = label == "speech" and self.further and rng.random() < self.further
        return "+speech" if more else label

    def _cast(self, rng: np.random.Generator) -> list[str]:
        count = int(rng.choice([1, 2, 3], p=[0.06, 0.68, 0.26]))
        cast: list[str] = ["speech"] if rng.random() < self.speech_share else []
        while len(cast) < count:
            kind = rng.choice(4, p=[0.5, 0.22, 0.16, 0.12])
            label = (
                str(rng.choice(ESC)) if kind == 0
                else str(rng.choice(MUSIC)) if kind == 1
                else str(rng.choice(ALARMS)) if kind == 2
                else "noise"
            )  # fmt: skip
            if label not in cast:
                cast.append(label)
        if "noise" not in cast and rng.random() < 0.35:
            cast.append("noise")
        return cast

    def _queries(self, rng: np.random.Generator, cast: list[str]) -> NDArray[np.float32]:
        out = np.zeros((self.queries, len(LABELS)), np.float32)
        others = [label for label in LABELS if label not in cast]
        other = cast[-1 if len(cast) < 3 else int(rng.integers(1, len(cast)))]
        absent = str(rng.choice(others))
        wanted = [[cast[0]], [absent if rng.random() < 0.25 else other], [absent]]
        for q, names in enumerate(wanted[: self.queries]):
            draw = rng.random()
            if q and draw < 0.2:
                groups = [g for g in GROUPS if g != "everything"]
                names = list(GROUPS[str(rng.choice(groups))])
            elif draw < 0.28:  # what a listener keeps beside what was asked for
                names = [*names, *ALARMS]
            elif q and draw < 0.35:
                names = [*names, *rng.choice(others, int(rng.integers(1, 5)), replace=False)]
            elif q and draw < 0.43:
                drop = set(names)
                names = [label for label in LABELS if label not in drop]
            out[q, [LABELS.index(str(n)) for n in names]] = 1.0
        return out


def _level(rng: np.random.Generator, label: str, place: int) -> float:
    """Gain of a source in its scene: background stays behind, and people speak up."""
    if label == "speech":
        return float(10 ** (rng.uniform(-3, 12) / 20))
    if label == "noise" and place > 0:
        return float(10 ** (rng.uniform(-24, 3) / 20))
    return float(10 ** (rng.uniform(-6, 6) / 20))
