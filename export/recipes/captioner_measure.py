"""How well a sentence decoder says what it was told: names, repeats, CIDEr-D, parity, cost."""

from __future__ import annotations

import csv
import math
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ossicle.export.models.captioner import CaptionerShape
from ossicle.export.recipes.captioner_examples import Language, Told, memory_of, worded
from ossicle.export.recipes.captioner_text import clauses_of, read_pair, reader
from ossicle.runtime.worddecoder import Words
from ossicle.runtime.wording import beam_search, named

ORDERS = 4  # n-grams of 1 to 4 words
SIGMA = 6.0
Say = Callable[[Told], list[str]]


def cider_d(said: Sequence[str], meant: Sequence[Sequence[str]]) -> float:
    """Return CIDEr-D of sentences against their references, 0 to 10.

    Vedantam et al., CVPR 2015, as the COCO evaluation computes it: n-grams of up to four words
    weighed by how rare they are among the references, clipped counts, a penalty on length.
    """
    references = [[_grams(words_of(r)) for r in refs] for refs in meant]
    rare: Counter[tuple[str, ...]] = Counter()
    for refs in references:
        rare.update({gram for grams in refs for gram in grams})
    total = math.log(max(len(meant), 1))
    scores = []
    for sentence, refs in zip(said, references, strict=True):
        mine = _weighed(_grams(words_of(sentence)), rare, total)
        scores.append(np.mean([_likeness(mine, _weighed(r, rare, total)) for r in refs]))
    return 10 * float(np.mean(scores))


def words_of(sentence: str) -> list[str]:
    """Return a sentence's words in lower case, without punctuation."""
    return re.sub(r"[^a-z0-9' ]+", " ", sentence.lower()).split()


def _grams(words: Sequence[str]) -> Counter[tuple[str, ...]]:
    return Counter(
        tuple(words[i : i + n]) for n in range(1, ORDERS + 1) for i in range(len(words) - n + 1)
    )


Vector = tuple[list[dict[tuple[str, ...], float]], list[float], int]


def _weighed(
    grams: Counter[tuple[str, ...]], rare: Counter[tuple[str, ...]], total: float
) -> Vector:
    vectors: list[dict[tuple[str, ...], float]] = [{} for _ in range(ORDERS)]
    for gram, count in grams.items():
        vectors[len(gram) - 1][gram] = count * (total - math.log(max(1, rare[gram])))
    norms = [math.sqrt(sum(v * v for v in vector.values())) for vector in vectors]
    return vectors, norms, sum(n for gram, n in grams.items() if len(gram) == 2)


def _likeness(mine: Vector, theirs: Vector) -> float:
    (a, norms_a, length_a), (b, norms_b, length_b) = mine, theirs
    penalty = math.exp(-((length_a - length_b) ** 2) / (2 * SIGMA**2))
    found = 0.0
    for n in range(ORDERS):
        shared = sum(min(v, b[n].get(g, 0.0)) * b[n].get(g, 0.0) for g, v in a[n].items())
        if norms_a[n] and norms_b[n]:
            found += penalty * shared / (norms_a[n] * norms_b[n])
    return found / ORDERS


def captions_by_clip(path: Path) -> list[list[str]]:
    """Return the captions of each clip of an AudioCaps CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            [text for column, text in row.items() if column.startswith("caption") and text]
            for row in csv.DictReader(file)
        ]


def on_captions(say: Say, clips: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return CIDEr-D of what is said of one caption's sounds, against that clip's other captions.

    ``itself`` counts the caption that the sounds were read from too, ``templates`` is what joined
    clauses would score where they have all sounds.
    """
    said, others, itself, plain, plain_others = [], [], [], [], []
    rng, clauses = random.Random(0), clauses_of()
    for captions in clips:
        at = next((i for i, c in enumerate(captions) if read_pair(c) is not None), None)
        if at is None or len(captions) < 2:
            continue
        pair = read_pair(captions[at])
        assert pair is not None
        told = [(name, moment, 0.8) for name, moment in pair.sounds]
        said.append(" ".join(say(told)))
        others.append([c for i, c in enumerate(captions) if i != at])
        itself.append(captions)
        joined = worded(rng, clauses, told)
        if joined is not None:
            plain.append(" ".join(joined))
            plain_others.append(others[-1])
    found = {"cider_d": cider_d(said, others), "cider_d_itself": cider_d(said, itself)}
    if plain:
        found["cider_d_templates"] = cider_d(plain, plain_others)
    return {**found, "clips": float(len(said))}


def faithful(say: Say, told: Sequence[Told]) -> dict[str, float]:
    """Return how often what is said names what was told and nothing else, and says a pair twice."""
    exact = repeats = 0
    for rows in told:
        words = say(rows)
        exact += named(" ".join(words), reader().sounds) == {name for name, *_ in rows}
        pairs = list(pairwise(words))
        repeats += len(set(pairs)) < len(pairs)
    count = max(1, len(told))
    return {"named": exact / count, "repeats": repeats / count}


def sayer(decoder: Words, language: Language, shape: CaptionerShape, beam: int) -> Say:
    """Return the decoder as a function from what is told to words, unchecked."""

    def say(told: Told) -> list[str]:
        found = beam_search(decoder, memory_about(told, language, shape), beam)
        return [language.words[i] for i in found[0]] if found else []

    return say


def memory_about(told: Told, language: Language, shape: CaptionerShape) -> NDArray[np.float32]:
    """Return the memory `[S, features]` of what is told."""
    sounds = np.full((1, shape.rows), -1)
    moments, scores = np.zeros((1, shape.rows), int), np.zeros((1, shape.rows))
    vectors = np.zeros((1, shape.rows, shape.embedding))
    for row, (name, moment, score, *vector) in enumerate(told[: shape.rows]):
        sounds[0, row] = language.sounds.index(name)
        moments[0, row], scores[0, row] = moment, score
        if vector and shape.embedding:
            vectors[0, row] = vector[0]
    return np.asarray(memory_of(sounds, moments, scores, shape, vectors)[0])


def side_by_side(
    graph: Words, kernels: Words, memories: Sequence[NDArray[np.float32]], beam: int = 4
) -> dict[str, float]:
    """Return how far the two ways to run a decoder differ over greedy and beam sentences.

    ``parity`` is the largest difference of a score; ``same`` the share of equal sentences;
    ``speedup`` the graph's time over the kernels', each the best of three rounds.
    """
    worst, equal = 0.0, 0
    for memory in memories:
        lines = beam_search(graph, memory, beam)
        equal += lines == beam_search(kernels, memory, beam)
        states = graph.open(memory, 1), kernels.open(memory, 1)
        for token in [graph.settings["begin"], *(lines[0] if lines else ())]:
            a, b = graph.step(states[0], [token]), kernels.step(states[1], [token])
            worst = max(worst, float(np.abs(a - b).max()))
    spent = [min(_timed(words, memories[:20], beam) for _ in range(3)) for words in
             (graph, kernels)]  # fmt: skip
    return {"parity": worst, "same": equal / len(memories), "speedup": spent[0] / spent[1],
            "sentence_ms": spent[1] * 1000 / len(memories[:20])}  # fmt: skip


def _timed(words: Words, memories: Sequence[NDArray[np.float32]], beam: int) -> float:
    begun = time.process_time()
    for memory in memories:
        beam_search(words, memory, beam)
    return time.process_time() - begun
