"""Captions as a task: samples in, cues out, with a tagger's hops in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime import snapshot
from ossicle.runtime.audio import AudioFormat, Chunk, scrub
from ossicle.runtime.errors import AudioError
from ossicle.runtime.framer import Framer, FramerState
from ossicle.runtime.manifest import Manifest
from ossicle.runtime.task import CueEvent, Event, GapEvent, Hop, NoticeEvent
from ossicle.runtime.timing import Outlook
from ossicle.streaming.captions.desk import Desk, desk_of
from ossicle.streaming.captions.feed import FeedState
from ossicle.streaming.captions.lines import ComposerState, Draft, Timing
from ossicle.streaming.captions.options import STYLES, CaptionOptions, changed
from ossicle.streaming.captions.rules import audio_input, groups_of, narrower_of
from ossicle.streaming.captions.scenes import SceneState
from ossicle.streaming.captions.stabiliser import StabiliserState
from ossicle.streaming.captions.tracker import Edge, TrackerState

__all__ = ["STYLES", "CaptionOptions", "CaptionState", "CaptionTask", "changed"]


@snapshot.record("captions.State")
@dataclass(slots=True)
class CaptionState:
    """All that one captioned stream remembers, outside the model."""

    options: CaptionOptions
    framer: FramerState
    tracker: TrackerState
    composer: ComposerState
    stabiliser: StabiliserState
    feed: FeedState
    scenes: SceneState = field(default_factory=SceneState)
    origin: int = -1  # first sample of the stream; -1 before it came
    fed: int = 0  # end of the audio that was pushed
    taken: int = -1  # end of the last hop taken; -1 before the first
    bad_samples: int = 0  # NaN or Inf, silenced


class CaptionTask:
    """Captions the sounds that a tagger hears.

    Any bundle will do whose program gives ``scores`` `[T, classes]` from 0 to 1 and whose manifest
    has ``labels``: the built-in one or an imported AudioSet model.

    Raises:
        ManifestError: a bundle without scores or labels.
        CaptionError: options that cannot be met, or thresholds that contradict.
    """

    kind = "caption"

    def __init__(
        self, manifest: Manifest, options: CaptionOptions | Mapping[str, Any] | None = None,
        program: str = "step", timing: Timing | None = None,
    ) -> None:  # fmt: skip
        self.manifest = manifest
        self.program = program
        self.timing = timing or Timing()
        self.input_format = AudioFormat(manifest.sample_rate_hz, manifest.channels)
        self.source = audio_input(manifest, program)
        self.delay = int(manifest.extra.get("score_delay", manifest.delay))
        self.groups = groups_of(manifest)
        self.narrower = narrower_of(self.groups)
        self._index = [np.array(g.class_ids) for g in self.groups]
        self._plain = all(len(g.class_ids) == 1 for g in self.groups)
        self._columns = np.array([g.class_ids[0] for g in self.groups], np.intp)
        self._framer = Framer(self.input_format, manifest.hop)
        self.options = (
            options if isinstance(options, CaptionOptions)
            else changed(CaptionOptions(), options or {})
        )  # fmt: skip
        self.desk = lru_cache(maxsize=32)(
            partial(desk_of, manifest, tuple(self.groups), self.timing)
        )
        self.desk(self.options)

    @property
    def model(self) -> str:
        """The tagger's name."""
        return self.manifest.name

    @property
    def latency(self) -> int:
        """Samples from a sample's arrival to the score about it, without min-on times."""
        return self.manifest.latency

    def open(self) -> CaptionState:
        """Return a fresh state."""
        desk = self.desk(self.options)
        return CaptionState(
            self.options, self._framer.open(), desk.tracker.open(), desk.composer.open(),
            desk.stabiliser.open(), desk.feed.open(),
        )  # fmt: skip

    def push(self, state: CaptionState, item: Chunk) -> list[Hop]:
        """Return the hops that ``item`` completes. A chunk further on than expected is a gap.

        Raises:
            AudioError: another format, or samples that overlap those already pushed.
        """
        if not isinstance(item, Chunk):
            raise AudioError(f"captions are made from audio chunks, not {type(item).__name__}")
        if state.origin < 0:
            state.origin = state.fed = item.start
        if item.start < state.fed:
            raise AudioError(
                f"chunk starts at sample {item.start}, but {state.fed} were pushed already; "
                "drop what came twice"
            )
        if item.start > state.fed and not item.discont:
            item = item.after_gap()
        hops = self._framer.step(state.framer, item)
        state.fed = item.stop
        return [self._hop(state, hop) for hop in hops]

    def flush(self, state: CaptionState) -> list[Hop]:
        """Return the last hop, padded, and silent ones until every score is out."""
        hops = [self._hop(state, hop) for hop in self._framer.flush(state.framer)]
        if state.origin < 0:
            return hops
        at = hops[-1].stop if hops else state.fed
        hop = self.manifest.hop
        silence = np.zeros((self.manifest.channels, hop), np.float32)
        while at < state.fed + self.delay:
            hops.append(Hop({self.source: silence}, at, at + hop))
            at += hop
        return hops

    def take(
        self, state: CaptionState, hop: Hop, outputs: Mapping[str, NDArray[Any]]
    ) -> list[Event]:
        """Turn one hop's scores into cues, frame by frame."""
        scores = np.asarray(outputs["scores"], np.float32)
        scores = scores.reshape(-1, scores.shape[-1])
        if self._plain:
            scores = scores[:, self._columns]
        else:
            scores = np.stack([scores[:, i].max(axis=1) for i in self._index], axis=1)
        events = self._gap(state, hop)
        desk = self.desk(state.options)
        scores = np.where(desk.wanted, scores, np.float32(0))
        for narrow, broad in self.narrower:  # a baby that cries is not also a person that cries
            scores[scores[:, narrow] >= desk.on[narrow], broad] = 0
        length = hop.stop - hop.start
        views = self._views(desk, outputs, len(scores))
        for i, frame in enumerate(scores):
            begin = hop.start + i * length // len(scores)
            end = hop.start + (i + 1) * length // len(scores)
            events += self._frame(state, desk, frame, begin, end, views[i])
        state.taken = hop.stop
        return events

    def end(self, state: CaptionState) -> list[Event]:
        """Close every cue; say what was wrong with the audio, if anything."""
        desk = self.desk(state.options)
        edges = desk.tracker.end(state.tracker)
        drafts = desk.composer.step(state.composer, edges, (), state.tracker.seen)
        drafts += desk.composer.end(state.composer)
        drafts = self._told(state, desk, drafts, None, state.tracker.seen)
        drafts += self._untold(state, desk)
        events = self._publish(state, desk, drafts, state.tracker.seen, state.fed)
        if state.bad_samples or state.tracker.bad_scores:
            events.append(NoticeEvent("bad_audio", "NaN or Inf was taken as silence", {
                "samples": state.bad_samples, "scores": state.tracker.bad_scores,
            }))  # fmt: skip
        return events

    def update(self, state: CaptionState, options: Mapping[str, Any]) -> list[Event]:
        """Change options from the next hop on; cues that are open end as their sounds fade."""
        fresh = changed(state.options, options)
        before, after = self.desk(state.options), self.desk(fresh)
        state.options = fresh
        if before.scenes is None or after.scenes is not None:
            return []
        seen = max(state.taken, state.tracker.seen, 0)
        return self._publish(state, before, self._untold(state, before), state.tracker.seen, seen)

    def _frame(
        self, state: CaptionState, desk: Desk, scores: NDArray[np.float32], begin: int, end: int,
        view: NDArray[np.float32] | None,
    ) -> list[Event]:  # fmt: skip
        seen = min(end, state.fed)
        start, stop = max(begin - self.delay, state.origin), min(end - self.delay, state.fed)
        edges: list[Edge] = []
        if stop > start:
            edges = desk.tracker.step(state.tracker, scores, start, stop)
        tracks = state.tracker.tracks
        sounding = [t.sound for i in state.tracker.live if (t := tracks[i]).sound is not None]
        now = max(stop, state.tracker.seen)
        drafts = desk.composer.step(state.composer, edges, sounding, now)
        drafts = self._told(state, desk, drafts, scores, now, view)
        return self._publish(state, desk, drafts, now, seen)

    def _told(
        self, state: CaptionState, desk: Desk, drafts: list[Draft],
        scores: NDArray[np.float32] | None, now: int, view: NDArray[np.float32] | None = None,
    ) -> list[Draft]:  # fmt: skip
        """Return the drafts, or the sentences about them; no scores: nothing more will come."""
        if desk.scenes is None:  # what a sentence told of before is not told again
            held, told = state.stabiliser.held, state.scenes.told
            return [d for d in drafts if d.cue_id in held or d.cue_id not in told]
        outlook = None
        if scores is not None:
            on = np.array([t.sound is not None for t in state.tracker.tracks])
            near = np.where(on, np.float32(0), np.nan_to_num(scores) / desk.on)
            rising = int((~on & (scores >= desk.off)).sum())
            outlook = Outlook(rising, min(1.0, float(near.max(initial=0))))
        return desk.scenes.step(state.scenes, drafts, outlook, state.composer,
                                state.stabiliser.held, now, view)  # fmt: skip

    def _views(
        self, desk: Desk, outputs: Mapping[str, NDArray[Any]], frames: int
    ) -> list[NDArray[np.float32] | None]:
        """Return the tagger's embedding of each frame, if the sentences are made from it."""
        writer = desk.scenes.writer if desk.scenes is not None else None
        given = outputs.get("embedding")
        if writer is None or not writer.embedding or writer.tagger != self.model or given is None:
            return [None] * frames
        return list(np.asarray(given, np.float32).reshape(frames, -1))

    @staticmethod
    def _untold(state: CaptionState, desk: Desk) -> list[Draft]:
        """Return the end of the sentences."""
        if desk.scenes is None:
            return []
        return desk.scenes.end(state.scenes, state.composer, state.tracker.seen)

    def _publish(
        self, state: CaptionState, desk: Desk, drafts: list[Draft], now: int, seen: int
    ) -> list[Event]:
        stable = desk.stabiliser.step(state.stabiliser, drafts, now)
        return [CueEvent(cue) for cue in desk.feed.step(state.feed, stable, seen)]

    def _gap(self, state: CaptionState, hop: Hop) -> list[Event]:
        if not hop.discont or state.taken < 0:
            return []
        desk = self.desk(state.options)
        desk.tracker.interrupt(state.tracker)
        state.origin = hop.start  # the model starts anew: no score is about earlier samples
        return [GapEvent(state.taken, hop.start, "samples were lost before the captioner")]

    def _hop(self, state: CaptionState, chunk: Chunk) -> Hop:
        samples, bad = scrub(chunk.samples)
        state.bad_samples += bad
        return Hop({self.source: samples}, chunk.start, chunk.stop, chunk.discont)
