"""Convolutions of each channel alone."""

from __future__ import annotations

import math

import numpy as np

from ossicle.runtime.backend.native.lowering import Lowering
from ossicle.runtime.backend.native.onnxfile import Array
from ossicle.runtime.backend.native.steps import Act, Map, MapStep, TapsStep
from ossicle.runtime.backend.native.views import View, constant


def depthwise(
    low: Lowering,
    taps: list[View],
    weights: Array,
    bias: Array,
    made: View,
    act: Act,
    alpha: float,
    grid: list[int],
) -> None:
    """Filter each channel alone; a kernel of two axes is a sum of filters of even taps."""
    table = weights.reshape(weights.shape[0], -1).T  # [taps, C]
    run = _run(taps)
    lines = [(taps[i : i + run], table[i : i + run]) for i in range(0, len(taps), run)]
    total: View | None = None
    for index, (views, rows) in enumerate(lines):
        first = views[0]
        step = views[1].offset - first.offset if len(views) > 1 else 0
        x = View(first.buffer, first.offset, (len(views), *first.shape),
                 (step, *first.strides[:-1], 1))  # fmt: skip
        alone = len(lines) == 1
        out = made if alone else low.fresh(made.shape)
        start = constant(bias if index == 0 else np.zeros_like(bias))
        low.steps.append(TapsStep(out, x, constant(rows), start, act if alone else Act.NONE, alpha))
        if alone:
            return
        if total is not None:
            summed = made if index == len(lines) - 1 and act is Act.NONE else low.fresh(made.shape)
            low.steps.append(MapStep(Map.ADD, summed, total, out))
            total = summed
        else:
            total = out
    if total is not None and act is not Act.NONE:
        low.steps.append(MapStep(_AS_MAP[act], made, total, None, alpha))


_AS_MAP = {
    Act.RELU: Map.RELU, Act.LEAKY: Map.LEAKY, Act.SILU: Map.SILU, Act.SIGMOID: Map.SIGMOID,
    Act.TANH: Map.TANH, Act.GELU: Map.GELU,
}  # fmt: skip


def _run(taps: list[View]) -> int:
    """Return how many taps from the first lie evenly apart, a divisor of all of them."""
    if len(taps) < 2:
        return 1
    step = taps[1].offset - taps[0].offset
    run = 1
    while run < len(taps) and taps[run].offset == taps[0].offset + run * step:
        run += 1
    return math.gcd(run, len(taps)) if step >= 0 else 1
