"""The caption that travels: one change of one cue, and its JSON line.

A cue lives as OPEN, any number of UPDATEs, then one CLOSE or RETRACT. Each change is a whole
:class:`Cue`, so a reader that missed some is right again at the next. Times are samples of the
capture clock; the display window is milliseconds of the same clock, for players.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from ossicle.runtime import snapshot
from ossicle.runtime.errors import CaptionError


class Op(StrEnum):
    """What a line of the feed does."""

    OPEN = "OPEN"
    UPDATE = "UPDATE"
    CLOSE = "CLOSE"
    RETRACT = "RETRACT"
    HEARTBEAT = "HEARTBEAT"  # no cue: the feed is alive and has heard up to audio_seen_sample


class Kind(StrEnum):
    """What a cue is about."""

    SOUND = "SOUND"
    SCENE = "SCENE"
    MUSIC = "MUSIC"
    SPEECH = "SPEECH"
    SYSTEM = "SYSTEM"


class Priority(StrEnum):
    """How much a reader must not miss it; alerts skip the stabiliser."""

    AMBIENT = "AMBIENT"
    NOTABLE = "NOTABLE"
    ALERT = "ALERT"


class RelationKind(StrEnum):
    """How a cue stands to an earlier one."""

    THEN = "then"
    WHILE = "while"
    CONTINUES = "continues"
    STOPS = "stops"


@snapshot.record("captions.Label")
@dataclass(frozen=True, slots=True)
class Label:
    """One sound heard inside a cue, with its own times."""

    class_id: int
    name: str
    score: float  # peak over the sound so far, 0 to 1
    onset_sample: int
    offset_sample: int | None = None  # None while it goes on


@snapshot.record("captions.Relation")
@dataclass(frozen=True, slots=True)
class Relation:
    """A link to the cue ``cue_id``, which opened earlier."""

    kind: RelationKind
    cue_id: int

    def __post_init__(self) -> None:  # a snapshot carries the kind as plain text
        object.__setattr__(self, "kind", RelationKind(self.kind))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """One change of a caption.

    ``text[:stable_chars]`` is the same in every later revision. ``end_open`` says that the sound
    goes on: ``end_sample`` is then what has been heard of it.

    Raises:
        CaptionError: fields that contradict each other.
    """

    seq: int  # dense over the feed, heartbeats included
    cue_id: int  # 0 in heartbeats, else from 1
    revision: int  # 0 at OPEN
    op: Op
    kind: Kind
    text: str  # lines separated by "\n"
    stable_chars: int
    is_final: bool
    stability: float  # 0 to 1: how much of the text will stay
    sample_rate_hz: int
    start_sample: int
    end_sample: int
    end_open: bool
    display_start_ms: int
    display_end_ms: int
    audio_seen_sample: int
    labels: tuple[Label, ...] = ()
    relations: tuple[Relation, ...] = ()
    priority: Priority = Priority.AMBIENT
    language: str = "en"
    model: str = ""
    ledger: dict[str, int] | None = None  # microseconds by stage, filled in by a service

    def __post_init__(self) -> None:
        if not 0 <= self.start_sample <= self.end_sample <= self.audio_seen_sample:
            raise CaptionError(
                f"cue {self.cue_id}: start {self.start_sample}, end {self.end_sample} and audio "
                f"seen {self.audio_seen_sample} must ascend from 0"
            )
        if not 0 <= self.stable_chars <= len(self.text):
            raise CaptionError(
                f"cue {self.cue_id}: {self.stable_chars} stable characters of {len(self.text)}"
            )
        if self.is_final != (self.op in (Op.CLOSE, Op.RETRACT)):
            raise CaptionError(f"cue {self.cue_id}: {self.op} cannot have final={self.is_final}")
        if self.op is not Op.HEARTBEAT and self.display_end_ms <= self.display_start_ms:
            raise CaptionError(
                f"cue {self.cue_id}: shown from {self.display_start_ms} to {self.display_end_ms} "
                "ms; the window must not be empty"
            )

    @property
    def is_heartbeat(self) -> bool:
        """Whether this line carries no cue."""
        return self.op is Op.HEARTBEAT


_decoder = msgspec.json.Decoder(Cue)


def to_json_line(cue: Cue) -> bytes:
    r"""Return ``cue`` as one line of JSON, without the line's end.

    Field names and order are the dataclass's; no raw newline can stand inside.
    """
    return msgspec.json.encode(cue)


def from_json_line(line: bytes | str) -> Cue:
    """Return the cue in one line of JSON. Unknown fields are ignored: newer feeds can be read.

    Raises:
        CaptionError: not JSON, a missing or mistyped field, or fields that contradict.
    """
    try:
        return _decoder.decode(line)
    except msgspec.MsgspecError as error:
        raise CaptionError(f"caption line cannot be read: {error}") from error


def check_feed(cues: list[Cue]) -> None:
    """Raise CaptionError at the first line that breaks a promise of the feed.

    Dense ``seq``; one OPEN and at most one final per cue and nothing after it; revisions count
    up; the stable prefix never changes or shrinks; audio seen never goes back.
    """
    last: dict[int, Cue] = {}
    previous: Cue | None = None
    for cue in cues:
        if previous is not None and cue.seq != previous.seq + 1:
            raise CaptionError(f"line {cue.seq} follows {previous.seq}; were lines lost?")
        if previous is not None and cue.audio_seen_sample < previous.audio_seen_sample:
            raise CaptionError(f"line {cue.seq} has seen less audio than the one before it")
        previous = cue
        if not cue.is_heartbeat:
            _check_life(last.get(cue.cue_id), cue)
            last[cue.cue_id] = cue


def _check_life(before: Cue | None, cue: Cue) -> None:
    name = f"cue {cue.cue_id} at line {cue.seq}"
    if before is None:
        if cue.op is not Op.OPEN or cue.revision != 0:
            raise CaptionError(f"{name} begins with {cue.op} revision {cue.revision}, not OPEN 0")
        return
    if before.is_final:
        raise CaptionError(f"{name}: {cue.op} after its {before.op}")
    if cue.op is Op.OPEN or cue.revision != before.revision + 1:
        raise CaptionError(f"{name}: {cue.op} revision {cue.revision} after {before.revision}")
    if cue.start_sample != before.start_sample or cue.end_sample < before.end_sample:
        raise CaptionError(f"{name}: its start moved or its end went back")
    if cue.op is not Op.RETRACT and (
        cue.stable_chars < before.stable_chars
        or cue.text[: before.stable_chars] != before.text[: before.stable_chars]
    ):
        raise CaptionError(f"{name}: its stable text changed")
