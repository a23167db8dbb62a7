"""Rules per class from held-out scenes, within a budget of false captions.

    python -m ossicle.export.recipes.tagger_calibrate --pupils work/run/pupils.pt \
        --tuning work/tune.npz --out rules.json

The scenes of :mod:`tagger_tune` are scored as streaming would score them. Every class then gets
the rule that is worth most for one common list of prices; the price of a false caption is raised
until the budget is kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from ossicle.export.models.tagger import STEP_FRAMES
from ossicle.export.recipes.tagger_data import BRIDGE_S
from ossicle.export.recipes.tagger_hysteresis import FRAME_MS, Rule, Scores, events_of
from ossicle.export.recipes.tagger_pupils import Pupils
from ossicle.export.recipes.tagger_rules import SLOT, Heard, Prices, Tally, best_rule, summary
from ossicle.export.recipes.tagger_scenes import FRAME
from ossicle.export.recipes.tagger_step import features
from ossicle.export.recipes.tagger_tune import Mel, Tuning, load
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.scene.labels import LABELS

Hearing = Callable[[Sequence[Mel]], dict[str, list[Scores]]]
TIERS: Final = ("full", "tiny")
BATCH: Final = 8
TOGETHER: Final = 40  # recordings that a bundle hears step by step
LOWEST: Final = float(np.log(1e-3))  # the log-mel of silence
ROUNDS: Final = 14  # of dearer false captions; what is then left is there at any price


@torch.no_grad()
def scores_of(pupils: Pupils, mels: Sequence[Mel]) -> dict[str, list[Scores]]:
    """Frame scores [T, classes] of whole recordings by tier, as streaming gives them."""
    out: dict[str, list[Scores]] = {tier: [] for tier in TIERS}
    for i in range(0, len(mels), BATCH):
        part = mels[i : i + BATCH]
        most = max(len(m) for m in part) // STEP_FRAMES * STEP_FRAMES
        mel = np.full((len(part), most, part[0].shape[1]), LOWEST, np.float32)
        for row, m in zip(mel, part, strict=True):
            row[: len(m)] = m[:most]
        whole = torch.from_numpy(mel)
        full, tiny, _ = pupils.heads(whole, features(pupils.trunk, whole))
        for tier, logits in zip(TIERS, (full, tiny), strict=True):
            found = torch.sigmoid(logits).numpy()
            for m, scores in zip(part, found, strict=True):
                out[tier].append(np.asarray(scores[: len(m) // 4], np.float32))
    return out


def scores_by(bundle: Bundle, mels: Sequence[Mel]) -> dict[str, list[Scores]]:
    """The same of the small tier as ``bundle`` gives them: eight bits do not saturate alike."""
    graph = bundle.manifest.graphs["tag"]
    session = ort.InferenceSession(bundle.read(graph.file), providers=["CPUExecutionProvider"])
    out: list[Scores] = []
    for i in range(0, len(mels), TOGETHER):
        part = mels[i : i + TOGETHER]
        steps = max(len(m) for m in part) // STEP_FRAMES
        mel = np.full((len(part), steps * STEP_FRAMES, part[0].shape[1]), LOWEST, np.float32)
        for row, m in zip(mel, part, strict=True):
            row[: len(m)] = m[: mel.shape[1]]
        given = {s.input: np.zeros((len(part), *s.shape), np.float32) for s in graph.states}
        names = ["scores", *(s.output for s in graph.states)]
        found = []
        for step in range(steps):
            given["mel"] = mel[:, step * STEP_FRAMES : (step + 1) * STEP_FRAMES]
            scores, *states = session.run(names, given)
            given = {s.input: x for s, x in zip(graph.states, states, strict=True)}
            found.append(scores)
        whole = np.concatenate(found, axis=1)
        out += [whole[row, : len(m) // 4] for row, m in enumerate(part)]
    return {"tiny": out}


def listen(hear: Hearing, tuning: Tuning) -> dict[str, Heard]:
    """What each tier that ``hear`` knows makes of the scenes that rules are tuned on."""
    scores = hear(tuning.mixed)
    rung = {label: hear(mels) for label, mels in tuning.alarms.items()}
    quiet = {kind: hear(mels) for kind, mels in tuning.calm.items()}
    out = {}
    for tier in scores:
        calm = {kind: np.concatenate(s[tier]) for kind, s in quiet.items()}
        out[tier] = Heard(
            _slots(scores[tier]),
            tuning.truth,
            {label: (_slots(s[tier]), tuning.spans[label]) for label, s in rung.items()},
            {kind: (x, len(x) * FRAME_MS / 3.6e6) for kind, x in calm.items()},
            unclear=tuning.unclear,
        )
    return out


def _slots(scores: Sequence[Scores]) -> Scores:
    """Scenes' scores one after the other, each in its slot, silence behind it."""
    out = np.zeros((len(scores), SLOT, len(LABELS)), np.float32)
    for slot, x in zip(out, scores, strict=True):
        slot[: len(x)] = x
    return out.reshape(-1, len(LABELS))


