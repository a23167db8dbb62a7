"""What a tagger makes of the scenes that rules are tuned on, scored as streaming scores them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from ossicle.export.models.tagger import STEP_FRAMES
from ossicle.export.recipes.tagger_data import BRIDGE_S
from ossicle.export.recipes.tagger_hysteresis import FRAME_MS, Rule, Scores, events_of
from ossicle.export.recipes.tagger_pupils import Pupils
from ossicle.export.recipes.tagger_rules import SLOT, Heard
from ossicle.export.recipes.tagger_step import features
from ossicle.export.recipes.tagger_tune import Mel, Tuning
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.scene.labels import LABELS

Hearing = Callable[[Sequence[Mel]], dict[str, list[Scores]]]
TIERS: Final = ("full", "tiny")
BATCH: Final = 8
TOGETHER: Final = 40  # recordings that a bundle hears step by step
LOWEST: Final = float(np.log(1e-3))  # the log-mel of silence


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
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # as the runtime does
    data = bundle.read(graph.file)
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
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
