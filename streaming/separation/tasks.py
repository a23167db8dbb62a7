"""Separation and enhancement as tasks: one stream in, one or more aligned tracks out.

Both cut the input into hops, hand each with its conditions to the model, and line the outcome up
with the input: output sample ``i`` belongs to input sample ``i`` and as many come out as went in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime import snapshot
from ossicle.runtime.align import Alignment, Trimmer
from ossicle.runtime.audio import AudioFormat, Chunk, Samples, check, scrub
from ossicle.runtime.errors import AudioError, ManifestError, QueryError
from ossicle.runtime.framer import Framer, FramerState
from ossicle.runtime.model import Model
from ossicle.runtime.task import AudioEvent, Event, Hop, NoticeEvent
from ossicle.streaming.separation.alarm_guard import AlarmGuard, AlarmGuardState
from ossicle.streaming.separation.guards import Shadow, ShadowState, scrub_output
from ossicle.streaming.separation.query import Query, QueryBook

Array = NDArray[Any]
WARM_UP_S = 0.5  # how long a model that was reset runs unheard


@snapshot.record("separation.State")
@dataclass
class SeparationState:
    """Everything one stream remembers outside the model."""

    framer: FramerState
    alignment: Alignment
    tail: Samples  # [1, delay] newest dry samples whose output is still to come
    conditions: dict[str, Array]
    tracks: list[str]
    depth: float
    shadow: ShadowState
    alarms: list[AlarmGuardState]
    reset_next: bool = False  # the next hop starts from fresh memory
    heard_to: int = -1  # where the last hop that came out of the model ended


class _AudioTask:
    """What both tasks share: hops in, guards, alignment out."""

    kind = "enhance"

    def __init__(self, model: Model, program: str, keep_alarms: bool) -> None:
        manifest = model.manifest
        if manifest.channels != 1:
            raise ManifestError(f"{model.name} takes {manifest.channels} channels; one expected")
        line = model.program(program)
        sources = [p.name for p in line.inputs if p.kind == "audio"]
        self.sinks = tuple(p.name for p in line.outputs if p.kind == "audio")
        if len(sources) != 1 or not self.sinks:
            raise ManifestError(
                f"{model.name}.{program} takes audio {sources} and gives {list(self.sinks)}; "
                "one in and at least one out expected"
            )
        self.model, self.program, self.source = model.name, program, sources[0]
        self.manifest = manifest
        self.input_format = AudioFormat(manifest.sample_rate_hz, 1)
        self.latency = manifest.latency
        self.conditions_of = {p.name: p for p in line.inputs if p.kind == "condition"}
        self._framer = Framer(self.input_format, manifest.hop)
        self._trimmer = Trimmer(manifest.hop, manifest.delay)
        warm = max(1, round(WARM_UP_S * manifest.sample_rate_hz / manifest.hop))
        self._shadow = Shadow(warm)
        self._guard = (
            AlarmGuard(manifest.sample_rate_hz, delay=manifest.delay) if keep_alarms else None
        )

    def _open(
        self, tracks: list[str], depth: float, conditions: dict[str, Array]
    ) -> SeparationState:
        guards = [self._guard.open() for _ in tracks] if self._guard else []
        return SeparationState(
            self._framer.open(), self._trimmer.open(),
            np.zeros((1, self.manifest.delay), np.float32), conditions, tracks, depth,
            self._shadow.open(), guards,
        )  # fmt: skip

    def push(self, state: SeparationState, item: Chunk) -> list[Hop]:
        """Take a chunk of any length and return the hops that it completes."""
        if not isinstance(item, Chunk):
            raise AudioError(f"{self.kind} was fed {type(item).__name__}; a Chunk expected")
        check(item, self.input_format)
        samples, _ = scrub(item.samples)
        if samples is not item.samples:
            item = Chunk(samples, item.start, item.format, item.discont)
        if item.discont or not state.alignment.opened:
            state.reset_next |= state.alignment.opened
            self._trimmer.begin(state.alignment, item.start, item.discont)
        self._trimmer.fed(state.alignment, item.length)
        return [self._hop(state, chunk) for chunk in self._framer.step(state.framer, item)]

    def flush(self, state: SeparationState) -> list[Hop]:
        """Return the last hops, padded with silence, until every sample has come out."""
        hops = [self._hop(state, chunk) for chunk in self._framer.flush(state.framer)]
        silent = Chunk(np.zeros((1, self.manifest.hop), np.float32), 0, self.input_format)
        drain = self._trimmer.hops_to_drain(state.alignment, len(hops))
        return hops + [self._hop(state, silent) for _ in range(drain)]

    def end(self, state: SeparationState) -> list[Event]:
        """Return nothing: all has left with the last hop."""
        state.alignment = self._trimmer.open()
        state.tail[:] = 0.0
        return []

    def _hop(self, state: SeparationState, chunk: Chunk) -> Hop:
        discont, state.reset_next = chunk.discont or state.reset_next, False
        inputs = {self.source: chunk.samples, **state.conditions}
        return Hop(inputs, chunk.start, chunk.stop, discont)

    def take(self, state: SeparationState, hop: Hop, outputs: Mapping[str, Array]) -> list[Event]:
        """Turn a hop's outputs into one audio event per track."""
        if hop.discont and state.heard_to >= 0:  # here, not in push: earlier hops came out since
            self._shadow.restart(state.shadow)
            if hop.start != state.heard_to:
                state.tail[:] = 0.0
        state.heard_to = hop.stop
        fresh, dry = self._dry(state, hop)
        wet = np.concatenate([outputs[name] for name in self.sinks[: len(state.tracks)]])
        events: list[Event] = []
        over = np.repeat(dry, len(wet), axis=0)
        wet, sound = scrub_output(wet, over)
        if not sound:
            state.reset_next = True
            self._shadow.restart(state.shadow)
            events.append(NoticeEvent(
                "model-reset", f"{self.model} gave samples that are not finite; it was reset and "
                "the dry signal is heard until it has recovered", {"start": hop.start},
            ))  # fmt: skip
        wet = self._shadow.mix(state.shadow, over, wet)
        return events + self._heard(state, self._finish(state, fresh, dry, wet))

    def bypass(self, state: SeparationState, hop: Hop) -> list[Event]:
        """Give the input out as it came, as late as the model's output would; no model ran.

        Once it runs again it is heard only when it has warmed up.
        """
        state.heard_to = hop.stop
        fresh, dry = self._dry(state, hop)
        self._shadow.restart(state.shadow)
        over = np.repeat(dry, len(state.tracks), axis=0)
        return self._heard(state, self._finish(state, fresh, dry, over))

    def _dry(self, state: SeparationState, hop: Hop) -> tuple[Samples, Samples]:
        """Return the hop's samples, and those that belong to the model's output for it."""
        fresh: Samples = hop.inputs[self.source]
        joined = np.concatenate([state.tail, fresh], axis=1)
        dry, state.tail = joined[:, : fresh.shape[1]], joined[:, fresh.shape[1] :]
        return fresh, dry

    def _heard(self, state: SeparationState, wet: Samples) -> list[Event]:
        events: list[Event] = []
        for chunk in self._trimmer.trim(state.alignment, wet, self.input_format):
            events += [
                AudioEvent(self._name(state, i),
                           Chunk(chunk.samples[i : i + 1], chunk.start, chunk.format,
                                 chunk.discont))
                for i in range(len(state.tracks))
            ]  # fmt: skip
        return events

    def _name(self, state: SeparationState, slot: int) -> str:
        return state.tracks[slot]

    def _finish(
        self, state: SeparationState, fresh: Samples, dry: Samples, wet: Samples
    ) -> Samples:
        if self._guard is None:
            return wet
        rows = [
            self._guard.step(guard, fresh[0], dry[0], row)
            for guard, row in zip(state.alarms, wet, strict=True)
        ]
        return np.stack(rows)


