"""Thresholds per class from held-out scenes, within a budget of false captions an hour.

    python -m ossicle.export.recipes.tagger_calibrate --pupils work/run/pupils.pt --out rules.json

Every class gets the hysteresis that does best on two-event scenes for the false captions that it
may cost; the classes share one budget of them, counted on silence, noise, speech, music and
sounds of no class, and each goes where it helps most.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from ossicle.export.models.tagger import STEP_FRAMES
from ossicle.export.recipes.tagger_data import (
    BRIDGE_S,
    FRAME,
    HELD_OUT,
    Library,
    draw_label,
    draw_sound,
    joined,
    load_library,
)
from ossicle.export.recipes.tagger_teacher import log_mel
from ossicle.export.recipes.tagger_train import Pupils
from ossicle.runtime.scene import everyday
from ossicle.runtime.scene.alarms import ALARMS
from ossicle.runtime.scene.labels import ALERTS, LABELS
from ossicle.runtime.scene.mix import Placement, Scene, mix, quiet_room, synthetic_room, trim
from ossicle.runtime.scene.sound import RATE_HZ, Interval, Samples1D, noise

Scores = NDArray[np.float32]
FRAME_MS: Final = 1000 * FRAME // RATE_HZ
GAP: Final = 150  # silent frames between scenes that are scored as one stream
QUIET: Final = ("silence", "white", "pink", "speech", "music", "unknown", "household")


@dataclass(frozen=True)
class Rule:
    """Hysteresis of one class, times in frames."""

    on: float
    off: float
    min_on: int
    min_off: int
    max_rise: int = 5

    def to_dict(self) -> dict[str, float]:
        """The same as the manifest spells it, times in milliseconds."""
        return {
            "on": round(self.on, 3),
            "off": round(self.off, 3),
            "min_on_ms": self.min_on * FRAME_MS,
            "min_off_ms": self.min_off * FRAME_MS,
            "max_rise_ms": self.max_rise * FRAME_MS,
        }


def events_of(score: Scores, rule: Rule) -> list[Interval]:
    """Sounds in frames ``[start, stop)`` that ``rule`` finds in the scores [T] of one class.

    Runs at or above ``off`` that stay believed for ``min_on`` from where they reach ``on``, the
    onset at most ``max_rise`` before that; what reaches ``on`` again within ``min_off`` joins.
    """
    out: list[Interval] = []
    for a, b in _runs(score >= rule.off):
        reached = np.flatnonzero(score[a:b] >= rule.on)
        if len(reached) == 0:
            continue
        start = max(a, a + int(reached[0]) - rule.max_rise)
        if out and start - out[-1][1] < rule.min_off:
            out[-1] = (out[-1][0], b)
        elif b - (a + int(reached[0])) >= max(1, rule.min_on):
            out.append((start, b))
    return out


def _runs(on: NDArray[np.bool_]) -> list[Interval]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], on.view(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def two_events(rng: np.random.Generator, lib: Library, labels: Sequence[str] = ()) -> Scene:
    """A 10 s scene of two different sounds, each -5 to 20 dB over a bed, in one room."""
    n = 10 * RATE_HZ
    first = labels[0] if labels else draw_label(rng)
    second = first
    while second == first:
        second = labels[1] if len(labels) > 1 else draw_label(rng)
    room = None if rng.random() < 0.5 else synthetic_room(rng, float(rng.uniform(0.15, 0.5)))
    if room is not None and lib.rooms and rng.random() < 0.5:
        room = lib.rooms[int(rng.integers(len(lib.rooms)))]
    placed = []
    for label in (first, second):
        sound = draw_sound(rng, lib, label, 8.0)
        sound = trim(sound, 0, min(len(sound.samples), n))
        at = int(rng.integers(0, max(1, n - min(len(sound.samples), n // 2))))
        placed.append(Placement(sound, at, float(rng.uniform(-5, 20)), room))
    bed = noise(rng, n, float(rng.uniform(-6, 0))) * 10 ** (float(rng.uniform(-55, -25)) / 20)
    return mix(placed, bed, float(rng.uniform(-38, -14)))


def calm(rng: np.random.Generator, lib: Library, kind: str, seconds: int = 20) -> Samples1D:
    """``seconds`` in which nothing of the classes happens, or nothing but speech or music."""
    n = seconds * RATE_HZ
    level = 10 ** (float(rng.uniform(-50, -12)) / 20)
    if kind == "silence":
        return (quiet_room(rng, n) * float(rng.choice([0.0, 0.1, 1.0]))).astype(np.float32)
    if kind in ("white", "pink"):
        return (noise(rng, n, 0.0 if kind == "white" else -3.0) * level).astype(np.float32)
    sounds = []
    at = 0
    unknown = [k for k in everyday.UNKNOWN if (k in HELD_OUT) == lib.held_out]
    if kind == "household":
        unknown = list(everyday.UNKNOWN)
    while at < n - RATE_HZ:
        if kind in ("speech", "music"):
            sound = draw_sound(rng, lib, kind, 10.0)
        else:
            sound = everyday.synthesise(str(rng.choice(unknown)), rng, float(rng.uniform(2, 8)))
        sound = trim(sound, 0, min(len(sound.samples), n - at))
        sounds.append(Placement(sound, at, float(rng.uniform(5, 30))))
        at += len(sound.samples) + int(rng.uniform(0, 1.5) * RATE_HZ)
    room = synthetic_room(rng, float(rng.uniform(0.15, 0.5)))
    sounds = [replace(p, room=room) for p in sounds]
    return mix(sounds, quiet_room(rng, n), 20 * float(np.log10(level))).samples


@torch.no_grad()
def scores_of(pupils: Pupils, audio: Samples1D) -> dict[str, Scores]:
    """Frame scores [T, classes] of a whole recording by tier, as streaming gives them."""
    mel = log_mel(audio)
    whole = torch.from_numpy(mel[: len(mel) // STEP_FRAMES * STEP_FRAMES])[None]
    full, tiny, _ = pupils(whole)
    return {
        tier: np.asarray(torch.sigmoid(x)[0].numpy(), np.float32)
        for tier, x in (("full", full), ("tiny", tiny))
    }


@dataclass(frozen=True)
class Heard:
    """Scores of many scenes in a row, their true events in frames by label, and calm hours."""

    scores: Scores
    truth: dict[str, list[Interval]]
    calm: dict[str, tuple[Scores, float]]  # kind -> scores, hours

    def later(self, frames: int) -> Heard:
        """The same with the truth put off by ``frames``, the delay of the scores."""
        late = {k: [(a + frames, b + frames) for a, b in v] for k, v in self.truth.items()}
        return replace(self, truth=late)


def listen(
    pupils: Pupils, lib: Library, seed: int, scenes: int, minutes: float
) -> dict[str, Heard]:
    """Score ``scenes`` two-event scenes and ``minutes`` of each calm kind, by both tiers."""
    parts: dict[str, list[Scores]] = {"full": [], "tiny": []}
    truth: dict[str, list[Interval]] = {label: [] for label in LABELS}
    at = 0
    gap = np.zeros((GAP, len(LABELS)), np.float32)
    for k in range(scenes):
        scene = two_events(np.random.default_rng((seed, k)), lib)
        for event in scene.events:
            for a, b in joined(event.label, event.bursts):
                truth[event.label].append((at + round(a / FRAME), at + max(1, round(b / FRAME))))
        for tier, scores in scores_of(pupils, scene.samples).items():
            parts[tier] += [scores, gap]
        at += len(parts["full"][-2]) + GAP
    quiet = {kind: _calm(pupils, lib, seed, kind, minutes) for kind in QUIET}
    return {
        tier: Heard(
            np.concatenate(parts[tier]),
            truth,
            {kind: (scores[tier], minutes / 60) for kind, scores in quiet.items()},
        )
        for tier in parts
    }


def _calm(pupils: Pupils, lib: Library, seed: int, kind: str, minutes: float) -> dict[str, Scores]:
    made = [
        scores_of(pupils, calm(np.random.default_rng((seed, 1, QUIET.index(kind), k)), lib, kind))
        for k in range(round(minutes * 3))
    ]
    return {tier: np.concatenate([m[tier] for m in made]) for tier in ("full", "tiny")}


def delay_of(heard: Heard) -> int:
    """Frames by which scores trail the truth: the median over onsets found at 0.5."""
    late: list[int] = []
    for k, label in enumerate(LABELS):
        rule = Rule(0.5, 0.3, 1, round(1000 * BRIDGE_S.get(label, 0.5) / FRAME_MS))
        starts = np.array([a for a, _ in events_of(heard.scores[:, k], rule)])
        for a, _ in heard.truth[label]:
            near = starts[np.abs(starts - a) <= 25] - a if len(starts) else starts
            if len(near):
                late.append(int(near[np.argmin(np.abs(near))]))
    return max(0, int(np.median(late))) if late else 0


def false_captions(heard: Heard, label: str, rule: Rule) -> int:
    """How many sounds of ``label`` are found in all the calm, where there are none."""
    k = LABELS.index(label)
    return sum(
        len(events_of(scores[:, k], rule))
        for kind, (scores, _) in heard.calm.items()
        if kind != label
    )


def agreement(found: list[Interval], true: list[Interval], frames: int) -> dict[str, float]:
    """Event F1 (onset within 200 ms, offset within that or half the length), frame F1, recall."""
    used = set()
    hits = 0
    for a, b in true:
        for i, (c, d) in enumerate(found):
            if i not in used and abs(a - c) <= 5 and abs(b - d) <= max(5, (b - a) / 2):
                used.add(i)
                hits += 1
                break
    want, got = np.zeros(frames, bool), np.zeros(frames, bool)
    for a, b in true:
        want[a:b] = True
    for a, b in found:
        got[a:b] = True
    noticed = sum(bool(got[a:b].any()) for a, b in true)
    return {
        "event_f1": 2 * hits / max(1, len(found) + len(true)),
        "frame_f1": 2 * float((want & got).sum()) / max(1.0, float(want.sum() + got.sum())),
        "recall": noticed / max(1, len(true)),
    }


@dataclass(frozen=True)
class Choice:
    """A rule, what it found on the scenes, how much that is worth, and its false captions."""

    rule: Rule
    result: dict[str, float]
    worth: float
    wrong: int


def choices(heard: Heard, label: str, most: int) -> list[Choice]:
    """The best rule of ``label`` with at most 0, 1, ... ``most`` false captions in all the calm.

    Only those that are worth more than the stricter ones; the first is the quietest there is.
    """
    k, alert = LABELS.index(label), label in ALERTS
    score, pause = heard.scores[:, k], round(1000 * BRIDGE_S.get(label, 0.5) / FRAME_MS)
    ons = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.87, 0.92, 0.95, 0.97, 0.98, 0.99)
    holds = (1, 2) if alert else (1, 3, 6, 9)
    tried: list[Choice] = []
    for on, low, hold in itertools.product(ons, (0.3, 0.5, 0.75), holds):
        rule = Rule(on, on * low, hold, pause)
        result = agreement(events_of(score, rule), heard.truth[label], len(score))
        worth = result["event_f1"] + result["frame_f1"]
        if alert or label in ALARMS:
            worth += 2 * result["recall"]
        tried.append(Choice(rule, result, worth, false_captions(heard, label, rule)))
    tried.sort(key=lambda c: (c.wrong, -c.worth))
    kept = tried[:1]
    for choice in tried[1:]:
        if choice.wrong <= max(most, kept[0].wrong) and choice.worth > kept[-1].worth:
            kept.append(choice)
    return kept


def spend(options: dict[str, list[Choice]], budget: int, for_alerts: int) -> dict[str, Choice]:
    """One choice per label: the next false caption goes where it is worth most, ``budget`` in all.

    Alerts together may cost no more than ``for_alerts``.
    """
    taken = dict.fromkeys(options, 0)
    while True:
        now = {label: options[label][i] for label, i in taken.items()}
        left = budget - sum(c.wrong for c in now.values())
        alerts_left = for_alerts - sum(c.wrong for name, c in now.items() if name in ALERTS)
        best: tuple[float, str, int] | None = None
        for label, i in taken.items():
            for j in range(i + 1, len(options[label])):
                cost = options[label][j].wrong - now[label].wrong
                if cost > left or (label in ALERTS and cost > alerts_left):
                    continue
                gain = (options[label][j].worth - now[label].worth) / max(cost, 1)
                if best is None or gain > best[0]:
                    best = (gain, label, j)
        if best is None:
            return now
        taken[best[1]] = best[2]


def main(arguments: Sequence[str] | None = None) -> None:
    """Calibrate both tiers and print what each class reaches on the held-out scenes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OSSICLE_DATA", ".")))
    parser.add_argument("--pupils", type=Path, required=True)
    parser.add_argument("--folds", type=int, nargs="+", default=[4])
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--budget", type=float, default=4.0, help="false captions an hour, in all")
    parser.add_argument("--alert-budget", type=float, default=0.2)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    pupils = Pupils()
    pupils.load_state_dict(torch.load(asked.pupils, weights_only=True))
    lib = load_library(asked.data, asked.folds, held_out=True)
    rules: dict[str, Any] = {}
    for tier, heard in listen(pupils.eval(), lib, 99, asked.scenes, asked.minutes).items():
        delay = delay_of(heard)
        print(tier, "score delay", delay * FRAME)
        rules[tier] = {"score_delay": delay * FRAME, "thresholds": {}}
        hours = sum(time for _, time in heard.calm.values())
        late = heard.later(delay)
        options = {label: choices(late, label, 4) for label in LABELS}
        budget, for_alerts = int(asked.budget * hours), int(asked.alert_budget * hours)
        for label, choice in spend(options, budget, for_alerts).items():
            rules[tier]["thresholds"][label] = choice.rule.to_dict()
            figures = {k: round(v, 2) for k, v in choice.result.items()}
            print(tier, label, choice.rule.to_dict(), figures, choice.wrong, "false", flush=True)
    asked.out.write_text(json.dumps(rules, indent=1))


if __name__ == "__main__":
    main()
