"""The last steps of every bundle: the manifest in its graphs, golden vectors, the report."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import onnx

from ossicle.export.golden import golden_vectors
from ossicle.export.onnxfile import to_bytes
from ossicle.export.sweep import chunk_sweep
from ossicle.runtime.bundle import Bundle, write_bundle
from ossicle.runtime.errors import ExportError
from ossicle.runtime.manifest import Manifest

METADATA_KEY = "ossicle.manifest"


def finish(
    place: str | Path,
    manifest: Manifest,
    content: dict[str, bytes],
    *,
    golden_hops: int = 8,
    seed: int = 0,
    tolerance: float = 1e-4,
    report: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write a bundle with golden vectors of every program, made by running it once.

    ``report`` is written as ``parity.json``, with a sweep of chunk lengths over every program.
    """
    content = {**content, **_with_manifest(manifest, content)}
    if golden_hops:
        with scratch_folder() as scratch:
            draft = write_bundle(Path(scratch) / "draft", manifest, content)
            vectors, entries = golden_vectors(draft, golden_hops, seed, tolerance)
            if report is not None:
                report = {**report, "chunk_sweep": chunk_sweep(draft, golden_hops, seed)}
        content = {**content, **vectors}
        manifest = msgspec.structs.replace(manifest, golden=entries)
    if report is not None:
        text = json.dumps(report, indent=1, sort_keys=True) + "\n"
        content = {**content, "parity.json": text.encode()}
    return write_bundle(place, manifest, content)


@contextmanager
def scratch_folder() -> Iterator[str]:
    """Give a folder that goes afterwards; a disk without room for it is an error of ours."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield folder
    except OSError as err:
        raise ExportError(f"no room to work in: {err.strerror or err}") from err


def _with_manifest(manifest: Manifest, content: Mapping[str, bytes]) -> dict[str, bytes]:
    """Get the graphs with the manifest in their metadata, less what hashes them."""
    carried = msgspec.structs.replace(manifest, files={}, golden=(), metrics=())
    text = msgspec.json.encode(carried).decode()
    made = {}
    for graph in manifest.graphs.values():
        if graph.file in content:
            model = onnx.load_from_string(content[graph.file])
            del model.metadata_props[:]
            onnx.helper.set_model_props(model, {METADATA_KEY: text})
            made[graph.file] = to_bytes(model)
    return made
