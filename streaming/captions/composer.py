"""From sounds to captions: what is said of each sound, when, and how it stands to the others.

The wording follows the sound's length, as captioners for deaf viewers write it: over at once,
``[dog barks]``; going on, ``[dog barking]``; still going on or taken up again, ``[barking
continues]``; gone after that, ``[barking stops]``. Live, a cue opens with what its sound usually
is, and is reworded at most once, when a sound that usually is over goes on. A sound that goes on is
captioned for a few seconds and then only recalled now and then, so a caption is final soon and
nothing is said twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from ossicle.streaming.captions.cue import Label, Op, Priority, Relation, RelationKind
from ossicle.streaming.captions.layout import LINE_COLUMNS, lay_out
from ossicle.streaming.captions.lexicon import Lexicon, clean, load_lexicon
from ossicle.streaming.captions.lines import (
    Chain,
    ComposerState,
    Draft,
    Group,
    Line,
    Part,
    Timing,
    common,
)
from ossicle.streaming.captions.sounds import Form, SoundKind, known_sounds
from ossicle.streaming.captions.tracker import Edge, Sound

MAX_LABELS = 32  # sounds listed in one cue; further ones extend the last


class Composer:
    """Words the sounds of one tagger in one language and style.

    ``style`` is ``brackets``, ``off`` (labels without text), or any other for clauses. ``live``
    says that each draft is read as it is made; otherwise only the last one counts.

    Raises:
        CaptionError: a group that the lexicon can word neither itself nor by declared fallback.
    """

    def __init__(
        self, groups: Sequence[Group], timing: Timing, rate_hz: int, language: str = "en",
        style: str = "brackets", line_columns: int = LINE_COLUMNS, live: bool = True,
    ) -> None:  # fmt: skip
        self.groups = tuple(groups)
        self.timing = timing.at(rate_hz)
        self.style = style
        self.line_columns = line_columns
        self.live = live
        lexicon = load_lexicon(language)
        self.lexicons: list[Lexicon] = [lexicon.speaks(g.key) for g in groups]
        sounds = known_sounds()
        self.kinds = [sounds.get(g.key, SoundKind(g.key)) for g in groups]
        pauses = [max(timing.regroup, kind.pause_ms) for kind in self.kinds]
        self.pauses = [ms * rate_hz // 1000 for ms in pauses]

    def open(self) -> ComposerState:
        """Return the memory of a new stream."""
        return ComposerState()

    def step(
        self, state: ComposerState, edges: Sequence[Edge], sounding: Sequence[Sound], seen: int
    ) -> list[Draft]:
        """Return what changed, given what began or ended, and all that sounds, at ``seen``."""
        for sound in [*(e.sound for e in edges if e.ended), *sounding]:
            self._extend(state, sound)
        drafts: list[Draft] = []
        for edge in edges:
            if not edge.ended:
                self._begin(state, edge.sound, drafts)
        for group in sorted({*state.lines, *state.chains}):
            self._tick(state, group, seen, drafts)
        return drafts

    def end(self, state: ComposerState) -> list[Draft]:
        """Close what is open; the stream has ended."""
        drafts: list[Draft] = []
        for group in sorted(state.lines):
            self._close(state, state.lines[group], drafts)
        state.chains.clear()
        return drafts

    # what happened

    def _extend(self, state: ComposerState, sound: Sound) -> None:
        line, chain = state.lines.get(sound.class_id), state.chains.get(sound.class_id)
        for part in (line.parts[-1] if line else None, chain.part if chain else None):
            if part is not None and part.sound_id == sound.sound_id:
                part.heard, part.peak, part.offset = sound.heard, sound.peak, sound.offset
        if line is not None and line.parts[-1].sound_id == sound.sound_id:
            line.end = max(line.end, sound.heard)

    def _begin(self, state: ComposerState, sound: Sound, drafts: list[Draft]) -> None:
        part = Part(sound.sound_id, sound.onset, sound.heard, sound.peak)
        line = state.lines.get(sound.class_id)
        if line is not None:
            if len(line.parts) < MAX_LABELS:
                line.parts.append(part)
            else:
                part.onset = line.parts[-1].onset
                line.parts[-1] = part
            line.end = max(line.end, sound.heard)
            return
        group, chain = sound.class_id, state.chains.get(sound.class_id)
        if chain is not None and chain.going_on:  # the sound of a closed cue, after a pause
            part.onset = chain.part.onset
            chain.part = part
            return
        form, relation = self.kinds[group].opens, self._relate(state, group, sound.onset)
        near = chain is not None and sound.onset - chain.part.heard <= self.timing.again
        # of what has a cadence a stroke may have been covered by something else
        if chain is not None and near and (chain.sustained or self.kinds[group].pause_ms):
            form, relation = Form.CONTINUES, (RelationKind.CONTINUES.value, chain.cue_id)
        start = sound.onset if chain is None else max(sound.onset, chain.end)
        self._open(state, group, form, start, part, relation, drafts)

    def _relate(self, state: ComposerState, group: int, onset: int) -> tuple[str, int] | None:
        """Return how a sound that begins at ``onset`` stands to the nearest other one."""
        others = [
            # an alarm or a ring is still there between its strokes
            (line.end + (self.kinds[g].pause_ms and len(line.parts) > 1 and self.pauses[g]),
             line.start, line.cue_id)
            for g, line in state.lines.items() if g != group
        ] + [
            (chain.part.heard if chain.going_on else chain.end, chain.start, chain.cue_id)
            for g, chain in state.chains.items() if g != group and g not in state.lines
        ]  # fmt: skip
        during = [(start, cue) for end, start, cue in others if end > onset >= start]
        if during:
            return RelationKind.WHILE.value, max(during)[1]
        before = [(end, cue) for end, _, cue in others if 0 <= onset - end <= self.timing.then]
        if before:
            return RelationKind.THEN.value, max(before)[1]
        return None

    # what is said

    def _open(
        self, state: ComposerState, group: int, form: Form, start: int, part: Part,
        relation: tuple[str, int] | None, drafts: list[Draft],
    ) -> Line:  # fmt: skip
        state.cues += 1
        end = max(start, part.heard)
        line = Line(state.cues, group, form.value, start, end, [part], relation)
        state.lines[group] = line
        self._say(line, Op.OPEN, drafts)
        return line

    def _tick(self, state: ComposerState, group: int, seen: int, drafts: list[Draft]) -> None:
        line = state.lines.get(group)
        if line is None:
            self._recall(state, group, seen, drafts)
            return
        if line.form == Form.SHORT and line.end - line.start > self.timing.short:
            line.form = Form.SUSTAINED.value
        over = not line.sounding and seen - line.end >= self.pauses[group]
        if over or (line.sounding and seen - line.start >= self.timing.first):
            self._close(state, line, drafts)
        elif line.said != self._saying(line):
            self._say(line, Op.UPDATE, drafts)

    def _close(self, state: ComposerState, line: Line, drafts: list[Draft]) -> None:
        group, before = line.group, state.chains.get(line.group)
        if self._may_shorten(line):
            line.form = Form.SHORT.value
        alert = self.kinds[group].priority is Priority.ALERT
        retract = not alert and not line.sounding and self._sounded(line) < self.timing.confirm
        self._say(line, Op.RETRACT if retract else Op.CLOSE, drafts)
        del state.lines[group]
        if retract:
            return
        sustained = line.form in (Form.SUSTAINED, Form.CONTINUES)
        state.chains[group] = Chain(line.cue_id, line.start, line.end, sustained,
                                    line.sounding, line.parts[-1])  # fmt: skip
        if before is not None and before.going_on and not line.sounding:
            self._stop(state, group, drafts)

    def _recall(self, state: ComposerState, group: int, seen: int, drafts: list[Draft]) -> None:
        """Speak again of a sound that outlasted its cue: that it continues, or that it stopped."""
        chain, kind = state.chains[group], self.kinds[group]
        if not chain.going_on:
            if seen - chain.end > max(self.timing.again, self.timing.then):
                del state.chains[group]
            return
        if chain.part.offset is not None:
            if seen - chain.part.offset >= self.pauses[group]:
                self._stop(state, group, drafts)
            return
        alert = kind.priority is Priority.ALERT
        due = chain.start + (self.timing.recall_alert if alert else self.timing.recall)
        if chain.part.heard >= seen >= due:
            relation = (RelationKind.CONTINUES.value, chain.cue_id)
            at = max(chain.end, chain.part.heard)
            self._open(state, group, Form.CONTINUES, at, chain.part, relation, drafts)

    def _stop(self, state: ComposerState, group: int, drafts: list[Draft]) -> None:
        chain = state.chains[group]
        at = max(chain.end, chain.part.heard)
        relation = (RelationKind.STOPS.value, chain.cue_id)
        line = self._open(state, group, Form.STOPS, at, chain.part, relation, drafts)
        self._say(line, Op.CLOSE, drafts)
        del state.lines[group]
        state.chains[group] = Chain(line.cue_id, at, at, True, False, chain.part)

    @staticmethod
    def _sounded(line: Line) -> int:
        return sum(part.heard - max(part.onset, line.start) for part in line.parts)

    def _saying(self, line: Line) -> tuple[str, int, bool]:
        return self._text(line, Form(line.form)), len(line.parts), line.sounding

    def _say(self, line: Line, op: Op, drafts: list[Draft]) -> None:
        line.said = self._saying(line)
        text = line.said[0]
        group, kind = self.groups[line.group], self.kinds[line.group]
        labels = tuple(
            Label(group.class_ids[0], clean(group.name), round(p.peak, 4), p.onset, p.offset)
            for p in line.parts
        )
        links = () if line.relation is None else (
            Relation(RelationKind(line.relation[0]), line.relation[1]),
        )  # fmt: skip
        drafts.append(Draft(
            op, line.cue_id, kind.kind, kind.priority, text, self._sure(line, text), line.start,
            line.end, line.sounding, labels, links, self.lexicons[line.group].language,
        ))  # fmt: skip

    def _sure(self, line: Line, text: str) -> int:
        """Return how much of ``text`` its sound's length can no longer change."""
        if line.form == Form.SHORT:
            return common(text, self._text(line, Form.SUSTAINED))
        if self._may_shorten(line):
            return common(text, self._text(line, Form.SHORT))
        return len(text)

    def _may_shorten(self, line: Line) -> bool:
        """Whether a text that says "going on" is reworded if its sound ends now.

        Only where nobody has read it yet: to a live reader the sound was going on when it was told
        of, and a text that changes as it leaves helps nobody.
        """
        brief = line.end - line.start <= self.timing.short
        return not self.live and line.form == Form.SUSTAINED and brief

    def _text(self, line: Line, form: Form) -> str:
        if self.style == "off":
            return ""
        key, lexicon = self.groups[line.group].key, self.lexicons[line.group]
        if self.style == "brackets":
            text = lexicon.patterns["brackets"].format(text=lexicon.phrase(key, form))
        else:
            text = lexicon.clause(key, form)
            kind = line.relation[0] if line.relation else ""
            if kind in (RelationKind.THEN, RelationKind.WHILE):
                text = lexicon.patterns[kind].format(text=text)
            else:
                text = text[:1].upper() + text[1:]
        return lay_out(text, self.line_columns)
