"""Fuzz the native backend's reader and lowering: anything but a BackendError is a finding.

A damaged file that still is a graph is run for a step, so that a plan that reached outside its
memory would show under a sanitizer. With atheris (coverage-guided):
``python tests/fuzz/fuzz_native.py -max_total_time=60``. Without it, the same target runs on random
and damaged inputs: ``--random SECONDS``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

GUIDED = __name__ == "__main__" and importlib.util.find_spec("atheris") is not None
if GUIDED:
    import atheris
with atheris.instrument_imports() if GUIDED else contextlib.nullcontext():
    from stepgraphs import Sketch, in_memory

    from ossicle.runtime.backend.native import NativeBackend
    from ossicle.runtime.errors import BackendError

MAX_INPUT = 1 << 14


def convolution() -> Sketch:
    """A causal layer of each kind of product."""
    made = Sketch({"x": (4, 6)}, {"past": (4, 3)})
    rng = np.random.default_rng(0)
    joined = made("Concat", "past", "x", axis=2)
    held = rng.standard_normal((4, 2, 4)).astype(np.float32)
    y = made("Conv", joined, held, np.zeros(4, np.float32), strides=[2], group=2)
    y = made("LeakyRelu", y, alpha=0.3)
    y = made("ConvTranspose", y, np.ones((4, 2, 4), np.float32), strides=[2], group=2)
    y = made("Slice", y, [0], [6], [2])
    flat = made("Reshape", y, np.array([-1, 24]))
    y = made("MatMul", flat, rng.standard_normal((24, 7)).astype(np.float32))
    made.end("out", made("Softmax", made("Add", y, np.ones(7, np.float32)), axis=-1), (7,))
    made.end("past_next", made("Slice", joined, [6], [9], [2]), (4, 3))
    return made


def moves() -> Sketch:
    """Views upon views."""
    made = Sketch({"x": (6, 4)}, {"past": (2, 4)})
    joined = made("Concat", "past", "x", axis=1)
    index = (np.arange(3)[:, None] + 2 * np.arange(2)).reshape(-1)
    near = made("Reshape", made("Gather", joined, index, axis=1), np.array([-1, 3, 2, 4]))
    total = made("ReduceSum", made("Mul", near, np.ones((2, 4), np.float32)), np.array([2]),
                 keepdims=0)  # fmt: skip
    first, second = made("Split", made("Transpose", total, perm=[0, 2, 1]), outputs=2, axis=1)
    y = made("Pad", made("Sub", first, second), np.array([0, 1, 0, 0, 0, 2]))
    y = made("LayerNormalization", y, np.ones(5, np.float32))
    scale, zero = np.float32(0.1), np.uint8(128)
    y = made("DequantizeLinear", made("QuantizeLinear", y, scale, zero), scale, zero)
    made.end("out", made("Clip", y, np.float32(-1), np.float32(1)), (3, 5))
    made.end("past_next", made("Slice", joined, [6], [8], [1]), (2, 4))
    return made


SKETCHES = (convolution(), moves())
GRAPHS = tuple(s.bundle().manifest.graphs["step"] for s in SKETCHES)


def target(data: bytes) -> None:
    """One input: its first byte says which manifest the rest is held against."""
    if not data:
        return
    graph = GRAPHS[data[0] % len(GRAPHS)]
    try:
        loaded = NativeBackend().load(in_memory(graph, data[1:MAX_INPUT]), "step")
        bound = loaded.bind(2)
    except BackendError:
        return
    given = {p.name: np.ones((2, *p.shape), np.float32) for p in graph.inputs}
    bound.run(given)
    bound.run(given)


def seeds() -> list[bytes]:
    """Whole files, to be damaged."""
    return [bytes([kind]) + sketch.onnx() for kind, sketch in enumerate(SKETCHES)]


def damaged(rng: np.random.Generator, corpus: list[bytes]) -> bytes:
    """A damaged seed."""
    data = bytearray(corpus[rng.integers(len(corpus))])
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(1, len(data)))
        what = rng.integers(4)
        if what == 0:
            data[place] ^= 1 << int(rng.integers(8))
        elif what == 1:
            data[place] = int(rng.integers(256))
        elif what == 2:
            del data[place : place + int(rng.integers(1, 5))]
        else:
            data[place:place] = rng.bytes(int(rng.integers(1, 5)))
    return bytes(data)


def run_random(seconds: float, seed: int = 0) -> int:
    """Run the target on damaged seeds for ``seconds``; return how many inputs that were."""
    rng, corpus = np.random.default_rng(seed), seeds()
    for data in corpus:
        target(data)
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        target(damaged(rng, corpus))
        count += 1
    return count


def main() -> None:
    """Fuzz with coverage, or at random."""
    if "--random" in sys.argv or not GUIDED:
        seconds = float(sys.argv[-1]) if sys.argv[-1].isdigit() else 60.0
        print(f"{run_random(seconds)} inputs, nothing but BackendErrors")
        return
    folder = Path(tempfile.mkdtemp(prefix="ossicle-fuzz-"))
    for number, data in enumerate(seeds()):
        (folder / f"seed{number}").write_bytes(data)
    atheris.Setup([*sys.argv, str(folder)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
