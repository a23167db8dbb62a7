"""A model under test: example inputs for its programs, and the ways the laws run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.conformance.report import Row
from ossicle.runtime.errors import ManifestError
from ossicle.runtime.manifest import Program, ProgramInput
from ossicle.runtime.model import Model, ModelState
from ossicle.runtime.modelstage import ModelStage

Array = NDArray[Any]
Hops = list[dict[str, Array]]


class Subject:
    """One model, with seeded examples.

    ``chain`` is the programs that lead from audio to audio: ``["step"]``, or
    ``["encode", "decode"]`` for a codec; empty where no audio comes out.
    """

    def __init__(self, model: Model, seed: int = 0) -> None:
        self.model = model
        self.manifest = model.manifest
        self.seed = seed
        self.programs = tuple(self.manifest.programs)
        self.chain = self._find_chain()
        self.stage = self._make_stage()

    def signal(self, samples: int, seed: int = 0) -> NDArray[np.float32]:
        """Return ``[C, samples]`` of noise shaped like sound: bursts over a soft floor, -26 dBFS.

        Broad-band, so that correlation finds a delay; moving, so that gates and norms work.
        """
        rng = np.random.default_rng((self.seed, seed))
        white = rng.standard_normal((self.manifest.channels, samples + 8))
        soft = np.convolve(np.ones(5) / 5, [1.0])
        shaped = np.stack([np.convolve(row, soft, mode="same")[:samples] for row in white])
        time_s = np.arange(samples) / self.manifest.sample_rate_hz
        bursts = 0.15 + np.maximum(0.0, np.sin(2 * np.pi * 2.3 * time_s + seed)) ** 2
        shaped = shaped * bursts
        scale = 0.05 / max(1e-9, float(np.sqrt(np.mean(shaped**2))))
        return np.asarray(shaped * scale, np.float32)

    def examples(self, program: str, hops: int, seed: int = 0) -> Hops:
        """Return the inputs of ``hops`` hops of a program, without the batch axis."""
        line = self.model.program(program)
        if self._fed_by(line) is not None:
            return self._coded(line, hops, seed)
        size = self.manifest.hop
        signal = self.signal(hops * size, seed)
        rng = np.random.default_rng((self.seed, seed, 1))
        conditions = {
            p.name: _random(rng, p) for p in line.inputs
            if p.kind == "condition" and p.default is None
        }  # fmt: skip
        made: Hops = []
        for index in range(hops):
            hop = {p.name: _random(rng, p) for p in line.inputs if p.kind == "frame"}
            for given in line.inputs:
                if given.kind == "audio":
                    hop[given.name] = signal[:, index * size : (index + 1) * size]
            made.append({**hop, **conditions})
        return made

    def run(self, program: str, hops: Hops, state: ModelState | None = None) -> dict[str, Array]:
        """Run hops for one row; return each output ``[hops, ...]``."""
        state = state or self.model.open(1, program)
        made = [self.model.step(state, {k: v[None] for k, v in hop.items()}) for hop in hops]
        return {name: np.stack([m[name][0] for m in made]) for name in made[0]}

    def run_batch(self, program: str, rows: Sequence[Hops]) -> list[dict[str, Array]]:
        """Run several rows as one batch; return each row's outputs ``[hops, ...]``."""
        state = self.model.open(len(rows), program)
        made = []
        for index in range(len(rows[0])):
            inputs = {k: np.stack([row[index][k] for row in rows]) for k in rows[0][index]}
            made.append(self.model.step(state, inputs))
        return [
            {name: np.stack([m[name][r] for m in made]) for name in made[0]}
            for r in range(len(rows))
        ]

    def through(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the chain's raw output for whole hops of audio, delay and all."""
        size, hops = self.manifest.hop, signal.shape[1] // self.manifest.hop
        flow: Hops = []
        for name in self.chain:
            line = self.model.program(name)
            taken = [p.name for p in line.inputs if p.kind != "condition"]
            held = (
                {k: v for k, v in self.examples(name, 1)[0].items() if k not in taken}
                if (self._fed_by(line) is None)
                else {}
            )
            if not flow:
                audio = next(p.name for p in line.inputs if p.kind == "audio")
                flow = [{audio: signal[:, i * size : (i + 1) * size], **held} for i in range(hops)]
            else:
                flow = [{**{k: v for k, v in hop.items() if k in taken}, **held} for hop in flow]
            made = self.run(name, flow)
            flow = [{k: v[i] for k, v in made.items()} for i in range(hops)]
        sink = self.sink
        return np.concatenate([hop[sink] for hop in flow], axis=1)

    @property
    def sink(self) -> str:
        """The chain's audio output."""
        line = self.model.program(self.chain[-1])
        return next(o.name for o in line.outputs if o.kind == "audio")

    def staged(
        self, signal: NDArray[np.float32], cuts: Sequence[int], start: int = 0
    ) -> list[Chunk]:
        """Return what the aligned stage makes of a signal cut at ``cuts``."""
        assert self.stage is not None
        stage = self.stage
        state = stage.open()
        conditions = self.conditions()
        if conditions:
            stage.condition(state, conditions)
        edges = [0, *cuts, signal.shape[1]]
        made: list[Chunk] = []
        for low, high in pairwise(edges):
            made += stage.step(state, Chunk(signal[:, low:high], start + low, self.format))
        made += stage.flush(state)
        return [*made, *stage.flush(state)]

    @property
    def format(self) -> AudioFormat:
        """The model's own format."""
        return AudioFormat(self.manifest.sample_rate_hz, self.manifest.channels)

    def conditions(self) -> dict[str, Array]:
        """Return example values for the chain's conditions, without the batch axis."""
        line = self.model.program(self.chain[0])
        names = {p.name for p in line.inputs if p.kind == "condition"}
        return {k: v for k, v in self.examples(self.chain[0], 1)[0].items() if k in names}

    def _coded(self, line: Program, hops: int, seed: int) -> Hops:
        source = self._fed_by(line)
        assert source is not None
        made = self.run(source, self.examples(source, hops, seed))
        names = [p.name for p in line.inputs]
        return [{k: made[k][i] for k in names} for i in range(hops)]

    def _fed_by(self, line: Program) -> str | None:
        """Return the program whose outputs are this one's frame inputs, if there is one."""
        frames = {(p.name, p.shape, p.dtype) for p in line.inputs if p.kind == "frame"}
        if not frames or any(p.kind == "audio" for p in line.inputs):
            return None
        for name, other in self.manifest.programs.items():
            if frames <= {(o.name, o.shape, o.dtype) for o in other.outputs}:
                return name
        return None

    def _find_chain(self) -> list[str]:
        for name, line in self.manifest.programs.items():
            if not any(o.kind == "audio" for o in line.outputs):
                continue
            if any(p.kind == "audio" for p in line.inputs):
                return [name]
            source = self._fed_by(line)
            if source is not None:
                return [source, name]
        return []

    def _make_stage(self) -> ModelStage | None:
        if len(self.chain) != 1:
            return None
        try:
            return ModelStage(self.model, self.chain[0])
        except ManifestError:
            return None


def _random(rng: np.random.Generator, given: ProgramInput) -> Array:
    shape = tuple(abs(n) for n in given.shape)
    if given.dtype.startswith("float"):
        return (0.3 * rng.standard_normal(shape)).astype(given.dtype)
    return np.zeros(shape, given.dtype)


def largest_difference(one: Mapping[str, Array], two: Mapping[str, Array]) -> tuple[float, float]:
    """Return the largest float difference relative to the peak, and the share of unequal codes."""
    worst, unequal = 0.0, 0.0
    for name, a in one.items():
        b = two[name]
        if a.dtype.kind == "f":
            peak = max(1e-3, float(np.abs(a).max(initial=0.0)))
            worst = max(worst, float(np.abs(a - b).max(initial=0.0)) / peak)
        else:
            unequal = max(unequal, float(np.mean(a != b)) if a.size else 0.0)
    return worst, unequal


def joined(chunks: list[Chunk]) -> Any:
    """Return the samples of chunks one after another."""
    parts = [chunk.samples for chunk in chunks]
    return np.concatenate(parts, axis=1) if parts else np.zeros((1, 0), np.float32)


def hop_only(law: str, subject: Subject) -> Row:
    """Return the row of a law that needs audio in place, for a subject that gives none."""
    return Row(law, None, "no aligned audio comes out of one program", "")
