"""Golden vectors: what a bundle's programs gave for known inputs when it was made."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.bundle import Bundle
from ossicle.runtime.manifest import Golden, Program

Arrays = dict[str, NDArray[Any]]


def golden_vectors(
    bundle: Bundle, hops: int, seed: int, tolerance: float = 1e-4
) -> tuple[dict[str, bytes], tuple[Golden, ...]]:
    """Get the files and manifest entries of golden vectors for every program of ``bundle``."""
    from ossicle.runtime.model import Model

    model = Model.load(bundle)
    files: dict[str, bytes] = {}
    entries = []
    for name, program in bundle.manifest.programs.items():
        given = random_inputs(program, hops, np.random.default_rng(seed))
        state = model.open(batch=1, program=name)
        rows = []
        for index in range(hops):
            made = model.step(state, {key: value[index][None] for key, value in given.items()})
            rows.append({key: np.array(value[0]) for key, value in made.items()})
        wanted = {p.name: np.stack([row[p.name] for row in rows]) for p in program.outputs}
        entry = Golden(name, f"golden/{name}.in.npz", f"golden/{name}.out.npz", tolerance)
        files[entry.inputs], files[entry.outputs] = npz(given), npz(wanted)
        entries.append(entry)
    return files, tuple(entries)


def random_inputs(program: Program, hops: int, rng: np.random.Generator) -> Arrays:
    """Get ``[hops, ...]`` for each input: a swept tone in noise for audio, small values else."""
    made: Arrays = {}
    for port in program.inputs:
        shape = (hops, *port.shape)
        if port.kind == "audio":
            channels, length = port.shape
            t = np.arange(hops * length)
            tone = 0.2 * np.sin(2 * np.pi * (0.01 + 0.04 * t / t.size) * t)
            noise = 0.02 * rng.standard_normal((channels, t.size))
            audio = (tone + noise).reshape(channels, hops, length).swapaxes(0, 1)
            made[port.name] = audio.astype(np.float32)
        elif port.dtype.startswith("float"):
            made[port.name] = (0.1 * rng.standard_normal(shape)).astype(port.dtype)
        else:
            made[port.name] = rng.integers(0, 2, shape).astype(port.dtype)
    return made


def npz(arrays: Arrays) -> bytes:
    """Get the bytes of an ``.npz`` file, the same for the same arrays."""
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            np.save(member, np.ascontiguousarray(arrays[name]), allow_pickle=False)
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), member.getvalue()
            )
    return out.getvalue()
