"""Fit the timing head on mixtures as a tagger heard them, and say what it saves.

Each frame after a new sound is an example: is another sound reported before ``MOST_MS`` are over?
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ossicle.export.recipes.captioner_heard import Found, Tagged, shards, sounds_in
from ossicle.export.recipes.tagger_hysteresis import Scores
from ossicle.runtime.timing import INPUTS, Outlook, TimingHead, inputs

LEAST_MS, MOST_MS = 160.0, 1500.0
MISSED = 0.25  # of the sounds that follow within MOST_MS, those that may miss the sentence
Waits = list[tuple[list[tuple[float, Outlook]], float]]  # looks, and when another sound came, ms


def waits_in(folder: Path, tagged: Tagged) -> Waits:
    """Return every wait after a new sound: its looks, and when the next sound came (inf: none)."""
    found: Waits = []
    for scores, _, _ in shards(folder):
        sounds = sounds_in(scores, tagged)
        for at, sound in enumerate(sounds):
            following = sounds[at + 1].believed if at + 1 < len(sounds) else 1 << 30
            came = (following - sound.believed) * tagged.frame_ms
            if came > 0:
                found.append((_looks(scores, tagged, sounds, sound.believed),
                              came if came <= MOST_MS else float("inf")))  # fmt: skip
    return found


def _looks(
    scores: Scores, tagged: Tagged, sounds: Sequence[Found], start: int
) -> list[tuple[float, Outlook]]:
    """Return (waited ms, outlook) for the frames from ``LEAST_MS`` to ``MOST_MS`` after one."""
    looks = []
    first, last = (round(ms / tagged.frame_ms) for ms in (LEAST_MS, MOST_MS))
    for at in range(start + first, min(start + last, len(scores))):
        on = {s.name for s in sounds if s.believed <= at < s.stop}
        off = np.array([name not in on for name, _ in tagged.rules])
        row = scores[at]
        near = np.where(off, row / tagged.on, 0).max(initial=0.0)
        rising = int((off & (row >= tagged.off)).sum())
        looks.append(((at - start) * tagged.frame_ms, Outlook(rising, min(1.0, float(near)))))
    return looks


def fit(waits: Waits) -> TimingHead:
    """Return the head with the highest cut that misses at most ``MISSED`` of what follows."""
    x, y = [], []
    for looks, came in waits:
        for waited, outlook in looks:
            if waited < came:
                x.append(inputs(waited, MOST_MS, outlook))
                y.append(np.isfinite(came))
    weights, bias = logistic(np.array(x), np.array(y, np.float64))
    best = TimingHead(weights, bias, 0.0, LEAST_MS, MOST_MS)
    for cut in np.geomspace(0.01, 0.9, 60):
        head = TimingHead(weights, bias, round(float(cut), 4), LEAST_MS, MOST_MS)
        if outcome(head, waits)["missed"] > MISSED:
            break
        best = head
    return best


def logistic(
    x: NDArray[np.float64], y: NDArray[np.float64], rounds: int = 30, ridge: float = 1.0
) -> tuple[tuple[float, ...], float]:
    """Return weights and bias by Newton's method (Bishop 2006, 4.3.3), with a small ridge."""
    a = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    w = np.zeros(INPUTS + 1)
    for _ in range(rounds):
        p = 1 / (1 + np.exp(-np.clip(a @ w, -30, 30)))
        slope = a.T @ (p - y) + ridge * w
        curve = (a * (p * (1 - p))[:, None]).T @ a + ridge * np.eye(INPUTS + 1)
        w -= np.linalg.solve(curve, slope)
    return tuple(round(float(v), 5) for v in w[:-1]), round(float(w[-1]), 5)


def outcome(head: TimingHead, waits: Waits) -> dict[str, float]:
    """Return the mean and median wait where nothing followed, and the share of followers missed."""
    quiet, missed, followed = [], 0, 0
    for looks, came in waits:
        spoke = next((w for w, o in looks if head.speaks(w, o)), MOST_MS)
        if np.isfinite(came):
            followed += 1
            missed += spoke < came
        else:
            quiet.append(spoke)
    return {
        "wait_ms": float(np.mean(quiet)) if quiet else MOST_MS,
        "wait_p50_ms": float(np.median(quiet)) if quiet else MOST_MS,
        "missed": missed / max(1, followed),
        "followed": followed / max(1, len(waits)),
    }
