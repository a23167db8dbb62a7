"""A model that turns audio into audio, as a stage of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.audio import Chunk
from ossicle.runtime.audiotask import AudioTask, AudioTaskState
from ossicle.runtime.model import Model, ModelState
from ossicle.runtime.task import AudioEvent, Hop


@dataclass
class ModelStageState:
    """One stream's framing and alignment, and the model's memory."""

    task: AudioTaskState
    memory: ModelState


class ModelStage:
    """Audio in, audio out: output sample ``i`` belongs to input sample ``i``.

    The model's delay is taken off the front and made up for at the end, so that a stream gives as
    many samples as it took. NaN and Inf are silenced before they reach the model's memory.
    """

    def __init__(self, model: Model, program: str = "step") -> None:
        self.model = model
        self.task = AudioTask(model.manifest, program=program)
        self.input = self.output = self.task.input_format
        self.latency = model.manifest.latency - 1

    def open(self) -> ModelStageState:
        """Return fresh memory."""
        return ModelStageState(self.task.open(), self.model.open(1, self.task.program))

    def condition(self, state: ModelStageState, values: Mapping[str, NDArray[Any]]) -> None:
        """Hold these condition inputs (no batch axis) from the next hop on."""
        self.task.update(state.task, values)

    def step(self, state: ModelStageState, chunk: Chunk) -> list[Chunk]:
        """Run every hop that ``chunk`` completes."""
        return self._run(state, self.task.push(state.task, chunk))

    def flush(self, state: ModelStageState) -> list[Chunk]:
        """Feed silence until every sample that came in has come out."""
        made = self._run(state, self.task.flush(state.task))
        self.task.end(state.task)
        self.model.reset(state.memory, 0)
        return made

    def _run(self, state: ModelStageState, hops: list[Hop]) -> list[Chunk]:
        made: list[Chunk] = []
        for hop in hops:
            if hop.discont:
                self.model.reset(state.memory, 0)
            batch = {name: np.asarray(value)[None] for name, value in hop.inputs.items()}
            outputs = self.model.step(state.memory, batch)
            events = self.task.take(state.task, hop, {k: v[0] for k, v in outputs.items()})
            made += [event.chunk for event in events if isinstance(event, AudioEvent)]
        return made

    def export(self, state: ModelStageState) -> dict[str, Any]:
        """Return the stream's whole memory as a tree that a snapshot can carry."""
        return {"task": state.task, "memory": self.model.export_row(state.memory, 0)}

    def restore(self, tree: Mapping[str, Any]) -> ModelStageState:
        """Return a state that goes on where :meth:`export` stood."""
        state = self.open()
        state.task = tree["task"]
        self.model.import_row(state.memory, 0, tree["memory"])
        return state
