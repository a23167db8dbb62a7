"""What the sentence decoder learns from, as arrays: captions, made-up sentences, mixtures.

Three sources stand side by side in every batch. People's captions say how one speaks; made-up
sentences name what people rarely caption; mixtures bring what a tagger really reports, its scores,
its order and its company of sounds, with a caption that people wrote about just these sounds in
just this order where there is one, and a made-up one else.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.export.models.captioner import CaptionerShape
from ossicle.export.recipes.captioner_text import MAX_WORDS, SLOTS, Pair

PAD, BEGIN, END = 0, 1, 2
MARKS = ("<pad>", "<s>", "</s>")
JOINS = (
    ("{a} and {b}", 0), ("{a} while {b}", 0), ("{a} as {b}", 0), ("{a} with {b}", 0),
    ("{a} then {b}", 1), ("{a} followed by {b}", 1), ("{a} and then {b}", 1),
)  # fmt: skip
DEAF = 0.2  # of what mixtures teach is told without embeddings, as another tagger would
SHARES = {"captions": 0.55, "made up": 0.2, "mixtures": 0.25}
Told = Sequence[tuple[Any, ...]]  # sound, moment, score, and the embedding where there is one


@dataclass(frozen=True)
class Language:
    """What the decoder can say and be told."""

    words: tuple[str, ...]
    sounds: tuple[str, ...]

    def tokens(self, words: Sequence[str]) -> list[int] | None:
        """Return the words as numbers between marks, or None for a word not known."""
        index = {w: i for i, w in enumerate(self.words)}
        if any(w not in index for w in words):
            return None
        return [BEGIN, *(index[w] for w in words), END]


@dataclass(frozen=True)
class Examples:
    """Sentences and what they are about; sound -1 is an empty row, score -1 any above 0.4."""

    tokens: NDArray[np.int16]  # [N, MAX_WORDS + 2]
    sounds: NDArray[np.int16]  # [N, S]
    moments: NDArray[np.int16]  # [N, S]
    scores: NDArray[np.float32]  # [N, S]
    weights: NDArray[np.float64]  # [N], sum 1
    vectors: NDArray[np.float16]  # [N, S, E]; zeros where no tagger heard it


def examples(
    rows: Sequence[tuple[Told, Sequence[str]]], language: Language, shape: CaptionerShape
) -> Examples:
    """Return what is told and said as arrays; a sentence with an unknown word is left out.

    Rare sounds are drawn more often.
    """
    lines = [(told, line) for told, words in rows if (line := language.tokens(words)) is not None]
    index = {name: i for i, name in enumerate(language.sounds)}
    tokens = np.full((len(lines), MAX_WORDS + 2), PAD, np.int16)
    sounds = np.full((len(lines), shape.rows), -1, np.int16)
    moments = np.zeros((len(lines), shape.rows), np.int16)
    scores = np.zeros((len(lines), shape.rows), np.float32)
    heard = any(len(row) > 3 for told, _ in lines for row in told)
    size = shape.embedding if heard else 0  # no memory is spent on zeros
    vectors = np.zeros((len(lines), shape.rows, size), np.float16)
    for n, (told, line) in enumerate(lines):
        tokens[n, : len(line)] = line
        for row, (name, moment, score, *vector) in enumerate(told[: shape.rows]):
            sounds[n, row], moments[n, row], scores[n, row] = index[name], moment, score
            if vector and size:
                vectors[n, row] = vector[0]
    counts = np.bincount(sounds[sounds >= 0], minlength=len(language.sounds))
    rarity = np.where(sounds >= 0, np.maximum(counts[sounds], 1) ** -0.5, 0).max(1)
    return Examples(tokens, sounds, moments, scores, rarity / rarity.sum(), vectors)


def draw(
    of: Examples, size: int, rng: np.random.Generator, shape: CaptionerShape
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return ``size`` examples: tokens `[size, MAX_WORDS + 2]` and memory `[size, S, features]`.

    Sounds of one moment come in any order, so that the order within a moment means nothing.
    """
    pick = rng.choice(len(of.weights), size, p=of.weights)
    sounds, moments, scores = of.sounds[pick], of.moments[pick], of.scores[pick]
    key = moments + np.where(sounds < 0, 100, 0) + rng.random(sounds.shape)
    order = key.argsort(1)
    sounds, moments = np.take_along_axis(sounds, order, 1), np.take_along_axis(moments, order, 1)
    scores = np.take_along_axis(scores, order, 1)
    scores = np.where(scores < 0, rng.uniform(0.4, 1.0, scores.shape), scores)
    vectors = np.take_along_axis(of.vectors[pick], order[..., None], 1)
    vectors = vectors * (rng.random((size, 1, 1)) >= DEAF)
    return of.tokens[pick].astype(np.int64), memory_of(sounds, moments, scores, shape, vectors)


