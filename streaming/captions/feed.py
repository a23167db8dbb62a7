"""The feed: what is stable becomes numbered cues with display times, and silence a heartbeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ossicle.runtime import snapshot
from ossicle.streaming.captions.cue import Cue, Kind, Op
from ossicle.streaming.captions.layout import LEAST_MS, MOST_MS, reading_ms
from ossicle.streaming.captions.stabiliser import Stable

CLOSING_MS = 250  # a live cue is closed this long after now: at now, players leave it on screen


@snapshot.record("captions.Shown")
@dataclass(slots=True)
class Shown:
    """An open cue as the reader knows it."""

    revision: int
    display_start_ms: int
    end: int


@snapshot.record("captions.FeedState")
@dataclass(slots=True)
class FeedState:
    """One stream's numbering and clock."""

    seq: int = 0
    beats: int = -1  # whole seconds of audio announced; -1 before the first frame
    open: dict[int, Shown] = field(default_factory=dict)


class Feed:
    """Numbers, times and dates the cues of one model at ``rate_hz``.

    ``live`` shows a cue from the moment it is known (a late one too: re-timed to now, never lost);
    otherwise, for files, a cue is shown from where its sound began.
    """

    def __init__(self, model: str, rate_hz: int, live: bool = True) -> None:
        self.model = model
        self.rate_hz = rate_hz
        self.live = live

    def open(self) -> FeedState:
        """Return the memory of a new stream."""
        return FeedState()

    def step(self, state: FeedState, stable: Sequence[Stable], audio_seen: int) -> list[Cue]:
        """Return the lines for what is shown now, then a heartbeat if a second is full."""
        cues = [self._cue(state, item, audio_seen) for item in stable]
        second = audio_seen // self.rate_hz
        if state.beats < 0:
            state.beats = second
        elif second > state.beats:
            state.beats = second
            cues.append(self._heartbeat(state, audio_seen))
        return cues

    def _cue(self, state: FeedState, item: Stable, audio_seen: int) -> Cue:
        draft = item.draft
        if draft.op is Op.OPEN:
            begin = audio_seen if self.live else draft.start
            state.open[draft.cue_id] = Shown(-1, self._ms(begin), draft.start)
        shown = state.open[draft.cue_id]
        shown.revision += 1
        shown.end = max(shown.end, draft.end)
        final = draft.op in (Op.CLOSE, Op.RETRACT)
        if final:
            del state.open[draft.cue_id]
        state.seq += 1
        return Cue(
            seq=state.seq - 1, cue_id=draft.cue_id, revision=shown.revision, op=draft.op,
            kind=draft.kind, text=draft.text, stable_chars=item.stable_chars, is_final=final,
            stability=round(item.stable_chars / len(draft.text), 3) if draft.text else 1.0,
            sample_rate_hz=self.rate_hz, start_sample=draft.start, end_sample=shown.end,
            end_open=draft.end_open, display_start_ms=shown.display_start_ms,
            display_end_ms=self._display_end(shown, item, audio_seen),
            audio_seen_sample=audio_seen, labels=draft.labels, relations=draft.relations,
            priority=draft.priority, language=draft.language, model=draft.author or self.model,
        )  # fmt: skip

    def _display_end(self, shown: Shown, item: Stable, audio_seen: int) -> int:
        """Return when the text may go: read, heard out, after now if live, within 7 s."""
        start = shown.display_start_ms
        if item.draft.op is Op.RETRACT:
            return max(start + 1, self._ms(audio_seen)) if self.live else start + LEAST_MS
        end = max(start + reading_ms(item.draft.text), self._ms(shown.end))
        end = min(end, start + MOST_MS)
        return max(end, self._ms(audio_seen) + CLOSING_MS) if self.live else end

    def _heartbeat(self, state: FeedState, audio_seen: int) -> Cue:
        state.seq += 1
        return Cue(
            seq=state.seq - 1, cue_id=0, revision=0, op=Op.HEARTBEAT, kind=Kind.SYSTEM, text="",
            stable_chars=0, is_final=False, stability=1.0, sample_rate_hz=self.rate_hz,
            start_sample=audio_seen, end_sample=audio_seen, end_open=False,
            display_start_ms=self._ms(audio_seen), display_end_ms=self._ms(audio_seen),
            audio_seen_sample=audio_seen, model=self.model,
        )  # fmt: skip

    def _ms(self, samples: int) -> int:
        return samples * 1000 // self.rate_hz
