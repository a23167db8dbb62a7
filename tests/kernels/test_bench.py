"""The table of the kernels: its opponents do the same work, and every row is right."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from ossicle.kernels.bench import one_thread
from ossicle.kernels.bench.opponents import conv_model, conv_session
from ossicle.kernels.conv import reference
from ossicle.kernels.tolerance import close


def test_the_opponent_in_onnx_runtime_computes_the_same(rng: np.random.Generator) -> None:
    weight = rng.standard_normal((5, 7, 3)).astype(np.float32)
    x = rng.standard_normal((1, 6, 7)).astype(np.float32)
    whole = np.ascontiguousarray(np.pad(x, ((0, 0), (2, 0), (0, 0))).transpose(0, 2, 1))
    run = conv_session(weight, whole)
    if run is None:
        pytest.skip("onnxruntime is not installed")
    (got,) = run()  # type: ignore[misc]
    assert close("conv", got.transpose(0, 2, 1), reference.causal(x, weight))


def test_its_file_is_valid_onnx(rng: np.random.Generator) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(conv_model(rng.standard_normal((200, 3, 2)).astype("f4"), 300))
    onnx.checker.check_model(model, full_check=True)
    assert [n.op_type for n in model.graph.node] == ["Conv"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_row_is_right() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ossicle.kernels.bench", "--quick"],
        env={**one_thread(), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = json.loads(done.stdout)
    assert {row["kernel"].split()[0] for row in rows} >= {"rvq", "k-means", "conv", "sampler"}
    assert all(row["correct"] for row in rows)
