"""Human captions as training pairs: which sounds, in which order, and what was said of them.

A caption is kept only if every word is accounted for, by a sound of the captions' vocabulary or by
a neutral word, and what a tagger cannot know (who speaks, how loud, how far) is taken out first.
So the decoder learns to say what it was told, and nothing else.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ossicle.runtime.errors import ExportError

WORDS = Path(__file__).with_name("captioner_words.toml")
SLOTS = 4  # successive moments that a caption may tell apart
MAX_SOUNDS = 6
MAX_WORDS = 22


@dataclass(frozen=True, slots=True)
class Pair:
    """Sounds with the moment (0, 1, ...) they belong to, in the order they are named."""

    sounds: tuple[tuple[str, int], ...]
    words: tuple[str, ...]


@dataclass(frozen=True)
class Reader:
    """The word lists, compiled."""

    sounds: tuple[tuple[str, re.Pattern[str]], ...]
    then: re.Pattern[str]
    plain: tuple[tuple[re.Pattern[str], str], ...]
    neutral: frozenset[str]


@cache
def reader() -> Reader:
    """Return the compiled word lists of ``captioner_words.toml``."""
    table: dict[str, Any] = tomllib.loads(WORDS.read_text(encoding="utf-8"))
    text = table["text"]

    def one(patterns: list[str]) -> re.Pattern[str]:
        # "+" after a letter or a group is "any ending", as people write word lists
        bodies = (re.sub(r"(?<=[a-z)])\+", "[a-z']*", p) for p in patterns)
        return re.compile(r"\b(?:" + "|".join(bodies) + r")(?![a-z'])")

    return Reader(
        tuple((name, one(patterns)) for name, patterns in table["sounds"].items()),
        one(text["then"]),
        tuple((one([p]), new) for p, new in text["plain"]),
        frozenset(text["neutral"].split()),
    )


@cache
def sound_names() -> dict[str, str]:
    """Return what a tagger's labels are called in captions, where that differs."""
    return dict(tomllib.loads(WORDS.read_text(encoding="utf-8"))["labels"])


@cache
def clauses_of() -> dict[str, list[str]]:
    """Return how sounds are said in made-up sentences: plain, going on, as a noun."""
    table = tomllib.loads(WORDS.read_text(encoding="utf-8"))
    return {name: list(forms) for name, forms in table["clauses"].items()}


def read_pair(caption: str) -> Pair | None:
    """Return a caption as a training pair, or None if it says more than a tagger can know.

    >>> read_pair("A dog barks loudly, then a man sneezes in the distance")
    Pair(sounds=(('dog', 0), ('sneezing', 1)), words=('a', 'dog', 'barks', 'then', 'a', 'person', 'sneezes'))
    >>> read_pair("A spaceship lands")
    """  # noqa: E501  (a doctest line)
    rules = reader()
    text = re.sub(r"[^a-z', ]+", " ", caption.lower().replace("-", " "))
    text = " ".join(text.replace(",", " , ").split())
    for pattern, new in rules.plain:
        text = " ".join(pattern.sub(new, text).split())
    text = _tidy(text)
    if not text or len(text.split()) > MAX_WORDS:
        return None
    found, covered = _match(text, rules)
    if not found or len(found) > MAX_SOUNDS:
        return None
    rest = "".join(" " if hit else c for c, hit in zip(text, covered, strict=True))
    if any(word not in rules.neutral for word in rest.split()):
        return None
    moments = [m.start() for m in rules.then.finditer(text)]
    sounds = tuple((name, sum(at > m for m in moments)) for at, name in found)
    if len({name for name, _ in sounds}) < len(sounds) or sounds[-1][1] >= SLOTS:
        return None
    return Pair(sounds, tuple(text.split()))


def _match(text: str, rules: Reader) -> tuple[list[tuple[int, str]], list[bool]]:
    """Return where each sound is named first, and which characters are accounted for."""
    covered = [False] * len(text)
    found: dict[str, int] = {}
    for match in rules.then.finditer(text):
        covered[match.start() : match.end()] = [True] * (match.end() - match.start())
    for name, pattern in rules.sounds:
        for match in pattern.finditer(text):
            if any(covered[match.start() : match.end()]):
                continue
            covered[match.start() : match.end()] = [True] * (match.end() - match.start())
            found.setdefault(name, match.start())
    return sorted((at, name) for name, at in found.items()), covered


def _tidy(text: str) -> str:
    """Mend what taking words out leaves: double articles, commas in a row, loose ends."""
    text = re.sub(r"(?<![a-z])a an? |an a ", "a ", text)
    text = re.sub(r"\b(a|an|the) (?=(and|is|are|,|then|as|while|with|followed)\b|,)", "", text)
    text = re.sub(r"\b(a) (?=[aeiou])", "an ", re.sub(r"\ban (?=[^aeiou])", "a ", text))
    text = re.sub(r"( ,)+", " ,", text)
    text = re.sub(r" , (and |then |followed )", r" \1", text)
    text = re.sub(r"^(?:, |and |then )+|(?: ,| and| a| an| the| as| while| with)+$", "", text)
    text = re.sub(r"\ba (people)", r"\1", text)
    return " ".join(text.split())


def read_pairs(path: Path) -> list[Pair]:
    """Return the usable pairs of an AudioCaps CSV file (caption or caption_1, caption_2, ...).

    Raises:
        ExportError: no such file or other columns.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            captions = [
                text for row in csv.DictReader(file)
                for column, text in row.items() if column.startswith("caption") and text
            ]  # fmt: skip
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise ExportError(f"captions cannot be read from {path}: {error}") from error
    if not captions:
        raise ExportError(f"{path} has no column whose name begins with 'caption'")
    return [pair for caption in captions if (pair := read_pair(caption)) is not None]


def vocabulary(pairs: list[Pair], least: int = 4) -> list[str]:
    """Return the words that stand in at least ``least`` captions, most frequent first."""
    counts = Counter(word for pair in pairs for word in set(pair.words))
    return [w for w, n in sorted(counts.items(), key=lambda kv: (-kv[1], kv[0])) if n >= least]
