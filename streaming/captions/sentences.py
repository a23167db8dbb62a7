"""Whole sentences about what was heard: `A dog barks while rain falls`.

The decoder words them; a sentence that names a sound nobody heard, leaves one out or repeats itself
is not used: the grammar's clauses are joined instead, and :attr:`Sentence.author` says which it
was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.bundle import Bundle
from ossicle.runtime.timing import WAIT, head_of
from ossicle.runtime.worddecoder import KernelWords, Words, settings_of
from ossicle.runtime.wording import beam_search, named
from ossicle.streaming.captions.lexicon import load_lexicon
from ossicle.streaming.captions.options import NO_DECODER
from ossicle.streaming.captions.sounds import Form

GRAMMAR = "grammar"


@dataclass(frozen=True, slots=True)
class Heard:
    """One sound to be worded: its key in the lexicon, the moment it began in, and its score.

    ``vector`` is the tagger's embedding when it was believed (:func:`as_vector`), if known.
    """

    key: str
    moment: int = 0
    score: float = 1.0
    vector: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Sentence:
    """Words, and who made them: the decoder's bundle, or the grammar."""

    text: str
    author: str = GRAMMAR

    @property
    def decoded(self) -> bool:
        """Whether the decoder made it."""
        return self.author != GRAMMAR


class SentenceWriter:
    """Words what was heard with the decoder of a bundle; without one, with the grammar alone.

    Raises:
        ManifestError: a bundle that is no sentence decoder.
    """

    def __init__(self, bundle: Bundle | None, beam: int = 4, decoder: Words | None = None) -> None:
        self.name, self.beam, self.timing = GRAMMAR, beam, WAIT
        self.decoder = decoder
        self.embedding, self.tagger = 0, ""  # the size of which tagger's embeddings it looks at
        if bundle is None:
            return
        self.settings = settings_of(bundle)
        self.embedding = int(self.settings.get("embedding", 0))
        self.tagger = str(self.settings.get("tagger", ""))
        self.name, self.timing = bundle.manifest.name, head_of(self.settings)
        self.decoder = decoder or KernelWords(bundle)
        self.sounds = {name: i for i, name in enumerate(bundle.manifest.labels or ())}
        self.words: list[str] = json.loads(bundle.read("words.json"))
        naming = json.loads(bundle.read("naming.json"))
        self.naming = [(name, re.compile(pattern)) for name, pattern in naming]

    def write(self, heard: Sequence[Heard], language: str = "en") -> Sentence | None:
        """Return a sentence about ``heard``, in the order of their moments; None for silence."""
        if not heard:
            return None
        told = sorted({h.key: h for h in heard}.values(), key=lambda h: h.moment)
        for words in self._decode(told, language):
            names = named(" ".join(words), self.naming)
            if names == {h.key for h in told} and not _repeats(words):
                text = " ".join(words).replace(" ,", ",")
                return Sentence(text[:1].upper() + text[1:], self.name)
        return Sentence(join_clauses(told, language))

    def _decode(self, told: list[Heard], language: str) -> list[list[str]]:
        """Return the decoder's sentences, best first; none if it does not know a sound."""
        if self.decoder is None or language != self.settings["language"]:
            return []
        if len(told) > self.settings["rows"] or any(h.key not in self.sounds for h in told):
            return []
        found = beam_search(self.decoder, self.memory(told), self.beam)
        return [[self.words[i] for i in line] for line in found]

    def memory(self, told: Sequence[Heard]) -> NDArray[np.float32]:
        """Return what the decoder attends to, `[rows, features]`."""
        rows, moments, count = (self.settings["rows"], self.settings["moments"], len(self.sounds))
        width = self.embedding
        memory = np.zeros((rows, count + moments + 1 + width), np.float32)
        for row, item in enumerate(told):
            memory[row, self.sounds[item.key]] = 1
            memory[row, count + min(item.moment, moments - 1)] = 1
            memory[row, count + moments] = item.score
            if width and item.vector is not None and len(item.vector) == width:
                memory[row, count + moments + 1 :] = item.vector
        return memory


@cache
def writer_of(name: str) -> SentenceWriter:
    """Return the writer whose decoder is the bundle ``name``; ``none`` is the grammar alone.

    Raises:
        BundleError: no such bundle.
    """
    return SentenceWriter(None if name == NO_DECODER else Bundle.open(name))


def _repeats(words: list[str]) -> bool:
    pairs = list(pairwise(words))
    return len(set(pairs)) < len(pairs)


def join_clauses(told: Sequence[Heard], language: str) -> str:
    """Return the grammar's sentence.

    >>> join_clauses([Heard("dog"), Heard("rain"), Heard("speech", 1)], "en")
    'A dog barks while rain falls then someone speaks'
    """
    lexicon = load_lexicon(language)
    text, moment = "", 0
    for item in told:
        words = lexicon.speaks(item.key)
        clause = words.clause(item.key, Form.SUSTAINED)
        if text:
            clause = lexicon.patterns["while" if item.moment == moment else "then"].format(
                text=clause
            )
        text, moment = f"{text} {clause}" if text else clause, item.moment
    return text[:1].upper() + text[1:]
