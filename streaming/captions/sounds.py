"""The sounds that captions know: what holds of each in every language, and a tagger's names for it.

``lexicon/sounds.toml`` names the sounds, their kind, priority and aliases; ``lexicon/yamnet.toml``
says which sound each AudioSet class is.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from ossicle.runtime.errors import CaptionError
from ossicle.streaming.captions.cue import Kind, Priority

FOLDER = Path(__file__).parent / "lexicon"


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
    narrows: tuple[str, ...] = ()  # broader sounds that this one makes superfluous


def normal(name: str) -> str:
    """Return a label in the form that names and aliases are compared in.

    >>> normal("Baby cry, infant cry")
    'baby_cry_infant_cry'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


@cache
def known_sounds() -> Mapping[str, SoundKind]:
    """Return every sound of ``sounds.toml`` by key."""
    found = {}
    for key, entry in read_toml(FOLDER / "sounds.toml").items():
        found[key] = SoundKind(
            key,
            Kind(entry.get("kind", "SOUND")),
            Priority(entry.get("priority", "AMBIENT")),
            Form(entry.get("opens", "sustained")),
            int(entry.get("pause_ms", 0)),
            tuple(entry.get("aliases", ())),
            tuple(entry.get("narrows", ())),
        )
    return found


@cache
def class_map(name: str) -> Mapping[str, str]:
    """Return a large tagger's classes as sounds; ``""`` for a class that is not captioned."""
    return dict(read_toml(FOLDER / f"{name}.toml")["classes"])


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


def read_toml(path: Path) -> dict[str, Any]:
    """Return a parsed TOML file.

    Raises:
        CaptionError: no such file, or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CaptionError(f"lexicon {path} cannot be read: {error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CaptionError(f"lexicon {path} is not TOML: {error}") from error
