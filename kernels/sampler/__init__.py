"""Diffusion and flow sampling as one fused linear combination per model call."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels import check, paths
from ossicle.kernels.errors import RangeError, ShapeError
from ossicle.kernels.sampler.plan import COLUMNS, Plan, Predicts, Solver, plan
from ossicle.kernels.sampler.schedule import Schedule, karras, rectified, variance_preserving

Floats = NDArray[np.float32]

__all__ = [
    "Plan", "Predicts", "SamplerState", "Schedule", "Solver", "fresh", "karras", "plan",
    "rectified",    "step", "variance_preserving",
]  # fmt: skip


@dataclass(slots=True)
class SamplerState:
    """What lies between two calls: copy it, save it. Fresh is all zeros."""

    h1: Floats
    h2: Floats
    last: Floats
    spare: Floats  # written next, so that nothing is allocated
    spare_last: Floats
    call: int = 0


def fresh(shape: tuple[int, ...]) -> SamplerState:
    """The state before the first call, for samples of that shape."""
    if not shape or min(shape) < 1:
        raise ShapeError(f"shape is {list(shape)}; it must have axes, each at least 1")
    h1, h2, last, spare, spare_last = (np.zeros(shape, np.float32) for _ in range(5))
    return SamplerState(h1, h2, last, spare, spare_last)


def step(
    run: Plan,
    state: SamplerState,
    x: Floats,
    model: Floats,
    *,
    unconditional: Floats | None = None,
    guidance: float = 1.0,
    noise: Floats | None = None,
    out: Floats | None = None,
    path: paths.Path | None = None,
) -> Floats:
    """The next sample, of the shape of ``x``; the state moves to the next call in place.

    Args:
        run: the weights.
        state: from :func:`fresh`.
        x: the sample that the model saw.
        model: what it said of it (with its condition).
        unconditional: what it said without; the two are mixed as ``u + guidance * (model - u)``
            inside
            the same combination.
        guidance: 1 takes ``model`` alone.
        noise: standard normal, for calls that use it.
        out: caller's array; not ``x``.
        path: of the computation.

    Raises:
        ShapeError, DtypeError, LayoutError: an array does not fit.
        RangeError: the run is over, or guidance or noise is missing.
    """
    if state.call >= run.calls:
        raise RangeError(f"call {state.call} of a run of {run.calls}: the sample is finished")
    if not isinstance(x, np.ndarray) or x.ndim < 1:
        raise ShapeError("x must be an array with at least one axis")
    sizes, axes = x.shape, str(list(x.shape))
    check.array("x", x, np.float32, axes, *([None] * x.ndim))
    check.array("model", model, np.float32, axes, *sizes)
    for name, value in (
        ("h1", state.h1),
        ("h2", state.h2),
        ("last", state.last),
        ("spare", state.spare),
        ("spare_last", state.spare_last),
    ):
        check.output(f"state.{name}", value, np.float32, axes, *sizes)
    if guidance != 1.0 and unconditional is None:
        raise RangeError(f"guidance is {guidance}, which needs the unconditional output; pass it")
    if run.uses(state.call, "noise") and noise is None:
        raise RangeError(
            f"call {state.call} of {run.solver} adds noise; pass standard normal noise"
        )
    y = check.output("out", out, np.float32, axes, *sizes)
    if np.may_share_memory(y, x):
        raise ShapeError("out overlaps x, which the later rows still read; give a separate array")
    terms: dict[str, Floats] = {
        "x": x, "m": model, "h1": state.h1, "h2": state.h2, "last": state.last,
    }  # fmt: skip
    if noise is not None:
        terms["noise"] = check.array("noise", noise, np.float32, axes, *sizes)
    if unconditional is not None:
        terms["u"] = check.array("unconditional", unconditional, np.float32, axes, *sizes)
    taken = paths.choose(path)
    weights = run.weights[state.call]
    _combine(weights[0], terms, guidance, y, taken)
    if weights[1].any():
        _combine(weights[1], terms, guidance, state.spare, taken)
        if weights[2].any():
            _combine(weights[2], terms, guidance, state.spare_last, taken)
            state.last, state.spare_last = state.spare_last, state.last
        state.h1, state.h2, state.spare = state.spare, state.h1, state.h2
    state.call += 1
    return y


def _combine(
    row: NDArray[np.float32],
    terms: dict[str, Floats],
    guidance: float,
    out: Floats,
    path: paths.Path,
) -> None:
    """``out = sum(weight * term)`` over the terms of weight other than 0, guidance folded in."""
    names, weights = [], []
    for name, weight in zip(COLUMNS, row.tolist(), strict=True):
        if weight == 0.0:
            continue
        if name == "m" and "u" in terms:
            names += ["m", "u"]
            weights += [weight * guidance, weight * (1.0 - guidance)]
        else:
            names.append(name)
            weights.append(weight)
    core = paths.core()
    if path == "core" and core is not None:
        core.combine([terms[n] for n in names], np.array(weights, np.float32), out)
        return
    out[:] = np.float32(weights[0]) * terms[names[0]]
    for n, w in zip(names[1:], weights[1:], strict=True):
        out += np.float32(w) * terms[n]
