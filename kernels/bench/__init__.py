"""The kernels of this machine against their usual opponents, in one run, on one thread.

A time counts only if the kernel agrees with its fp64 reference in the same process: codes all
equal, numbers within the table of :mod:`ossicle.kernels.tolerance`. Opponents are those installed:
torch, ONNX Runtime, numba, NumPy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np

from ossicle.kernels.bench.timing import Row

__all__ = ["measure", "one_thread"]


def one_thread() -> Mapping[str, str]:
    """The environment in which a process measures: numeric libraries read it when they load."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return os.environ | dict.fromkeys(names, "1")


def measure(quick: bool = False) -> list[dict[str, Any]]:
    """All rows as plain dictionaries; about a minute, or a few seconds if quick."""
    from ossicle.kernels.bench import rows
    from ossicle.kernels.bench.opponents import torch_or_none

    torch = torch_or_none()
    rng = np.random.default_rng(0)
    found: list[Row] = []
    for make in (
        rows.rvq_rows, rows.kmeans_rows, rows.conv_rows, rows.cold_conv_row, rows.attention_rows,
        rows.sampler_rows,
    ):  # fmt: skip
        with torch.inference_mode() if torch is not None else nullcontext():
            found += make(rng, torch, quick)
    return [asdict(row) for row in found]
