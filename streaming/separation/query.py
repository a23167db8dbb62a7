"""From words to what a separator is asked for.

The language is small::

    speech                      what is named
    speech and music            a union; also a comma, "or", "plus", "+", "&"
    not the traffic             everything but what is named; also "no", "without", "except",
                                "everything but", "all but", "minus", or a leading "-"
    music without drums         what is named first, less what is named after

Each name is looked up among the phrases that came with the bundle, then by a small linear model of
theirs. What neither knows is refused with the nearest known names: a guess would play the wrong
sound.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import BundleError, QueryError
from ossicle.runtime.phrases import phrase_vector, words_of

MAX_CHARACTERS = 400
MAX_NAMES = 16
LEAST = 0.5  # probability below which a phrase counts as unknown
LEAST_ALIKE = 0.5  # the same for a sentence encoder's cosine similarity
_BUT = re.compile(
    r"\b(?:everything|all|anything)\s+(?:but|except(?:\s+for)?|minus|without|other\s+than)\b"
    r"|\b(?:not|no|without|except(?:\s+for)?|minus|excluding|remove|mute|less)\b|(?:^|\s)[-\u2212]\s*",
    re.IGNORECASE,
)
_AND = re.compile(r"\s*(?:,|;|\+|&|/|\band\b|\bor\b|\bplus\b|\bbut\b)\s*", re.IGNORECASE)

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Query:
    """What a listener asked for, resolved.

    ``wanted`` and ``unwanted`` are labels of the model. With nothing wanted it means everything
    but the unwanted.
    """

    text: str
    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]
    similarity: float  # of the least certain name, 0..1

    def conditions(
        self, labels: Sequence[str], depth: float = 1.0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The model's inputs: membership [labels] and blend [2] for ``depth`` in 0..1.

        The mask is ``blend[0] + blend[1] * M``: at depth 0 the input comes out as it went in.

        Raises:
            QueryError: a depth outside 0..1.
        """
        if not 0.0 <= depth <= 1.0:
            raise QueryError(f"depth is {depth}; 0 (dry) to 1 (only what was asked for) expected")
        chosen = self.wanted or self.unwanted
        member = np.array([label in chosen for label in labels], np.float32)
        blend = (1.0 - depth, depth) if self.wanted else (1.0, -depth)
        return member, np.array(blend, np.float32)


