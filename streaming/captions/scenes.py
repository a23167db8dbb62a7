"""One sentence for each change of the scene, spoken once it is clear what has changed.

A change is a new sound; one that goes on, comes back or is an alarm is told of by itself, at once.
The timing head of the decoder decides how long to wait for sounds that begin together, and what is
behind them, still going on, is told along. A sentence that was spoken last is not spoken again.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime import snapshot
from ossicle.runtime.timing import Outlook
from ossicle.runtime.worddecoder import as_vector
from ossicle.streaming.captions.cue import Kind, Label, Op, Priority, Relation, RelationKind
from ossicle.streaming.captions.layout import LINE_COLUMNS, MOST_MS, lay_out, reading_ms
from ossicle.streaming.captions.lines import ComposerState, Draft, Group
from ossicle.streaming.captions.sentences import Heard, SentenceWriter

SAME = (RelationKind.CONTINUES, RelationKind.STOPS)
REMEMBERED = 64  # cues whose sentence is remembered, for what continues or stops


@snapshot.record("captions.SceneState")
@dataclass(slots=True)
class SceneState:
    """What one stream's sentences remember."""

    fresh: list[Draft] = field(default_factory=list)  # new since the last sentence
    going: dict[int, Draft] = field(default_factory=dict)  # open, or closed while they went on
    told: dict[int, int] = field(default_factory=dict)  # the sentence that told of a cue
    said: str = ""  # the last sentence
    scene: int = 0  # its cue
    heard: int = 0  # sample at which the last new sound was reported
    shown: Draft | None = None  # the sentence on screen
    until: int = 0  # sample at which it may go
    vectors: dict[int, NDArray[np.float32]] = field(default_factory=dict)  # by cue, at its start


class Scenes:
    """Turns the drafts of single sounds into sentences. Drafts that a sentence tells are held."""

    def __init__(
        self, writer: SentenceWriter, groups: Sequence[Group], rate_hz: int, language: str = "en",
        line_columns: int = LINE_COLUMNS,
    ) -> None:  # fmt: skip
        self.writer, self.rate_hz, self.language = writer, rate_hz, language
        self.line_columns = line_columns
        self.keys = {g.class_ids[0]: g.key for g in groups}

    def open(self) -> SceneState:
        """Return the memory of a new stream."""
        return SceneState()

    def step(
        self, state: SceneState, drafts: Sequence[Draft], outlook: Outlook | None,
        numbers: ComposerState, open_cues: Container[int], now: int,
        embedding: NDArray[np.float32] | None = None,
    ) -> list[Draft]:  # fmt: skip
        """Return what to show at sample ``now``.

        Args:
            state: of this stream.
            drafts: of single sounds.
            outlook: what the tagger has in hand; None ends the wait.
            numbers: where cue numbers come from.
            open_cues: cues that are on screen and so must be seen to their end.
            now: sample that the scores have come to.
            embedding: the tagger's, of this frame, if the decoder looks at it.
        """
        out: list[Draft] = []
        for draft in drafts:
            if draft.op is Op.OPEN and embedding is not None:
                state.vectors[draft.cue_id] = as_vector(embedding)
                state.vectors = dict(list(state.vectors.items())[-REMEMBERED:])
            self._listen(state, draft, now)
            if _is_told_apart(draft) or draft.cue_id in open_cues:
                out.append(_linked(state, draft))
        if state.shown is not None and now >= state.until:
            out.append(self._close(state, now))
        waited_ms = (now - state.heard) * 1000 / self.rate_hz
        if state.fresh and (outlook is None or self.writer.timing.speaks(waited_ms, outlook)):
            out += self._speak(state, numbers, now)
        return out

    def end(self, state: SceneState, numbers: ComposerState, now: int) -> list[Draft]:
        """Say what has not been said yet, and close: the stream, or the style, has ended."""
        out = self._speak(state, numbers, now) if state.fresh else []
        return [*out, self._close(state, now)] if state.shown is not None else out

    def _listen(self, state: SceneState, draft: Draft, now: int) -> None:
        earlier = [r.cue_id for r in draft.relations if r.kind in SAME]
        if draft.op is Op.OPEN and not _is_told_apart(draft):
            state.fresh.append(draft)
            state.heard = now
        for cue_id in earlier:  # the same sound, told of in an earlier cue
            state.going.pop(cue_id, None)
        if draft.op in (Op.CLOSE, Op.RETRACT) and not draft.end_open:
            state.going.pop(draft.cue_id, None)
        else:
            state.going[draft.cue_id] = draft
        if draft.op is Op.RETRACT:
            state.fresh = [d for d in state.fresh if d.cue_id != draft.cue_id]

    def _speak(self, state: SceneState, numbers: ComposerState, now: int) -> list[Draft]:
        """Return the sentence about what is new and what goes on behind it."""
        fresh, state.fresh = sorted(state.fresh, key=lambda d: d.start), []
        new = {d.cue_id for d in fresh}
        behind = [d for d in state.going.values()
                  if d.cue_id not in new and d.start <= fresh[0].start]  # fmt: skip
        about = [*behind, *fresh]
        heard, moment = list[Heard](), 0
        for at, draft in enumerate(about):
            moment += at > 0 and any(r.kind is RelationKind.THEN for r in draft.relations)
            label = draft.labels[0]
            vector = state.vectors.get(draft.cue_id)
            heard.append(Heard(self.keys[label.class_id], moment, label.score, vector))
        sentence = self.writer.write(heard, self.language)
        if sentence is None or sentence.text == state.said:
            _tell(state, new, state.scene)
            return []
        out = [self._close(state, now)] if state.shown is not None else []
        state.said = sentence.text
        numbers.cues += 1
        state.scene = numbers.cues
        text = lay_out(sentence.text, self.line_columns)
        state.shown = Draft(
            Op.OPEN, numbers.cues, Kind.SCENE, Priority.AMBIENT, text, len(text), fresh[0].start,
            max(now, fresh[0].start), True, _labels(about), (), self.language, sentence.author,
        )  # fmt: skip
        state.until = now + min(MOST_MS, 2 * reading_ms(text)) * self.rate_hz // 1000
        _tell(state, new, state.scene)
        return [*out, state.shown]

    @staticmethod
    def _close(state: SceneState, now: int) -> Draft:
        shown, state.shown = state.shown, None
        assert shown is not None
        return replace(shown, op=Op.CLOSE, end=max(shown.end, now), end_open=False)


def _tell(state: SceneState, cues: Iterable[int], scene: int) -> None:
    state.told |= dict.fromkeys(cues, scene)
    state.told = dict(list(state.told.items())[-REMEMBERED:])


def _is_told_apart(draft: Draft) -> bool:
    """Whether a cue stands for itself: an alarm, or more of a sound that was told of."""
    return draft.priority is Priority.ALERT or any(r.kind in SAME for r in draft.relations)


def _linked(state: SceneState, draft: Draft) -> Draft:
    """Return ``draft`` with relations to sentences where its earlier cue was told in one."""
    links = tuple(Relation(r.kind, state.told.get(r.cue_id, r.cue_id)) for r in draft.relations)
    return replace(draft, relations=links)


def _labels(about: Sequence[Draft]) -> tuple[Label, ...]:
    return tuple(draft.labels[0] for draft in about)