class SeparateTask(_AudioTask):
    """What the listener asks for, one track per query, changed mid-stream without losing state.

    Options of :meth:`update`: ``query`` (text, or a list of texts for several tracks), ``depth``.

    Args:
        model: a bundle of task ``separate``.
        query: what to hear; a list gives one track each, in one pass over the shared layers.
        depth: 1 gives only what was asked for, 0 the input.
        keep_alarms: give alarms back whatever was asked for.
        stable: call the tracks query0, query1, ... whatever they hold, for those behind who keep
            something for each track; else each bears its query's text.
        forgiving: a change that cannot be made is told in a notice instead of raised, so that a
            listener's slip of the tongue does not end what is heard.

    Raises:
        QueryError: an unknown, empty or overlong query, or too many.
        ManifestError: a bundle that takes no query.
    """

    kind = "separate"

    def __init__(
        self,
        model: Model,
        query: str | Sequence[str] = "speech",
        *,
        depth: float = 1.0,
        keep_alarms: bool = False,
        book: QueryBook | None = None,
        stable: bool = False,
        forgiving: bool = False,
    ) -> None:
        texts = [query] if isinstance(query, str) else list(query)
        program = "step" if len(texts) == 1 else "tracks"
        if program not in model.manifest.programs:
            raise QueryError(f"{model.name} separates one query at a time; {len(texts)} were given")
        super().__init__(model, program, keep_alarms)
        if set(self.conditions_of) != {"query", "blend"}:
            raise ManifestError(
                f"{model.name} takes conditions {sorted(self.conditions_of)}, not a query; "
                "use a bundle of task 'separate'"
            )
        self.book = book or QueryBook.of(model.bundle)
        self.texts, self.depth = tuple(texts), depth
        self.stable, self.forgiving = stable, forgiving
        self._resolve(texts, depth)

    @property
    def slots(self) -> int:
        """How many queries fit in one pass."""
        return int(self.conditions_of["query"].shape[0])

    def open(self) -> SeparationState:
        """Return a fresh state."""
        tracks, conditions = self._resolve(self.texts, self.depth)
        return self._open(tracks, self.depth, conditions)

    def _name(self, state: SeparationState, slot: int) -> str:
        return f"query{slot}" if self.stable else state.tracks[slot]

    def update(self, state: SeparationState, options: Mapping[str, Any]) -> list[Event]:
        """Change ``query`` and ``depth`` from the next hop on; the model's memory stays.

        A change that cannot be made leaves the stream with the query it had.

        Raises:
            QueryError: as at the start, unless ``forgiving``.
        """
        try:
            return self._change(state, options)
        except QueryError as error:
            if not self.forgiving:
                raise
            return [NoticeEvent("query-refused", str(error), {"depth": state.depth})]

    def _change(self, state: SeparationState, options: Mapping[str, Any]) -> list[Event]:
        unknown = set(options) - {"query", "depth"}
        if unknown:
            raise QueryError(f"no option {sorted(unknown)}; 'query' and 'depth' can be changed")
        given = options.get("query", list(state.tracks))
        texts = [given] if isinstance(given, str) else list(given)
        depth = float(options.get("depth", state.depth))
        if self._guard and len(texts) != len(state.tracks):
            raise QueryError(
                f"{len(texts)} queries for a stream of {len(state.tracks)} guarded tracks; "
                "open a new stream to change how many there are"
            )
        state.tracks, state.conditions = self._resolve(texts, depth)
        state.depth = depth
        return [NoticeEvent("query", "; ".join(texts), {"depth": depth})]

    def _resolve(self, texts: Sequence[str], depth: float) -> tuple[list[str], dict[str, Array]]:
        if not 1 <= len(texts) <= self.slots:
            raise QueryError(
                f"{len(texts)} queries; 1 to {self.slots} fit in this stream"
                + ("" if self.slots > 1 else " (give a list at the start for several tracks)")
            )
        for text in texts:
            if not isinstance(text, str):
                raise QueryError(f"a query of {type(text).__name__}; text expected")
        queries = [self.book.resolve(text) for text in texts]
        return list(texts), self.conditions(queries, depth)

    def conditions(self, queries: Sequence[Query], depth: float) -> dict[str, Array]:
        """The model's conditions for ``queries``; slots left over are silent."""
        labels = self.book.labels
        query = np.zeros((self.slots, len(labels)), np.float32)
        blend = np.zeros((self.slots, 2), np.float32)
        for slot, wanted in enumerate(queries):
            query[slot], blend[slot] = wanted.conditions(labels, depth)
        return {"query": query, "blend": blend}


