"""Words for sounds, read from data files: one per language, and what holds in every language.

``lexicon/sounds.toml`` names the sounds, their kind, priority and aliases; ``lexicon/<lang>.toml``
holds their verb forms; ``lexicon/yamnet.toml`` says which sound each AudioSet class is. A language
that lacks a sound names another in ``fallback``; without one, what is missing is an error.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from ossicle.runtime.errors import CaptionError
from ossicle.streaming.captions.cue import Kind, Priority

FOLDER = Path(__file__).parent / "lexicon"
PATTERNS = ("brackets", "continues", "stops", "then", "while", "sentence_continues",
            "sentence_stops")  # fmt: skip
FORMS = ("short", "sustained", "noun", "clause")
MAX_NAME = 60  # characters of a label shown by its own name


class Form(StrEnum):
    """How a sound is worded; its length decides."""

    SHORT = "short"
    SUSTAINED = "sustained"
    CONTINUES = "continues"
    STOPS = "stops"


@dataclass(frozen=True, slots=True)
class SoundKind:
    """What is known of a sound in every language."""

    key: str
    kind: Kind = Kind.SOUND
    priority: Priority = Priority.AMBIENT
    opens: Form = Form.SUSTAINED
    pause_ms: int = 0
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lexicon:
    """One language's wording."""

    language: str
    patterns: Mapping[str, str]
    sounds: Mapping[str, Mapping[str, str]]
    fallback: Lexicon | None = None
    unknown: str | None = None
    places: str = ""  # which file, for error messages

    def speaks(self, key: str) -> Lexicon:
        """Return the lexicon that words ``key``: this one, or the declared fallback.

        Raises:
            CaptionError: neither has the sound, and neither declares how to show unknown ones.
        """
        if key in self.sounds:
            return self
        if self.fallback is not None:
            return self.fallback.speaks(key)
        if self.unknown is not None:
            return self
        raise CaptionError(
            f"{self.places}: no words for {key!r}; add it under [sounds] with "
            f"{', '.join(FORMS)}, or declare `fallback` or `unknown`"
        )

    def phrase(self, key: str, form: Form) -> str:
        """Return the words for a sound in a form, without brackets.

        >>> load_lexicon("en").phrase("dog", Form.CONTINUES)
        'barking continues'
        """
        entry = self._entry(key)
        if form.value in entry:
            return entry[form.value]
        return self.patterns[form.value].format(noun=entry["noun"])

    def clause(self, key: str, form: Form) -> str:
        """Return the words for a sound inside a sentence.

        >>> load_lexicon("en").clause("dog", Form.SHORT)
        'a dog barks'
        """
        entry = self._entry(key)
        if form in (Form.SHORT, Form.SUSTAINED):
            return entry["clause"]
        if form.value in entry:
            return entry[form.value]
        return self.patterns[f"sentence_{form.value}"].format(noun=entry["noun"])

    def _entry(self, key: str) -> Mapping[str, str]:
        entry = self.sounds.get(key)
        if entry is not None:
            return entry
        assert self.unknown is not None, "ask speaks() first"
        name = self.unknown.format(name=clean(key.replace("_", " ")))
        return dict.fromkeys(FORMS, name)


def clean(text: str) -> str:
    r"""Return ``text`` on one line, without control characters, not longer than a caption takes.

    >>> clean("a\n\nb\x00 \u202e c")
    'a b c'
    """
    kept = "".join(
        " " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c
        for c in text
        if c in "\u200d\ufe0f" or unicodedata.category(c) not in ("Cf", "Cs", "Co", "Cn")
    )
    return " ".join(kept.split())[:MAX_NAME].rstrip() or "sound"


