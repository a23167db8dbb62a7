"""Scenes mixed anew at every training step, in the mel domain, with what can be heard in them.

The sounds come from a bank (:mod:`tagger_bank`); kinds, levels and the rule of what is audible are
those of :mod:`tagger_scenes`. Sounds that are none of the classes are drawn the oftener, the more
the model lately mistook them for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ossicle.export.recipes.tagger_bank import BED, ODD, UNKNOWN, Item, read
from ossicle.export.recipes.tagger_data import BRIDGE_S, Rng
from ossicle.export.recipes.tagger_scenes import BANDS, FLOOR, HARD, draw_label
from ossicle.export.recipes.tagger_step import UNKNOWABLE as UNSURE
from ossicle.runtime.scene.alarms import ALARMS
from ossicle.runtime.scene.labels import ENVIRONMENT, LABELS
from ossicle.runtime.scene.sound import Interval, bridge

Floats = NDArray[np.float32]
FRAMES: Final = 1000  # of 10 ms in a scene
MELS: Final = 64
QUIETEST: Final = 1e-3  # what a silent bed counts as for signal-to-noise ratios
TWICE: Final = 0.2  # how often a sound of the environment comes with another of its label
DRIFT: Final = 150  # frames from one level of a sound to the next


@dataclass(frozen=True)
class Diet:
    """How often each kind of scene comes, what a calm one holds, and which warnings come oftener.

    ``kinds`` and ``calm`` sum to 1; ``warnings`` is what a warning sound over a household counts
    for, 1 where it is not named.
    """

    kinds: Mapping[str, float]
    calm: Mapping[str, float]
    warnings: Mapping[str, float]


VARIED: Final = Diet(
    {"clip": 0.08, "two": 0.28, "crowd": 0.2, "alarm": 0.18, "calm": 0.26},
    {"music": 0.45, UNKNOWN: 0.35, "speech": 0.1, "both": 0.1},
    {"car_horn": 3.0, "siren": 3.0, "smoke_alarm": 1.5, "appliance_beep": 2.0},
)
WARNED: Final = Diet(
    {"clip": 0.05, "two": 0.2, "crowd": 0.13, "alarm": 0.32, "calm": 0.3},
    {"music": 0.4, UNKNOWN: 0.38, "speech": 0.12, "both": 0.1},
    {"car_horn": 2.5, "siren": 4.0, "smoke_alarm": 3.0, "co_alarm": 1.5},
)
"""For a course of warnings alone."""


@dataclass
class Bank:
    """Items by label, and how often each of those that are no event was mistaken for one."""

    items: dict[str, list[Item]]
    doubt: dict[str, NDArray[np.float64]]  # label -> [items], 0 to 1

    def draw(self, rng: Rng, label: str) -> int:
        """The number of an item of ``label``, mistaken ones oftener."""
        doubt = self.doubt.get(label)
        if doubt is None:
            return int(rng.integers(len(self.items[label])))
        weight = np.cumsum(0.1 + doubt)
        return int(np.searchsorted(weight, rng.random() * weight[-1]))


@dataclass(frozen=True)
class Blend:
    """One scene: log-mel [1000, 64], truth [250, classes], and what it was made of."""

    mel: Floats
    truth: NDArray[np.uint8]
    calm: bool
    made_of: tuple[tuple[str, int], ...]  # (label, number) of music, speech and unknown sounds


def load_bank(paths: Iterable[Path], old: Bank | None = None) -> Bank:
    """All items of ``paths``; what ``old`` knew of its first ones is kept."""
    items: dict[str, list[Item]] = {}
    for path in paths:
        for item in read(path):
            kind = UNKNOWN if item.label.startswith(ODD) else item.label
            items.setdefault(kind, []).append(item)
    plain: tuple[str, ...] = ("music", "speech", UNKNOWN)
    doubt: dict[str, NDArray[np.float64]] = {
        name: np.full(len(items[name]), 0.3) for name in plain if name in items
    }
    for label, known in (old.doubt if old else {}).items():
        doubt[label][: len(known)] = known
    return Bank(items, doubt)


def blend(rng: Rng, bank: Bank, diet: Diet = VARIED) -> Blend:
    """A scene of 10 s of one of the kinds of ``diet``."""
    kind = str(rng.choice(list(diet.kinds), p=list(diet.kinds.values())))
    if kind == "clip":
        wanted = [(str(rng.choice(ENVIRONMENT)), float(rng.uniform(15, 45)))]
    elif kind == "two":
        first = second = draw_label(rng, HARD)
        while second == first:
            second = draw_label(rng, HARD)
        wanted = [(name, float(rng.uniform(-5, 20))) for name in (first, second)]
    elif kind == "crowd":
        count = int(rng.choice(5, p=[0.08, 0.27, 0.35, 0.2, 0.1]))
        wanted = [(draw_label(rng), float(rng.uniform(-5, 20))) for _ in range(count)]
        odd = int(rng.choice(3, p=[0.4, 0.4, 0.2]))
        wanted += [(UNKNOWN, float(rng.uniform(-5, 15))) for _ in range(odd)]
    elif kind == "alarm":
        company = str(rng.choice([UNKNOWN, "music", "speech"], p=[0.6, 0.25, 0.15]))
        weights = np.array([diet.warnings.get(name, 1.0) for name in ALARMS])
        warning = str(rng.choice(ALARMS, p=weights / weights.sum()))
        wanted = [(company, 20.0), (warning, 20 + float(rng.uniform(-3, 20)))]
        if rng.random() < 0.3:
            wanted.append(("speech", 20.0))
    else:
        wanted = _calm(rng, diet)
    return mixed(rng, bank, wanted, kind)


def _calm(rng: Rng, diet: Diet) -> list[tuple[str, float]]:
    kind = str(rng.choice(list(diet.calm), p=list(diet.calm.values())))
    names = ["music", UNKNOWN] if kind == "both" else [kind]
    return [(name, float(rng.uniform(0, 35))) for _ in range(int(rng.integers(1, 4)))
            for name in names]  # fmt: skip


def mixed(rng: Rng, bank: Bank, wanted: list[tuple[str, float]], kind: str) -> Blend:
    """``wanted`` labels at their levels over a bed, the whole at a level of its own."""
    bed = bank.items[BED][int(rng.integers(len(bank.items[BED])))]
    silent = rng.random() < 0.15
    loud = 0.0 if silent else 10 ** (float(rng.uniform(-60, -22)) / 20)
    floor, energy = max(loud, QUIETEST), loud**2
    powers = [_power(rng, bed, FRAMES, 0) * (loud / bed.rms) ** 2]
    placed: list[tuple[str, list[Interval]]] = []
    made_of = []
    for label, snr_db in wanted:
        number = bank.draw(rng, label)
        item = bank.items[label][number]
        if label in ENVIRONMENT and rng.random() < TWICE:
            item = doubled(rng, item, bank.items[label][bank.draw(rng, label)])
        if label not in ALARMS and rng.random() < 0.5:
            item = stretched(item, float(np.exp(rng.uniform(-0.35, 0.35))))
        if label in bank.doubt:
            made_of.append((label, number))
        at, skip = _place(rng, item, kind, label)
        gain = floor * 10 ** (snr_db / 20) / item.rms
        powers.append(_power(rng, item, FRAMES, at, skip) * gain**2)
        spans = [(max(0, a - skip) + at, min(b - skip + at, FRAMES)) for a, b in item.bursts]
        spans = [(a, b) for a, b in spans if b > a]
        energy += (gain * item.rms) ** 2 * sum(b - a for a, b in spans) / FRAMES
        placed.append((label if label in LABELS else item.label, spans))
    level = 10 ** (float(rng.uniform(-46, -10)) / 20) / max(energy, 1e-12) ** 0.5
    stack = np.stack(powers) * np.float32(level**2)  # [sounds, T, 64]
    total = stack.sum(axis=0)
    truth = _truth(placed, stack, total)
    mel = np.log(np.sqrt(total) + np.float32(FLOOR))
    return Blend(mel, truth, kind == "calm", tuple(made_of))


def _place(rng: Rng, item: Item, kind: str, label: str) -> tuple[int, int]:
    """The frame of the scene where ``item`` starts, and how much of its head is left out."""
    size = len(item.mel)
    if kind == "calm" or (kind == "alarm" and label not in ALARMS):
        at = int(rng.integers(0, max(1, FRAMES - size // 2))) if rng.random() < 0.5 else 0
    elif kind == "alarm":
        at = int(rng.integers(20, 400))
    else:
        at = int(rng.integers(0, max(1, FRAMES - min(size, FRAMES // 3))))
    skip = int(rng.integers(0, max(1, size // 2))) if rng.random() < 0.25 else 0
    return at, skip


def stretched(item: Item, factor: float) -> Item:
    """``item`` at ``factor`` times its length, its pitch as it was."""
    size = max(1, round(len(item.mel) * factor))
    at = np.minimum((np.arange(size) / factor).astype(int), len(item.mel) - 1)
    spans = [(round(a * factor), min(round(b * factor), size)) for a, b in item.bursts]
    return replace(item, mel=item.mel[at], bursts=tuple((a, b) for a, b in spans if b > a))


def doubled(rng: Rng, item: Item, other: Item) -> Item:
    """``item`` with ``other`` of the same label on top of it from a random frame on."""
    size = len(item.mel)
    at = int(rng.integers(0, size))
    part = _linear(other.mel[: size - at])
    gain = item.rms / other.rms * 10 ** (float(rng.uniform(-8, 4)) / 20)
    both = np.square(_linear(item.mel))
    both[at : at + len(part)] += np.square(np.float32(gain) * part)
    mel = np.log(np.sqrt(both) + np.float32(FLOOR)).astype(np.float16)
    late = [(a + at, min(b + at, size)) for a, b in other.bursts if a + at < size]
    return replace(item, mel=mel, bursts=tuple(bridge([*item.bursts, *late], 0)))


def _linear(mel: NDArray[np.float16]) -> Floats:
    """Magnitudes of log-mel [T, 64]."""
    out: Floats = np.exp(mel.astype(np.float32)) - np.float32(FLOOR)
    return np.maximum(out, 0, out=out)


def _power(rng: Rng, item: Item, frames: int, at: int, skip: int = 0) -> Floats:
    """``item`` [frames, 64] from frame ``at`` on, through a microphone of its own."""
    out = np.zeros((frames, MELS), np.float32)
    size = min(len(item.mel) - skip, frames - at)
    part = _linear(item.mel[skip : skip + size])
    curve = np.zeros(MELS)
    if rng.random() < 0.7:
        curve += np.interp(np.linspace(0, 5, MELS), np.arange(6), rng.uniform(-8, 8, 6))
    part *= (10 ** (curve / 20)).astype(np.float32)
    if item.label != BED and rng.random() < 0.45:
        most = 2 if item.label in ALARMS else 3
        part = _moved(part, int(rng.integers(-most, most + 1)))
    if item.label not in ALARMS and rng.random() < 0.35:
        knots = np.arange(0, size + DRIFT, DRIFT)
        drift = np.interp(np.arange(size), knots, rng.uniform(-5, 5, len(knots)))
        part *= (10 ** (drift / 20)).astype(np.float32)[:, None]
    np.square(part, out=out[at : at + size])
    return out


def _moved(x: Floats, bins: int) -> Floats:
    """``x`` [T, 64] ``bins`` higher; nothing comes in at the edge."""
    out = np.zeros_like(x)
    if bins >= 0:
        out[:, bins:] = x[:, : MELS - bins]
    else:
        out[:, :bins] = x[:, -bins:]
    return out


def _truth(
    placed: list[tuple[str, list[Interval]]], stack: Floats, total: Floats
) -> NDArray[np.uint8]:
    """Truth [T / 4, classes]: every burst from its first audible frame to its last.

    :data:`UNSURE` where nobody knows: whether an odd sound is speech or music, or what else its
    label says it may be.
    """
    count = FRAMES // 4
    out = np.zeros((count, len(LABELS)), np.uint8)
    unsure = np.zeros(out.shape, bool)
    whole = total.reshape(count, 4, MELS).mean(axis=1)
    for k, (label, spans) in enumerate(placed, start=1):
        if label.startswith(ODD):
            maybe = ["speech", "music", *label[len(ODD) + 1 :].split(",")]
            which = [LABELS.index(name) for name in maybe if name]
            for a, b in spans:
                unsure[a // 4 : -(-b // 4), which] = True
        if label not in LABELS or not spans:
            continue
        own = stack[k].reshape(count, 4, MELS).mean(axis=1)
        heard = np.sum(own > np.maximum(whole - own, FLOOR**2), axis=1) >= BANDS
        parts = []
        for a, b in spans:
            frames = np.flatnonzero(heard[a // 4 : -(-b // 4)]) + a // 4
            if len(frames):
                parts.append((max(a, int(frames[0]) * 4), min(b, int(frames[-1]) * 4 + 4)))
        for a, b in bridge(parts, round(BRIDGE_S.get(label, 0.5) * 100)):
            out[(a + 2) // 4 : (b + 2) // 4, LABELS.index(label)] = 1
    out[unsure & (out == 0)] = UNSURE
    return out


def spoil(rng: Rng, mel: Floats) -> None:
    """Silence bands and stretches of a batch [B, T, 64] in place, as bad links do."""
    for x in mel:
        for _ in range(int(rng.choice(3, p=[0.7, 0.2, 0.1]))):
            low, wide = int(rng.integers(0, 60)), int(rng.integers(2, 9))
            x[:, low : low + wide] = np.log(FLOOR)
        if rng.random() < 0.2:
            start, long = int(rng.integers(0, len(x))), int(rng.integers(5, 40))
            x[start : start + long] = np.log(FLOOR)


def remember(bank: Bank, scene: Blend, wrong: float) -> None:
    """Note how surely the model heard something in a calm scene that was not there."""
    for label, number in scene.made_of:
        old = bank.doubt[label][number]
        bank.doubt[label][number] = 0.6 * old + 0.4 * wrong
