"""Captions as a task: samples in, cues out, with a tagger's hops in between.

What a tagger's manifest may say in ``extra``, besides its ``labels``:

- ``thresholds``: by label, ``{"on", "off", "min_on_ms", "min_off_ms", "max_rise_ms"}``, each
  optional, or ``[on, off]``, or one number; the entry ``"*"`` holds for labels not named;
- ``score_delay``: samples by which a score trails the sound it is about, where that differs from
  the manifest's output delay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime import snapshot
from ossicle.runtime.audio import AudioFormat, Chunk, scrub
from ossicle.runtime.errors import AudioError, CaptionError, ManifestError
from ossicle.runtime.framer import Framer, FramerState
from ossicle.runtime.manifest import Manifest
from ossicle.runtime.task import CueEvent, Event, GapEvent, Hop, NoticeEvent
from ossicle.streaming.captions.composer import (
    Composer,
    ComposerState,
    Draft,
    Group,
    Timing,
)
from ossicle.streaming.captions.cue import Priority
from ossicle.streaming.captions.feed import Feed, FeedState
from ossicle.streaming.captions.lexicon import SoundKind, known_sounds, sounds_of
from ossicle.streaming.captions.stabiliser import Stabiliser, StabiliserState
from ossicle.streaming.captions.tracker import ClassRule, Edge, Tracker, TrackerState

STYLES = ("brackets", "sentence", "off")
HOLD_MS = 80  # non-alerts are held back this long for a second look
DEFAULT_RULE = {"on": 0.5, "off": 0.25, "min_on_ms": 80, "min_off_ms": 240, "max_rise_ms": 240}
AUDIOSET_RULE = {"on": 0.35, "off": 0.15, "min_on_ms": 0, "min_off_ms": 960, "max_rise_ms": 480}
AUDIOSET_CLASSES = 400  # a tagger of more classes is taken for one of AudioSet's


@snapshot.record("captions.Options")
@dataclass(frozen=True, slots=True)
class CaptionOptions:
    """What a reader asked for.

    Raises:
        CaptionError: a style or score that cannot be.
    """

    min_score: float = 0.0  # no sound is believed below this score
    labels: tuple[str, ...] = ()  # only these sounds (keys or labels); empty: all
    alerts_only: bool = False
    lang: str = "en"
    style: str = "brackets"  # brackets, sentence or off
    live: bool = True  # False: times for a file, from where each sound began

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        if self.style not in STYLES:
            raise CaptionError(f"caption style {self.style!r}; one of {', '.join(STYLES)} expected")
        if not 0.0 <= self.min_score <= 1.0:
            raise CaptionError(f"min_score {self.min_score}; 0 to 1 expected")


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
    origin: int = -1  # first sample of the stream; -1 before it came
    fed: int = 0  # end of the audio that was pushed
    taken: int = -1  # end of the last hop taken; -1 before the first
    bad_samples: int = 0  # NaN or Inf, silenced


@dataclass(frozen=True)
class Desk:
    """The four workers for one set of options; built once, shared by all streams that ask so."""

    tracker: Tracker
    composer: Composer
    stabiliser: Stabiliser
    feed: Feed
    wanted: NDArray[np.bool_]  # by group


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
        self.source = _audio_input(manifest, program)
        self.delay = int(manifest.extra.get("score_delay", manifest.delay))
        self.groups = _groups(manifest)
        self._index = [np.array(g.class_ids) for g in self.groups]
        self._plain = all(len(g.class_ids) == 1 for g in self.groups)
        self._columns = np.array([g.class_ids[0] for g in self.groups], np.intp)
        self._framer = Framer(self.input_format, manifest.hop)
        self.options = (
            options if isinstance(options, CaptionOptions)
            else changed(CaptionOptions(), options or {})
        )  # fmt: skip
        self.desk = lru_cache(maxsize=32)(self._desk)
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
            item = replace(item, discont=True)
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
        length = hop.stop - hop.start
        for i, frame in enumerate(scores):
            begin = hop.start + i * length // len(scores)
            end = hop.start + (i + 1) * length // len(scores)
            events += self._frame(state, desk, frame, begin, end)
        state.taken = hop.stop
        return events

    def end(self, state: CaptionState) -> list[Event]:
        """Close every cue; say what was wrong with the audio, if anything."""
        desk = self.desk(state.options)
        edges = desk.tracker.end(state.tracker)
        drafts = desk.composer.step(state.composer, edges, (), state.tracker.seen)
        drafts += desk.composer.end(state.composer)
        events = self._publish(state, desk, drafts, state.tracker.seen, state.fed)
        if state.bad_samples or state.tracker.bad_scores:
            events.append(NoticeEvent("bad_audio", "NaN or Inf was taken as silence", {
                "samples": state.bad_samples, "scores": state.tracker.bad_scores,
            }))  # fmt: skip
        return events

    def update(self, state: CaptionState, options: Mapping[str, Any]) -> list[Event]:
        """Change options from the next hop on; cues that are open end as their sounds fade."""
        fresh = changed(state.options, options)
        self.desk(fresh)
        state.options = fresh
        return []

    def _frame(
        self, state: CaptionState, desk: Desk, scores: NDArray[np.float32], begin: int, end: int
    ) -> list[Event]:
        seen = min(end, state.fed)
        start, stop = max(begin - self.delay, state.origin), min(end - self.delay, state.fed)
        edges: list[Edge] = []
        if stop > start:
            edges = desk.tracker.step(state.tracker, scores, start, stop)
        tracks = state.tracker.tracks
        sounding = [t.sound for i in state.tracker.live if (t := tracks[i]).sound is not None]
        now = max(stop, state.tracker.seen)
        drafts = desk.composer.step(state.composer, edges, sounding, now)
        return self._publish(state, desk, drafts, now, seen)

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

    def _desk(self, options: CaptionOptions) -> Desk:
        rate = self.manifest.sample_rate_hz
        kinds = [known_sounds().get(g.key, SoundKind(g.key)) for g in self.groups]
        wanted = _wanted(self.groups, kinds, self.manifest, options)
        rules = [_rule(self.manifest, g, options.min_score) for g in self.groups]
        return Desk(
            Tracker(rules),
            Composer(self.groups, self.timing, rate, options.lang, options.style),
            Stabiliser(HOLD_MS * rate // 1000),
            Feed(self.manifest.name, rate, options.live),
            wanted,
        )


def changed(options: CaptionOptions, new: Mapping[str, Any]) -> CaptionOptions:
    """Return ``options`` with ``new`` values.

    Raises:
        CaptionError: an unknown option, or a value that cannot be.
    """
    known = {f.name for f in fields(CaptionOptions)}
    if set(new) - known:
        raise CaptionError(
            f"unknown caption options {sorted(set(new) - known)}; {', '.join(sorted(known))} exist"
        )
    return CaptionOptions(**{**asdict(options), **new})


def _audio_input(manifest: Manifest, program: str) -> str:
    line = manifest.programs.get(program)
    if line is None or manifest.labels is None or all(o.name != "scores" for o in line.outputs):
        raise ManifestError(
            f"{manifest.name} cannot be captioned from: a program {program!r} with an output "
            "'scores', and labels, are needed"
        )
    sources = [p.name for p in line.inputs if p.kind == "audio"]
    if len(sources) != 1:
        raise ManifestError(f"{manifest.name}.{program} takes {sources}; one audio input expected")
    return sources[0]


def _groups(manifest: Manifest) -> list[Group]:
    """Return the sounds that the tagger's classes mean, in the order they first appear."""
    labels = manifest.labels or ()
    members: dict[str, list[int]] = {}
    for index, key in enumerate(sounds_of(labels)):
        if key:
            members.setdefault(key, []).append(index)
    return [
        Group(key, labels[ids[0]] if len(ids) == 1 else key, tuple(ids))
        for key, ids in members.items()
    ]


