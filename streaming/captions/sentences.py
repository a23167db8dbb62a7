"""Whole sentences from the decoder: `a dog barks while rain falls`, once per change of the scene.

The grammar words single sounds at once; this speaks a little later and of everything together. A
sentence that names a sound nobody heard, or leaves one out, is not used: the grammar's clauses are
joined instead, and :attr:`Sentence.decoded` says which it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.errors import ManifestError
from ossicle.runtime.model import Model
from ossicle.runtime.wording import beam_search, named
from ossicle.streaming.captions.cue import Cue, Kind, Op, Priority, Relation, RelationKind
from ossicle.streaming.captions.feed import CLOSING_MS
from ossicle.streaming.captions.layout import MOST_MS, lay_out, reading_ms
from ossicle.streaming.captions.lexicon import Form, load_lexicon, sound_of


@dataclass(frozen=True, slots=True)
class Heard:
    """One sound to be worded: its key in the lexicon, the moment it began in, and its score."""

    key: str
    moment: int = 0
    score: float = 1.0


@dataclass(frozen=True, slots=True)
class Sentence:
    """Words, and whether the decoder or the grammar made them."""

    text: str
    decoded: bool


class SentenceWriter:
    """Words what was heard with the decoder of a bundle; without one, with the grammar alone.

    Raises:
        ManifestError: a bundle that is no sentence decoder.
    """

    def __init__(self, model: Model | None, beam: int = 4) -> None:
        self.model, self.beam = model, beam
        if model is None:
            return
        extra, labels = model.manifest.extra, model.manifest.labels
        missing = {"rows", "moments", "length", "begin", "end", "language"} - set(extra)
        if missing or labels is None:
            raise ManifestError(f"{model.name} is no sentence decoder: it lacks {sorted(missing)}")
        self.sounds = {name: i for i, name in enumerate(labels)}
        self.words: list[str] = json.loads(model.bundle.read("words.json"))
        naming = json.loads(model.bundle.read("naming.json"))
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
                return Sentence(text[:1].upper() + text[1:], True)
        return Sentence(join_clauses(told, language), False)

    def _decode(self, told: list[Heard], language: str) -> list[list[str]]:
        """Return the decoder's sentences, best first; none if it does not know a sound."""
        model = self.model
        if model is None or language != model.manifest.extra["language"]:
            return []
        if len(told) > model.manifest.extra["rows"] or any(h.key not in self.sounds for h in told):
            return []
        found = beam_search(model, self._memory(told), self.beam)
        return [[self.words[i] for i in line] for line in found]

    def _memory(self, told: list[Heard]) -> NDArray[np.float32]:
        assert self.model is not None
        extra, count = self.model.manifest.extra, len(self.sounds)
        memory = np.zeros((extra["rows"], count + extra["moments"] + 1), np.float32)
        for row, item in enumerate(told):
            memory[row, self.sounds[item.key]] = 1
            memory[row, count + min(item.moment, extra["moments"] - 1)] = 1
            memory[row, -1] = item.score
        return memory


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


