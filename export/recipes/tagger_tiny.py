"""The tiny tier in int8: calibrated on held-out scenes, refused where it loses too much.

    python -m ossicle.export.recipes.tagger_tiny --bundle work/tiny --out sounds-16k-tiny

Parameters take 8 bits each; memory and scores stay float32, so the program is the same.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from ossicle.export.bundle import finish
from ossicle.export.quantise import quantise_bundle
from ossicle.export.recipes.tagger_data import Library, load_library
from ossicle.export.recipes.tagger_scenes import QUIET, calm_scene, frames_of, two_events
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.model import Model
from ossicle.runtime.scene.mix import Scene

MOST_LOST = 0.03  # of frame F1


def hops(scenes: Sequence[Scene], hop: int) -> Iterator[dict[str, NDArray[np.float32]]]:
    """The hops [1, 1, hop] of ``scenes``, one after the other."""
    for scene in scenes:
        for start in range(0, len(scene.samples) - hop + 1, hop):
            yield {"audio": scene.samples[None, None, start : start + hop]}


def frame_f1(model: Model, scenes: Sequence[Scene]) -> float:
    """Frame F1 over all classes at the threshold that suits it best."""
    scores, truths = [], []
    for scene in scenes:
        state = model.open(batch=1)
        rows = [
            np.array(model.step(state, given)["scores"][0])
            for given in hops([scene], model.manifest.hop)
        ]
        found = np.concatenate(rows)
        scores.append(found)
        truths.append(frames_of(scene)[: len(found)])
    score, truth = np.concatenate(scores), np.concatenate(truths) > 0
    best = 0.0
    for threshold in np.arange(0.1, 0.9, 0.1):
        on = score > threshold
        best = max(best, 2 * float((on & truth).sum()) / max(1.0, float(on.sum() + truth.sum())))
    return best


def parameter_bytes(bundle: Bundle) -> int:
    """Bytes of all constants of the graphs: weights, biases, scales."""
    total = 0
    for graph in bundle.manifest.graphs.values():
        model = onnx.load_model_from_string(bundle.read(graph.file))
        total += sum(onnx.numpy_helper.to_array(t).nbytes for t in model.graph.initializer)
    return total


def plain_biases(data: bytes) -> bytes:
    """The graph with float biases in place of int32 ones, each with a scale and a zero point.

    A bias is a thousandth of the arithmetic; three constants for each of its values are not worth
    their room on a device.
    """
    model = onnx.load_model_from_string(data)
    held = {t.name: t for t in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type != "DequantizeLinear" or node.input[0] not in held:
            continue
        if held[node.input[0]].data_type != onnx.TensorProto.INT32:
            continue
        value, scale = (onnx.numpy_helper.to_array(held[name]) for name in node.input[:2])
        real = (value.astype(np.float32) * scale).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(real, node.output[0]))
        model.graph.node.remove(node)
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [t for t in model.graph.initializer if t.name not in used]:
        model.graph.initializer.remove(tensor)
    return bytes(model.SerializeToString(deterministic=True))


def shrink(bundle: Bundle, place: Path, lib: Library, scenes: int, seed: int) -> Bundle:
    """``bundle`` in int8 at ``place``, under its own name; scenes that are not judged calibrate.

    So does the calm: ranges that hold no silence made a silence sound a little like music.
    """
    drawn = [two_events(np.random.default_rng((seed, k)), lib) for k in range(2 * scenes)]
    quiet = [
        calm_scene(np.random.default_rng((seed, 1, k)), lib, kind, 10)
        for k in range(2)
        for kind in QUIET
    ]
    small = quantise_bundle(
        bundle,
        place,
        kind="int8",
        calibration=hops([*drawn[: max(4, scenes // 4)], *quiet], bundle.manifest.hop),
        quality=lambda model: frame_f1(model, drawn[scenes:]),
        bound=MOST_LOST,
        quality_name="frame F1",
    )
    named = msgspec.structs.replace(small.manifest, name=bundle.manifest.name)
    content = {name: small.read(name) for name in small.manifest.files}
    for graph in named.graphs.values():
        content[graph.file] = plain_biases(content[graph.file])
    content = {name: data for name, data in content.items() if not name.startswith("golden/")}
    bare = msgspec.structs.replace(named, golden=())
    return finish(place, bare, content, tolerance=0.05)


def main(arguments: Sequence[str] | None = None) -> None:
    """Quantise one bundle and print its size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OSSICLE_DATA", ".")))
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", type=int, nargs="+", default=[4])
    parser.add_argument("--scenes", type=int, default=16)
    asked = parser.parse_args(arguments)
    lib = load_library(asked.data, asked.folds, held_out=True, part="tune")
    made = shrink(Bundle.open(asked.bundle), asked.out, lib, asked.scenes, 41)
    print(made.root, parameter_bytes(made), "bytes of parameters", made.manifest.metrics)


if __name__ == "__main__":
    main()