class EnhanceTask(_AudioTask):
    """Speech without what surrounds it, alarms kept.

    Any bundle with one audio input and output serves: one of task ``separate`` is asked for
    speech, an imported enhancer runs as it is. Alarms are kept by the guard behind it.

    Args:
        model: the bundle's model.
        depth: 1 is all that the model takes away, 0 none of it.
        keep_alarms: keep warning sounds within 6 dB of the input.
    """

    kind = "enhance"
    TRACK = "speech"

    def __init__(self, model: Model, *, depth: float = 1.0, keep_alarms: bool = True) -> None:
        super().__init__(model, "step", keep_alarms)
        if not 0.0 <= depth <= 1.0:
            raise QueryError(f"depth is {depth}; 0 (dry) to 1 (all that the model takes) expected")
        self.depth = depth
        self.conditions: dict[str, Array] = {}
        self._asks = set(self.conditions_of) == {"query", "blend"}
        if self._asks:
            self._query = Query("speech", ("speech",), (), 1.0)

    def open(self) -> SeparationState:
        """Return a fresh state."""
        return self._open([self.TRACK], self.depth, self._conditions(self.depth))

    def update(self, state: SeparationState, options: Mapping[str, Any]) -> list[Event]:
        """Change ``depth`` from the next hop on."""
        unknown = set(options) - {"depth"}
        if unknown:
            raise QueryError(f"no option {sorted(unknown)}; 'depth' can be changed")
        depth = float(options.get("depth", state.depth))
        if not 0.0 <= depth <= 1.0:
            raise QueryError(f"depth is {depth}; 0 to 1 expected")
        state.depth, state.conditions = depth, self._conditions(depth)
        return [NoticeEvent("depth", f"{depth:g}", {"depth": depth})]

    def _conditions(self, depth: float) -> dict[str, Array]:
        if not self._asks:
            return {}
        query, blend = self._query.conditions(self.manifest.labels or (), depth)
        return {"query": query[None], "blend": blend[None]}

    def _finish(
        self, state: SeparationState, fresh: Samples, dry: Samples, wet: Samples
    ) -> Samples:
        if not self._asks and state.depth < 1.0:
            wet = np.asarray(dry + np.float32(state.depth) * (wet - dry), np.float32)
        return super()._finish(state, fresh, dry, wet)