class SceneSentences:
    """Puts a sentence about the scene into a feed, each time the scene has changed and settled.

    Takes the feed's lines and returns them renumbered, with SCENE cues between. The change point
    is a new sound (not one that goes on or comes back); the sentence is spoken ``settle_ms`` of
    audio after the last one, so that sounds that begin together are told together, and only if it
    is not the sentence spoken last. Alerts are in the feed already and wait for nothing.
    """

    def __init__(self, writer: SentenceWriter, language: str = "en", settle_ms: int = 1500) -> None:
        self.writer, self.language, self.settle_ms = writer, language, settle_ms
        self._seq = self._scenes = 0
        self._fresh: list[Cue] = []  # opened since the last sentence
        self._going: dict[int, Cue] = {}  # open, or closed with their sound going on
        self._said = ""
        self._last: Cue | None = None  # the scene that is shown

    def take(self, cue: Cue) -> list[Cue]:
        """Return the lines that follow from one line of the feed."""
        self._listen(cue)
        out = [self._numbered(cue)]
        now_ms = _seen_ms(cue)
        if self._last is not None and now_ms >= self._last.display_end_ms:
            out.append(self._close(cue))
        if self._fresh and now_ms - _seen_ms(self._fresh[-1]) >= self.settle_ms:
            out += self._speak(cue)
        return out

    def end(self) -> list[Cue]:
        """Return the close of a scene that is still shown."""
        return [self._close(self._last)] if self._last is not None else []

    def _listen(self, cue: Cue) -> None:
        if cue.is_heartbeat or not cue.labels:
            return
        same = (RelationKind.CONTINUES, RelationKind.STOPS)
        earlier = [r.cue_id for r in cue.relations if r.kind in same]
        if cue.op is Op.OPEN and not earlier:
            self._fresh.append(cue)
        for cue_id in earlier:  # the same sound, told of in an earlier cue
            self._going.pop(cue_id, None)
        if cue.is_final and not cue.end_open:
            self._going.pop(cue.cue_id, None)
        else:
            self._going[cue.cue_id] = cue
        if cue.op is Op.RETRACT:
            self._fresh = [c for c in self._fresh if c.cue_id != cue.cue_id]

    def _speak(self, now: Cue) -> list[Cue]:
        """Return the sentence about what is new and what goes on behind it."""
        fresh, self._fresh = self._fresh, []
        new = {c.cue_id for c in fresh}
        behind = [c for c in self._going.values()
                  if c.cue_id not in new and c.start_sample <= fresh[0].start_sample]  # fmt: skip
        heard, moment, previous = [], 0, None
        for cue in [*behind, *sorted(fresh, key=lambda c: c.start_sample)]:
            if previous is not None and any(r.kind == RelationKind.THEN for r in cue.relations):
                moment += 1
            key = sound_of(cue.labels[0].name)
            heard.append(Heard(key, moment, cue.labels[0].score))
            previous = cue
        sentence = self.writer.write(heard, self.language)
        if sentence is None or sentence.text == self._said:
            return []
        self._said = sentence.text
        out = [self._close(now)] if self._last is not None else []
        return [*out, self._open(now, fresh, sentence)]

    def _open(self, now: Cue, about: list[Cue], sentence: Sentence) -> Cue:
        self._scenes += 1
        text, start = lay_out(sentence.text), _seen_ms(now)
        labels = tuple(label for c in about for label in c.labels[:1])
        start_sample = min(c.start_sample for c in about)
        self._last = Cue(
            seq=self._next(), cue_id=2 * self._scenes - 1, revision=0, op=Op.OPEN, kind=Kind.SCENE,
            text=text, stable_chars=len(text), is_final=False, stability=1.0,
            sample_rate_hz=now.sample_rate_hz, start_sample=start_sample,
            end_sample=now.audio_seen_sample, end_open=True, display_start_ms=start,
            display_end_ms=min(start + MOST_MS, start + 2 * reading_ms(text)),
            audio_seen_sample=now.audio_seen_sample, labels=labels, priority=Priority.AMBIENT,
            language=self.language, model=self._model(sentence),
        )  # fmt: skip
        return self._last

    def _close(self, now: Cue) -> Cue:
        last, self._last = self._last, None
        assert last is not None
        end = max(last.display_end_ms, _seen_ms(now) + CLOSING_MS)
        return replace(
            last, seq=self._next(), revision=1, op=Op.CLOSE, is_final=True, end_open=False,
            end_sample=max(last.end_sample, now.audio_seen_sample), display_end_ms=end,
            audio_seen_sample=max(last.audio_seen_sample, now.audio_seen_sample),
        )  # fmt: skip

    def _numbered(self, cue: Cue) -> Cue:
        """Return ``cue`` with its place in the longer feed; even numbers are the task's cues."""
        relations = tuple(Relation(r.kind, 2 * r.cue_id) for r in cue.relations)
        return replace(cue, seq=self._next(), cue_id=2 * cue.cue_id, relations=relations)

    def _next(self) -> int:
        self._seq += 1
        return self._seq - 1

    def _model(self, sentence: Sentence) -> str:
        model = self.writer.model
        return model.name if model is not None and sentence.decoded else "grammar"


def _seen_ms(cue: Cue) -> int:
    return cue.audio_seen_sample * 1000 // cue.sample_rate_hz
