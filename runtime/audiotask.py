"""Audio in, audio out, aligned: the task behind every model that gives back what it was fed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime import snapshot
from ossicle.runtime.align import Alignment, Trimmer
from ossicle.runtime.audio import AudioFormat, Chunk, check, scrub
from ossicle.runtime.errors import ManifestError
from ossicle.runtime.framer import Framer, FramerState
from ossicle.runtime.manifest import Manifest
from ossicle.runtime.task import AudioEvent, Event, Hop


@snapshot.record("audiotask.State")
@dataclass
class AudioTaskState:
    """The unfinished hop, where the output stands, and conditions that the next hop brings."""

    framer: FramerState
    alignment: Alignment
    conditions: dict[str, NDArray[Any]] = field(default_factory=dict)


class AudioTask:
    """One audio input to one track; output sample ``i`` belongs to input sample ``i``.

    Args:
        manifest: of the bundle to run.
        kind: what the service calls the task.
        program: the bundle's program; it needs one audio input and an audio output.
        track: name of the audio that comes out.
    """

    def __init__(
        self,
        manifest: Manifest,
        kind: str = "enhance",
        program: str = "step",
        track: str = "audio",
    ) -> None:
        line = manifest.programs[program]
        sources = [p.name for p in line.inputs if p.kind == "audio"]
        sinks = [p.name for p in line.outputs if p.kind == "audio"]
        if len(sources) != 1 or not sinks:
            raise ManifestError(
                f"{manifest.name}.{program} takes audio {sources} and gives {sinks}; "
                "one audio input and an audio output are needed"
            )
        self.kind, self.model, self.program, self.track = kind, manifest.name, program, track
        self.source, self.sink = sources[0], sinks[0]
        self.input_format = AudioFormat(manifest.sample_rate_hz, manifest.channels)
        self.latency = manifest.latency
        self._framer = Framer(self.input_format, manifest.hop)
        self._trimmer = Trimmer(manifest.hop, manifest.delay)

    def open(self) -> AudioTaskState:
        """Return fresh memory."""
        return AudioTaskState(self._framer.open(), self._trimmer.open())

    def push(self, state: AudioTaskState, item: Chunk) -> list[Hop]:
        """Return the hops that the chunk completes; NaN and Inf are silenced first."""
        chunk = check(item, self.input_format)
        samples, bad = scrub(chunk.samples)
        if bad:
            chunk = Chunk(samples, chunk.start, chunk.format, chunk.discont)
        if chunk.discont or not state.alignment.opened:
            self._trimmer.begin(state.alignment, chunk.start, chunk.discont)
        self._trimmer.fed(state.alignment, chunk.length)
        return [self._hop(state, hop) for hop in self._framer.step(state.framer, chunk)]

    def take(
        self, state: AudioTaskState, hop: Hop, outputs: Mapping[str, NDArray[Any]]
    ) -> list[Event]:
        """Return the part of the output that belongs to the stream."""
        made = self._trimmer.trim(state.alignment, outputs[self.sink], self.input_format)
        return [AudioEvent(self.track, chunk) for chunk in made]

    def flush(self, state: AudioTaskState) -> list[Hop]:
        """Return the padded last hop, and silence until all that went in can come out."""
        hops = [self._hop(state, hop) for hop in self._framer.flush(state.framer)]
        silent = np.zeros((self.input_format.channels, self._framer.hop), np.float32)
        rest = Chunk(silent, state.framer.start, self.input_format)
        missing = self._trimmer.hops_to_drain(state.alignment, len(hops))
        return hops + [self._hop(state, rest) for _ in range(missing)]

    def end(self, state: AudioTaskState) -> list[Event]:
        """Nothing is left; the state is as good as new."""
        state.alignment = self._trimmer.open()
        return []

    def update(self, state: AudioTaskState, options: Mapping[str, Any]) -> list[Event]:
        """Hold ``options`` (arrays by condition name) from the next hop on."""
        given = {name: np.asarray(v) for name, v in options.items() if v is not None}
        state.conditions.update(given)
        return []

    def _hop(self, state: AudioTaskState, chunk: Chunk) -> Hop:
        inputs = {self.source: chunk.samples, **state.conditions}
        state.conditions = {}
        return Hop(inputs, chunk.start, chunk.stop, chunk.discont)