def memory_of(
    sounds: NDArray[Any], moments: NDArray[Any], scores: NDArray[Any], shape: CaptionerShape,
    vectors: NDArray[Any] | None = None,
) -> NDArray[np.float32]:  # fmt: skip
    """Return memories `[B, S, features]` of rows `[B, S]`; sound -1 is an empty row.

    ``vectors`` `[B, S, E]` are the tagger's embeddings; none, or an E of 0, are zeros.
    """
    memory = np.zeros((*sounds.shape, shape.features), np.float32)
    b, s = np.nonzero(sounds >= 0)
    memory[b, s, sounds[b, s]] = 1
    memory[b, s, shape.sounds + np.minimum(moments[b, s], shape.moments - 1)] = 1
    memory[b, s, shape.sounds + shape.moments] = scores[b, s]
    if vectors is not None and vectors.shape[-1]:
        memory[b, s, shape.sounds + shape.moments + 1 :] = vectors[b, s]
    return memory


def from_captions(pairs: Sequence[Pair]) -> list[tuple[Told, Sequence[str]]]:
    """Return people's captions with what they are about; their scores are anybody's guess.

    What is shorter than three words is a title ("a rooster"), not a sentence.
    """
    return [
        ([(name, moment, -1.0) for name, moment in p.sounds], p.words)
        for p in pairs
        if len(p.words) > 2
    ]


def made_up(
    rng: random.Random, clauses: dict[str, list[str]], count: int
) -> list[tuple[Told, Sequence[str]]]:
    """Return sentences of one to three clauses, for sounds that people rarely write about."""
    rows: list[tuple[Told, Sequence[str]]] = []
    for _ in range(count):
        chosen = rng.sample(sorted(clauses), rng.choice((1, 1, 2, 2, 2, 3)))
        moment, told = 0, list[tuple[str, int, float]]()
        for name in chosen:
            moment += bool(told) and rng.random() < 0.4
            told.append((name, moment, -1.0))
        words = worded(rng, clauses, told)
        if words is not None:
            rows.append((told, words))
    return rows


def worded(rng: random.Random, clauses: dict[str, list[str]], told: Told) -> list[str] | None:
    """Return a made-up sentence about ``told``; None where a sound has no clause, or it is long."""
    if any(name not in clauses for name, *_ in told):
        return None
    form, text, before = rng.randrange(2), "", 0
    for name, moment, *_ in told:
        join, _ = rng.choice([j for j in JOINS if j[1] == (moment > before)])
        noun = "with" in join or "followed" in join
        clause = clauses[name][2 if noun and text else form]
        text, before = join.format(a=text, b=clause) if text else clause, moment
    return text.split() if len(text.split()) <= MAX_WORDS else None


def from_mixtures(
    rng: random.Random, heard: Sequence[Told], pairs: Sequence[Pair],
    clauses: dict[str, list[str]], each: int = 6,
) -> list[tuple[Told, Sequence[str]]]:  # fmt: skip
    """Return what a tagger reported with ``each`` sentences about it, people's where they exist."""
    human: dict[frozenset[tuple[str, int]], list[Pair]] = {}
    for pair in pairs:
        if len(pair.words) > 2:
            human.setdefault(frozenset(pair.sounds), []).append(pair)
    rows: list[tuple[Told, Sequence[str]]] = []
    for told in heard:
        known = human.get(frozenset((name, min(moment, SLOTS - 1)) for name, moment, *_ in told))
        for _ in range(each):
            if known and rng.random() < 0.7:
                rows.append((told, rng.choice(known).words))
            elif (words := worded(rng, clauses, told)) is not None:
                rows.append((told, words))
    return rows
