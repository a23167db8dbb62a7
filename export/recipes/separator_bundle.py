"""A trained separator as a bundle: graphs, programs, default conditions and the query encoder."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from ossicle.export.bundle import TorchStep, export_bundle
from ossicle.export.finish import finish
from ossicle.export.halves import halved, rounded
from ossicle.export.models.separator import Head, Separator, SeparatorConfig, Trunk, lapped_windows
from ossicle.export.recipes.separator_data import GROUPS, LABELS
from ossicle.export.recipes.separator_query import QueryWeights
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.manifest import (
    SCHEMA,
    Manifest,
    Op,
    Port,
    Program,
    ProgramInput,
    ProgramOutput,
    State,
)

TRACKS = 4  # queries in one pass of the program "tracks"
VERSION = "1.2.0"


def steps_of(net: Separator) -> dict[str, TorchStep]:
    """The graphs: the trunk once, the head for one query and for several."""
    config = net.config
    spectrum = Port("spectrum", (config.bins, 1, 2))
    heard = Port("heard", (config.trunk,))
    graphs = {
        "trunk": TorchStep(
            Trunk(net),
            inputs=(spectrum,),
            outputs=(heard,),
            states=(
                State("level", "level_next", (2,)),
                State("h", "h_next", (config.trunk,)),
                State("c", "c_next", (config.trunk,)),
            ),
        )
    }
    for name, queries in (("head", 1), ("heads", TRACKS)):
        graphs[name] = TorchStep(
            Head(net, queries),
            inputs=(
                heard,
                spectrum,
                Port("query", (queries, config.labels)),
                Port("blend", (queries, 2)),
            ),
            outputs=tuple(Port(f"masked_{q}", spectrum.shape) for q in range(queries)),
            states=(
                State("h", "h_next", (queries, config.head)),
                State("c", "c_next", (queries, config.head)),
            ),
        )
    return graphs


def program_of(config: SeparatorConfig, head: str, queries: int) -> Program:
    """One hop: audio to spectrum, trunk, head, and each masked spectrum back to audio."""
    sizes = {"n_fft": config.n_fft, "hop": config.hop}
    back: dict[str, str | int] = {**sizes, "window": "analysis.npy"}
    if config.latency < config.n_fft:
        back |= {"support": config.latency, "synthesis": "synthesis.npy"}
    names = ["separated"] if queries == 1 else [f"separated_{q}" for q in range(queries)]
    masked = [f"masked_{q}" for q in range(queries)]
    return Program(
        inputs=(
            ProgramInput("audio", "audio", (1, config.hop)),
            ProgramInput("query", "condition", (queries, config.labels), "float32",
                         f"{head}.query.npy"),
            ProgramInput("blend", "condition", (queries, 2), "float32", f"{head}.blend.npy"),
        ),
        outputs=tuple(ProgramOutput(name, "audio", (1, config.hop)) for name in names),
        ops=(
            Op("stft", ("audio",), ("spectrum",), None, {**sizes, "window": "analysis.npy"}),
            Op("graph", ("spectrum",), ("heard",), "trunk"),
            Op("graph", ("heard", "spectrum", "query", "blend"), tuple(masked), head),
            *(Op("istft", (m,), (n,), None, back) for m, n in zip(masked, names, strict=True)),
        ),
    )  # fmt: skip


def files_of(config: SeparatorConfig, queries: QueryWeights, name: str) -> dict[str, bytes]:
    """Windows, default conditions, the query encoder and an empty model card."""
    analysis, synthesis = lapped_windows(config.n_fft, config.hop, config.latency)
    files = {"analysis.npy": _npy(analysis), "synthesis.npy": _npy(synthesis)}
    for head, count in (("head", 1), ("heads", TRACKS)):
        query = np.zeros((count, len(LABELS)), np.float32)
        query[0, LABELS.index("speech")] = 1.0
        blend = np.zeros((count, 2), np.float32)
        blend[0, 1] = 1.0
        files[f"{head}.query.npy"], files[f"{head}.blend.npy"] = _npy(query), _npy(blend)
    out = io.BytesIO()
    np.savez(out, weight=queries.weight, bias=queries.bias)
    files["queries.npz"] = out.getvalue()
    entries = [
        {"intent": intent, "labels": list(labels), "phrases": list(phrases)}
        for intent, labels, phrases in zip(
            queries.intents, queries.labels, queries.phrases, strict=True
        )
    ]
    files["queries.json"] = json.dumps(entries, indent=0).encode()
    files["README.md"] = f"# {name}\n".encode()
    return files


def export(
    net: Separator,
    place: Path,
    name: str,
    queries: QueryWeights,
    *,
    source: str = "ossicle.export.recipes.separator",
) -> Bundle:
    """Write the bundle ``name`` at ``place``."""
    config = net.config
    manifest = Manifest(
        schema=SCHEMA,
        name=name,
        version=VERSION,
        task="separate",
        license="Apache-2.0",
        license_class="permissive",
        source=source,
        sample_rate_hz=config.rate_hz,
        hop=config.hop,
        latency=config.latency,
        lookahead=config.latency - config.hop,
        latency_class="hearing" if config.latency <= config.rate_hz // 100 else "talk",
        level_range_dbfs=(-65.0, 0.0),
        graphs={},
        programs={
            "step": program_of(config, "head", 1),
            "tracks": program_of(config, "heads", TRACKS),
        },
        labels=LABELS,
        extra={
            "groups": {group: list(labels) for group, labels in GROUPS.items()},
            "mmac_per_second": round(config.macs_per_second() / 1e6, 2),
            "architecture": config.to_dict(),
        },
    )
    steps = steps_of(net)
    for step in steps.values():
        rounded(step.module)
    with tempfile.TemporaryDirectory() as scratch:
        draft = export_bundle(scratch, manifest, steps, files=files_of(config, queries, name))
        content = {name: draft.read(name) for name in draft.manifest.files}
    content = {name: data for name, data in content.items() if not name.startswith("golden/")}
    for graph in draft.manifest.graphs.values():
        content[graph.file] = halved(content[graph.file])
    report = json.loads(content.pop("parity.json"))
    manifest = msgspec.structs.replace(draft.manifest, golden=())
    return finish(place, manifest, content, report=report)


def _npy(array: NDArray[np.float32]) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()
