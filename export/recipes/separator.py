"""The recipe of ``separate-16k`` and ``separate-16k-talk``: train, then export.

    python -m ossicle.export.recipes.separator train --data FOLDER --out FOLDER --minutes 60
    python -m ossicle.export.recipes.separator export --from FOLDER/last.pt --to BUNDLE \
        --name separate-16k --data FOLDER
    python -m ossicle.export.recipes.separator card --from FOLDER/last.pt --to BUNDLE \
        --results benchmarks/results/separation.json --data FOLDER --curve curve.png

Data and mixtures are in :mod:`~ossicle.export.recipes.separator_data`, the network in
:mod:`~ossicle.export.models.separator`, the text queries in
:mod:`~ossicle.export.recipes.separator_query`.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ossicle.export.bundle import TorchStep, export_bundle
from ossicle.export.models.separator import Head, Separator, SeparatorConfig, Trunk, lapped_windows
from ossicle.export.recipes import separator_train
from ossicle.export.recipes.separator_card import joined, plot_curve, write_card
from ossicle.export.recipes.separator_data import GROUPS, LABELS
from ossicle.export.recipes.separator_query import QueryWeights, train_queries
from ossicle.export.recipes.tagger_card import credits_of
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
VERSION = "1.0.0"


def load(place: Path) -> Separator:
    """The network with the smoothed weights of a checkpoint."""
    held = torch.load(place, map_location="cpu", weights_only=True)
    net = Separator(SeparatorConfig(**held["config"])).eval()
    net.load_state_dict(held["smooth"])
    return net


def history_of(place: Path) -> list[dict[str, float]]:
    """The scores that a checkpoint's run had so far."""
    held = torch.load(place, map_location="cpu", weights_only=True)
    return list(held.get("history", []))


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
    return export_bundle(place, manifest, steps_of(net), files=files_of(config, queries, name))


def _npy(array: NDArray[np.float32]) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def queries_in(place: Path) -> QueryWeights:
    """The query encoder of a bundle that was exported before."""
    bundle = Bundle.open(place)
    entries = json.loads(bundle.read("queries.json"))
    arrays = bundle.arrays("queries.npz")
    return QueryWeights(
        tuple(entry["intent"] for entry in entries),
        tuple(tuple(entry["labels"]) for entry in entries),
        tuple(tuple(entry["phrases"]) for entry in entries),
        arrays["weight"],
        arrays["bias"],
    )


def _export_command(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="separator export")
    parser.add_argument("--from", dest="source", type=Path, required=True, help="a checkpoint")
    parser.add_argument("--to", type=Path, required=True, help="the bundle's folder")
    parser.add_argument("--name", default="separate-16k")
    parser.add_argument("--data", type=Path, help="a folder with captions/*.csv for the queries")
    parser.add_argument("--queries", type=Path, help="a bundle whose query encoder to keep")
    given = parser.parse_args(arguments)
    net = load(given.source)
    queries = queries_in(given.queries) if given.queries else train_queries(given.data)
    bundle = export(net, given.to, given.name, queries)
    size = sum(entry.size for entry in bundle.manifest.files.values())
    print(f"{bundle.manifest.name}: {size / 1e6:.2f} MB at {given.to}")


def _card_command(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="separator card")
    parser.add_argument("--from", dest="sources", type=Path, nargs="+", required=True,
                        help="checkpoints of runs that followed each other")  # fmt: skip
    parser.add_argument("--to", type=Path, required=True, help="the bundle's folder")
    parser.add_argument("--data", type=Path, help="a folder of audio, for its credits")
    parser.add_argument("--curve", type=Path, help="where to plot the scores over time")
    parser.add_argument(
        "--text", default="", help="minutes, hardware and what else there is to say"
    )
    parser.add_argument("--results", type=Path, help="JSON of the separation benchmark")
    given = parser.parse_args(arguments)
    history = joined([history_of(source) for source in given.sources])
    results = json.loads(given.results.read_text())["results"] if given.results else None
    credited = credits_of(given.data, (1, 2, 3)) if given.data else None
    write_card(given.to, {"text": given.text, "history": history}, results, credited)
    if given.curve:
        plot_curve(history, given.curve)


def main() -> None:
    """Command line: ``train ...``, ``export ...`` or ``card ...``."""
    command, *rest = sys.argv[1:] or [""]
    if command == "train":
        sys.argv[1:] = rest
        separator_train.main()
    elif command == "export":
        _export_command(rest)
    elif command == "card":
        _card_command(rest)
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