def delay_of(heard: Heard) -> int:
    """Frames by which scores trail the truth: the median over onsets found at 0.5."""
    late: list[int] = []
    for k, label in enumerate(LABELS):
        rule = Rule(0.5, 0.3, 1, round(1000 * BRIDGE_S.get(label, 0.5) / FRAME_MS))
        starts = np.array([e.start for e in events_of(heard.scores[:, k], rule)])
        for a, _ in heard.truth[label]:
            near: NDArray[Any] = starts[np.abs(starts - a) <= 25] - a if len(starts) else starts
            if len(near):
                late.append(int(near[np.argmin(np.abs(near))]))
    return max(0, int(np.median(late))) if late else 0


def calibrate(heard: Heard, budget: float, for_alerts: float) -> dict[str, tuple[Rule, Tally]]:
    """The best rules with at most ``budget`` false captions an hour, ``for_alerts`` of alerts.

    Or the mildest of those that no price betters.
    """
    hours = sum(time for _, time in heard.calm.values())
    prices = Prices()
    known: dict[str, dict[Rule, Tally]] = {label: {} for label in LABELS}
    before: dict[str, float] = {}
    kept: dict[str, tuple[Rule, Tally]] = {}
    stuck = 0
    for _ in range(ROUNDS):
        chosen = {label: best_rule(heard, label, prices, known[label]) for label in LABELS}
        figures = summary({label: t for label, (_, t) in chosen.items()}, hours)
        print(round(prices.wrong, 2), round(prices.wrong_alert, 2), figures, flush=True)
        few = figures["wrong_per_hour"] <= budget
        few_alerts = figures["wrong_alerts_per_hour"] <= for_alerts
        if few and few_alerts:
            return chosen
        kept, stuck = (kept, stuck + 1) if figures == before else (chosen, 0)
        before = figures
        if stuck > 1:
            break
        prices = replace(
            prices,
            wrong=prices.wrong * (1 if few else 1.4),
            wrong_alert=prices.wrong_alert * (1 if few_alerts else 1.4),
        )
    return kept


def main(arguments: Sequence[str] | None = None) -> None:
    """Calibrate both tiers and print what each class reaches on the held-out scenes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pupils", type=Path, required=True)
    parser.add_argument("--tuning", type=Path, required=True, help="of tagger_tune")
    parser.add_argument("--small", type=Path, help="bundle of the small tier in int8: heard too")
    parser.add_argument("--budget", type=float, default=6.0, help="false captions an hour, in all")
    parser.add_argument("--alert-budget", type=float, default=0.2)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    pupils = Pupils()
    pupils.load_state_dict(torch.load(asked.pupils, weights_only=True))
    rules: dict[str, Any] = {}
    tuning = load(asked.tuning)
    both = listen(partial(scores_of, pupils.eval()), tuning)
    if asked.small:
        both |= listen(partial(scores_by, Bundle.open(asked.small)), tuning)
    for tier, heard in both.items():
        delay = delay_of(heard)
        print(tier, "score delay", delay * FRAME)
        rules[tier] = {"score_delay": delay * FRAME, "thresholds": {}}
        chosen = calibrate(replace(heard, delay=delay), asked.budget, asked.alert_budget)
        for label, (rule, t) in chosen.items():
            rules[tier]["thresholds"][label] = rule.to_dict()
            print(tier, label, rule, f"{t.hits} of {t.true}, told {t.found}", t.segments, t.wrong)
    asked.out.write_text(json.dumps(rules, indent=1))


if __name__ == "__main__":
    main()
