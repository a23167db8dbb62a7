"""What separation and enhancement share: one stream in, aligned tracks out, guards between.

The input is cut into hops, each goes with its conditions to the model, and the outcome is lined up
with the input: output sample ``i`` belongs to input sample ``i`` and as many come out as went in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime import snapshot
from ossicle.runtime.align import Alignment, Trimmer
from ossicle.runtime.audio import AudioFormat, Chunk, Samples, check, scrub
from ossicle.runtime.errors import AudioError, ManifestError
from ossicle.runtime.framer import Framer, FramerState
from ossicle.runtime.model import Model
from ossicle.runtime.task import AudioEvent, Event, Hop, NoticeEvent
from ossicle.streaming.separation.alarm_guard import AlarmGuard, AlarmGuardState
from ossicle.streaming.separation.guards import Shadow, ShadowState, scrub_output

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


class AudioTask:
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
        self.guard = (
            AlarmGuard(manifest.sample_rate_hz, delay=manifest.delay) if keep_alarms else None
        )

    def begin(
        self, tracks: list[str], depth: float, conditions: dict[str, Array]
    ) -> SeparationState:
        guards = [self.guard.open() for _ in tracks] if self.guard else []
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
        if self.guard is None:
            return wet
        rows = [
            self.guard.step(guard, fresh[0], dry[0], row)
            for guard, row in zip(state.alarms, wet, strict=True)
        ]
        return np.stack(rows)
