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
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ossicle.export.models.separator import Separator, SeparatorConfig
from ossicle.export.recipes import separator_train
from ossicle.export.recipes.separator_bundle import export
from ossicle.export.recipes.separator_card import joined, plot_curve, write_card
from ossicle.export.recipes.separator_query import QueryWeights, train_queries
from ossicle.export.recipes.tagger_card import credits_of, gathered
from ossicle.runtime.bundle import Bundle


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
    parser.add_argument("--more", type=Path, help="MANIFEST.tsv of the further recordings")
    parser.add_argument("--curve", type=Path, help="where to plot the scores over time")
    parser.add_argument(
        "--text", default="", help="minutes, hardware and what else there is to say"
    )
    parser.add_argument("--results", type=Path, help="JSON of the separation benchmark")
    given = parser.parse_args(arguments)
    history = joined([history_of(source) for source in given.sources])
    results = json.loads(given.results.read_text())["results"] if given.results else None
    credited = credits_of(given.data, (1, 2, 3)) if given.data else None
    more = gathered(given.more) if given.more else ()
    write_card(given.to, {"text": given.text, "history": history}, results, credited, more)
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
