"""What of a changing text may be shown, and what of it is promised to stay.

LocalAgreement (Liu et al., Interspeech 2020): a prefix is committed once the hypotheses of two
looks, ``hold`` samples apart, agree on it. Committed text never changes; a later hypothesis that
contradicts it is refused. Alerts are shown and committed at once, and so are sentences, which are
written once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ossicle.runtime import snapshot
from ossicle.streaming.captions.cue import Kind, Op, Priority
from ossicle.streaming.captions.lines import Draft, common


@dataclass(frozen=True, slots=True)
class Stable:
    """A draft to be shown, of which ``stable_chars`` characters are committed."""

    draft: Draft
    stable_chars: int


@snapshot.record("captions.Held")
@dataclass(slots=True)
class Held:
    """One open cue: how long each prefix has stood, and what is shown of it."""

    draft: Draft  # the last one
    marks: list[tuple[int, int]]  # (prefix length, since which sample it stands), ascending
    hypothesis: str
    sure: int
    shown: str | None = None
    committed: int = 0


@snapshot.record("captions.Counts")
@dataclass(slots=True)
class Counts:
    """What the reader was put through."""

    opened: int = 0
    closed: int = 0
    retracted: int = 0
    withheld: int = 0  # never shown: gone before it was agreed on
    refused: int = 0  # hypotheses against committed text
    erased_chars: int = 0  # characters shown and taken back
    final_chars: int = 0

    @property
    def erasure(self) -> float:
        """Normalised erasure: characters taken back for each that stayed."""
        return self.erased_chars / self.final_chars if self.final_chars else 0.0


@snapshot.record("captions.StabiliserState")
@dataclass(slots=True)
class StabiliserState:
    """The open cues of one stream, by cue_id."""

    held: dict[int, Held] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)


class Stabiliser:
    """Holds drafts back for ``hold`` samples and commits what was agreed on."""

    def __init__(self, hold: int) -> None:
        self.hold = hold

    def open(self) -> StabiliserState:
        """Return the memory of a new stream."""
        return StabiliserState()

    def step(self, state: StabiliserState, drafts: Sequence[Draft], seen: int) -> list[Stable]:
        """Return what to show at sample ``seen``, oldest cue first."""
        shown: list[Stable] = []
        for draft in drafts:
            self._hear(state, draft, seen)
            if draft.op in (Op.CLOSE, Op.RETRACT):
                self._finish(state, draft, shown)
        fresh = {d.cue_id for d in drafts}
        for cue_id, held in state.held.items():
            self._look(state, held, cue_id in fresh, seen, shown)
        return shown

    def _hear(self, state: StabiliserState, draft: Draft, seen: int) -> None:
        held = state.held.get(draft.cue_id)
        at_once = draft.priority is Priority.ALERT or draft.kind is Kind.SCENE
        sure = len(draft.text) if at_once else draft.sure_chars
        if held is None:
            since = seen - self.hold if at_once else seen
            marks = [(len(draft.text), since)]
            state.held[draft.cue_id] = Held(draft, marks, draft.text, sure)
            return
        held.draft = draft
        if draft.text[: held.committed] != (held.shown or "")[: held.committed]:
            state.counts.refused += 1
            return
        kept = common(held.hypothesis, draft.text)
        marks = [(min(n, kept), since) for n, since in held.marks]
        held.marks = [*_ascending(marks), *([(len(draft.text), seen)] * (kept < len(draft.text)))]
        held.hypothesis, held.sure = draft.text, sure

    def _look(
        self, state: StabiliserState, held: Held, fresh: bool, seen: int, shown: list[Stable]
    ) -> None:
        agreed = max((n for n, since in held.marks if seen - since >= self.hold), default=-1)
        if held.shown is None and agreed < 0:
            return
        committed = max(held.committed, min(agreed, held.sure))
        op = Op.UPDATE if held.shown is not None else Op.OPEN
        if op is Op.OPEN or fresh or committed > held.committed:
            held.committed = committed
            self._show(state, held, replace(held.draft, op=op), shown)

    def _finish(self, state: StabiliserState, draft: Draft, shown: list[Stable]) -> None:
        held = state.held.pop(draft.cue_id)
        if held.shown is None:
            if draft.op is Op.RETRACT:
                state.counts.withheld += 1
                return
            self._show(state, held, replace(draft, op=Op.OPEN), shown)
        if draft.op is Op.CLOSE:
            held.committed = len(held.hypothesis)
        self._show(state, held, draft, shown)

    @staticmethod
    def _show(state: StabiliserState, held: Held, draft: Draft, shown: list[Stable]) -> None:
        counts, text = state.counts, held.hypothesis
        if held.shown is not None:
            counts.erased_chars += len(held.shown) - common(held.shown, text)
        if draft.op is Op.OPEN:
            counts.opened += 1
        elif draft.op is Op.CLOSE:
            counts.closed += 1
            counts.final_chars += len(text)
        elif draft.op is Op.RETRACT:
            counts.retracted += 1
            counts.erased_chars += len(text)
        held.shown = text
        shown.append(Stable(replace(draft, text=text), held.committed))


def _ascending(marks: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the marks with the earliest time of each length; later ones must be longer."""
    kept: list[tuple[int, int]] = []
    for n, since in marks:
        if not kept or n > kept[-1][0]:
            kept.append((n, since))
    return kept
