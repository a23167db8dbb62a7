"""Writes a trained codec as the bundle ``codec-16k``: two graphs, one set of books, a card."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ossicle.export.bundle import TorchStep, export_bundle
from ossicle.export.models.codec import Decoder, Encoder
from ossicle.export.recipes.codec_card import card_files
from ossicle.export.recipes.codec_whole import VERSION, Codec
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.manifest import (
    Manifest,
    Metric,
    Op,
    Port,
    Program,
    ProgramInput,
    ProgramOutput,
    State,
)


class Flat(nn.Module):
    """A network of ``(x, states) -> (y, states')`` with its states as plain arguments."""

    def __init__(self, network: Encoder | Decoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """One hop."""
        out, new = self.network(x, list(states))
        return (out, *new)


def step_of(network: Encoder | Decoder, source: Port, target: Port) -> TorchStep:
    """One hop of ``network`` as a graph, checked against whole sequences."""

    def whole(hops: Tensor) -> tuple[Tensor, ...]:
        """``[N, B, *source]`` in one go, ``[N, B, *target]``."""
        count, batch = hops.shape[:2]
        frames = hops.transpose(0, 1)  # [B, N, 1, *]
        x = frames.reshape(batch, 1, -1) if source.name == "audio" else frames[:, :, 0]
        out, _ = network(x, network.initial(batch))
        return (out.reshape(batch, count, *target.shape).transpose(0, 1),)

    shapes = [tuple(s.shape[1:]) for s in network.initial(1)]
    states = tuple(State(f"s{i}", f"s{i}_next", s) for i, s in enumerate(shapes))
    return TorchStep(Flat(network), (source,), (target,), states, whole=whole)


def programs(layers: int, hop: int) -> dict[str, Program]:
    """``encode``: audio to codes ``[K, 1]``; ``decode``: codes (-1 = absent) to audio."""
    books = {"books": "books.npy"}
    encode = Program(
        inputs=(
            ProgramInput("audio", "audio", (1, hop)),
            ProgramInput("layers", "condition", (1,), "int32", "zeros"),  # 0: all
        ),
        outputs=(ProgramOutput("codes", "frame", (layers, 1), "int32"),),
        ops=(
            Op("graph", ("audio",), ("latent",), "encoder"),
            Op("rvq_encode", ("latent", "layers"), ("codes",), params=books),
        ),
    )
    decode = Program(
        inputs=(ProgramInput("codes", "frame", (layers, 1), "int32"),),
        outputs=(ProgramOutput("audio", "audio", (1, hop)),),
        ops=(
            Op("rvq_decode", ("codes",), ("latent",), params=books),
            Op("graph", ("latent",), ("audio",), "decoder"),
        ),
    )
    return {"encode": encode, "decode": decode}


def write(
    codec: Codec,
    place: Path,
    version: str,
    metrics: tuple[Metric, ...] = (),
    card: dict[str, bytes] | None = None,
) -> Bundle:
    """Exports ``codec`` to ``place``, with the files of its card, and opens what was written."""
    codec.eval()
    shape = codec.shape
    books = codec.books.books.numpy().astype(np.float16)  # both sides read the same rounded rows
    held = io.BytesIO()
    np.save(held, books)
    manifest = Manifest(
        schema=1,
        name="codec-16k",
        version=version,
        task="encode",
        license="Apache-2.0",
        license_class="permissive",
        source="export/recipes/codec.py",
        sample_rate_hz=16000,
        hop=shape.hop,
        latency=shape.hop,
        latency_class="talk",
        graphs={},
        programs=programs(len(books), shape.hop),
        metrics=metrics,
        extra={
            "layers_by_bps": {"1500": 3, "3000": 6, "6000": 12},
            "codec": {"conceal": "repeat"},  # beats zero features, see benchmarks/codec_loss.py
        },
    )
    hop, latent = Port("audio", (1, shape.hop)), Port("latent", (1, shape.latent))
    steps = {
        "encoder": step_of(codec.encoder, hop, latent),
        "decoder": step_of(codec.decoder, latent, hop),
    }
    files = {"books.npy": held.getvalue(), **(card or {})}
    return export_bundle(place, manifest, steps, files=files)


def metrics_of(result: dict[str, Any]) -> tuple[Metric, ...]:
    """The built-in codec's own rows of ``benchmarks/results/codec_quality.json``."""
    out = []
    for name, row in result["table"].items():
        if not name.startswith("codec-16k"):
            continue
        for kind in result["clips"]:
            data = f"held-out {kind}, {result['clips'][kind]} clips"
            for mark, value in row[kind].items():
                label = f"{mark}_{row['kbps']:g}kbps_{kind}"
                out.append(Metric(label, value, "", data, result["command"]))
    return tuple(out)


def main(arguments: list[str] | None = None) -> None:
    """Command line: a checkpoint, the measured table and a filled card become the bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="checkpoint (.pt) to export")
    parser.add_argument("--out", type=Path, required=True, help="bundle folder to write")
    parser.add_argument("--results", type=Path, help="codec_quality.json")
    parser.add_argument("--lost", type=Path, help="codec_loss.json")
    parser.add_argument("--curve", type=Path, help="folder with curve.md and curve.png")
    parser.add_argument("--card", type=Path, help="template of the card; needs the three above")
    a = parser.parse_args(arguments)
    codec = Codec()
    codec.load_state_dict(torch.load(a.run, map_location="cpu", weights_only=True)["model"])
    metrics = metrics_of(json.loads(a.results.read_text())) if a.results else ()
    card = card_files(a.card, VERSION, a.results, a.lost, a.curve) if a.card else None
    write(codec, a.out, VERSION, metrics, card)


if __name__ == "__main__":
    main()
