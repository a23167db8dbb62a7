"""Words for sounds, read from data files: ``lexicon/<lang>.toml`` holds a language's verb forms.

A language that lacks a sound names another in ``fallback``; without one, what is missing is an
error.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ossicle.runtime.errors import CaptionError
from ossicle.streaming.captions.sounds import FOLDER, Form, read_toml

PATTERNS = ("brackets", "continues", "stops", "then", "while", "sentence_continues",
            "sentence_stops")  # fmt: skip
FORMS = ("short", "sustained", "noun", "clause")
MAX_NAME = 60  # characters of a label shown by its own name


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
    return parse_lexicon(read_toml(path), str(path.name))


@cache
def languages() -> tuple[str, ...]:
    """Return the languages that ship with the package."""
    return tuple(sorted(p.stem for p in FOLDER.glob("??.toml")))
