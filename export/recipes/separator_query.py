"""Train the query encoder: which of the known sounds a short phrase means, or none of them.

A linear model over hashed words and letter groups, trained on the synonyms below in every-day
wordings and, where a folder with ``captions/*.csv`` is at hand, on pieces of human captions:
those with a known word as that sound, the others as nothing known.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ossicle.export.recipes.separator_data import GROUPS, LABELS
from ossicle.export.recipes.separator_vocabulary import CARRIERS, STRANGERS, SYNONYMS
from ossicle.runtime.phrases import phrase_vector, stem, words_of

SIZE = 2048  # buckets of a phrase vector
UNKNOWN = "unknown"
STRANGE = 4.0  # weight of a stranger that is written down: one wrong sound is worse than a refusal


@dataclass(frozen=True)
class QueryWeights:
    """What a bundle carries: ``weight`` [SIZE, intents + 1], the last column is the unknown."""

    intents: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]  # labels of each intent
    phrases: tuple[tuple[str, ...], ...]
    weight: NDArray[np.float16]
    bias: NDArray[np.float32]


def examples(captions: Sequence[Path], rng: np.random.Generator) -> list[tuple[str, str]]:
    """(phrase, intent) pairs to train on."""
    return listed() + caption_examples(captions, rng)


def listed() -> list[tuple[str, str]]:
    """The pairs written down here: every synonym and every stranger, in every carrier.

    A synonym that has a stranger's stems ("winds" and "wind") is left out: the words themselves
    are looked up before anything is guessed.
    """
    pairs: list[tuple[str, str]] = []
    strangers = STRANGERS.split("; ")
    strange = {_stems(phrase) for phrase in strangers}
    for intent, joined in SYNONYMS.items():
        for phrase in [part.strip() for part in joined.split(";")] + [intent.replace("_", " ")]:
            if _stems(phrase) not in strange:
                pairs += [(carrier.format(phrase), intent) for carrier in CARRIERS]
    for phrase in strangers:
        pairs += [(carrier.format(phrase), UNKNOWN) for carrier in CARRIERS]
    return pairs


def _stems(phrase: str) -> tuple[str, ...]:
    return tuple(stem(word) for word in words_of(phrase))


def caption_examples(
    captions: Sequence[Path], rng: np.random.Generator, most: int = 400
) -> list[tuple[str, str]]:
    """Pieces of human captions that name exactly one known sound, or none.

    A word that alone is a stranger's name ("door", "wind") names no sound, though a synonym
    has it in it ("door bell"): captions are full of wind that is no wind instrument.
    """
    strange = {_stems(phrase) for phrase in STRANGERS.split("; ")}
    stems: dict[str, set[str]] = {}
    for intent, joined in SYNONYMS.items():
        for phrase in joined.split(";"):
            for word in _stems(phrase):
                if (word,) not in strange:
                    stems.setdefault(word, set()).add(intent)
    found: dict[str, list[str]] = {}
    pieces = re.compile(r",| and | while | then | as | followed by | with ")
    for path in captions:
        with path.open(newline="", encoding="utf-8") as file:
            texts = (
                text
                for row in csv.DictReader(file)
                for column, text in row.items()
                if column.startswith("caption")
            )
            for text in texts:
                for piece in pieces.split(text.lower()):
                    words = [stem(word) for word in words_of(piece)]
                    if not 1 <= len(words) <= 6:
                        continue
                    named = [stems[word] for word in words if word in stems]
                    if not named:
                        found.setdefault(UNKNOWN, []).append(piece.strip())
                    elif len(same := set.intersection(*named)) == 1:
                        found.setdefault(next(iter(same)), []).append(piece.strip())
    pairs = []
    for intent, said in sorted(found.items()):
        unique = sorted(set(said))
        limit = most * 10 if intent == UNKNOWN else most
        chosen = rng.permutation(len(unique))[:limit]
        pairs += [(unique[i], intent) for i in chosen]
    return pairs


def train_queries(
    data: Path | None = None, *, seed: int = 0, steps: int = 2500, size: int = SIZE
) -> QueryWeights:
    """Train the linear encoder; a minute on one core."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    captions = sorted((data / "captions").glob("*train*.csv")) if data else []
    pairs = examples(captions, rng)
    intents = (*SYNONYMS, UNKNOWN)
    x = torch.from_numpy(np.stack([phrase_vector(text, size) for text, _ in pairs]))
    y = torch.tensor([intents.index(intent) for _, intent in pairs])
    share = torch.bincount(y, minlength=len(intents)).float().clamp(min=1)
    weight_of = (share.mean() / share).sqrt().clamp(0.3, 3.0)
    layer = torch.nn.Linear(size, len(intents))
    torch.nn.init.zeros_(layer.weight)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.05)
    # Half of what is drawn is listed, and a stranger there counts in full: captions hold many
    # more phrases of nothing known, among which "glass breaking" was learnt as sea waves.
    written = len(listed())
    each = weight_of[y]
    each[:written] = each[:written].clamp(min=1.0)
    each[:written][y[:written] == intents.index(UNKNOWN)] = STRANGE
    for step in range(steps):
        drawn = rng.integers(0, len(x), 384)
        drawn[:192] = rng.integers(0, written, 192)
        pick = torch.from_numpy(drawn)
        noisy = x[pick] * (torch.rand(384, size) > 0.15)
        wrong = torch.nn.functional.cross_entropy(layer(noisy), y[pick], reduction="none")
        loss = (wrong * each[pick]).mean()
        loss = loss + 2e-5 * layer.weight.square().sum()
        for group in optimiser.param_groups:
            group["lr"] = 0.05 * (1 - step / steps) + 1e-4
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        weight = layer.weight.T.numpy().astype(np.float16)
        bias = layer.bias.numpy().astype(np.float32)
    known = intents[:-1]
    return QueryWeights(
        known,
        tuple(GROUPS.get(name, (name,)) for name in known),
        tuple(tuple(p.strip() for p in SYNONYMS[name].split(";")) for name in known),
        weight,
        bias,
    )


def accuracy(weights: QueryWeights, pairs: Sequence[tuple[str, str]], least: float = 0.5) -> float:
    """Share of phrases that are understood, or refused when unknown."""
    names = (*weights.intents, UNKNOWN)
    right = 0
    for text, intent in pairs:
        scores = phrase_vector(text, len(weights.weight)) @ weights.weight.astype(np.float32)
        scores = np.exp(scores + weights.bias - (scores + weights.bias).max())
        scores /= scores.sum()
        best = int(scores.argmax())
        said = names[best] if scores[best] >= least else UNKNOWN
        right += said == intent
    return right / max(1, len(pairs))


assert set(LABELS) | set(GROUPS) == set(SYNONYMS)