def normal(name: str) -> str:
    """Return a label in the form that names and aliases are compared in.

    >>> normal("Baby cry, infant cry")
    'baby_cry_infant_cry'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def parse_lexicon(data: Mapping[str, Any], place: str) -> Lexicon:
    """Return the lexicon in a parsed TOML file.

    Raises:
        CaptionError: missing patterns or forms, an unknown field, or a pattern that cannot be
            filled in.
    """
    language, patterns = data.get("language"), data.get("patterns", {})
    if not isinstance(language, str) or not language:
        raise CaptionError(f"{place}: `language` is missing")
    unknown_keys = set(data) - {"language", "fallback", "unknown", "patterns", "sounds"}
    if unknown_keys:
        raise CaptionError(f"{place}: unknown fields {sorted(unknown_keys)}")
    missing = [name for name in PATTERNS if not isinstance(patterns.get(name), str)]
    if missing:
        raise CaptionError(f"{place}: [patterns] lacks {', '.join(missing)}")
    for name, pattern in patterns.items():
        slot = "noun" if "continues" in name or "stops" in name else "text"
        _check_pattern(f"{place}: pattern {name}", pattern, slot)
    if "unknown" in data:
        _check_pattern(f"{place}: unknown", data["unknown"], "name")
    sounds = data.get("sounds", {})
    for key, entry in sounds.items():
        lacking = [f for f in FORMS if not isinstance(entry.get(f), str) or not entry[f].strip()]
        extra = set(entry) - {*FORMS, "continues", "stops"}
        if lacking or extra:
            raise CaptionError(
                f"{place}: sound {key!r} lacks {lacking} and has unknown {sorted(extra)}; "
                f"{', '.join(FORMS)} are needed, continues and stops may be given"
            )
    back = data.get("fallback")
    return Lexicon(language, patterns, sounds, load_lexicon(back) if back else None,
                   data.get("unknown"), place)  # fmt: skip


def _check_pattern(what: str, pattern: str, slot: str) -> None:
    try:
        filled = pattern.format(**{slot: "\0"})
    except (KeyError, IndexError, ValueError) as error:
        raise CaptionError(f"{what}: {pattern!r} cannot be filled in: {error}") from error
    if "\0" not in filled:
        raise CaptionError(f"{what}: {pattern!r} has no {{{slot}}}")


@cache
def load_lexicon(language: str) -> Lexicon:
    """Return the wording of ``language``, or of a ``.toml`` file given by path.

    Raises:
        CaptionError: no such language, or a file that is not a lexicon.
    """
    path = Path(language) if language.endswith(".toml") else FOLDER / f"{language}.toml"
    if language not in languages() and not language.endswith(".toml"):
        raise CaptionError(
            f"no lexicon for language {language!r}; {', '.join(languages())}, or the path of a "
            ".toml file, expected"
        )
    return parse_lexicon(_read(path), str(path.name))


@cache
def languages() -> tuple[str, ...]:
    """Return the languages that ship with the package."""
    return tuple(sorted(p.stem for p in FOLDER.glob("??.toml")))


@cache
def known_sounds() -> Mapping[str, SoundKind]:
    """Return every sound of ``sounds.toml`` by key."""
    found = {}
    for key, entry in _read(FOLDER / "sounds.toml").items():
        found[key] = SoundKind(
            key,
            Kind(entry.get("kind", "SOUND")),
            Priority(entry.get("priority", "AMBIENT")),
            Form(entry.get("opens", "sustained")),
            int(entry.get("pause_ms", 0)),
            tuple(entry.get("aliases", ())),
        )
    return found


@cache
def class_map(name: str) -> Mapping[str, str]:
    """Return a large tagger's classes as sounds; ``""`` for a class that is not captioned."""
    return dict(_read(FOLDER / f"{name}.toml")["classes"])


def sound_of(label: str, classes: Mapping[str, str] | None = None) -> str:
    """Return the sound that a tagger's ``label`` stands for, or ``""`` to ignore it.

    A label that nothing names is its own sound, so that no tagger is refused for its labels.

    >>> sound_of("Dog bark"), sound_of("Silence", class_map("yamnet")), sound_of("Blip")
    ('dog', '', 'Blip')
    """
    if classes is not None and label in classes:
        return classes[label]
    return _aliases().get(normal(label), label)


def sounds_of(labels: Sequence[str]) -> list[str]:
    """Return the sound of each label of a tagger; AudioSet's 521 classes are recognised."""
    table = class_map("yamnet")
    audioset = len(labels) == len(table) and all(label in table for label in labels)
    return [sound_of(label, table if audioset else None) for label in labels]


@cache
def _aliases() -> Mapping[str, str]:
    names: dict[str, str] = {}
    for key, sound in known_sounds().items():
        for name in (key, *sound.aliases):
            if names.setdefault(normal(name), key) != key:
                raise CaptionError(f"sounds.toml: {name!r} names both {names[name]!r} and {key!r}")
    return names


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CaptionError(f"lexicon {path} cannot be read: {error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CaptionError(f"lexicon {path} is not TOML: {error}") from error
