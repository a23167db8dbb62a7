"""Does a bundle care how its audio was cut? Tried with chunks of one sample to several hops."""

from __future__ import annotations

import numpy as np

from ossicle.export.distance import distance
from ossicle.export.golden import Arrays, random_inputs
from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import ExportError
from ossicle.runtime.framer import Framer
from ossicle.runtime.manifest import ProgramInput
from ossicle.runtime.model import Model


def chunk_sweep(bundle: Bundle, hops: int, seed: int) -> dict[str, dict[str, float]]:
    """Get, per program with an audio input, the largest difference for each length of chunk.

    The same stream is cut at its hops and otherwise; a difference other than 0 is an
    ``ExportError``, for then something counts calls and not samples.
    """
    model = Model.load(bundle)
    found: dict[str, dict[str, float]] = {}
    for name, program in bundle.manifest.programs.items():
        audio = next((port for port in program.inputs if port.kind == "audio"), None)
        if audio is None:
            continue
        given = random_inputs(program, hops, np.random.default_rng(seed))
        hop = audio.shape[1]
        wanted = _run(model, name, audio, given, hop)
        found[name] = {
            str(size): _worst(_run(model, name, audio, given, size), wanted)
            for size in sizes_for(hop)
        }
        for size, worst in found[name].items():
            if worst:
                raise ExportError(
                    f"program {name!r} differs by {worst:.3g} when its audio comes {size} samples "
                    "at a time; the bundle was not written"
                )
    return found


def sizes_for(hop: int) -> list[int]:
    """Get the lengths of chunks that are tried for a hop."""
    return sorted({1, max(1, hop // 3), max(1, hop - 1), hop + 1, 2 * hop + hop // 2})


def _worst(got: Arrays, wanted: Arrays) -> float:
    return max(distance(got[key], wanted[key]) for key in wanted)


def _run(model: Model, program: str, audio: ProgramInput, given: Arrays, size: int) -> Arrays:
    """Get every output of every hop, ``[hops, ...]``, of audio that comes ``size`` at a time."""
    channels, hop = audio.shape
    line = given[audio.name].swapaxes(0, 1).reshape(channels, -1)
    spoken = AudioFormat(model.manifest.sample_rate_hz, channels)
    framer, state = Framer(spoken, hop), model.open(1, program)
    held = framer.open()
    rows: list[Arrays] = []
    for start in range(0, line.shape[1], size):
        chunk = Chunk(np.ascontiguousarray(line[:, start : start + size]), start, spoken)
        for ready in framer.step(held, chunk):
            values = {key: value[len(rows)][None] for key, value in given.items()}
            made = model.step(state, {**values, audio.name: ready.samples[None]})
            rows.append({key: np.array(value[0]) for key, value in made.items()})
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}