class QueryBook:
    """The names one bundle knows. Immutable but for a small cache; shared by all its streams."""

    def __init__(
        self,
        labels: Sequence[str],
        intents: Sequence[Sequence[str]],
        phrases: Sequence[Sequence[str]],
        weight: NDArray[np.float32],
        bias: NDArray[np.float32],
        embed: Embed | None = None,
    ) -> None:
        self.labels = tuple(labels)
        self._intents = tuple(tuple(names) for names in intents)
        self._phrases = tuple(tuple(names) for names in phrases)
        self._weight, self._bias = weight, bias
        self._cache: OrderedDict[str, Query] = OrderedDict()
        self._embed = embed
        self._exact = {tuple(words_of(p)): i for i, names in enumerate(phrases) for p in names}
        self._known: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, bundle: Bundle, embed: Embed | None = None) -> QueryBook:
        """The book in ``bundle``; ``embed`` is a sentence encoder for wider wording (optional).

        Raises:
            BundleError: the bundle takes no text queries.
        """
        labels = bundle.manifest.labels
        if labels is None or "queries.json" not in bundle.manifest.files:
            raise BundleError(
                f"{bundle.manifest.name} takes no text queries; use a bundle of task 'separate'"
            )
        held = json.loads(bundle.read("queries.json"))
        arrays = bundle.arrays("queries.npz")
        return cls(
            labels,
            [entry["labels"] for entry in held],
            [entry["phrases"] for entry in held],
            arrays["weight"].astype(np.float32),
            arrays["bias"].astype(np.float32),
            embed,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """One usual phrase for each thing that can be asked for."""
        return tuple(phrases[0] for phrases in self._phrases)

    def resolve(self, text: str) -> Query:
        """What ``text`` asks for.

        Raises:
            QueryError: empty, too long, or a name that is not known (``nearest`` has what is).
        """
        found = self._cache.get(text)
        if found is not None:
            self._cache.move_to_end(text)
            return found
        query = self._resolve(text)
        self._cache[text] = query
        if len(self._cache) > 256:
            self._cache.popitem(last=False)
        return query

    def similar(self, phrase: str, count: int = 3) -> list[tuple[str, float]]:
        """The known names nearest to ``phrase`` and their similarities, best first.

        These are cosines of the sentence encoder where there is one, else probabilities.
        """
        scores = self._alikeness(phrase) if self._embed else self._scores(phrase)
        order = np.argsort(scores)[::-1][:count]
        return [(self.names[i], round(float(scores[i]), 3)) for i in order]

    def _resolve(self, text: str) -> Query:
        if len(text) > MAX_CHARACTERS:
            raise QueryError(
                f"a query of {len(text)} characters; at most {MAX_CHARACTERS} are allowed. "
                'Name the sounds only, as in "speech and music"'
            )
        if not text.strip():
            raise QueryError(
                f"the query is empty; name a sound, such as {', '.join(self.names[:5])}"
            )
        clauses, at = [], 0
        negative = False
        for match in _BUT.finditer(text):
            clauses.append((negative, text[at : match.start()]))
            negative, at = True, match.end()
        clauses.append((negative, text[at:]))
        wanted: dict[str, None] = {}
        unwanted: dict[str, None] = {}
        least, count = 1.0, 0
        for is_negative, clause in clauses:
            for name in filter(None, (part.strip() for part in _AND.split(clause))):
                count += 1
                if count > MAX_NAMES:
                    raise QueryError(f"a query of more than {MAX_NAMES} names; name fewer sounds")
                labels, similarity = self._lookup(name)
                least = min(least, similarity)
                (unwanted if is_negative else wanted).update(dict.fromkeys(labels))
        if not count:
            raise QueryError(f"{text!r} names no sound; try {', '.join(self.names[:5])}")
        return self._combined(text, tuple(wanted), tuple(unwanted), least)

    def _combined(
        self, text: str, wanted: tuple[str, ...], unwanted: tuple[str, ...], least: float
    ) -> Query:
        if not wanted:
            return Query(text, (), unwanted, least)
        if len(wanted) == len(self.labels):  # "everything without ..."
            left = tuple(label for label in wanted if label not in unwanted)
            return Query(text, () if unwanted else left, unwanted, least)
        left = tuple(label for label in wanted if label not in unwanted)
        if not left:
            raise QueryError(f"{text!r} takes away all that it asks for; nothing would be left")
        return Query(text, left, unwanted, least)

    def _lookup(self, name: str) -> tuple[tuple[str, ...], float]:
        exact = self._exact.get(tuple(words_of(name)))
        if exact is not None:
            return self._intents[exact], 1.0
        scores = self._scores(name)
        best = int(scores.argmax())
        if scores[best] >= LEAST:
            return self._intents[best], float(scores[best])
        if self._embed is not None and words_of(name):
            alike = self._alikeness(name)
            best = int(alike.argmax())
            if alike[best] >= LEAST_ALIKE:
                return self._intents[best], float(alike[best])
        nearest = tuple(self.similar(name))
        told = ", ".join(f"{known!r} ({score:.2f})" for known, score in nearest)
        shown = name if len(name) <= 60 else name[:57] + "..."
        raise QueryError(
            f"no sound is known as {shown!r}; nearest are {told}. "
            f"{LEAST} is the least similarity that is taken; ask for a known name",
            nearest=nearest,
        )

    def _scores(self, phrase: str) -> NDArray[np.float32]:
        """Probability [intents] that ``phrase`` means each known thing (unknown left out)."""
        vector = phrase_vector(phrase, len(self._weight))
        if not vector.any():
            return np.zeros(len(self._intents), np.float32)
        logits = vector @ self._weight + self._bias
        odds = np.exp(logits - logits.max())
        return np.asarray((odds / odds.sum())[: len(self._intents)], np.float32)

    def _alikeness(self, name: str) -> NDArray[np.float32]:
        """Cosine [intents] of ``name`` and each known thing's nearest phrase, 0 at least."""
        assert self._embed is not None
        if self._known is None:
            self._known = _unit(self._embed([p for names in self._phrases for p in names]))
        alike = self._known @ _unit(self._embed([name]))[0]
        starts = np.cumsum([0, *(len(names) for names in self._phrases[:-1])])
        return np.maximum(np.maximum.reduceat(alike, starts), np.float32(0))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-9), np.float32)


def sentence_encoder(model: str) -> Embed:
    """A sentence encoder for :class:`QueryBook`, for wider wording; needs sentence-transformers.

    Args:
        model: a folder, or the name of a model on the Hugging Face hub, which is fetched.

    Raises:
        QueryError: the package is not installed, or there is no such model.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise QueryError(
            "a sentence encoder needs the package sentence-transformers; install ossicle[queries]"
        ) from None
    try:
        encoder = SentenceTransformer(model)
    except (OSError, ValueError) as error:
        raise QueryError(
            f"no sentence encoder at {model!r} ({error}); give the folder of one, or its name on "
            "the Hugging Face hub"
        ) from error

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(encoder.encode(list(texts)), np.float32)

    return embed
