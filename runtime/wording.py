"""Words from a decoder bundle: greedy or beam search over its steps, and what a sentence names."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.errors import QueryError
from ossicle.runtime.worddecoder import Words


def beam_search(words: Words, memory: NDArray[np.float32], beam: int) -> list[list[int]]:
    """Return up to ``beam`` sentences as word numbers, best mean log-probability first.

    ``beam`` 1 is greedy. The key-value cache is the decoder's explicit state: rows change places
    with their beams. No word follows that would make a triple of words a second time.
    """
    if beam < 1:
        raise QueryError(f"beam of {beam}; 1 (greedy) or more expected")
    begin, end = words.settings["begin"], words.settings["end"]
    state = words.open(memory, beam)
    lines = [[begin] for _ in range(beam)]
    scores = np.array([0.0] + [-np.inf] * (beam - 1))
    done: list[tuple[float, list[int]]] = []
    for _ in range(words.settings["length"] - 1):
        logits = words.step(state, [line[-1] for line in lines]).astype(np.float64)
        logits[:, :end] = -np.inf  # marks are not words
        for row, line in enumerate(lines):
            logits[row, _banned(line)] = -np.inf
        total = scores[:, None] + logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        best = np.sort(np.argpartition(total, -2 * beam, axis=None)[-2 * beam :])
        order = best[np.argsort(-total.ravel()[best], kind="stable")]
        rows: list[int] = []
        fresh: list[tuple[float, list[int]]] = []
        for row, word in (divmod(int(i), total.shape[1]) for i in order):
            if not np.isfinite(total[row, word]):
                continue
            if word == end:
                done.append((float(total[row, word]) / len(lines[row]), lines[row][1:]))
            elif len(fresh) < beam:
                rows.append(row)
                fresh.append((float(total[row, word]), [*lines[row], word]))
        if not fresh or len(done) >= beam:
            break
        fresh += [(-np.inf, fresh[0][1])] * (beam - len(fresh))
        rows += [rows[0]] * (beam - len(rows))
        words.reorder(state, rows)
        scores, lines = np.array([s for s, _ in fresh]), [line for _, line in fresh]
    return [line for _, line in sorted(done, key=lambda d: -d[0])[:beam]]


def _banned(line: list[int]) -> list[int]:
    """Return the words that would end a triple which ``line`` holds already."""
    if len(line) < 3:
        return []
    pair = line[-2:]
    return [line[i + 2] for i in range(len(line) - 2) if line[i : i + 2] == pair]


def named(text: str, naming: Sequence[tuple[str, re.Pattern[str]]]) -> set[str]:
    """Return what ``text`` names; an earlier pattern takes its characters from later ones.

    >>> sorted(named("fire alarm", [("alarm", re.compile("fire alarm")),
    ...                             ("fire", re.compile("fire"))]))
    ['alarm']
    """
    covered, found = [False] * len(text), set()
    for name, pattern in naming:
        for match in pattern.finditer(text):
            if not any(covered[match.start() : match.end()]):
                covered[match.start() : match.end()] = [True] * (match.end() - match.start())
                found.add(name)
    return found
