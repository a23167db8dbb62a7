"""Separation and enhancement as tasks: one stream in, one or more aligned tracks out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ossicle.runtime.audio import Samples
from ossicle.runtime.errors import ManifestError, QueryError
from ossicle.runtime.model import Model
from ossicle.runtime.task import Event, NoticeEvent
from ossicle.streaming.separation.query import Query, QueryBook
from ossicle.streaming.separation.stream import Array, AudioTask, SeparationState


class SeparateTask(AudioTask):
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
                f"{model.name} takes no query; use a bundle of task 'separate', or "
                "`ossicle enhance` for the speech alone"
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
        return self.begin(tracks, self.depth, conditions)

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
        if self.guard and len(texts) != len(state.tracks):
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


class EnhanceTask(AudioTask):
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
        return self.begin([self.TRACK], self.depth, self._conditions(self.depth))

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