def _wanted(
    groups: list[Group], kinds: list[SoundKind], manifest: Manifest, options: CaptionOptions
) -> NDArray[np.bool_]:
    names = [{g.key, g.name, *((manifest.labels or ())[i] for i in g.class_ids)} for g in groups]
    unknown = [name for name in options.labels if not any(name in n for n in names)]
    if unknown:
        raise CaptionError(
            f"{manifest.name} does not know {unknown}; it knows "
            f"{', '.join(sorted(g.key for g in groups))}"
        )
    alert = np.array([k.priority is Priority.ALERT for k in kinds], bool)
    named = np.array([not options.labels or bool(n & set(options.labels)) for n in names], bool)
    return named & (alert if options.alerts_only else True)


def _rule(manifest: Manifest, group: Group, min_score: float) -> ClassRule:
    """Return the thresholds of a group: those of its first class that the bundle names."""
    table: Mapping[str, Any] = manifest.extra.get("thresholds", {})
    names = [(manifest.labels or ())[i] for i in group.class_ids]
    given: Any = next((table[n] for n in (*names, group.key, "*") if n in table), {})
    if isinstance(given, int | float):
        given = {"on": given, "off": given / 2}
    elif not isinstance(given, Mapping):
        given = dict(zip(("on", "off"), given, strict=False))
    audioset = len(manifest.labels or ()) > AUDIOSET_CLASSES
    values = {**(AUDIOSET_RULE if audioset else DEFAULT_RULE), **given}
    if set(values) - set(DEFAULT_RULE):
        raise CaptionError(
            f"{manifest.name}: thresholds of {group.key} have unknown "
            f"{sorted(set(values) - set(DEFAULT_RULE))}; {', '.join(DEFAULT_RULE)} exist"
        )

    def samples(name: str) -> int:
        return round(float(values[name]) * manifest.sample_rate_hz / 1000)

    on = max(float(values["on"]), min_score)
    return ClassRule(group.name, on, min(float(values["off"]), on), samples("min_on_ms"),
                     samples("min_off_ms"), samples("max_rise_ms"))  # fmt: skip
