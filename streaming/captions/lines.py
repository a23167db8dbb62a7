"""What a composer works with: sounds in groups, open cues and past ones, and what it drafts."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from ossicle.runtime import snapshot
from ossicle.streaming.captions.cue import Kind, Label, Op, Priority, Relation


@dataclass(frozen=True, slots=True)
class Group:
    """One sound to caption and the tagger classes that mean it."""

    key: str  # of the lexicon
    name: str  # shown in labels
    class_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Timing:
    """When what is said, in milliseconds; :meth:`at` gives samples."""

    short: int = 1500  # a sound up to this long is worded as a short one
    regroup: int = 1500  # the same sound again within this pause is one cue; sounds may ask more
    first: int = 6000  # a cue is closed after this, even if its sound goes on
    recall: int = 30_000  # how often a sound that goes on is captioned again
    recall_alert: int = 10_000
    again: int = 10_000  # what is sustained or has a cadence "continues" if back within this
    then: int = 3000  # a sound that begins within this after another is its "then"
    confirm: int = 0  # a cue (no alert) that sounded for less is retracted; 0 never

    def at(self, rate_hz: int) -> Timing:
        """Return the same durations in samples at ``rate_hz``."""
        return Timing(*(getattr(self, f.name) * rate_hz // 1000 for f in fields(self)))


@snapshot.record("captions.Part")
@dataclass(slots=True)
class Part:
    """One sound inside a cue, as far as it was heard."""

    sound_id: int
    onset: int
    heard: int
    peak: float
    offset: int | None = None


@snapshot.record("captions.Line")
@dataclass(slots=True)
class Line:
    """An open cue."""

    cue_id: int
    group: int
    form: str
    start: int
    end: int
    parts: list[Part]
    relation: tuple[str, int] | None = None  # kind and cue_id
    said: tuple[str, int, bool] | None = None  # text, parts, sounding as last drafted

    @property
    def sounding(self) -> bool:
        """Whether the sound goes on."""
        return self.parts[-1].offset is None


@snapshot.record("captions.Chain")
@dataclass(slots=True)
class Chain:
    """The last closed cue of a group, for what is said of it next."""

    cue_id: int
    start: int
    end: int
    sustained: bool
    going_on: bool  # it was closed while its sound went on
    part: Part  # its last sound


@snapshot.record("captions.ComposerState")
@dataclass(slots=True)
class ComposerState:
    """One stream's open and past cues, by group."""

    lines: dict[int, Line] = field(default_factory=dict)
    chains: dict[int, Chain] = field(default_factory=dict)
    cues: int = 0


@snapshot.record("captions.Draft")
@dataclass(frozen=True, slots=True)
class Draft:
    """What a cue should say now. ``text[:sure_chars]`` is the same whatever happens next."""

    op: Op
    cue_id: int
    kind: Kind
    priority: Priority
    text: str
    sure_chars: int
    start: int
    end: int
    end_open: bool
    labels: tuple[Label, ...]
    relations: tuple[Relation, ...]
    language: str
    author: str = ""  # who worded it; empty: the grammar, about what the tagger heard

    def __post_init__(self) -> None:  # a snapshot carries the enumerations as plain text
        for name, value in (("op", Op(self.op)), ("kind", Kind(self.kind)),
                            ("priority", Priority(self.priority))):  # fmt: skip
            object.__setattr__(self, name, value)


def common(a: str, b: str) -> int:
    """Return the length of the longest common prefix.

    >>> common("[dog barks]", "[dog barking]")
    9
    """
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)
