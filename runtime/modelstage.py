"""A model that turns audio into audio, as a stage; and a task that any such model can serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.align import Alignment, Trimmer
from ossicle.runtime.audio import AudioFormat, Chunk, check, scrub
from ossicle.runtime.errors import ManifestError
from ossicle.runtime.framer import Framer, FramerState
from ossicle.runtime.model import Model, ModelState


@dataclass
class ModelStageState:
    """One stream's framer, model memory and alignment."""

    framer: FramerState
    memory: ModelState
    alignment: Alignment


class ModelStage:
    """Audio in, audio out, aligned: output sample ``i`` belongs to input sample ``i``.

    The model's delay is taken off the front and made up for at the end, so that a stream gives as
    many samples as it took. NaN and Inf are silenced before they reach the model's memory.
    """

    def __init__(self, model: Model, program: str = "step") -> None:
        line = model.program(program)
        audio_in = [p.name for p in line.inputs if p.kind == "audio"]
        audio_out = [p.name for p in line.outputs if p.kind == "audio"]
        if len(audio_in) != 1 or not audio_out:
            raise ManifestError(
                f"{model.name}.{program} takes {audio_in} and gives {audio_out}; "
                "a stage needs one audio input and an audio output"
            )
        manifest = model.manifest
        self.model, self.program = model, program
        self.source, self.sink = audio_in[0], audio_out[0]
        self.input = self.output = AudioFormat(manifest.sample_rate_hz, manifest.channels)
        self.latency = manifest.latency - 1
        self._framer = Framer(self.input, manifest.hop)
        self._trimmer = Trimmer(manifest.hop, manifest.delay)

    def open(self) -> ModelStageState:
        """Return fresh memory."""
        return ModelStageState(
            self._framer.open(), self.model.open(1, self.program), self._trimmer.open()
        )

    def step(
        self,
        state: ModelStageState,
        chunk: Chunk,
        conditions: Mapping[str, NDArray[Any]] | None = None,
    ) -> list[Chunk]:
        """Run every hop that ``chunk`` completes; ``conditions`` ``[1, ...]`` hold from here on."""
        check(chunk, self.input)
        samples, _ = scrub(chunk.samples)
        if samples is not chunk.samples:
            chunk = Chunk(samples, chunk.start, chunk.format, chunk.discont)
        if chunk.discont or not state.alignment.opened:
            if state.alignment.opened:
                self.model.reset(state.memory, 0)
            self._trimmer.begin(state.alignment, chunk.start, chunk.discont)
        self._trimmer.fed(state.alignment, chunk.length)
        return self._run(state, self._framer.step(state.framer, chunk), conditions or {})

    def flush(self, state: ModelStageState) -> list[Chunk]:
        """Feed silence until every sample that came in has come out."""
        hops = self._framer.flush(state.framer)
        silent = np.zeros((self.input.channels, self._framer.hop), np.float32)
        for _ in range(self._trimmer.hops_to_drain(state.alignment, len(hops))):
            hops.append(Chunk(silent, 0, self.input))
        out = self._run(state, hops, {})
        if state.alignment.opened:
            self.model.reset(state.memory, 0)
        state.alignment = self._trimmer.open()
        return out

    def _run(
        self,
        state: ModelStageState,
        hops: list[Chunk],
        conditions: Mapping[str, NDArray[Any]],
    ) -> list[Chunk]:
        made: list[Chunk] = []
        for hop in hops:
            outputs = self.model.step(state.memory, {self.source: hop.samples[None], **conditions})
            made += self._trimmer.trim(state.alignment, outputs[self.sink][0], self.output)
        return made

    def export(self, state: ModelStageState) -> dict[str, Any]:
        """Return the stream's whole memory as a tree that a snapshot can carry."""
        return {
            "framer": state.framer,
            "memory": self.model.export_row(state.memory, 0),
            "alignment": state.alignment,
        }

    def restore(self, tree: Mapping[str, Any]) -> ModelStageState:
        """Return a state that goes on where :meth:`export` stood."""
        state = self.open()
        state.framer, state.alignment = tree["framer"], tree["alignment"]
        self.model.import_row(state.memory, 0, tree["memory"])
        return state
