"""Torch modules to a streaming bundle, with parity proven and written down.

    export_bundle(place, manifest, steps, *, profile="cpu", files=None, golden_hops=8) -> Bundle

``steps`` maps each graph id of the bundle to a ``TorchStep``:

    TorchStep(
        module,                        # forward(*inputs, *states) -> (*outputs, *states')
        inputs=(Port("x", (1, 320)),), # shapes without the leading B; one per forward argument
        outputs=(Port("y", (64, 1)),),
        states=(State("s", "s_next", (64, 2)),),
        whole=None,                    # optional: see below
    )

``manifest`` is a ``Manifest`` whose ``graphs`` may be empty ({}): ``steps`` fills them. Its
``programs`` name the graph ids. ``files`` are further files by name (``books.npy`` and so on).

``whole(*inputs)`` runs the same weights over a whole sequence in one go: it gets, for each graph
input, a tensor ``[N, B, ...]`` of N hops, and gives the outputs as ``[N, B, ...]``. Where it is
given, the streamed module must equal it within ``tolerance``.

The module must be functional: no buffer may be written in ``forward``, every state comes in and
goes out with one shape, and nothing branches on data. Fixed lengths only; B is the one free axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import onnx

from ossicle.export import parity
from ossicle.export.finish import METADATA_KEY, finish
from ossicle.export.onnxfile import opset_of
from ossicle.export.profiles import Profile, profile_named
from ossicle.export.step import TorchStep, Whole, example, export_step, initial_states
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.manifest import Graph, Manifest

__all__ = [
    "METADATA_KEY",
    "TorchStep",
    "Whole",
    "example",
    "export_bundle",
    "export_step",
    "finish",
    "initial_states",
]


def export_bundle(
    place: str | Path,
    manifest: Manifest,
    steps: Mapping[str, TorchStep],
    *,
    profile: str = "cpu",
    files: Mapping[str, bytes] | None = None,
    golden_hops: int = 8,
    seed: int = 0,
) -> Bundle:
    """Write ``steps`` as a bundle at ``place`` and get it opened.

    The bundle holds one ONNX file per step, golden vectors of every program, and ``parity.json``.
    The same module gives the same bytes. Raises ``ExportError`` with what to change.
    """
    target = profile_named(profile)
    content = dict(files or {})
    graphs, report = dict(manifest.graphs), {}
    for name, step in steps.items():
        data = export_step(step, name, target)
        file = f"{name}.onnx"
        content[file] = data
        graphs[name] = _graph_entry(step, file, data, target)
        report[name] = parity.report(step, data, seed=seed)
    manifest = msgspec.structs.replace(manifest, graphs=graphs)
    figures = {"profile": profile, "graphs": report}
    return finish(place, manifest, content, golden_hops=golden_hops, seed=seed, report=figures)


def _graph_entry(step: TorchStep, file: str, data: bytes, profile: Profile) -> Graph:
    return Graph(
        file=file,
        inputs=step.inputs,
        outputs=step.outputs,
        states=step.states,
        kind=step.kind,
        exactness=step.exactness,
        opset=opset_of(onnx.load_from_string(data)),
        precision=step.precision,
        target=profile.target,
    )
