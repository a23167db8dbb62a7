"""Diffusion and flow sampling as one fused linear combination per model call."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels import check, memory, paths
from ossicle.kernels.errors import RangeError, ShapeError
from ossicle.kernels.sampler.plan import Plan, Predicts, Solver, plan
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
    h1, h2, last, spare, spare_last = (memory.zeros(shape, np.float32) for _ in range(5))
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
            inside the same combination.
        guidance: 1 takes ``model`` alone.
        noise: standard normal, for calls that use it.
        out: caller's array; not ``x``.
        path: of the computation.

    Raises:
        ShapeError, DtypeError, LayoutError: an array does not fit.
        RangeError: the run is over, or guidance or noise is missing.
    """
    core = paths.core() if paths.choose(path) == "core" else None
    if core is not None and out is not None:
        # The compiled part checks as much before it touches anything; what it refuses is put into
        # words below.
        with suppress(TypeError, ValueError, AttributeError, IndexError, KeyError):
            if out.size:
                _compiled(core, run, state, x, model, unconditional, guidance, noise, out)
                return out
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
    mix = run.mixes[state.call]
    if unconditional is not None:
        mix = mix.guided(guidance)
    outs = (y, state.spare, state.spare_last)[: len(mix.rows)]
    if core is not None:
        core.combine([terms[n] for n in mix.columns], mix.weights, list(outs))
    else:
        for row, into in zip(mix.weights, outs, strict=True):
            _combine(row, [terms[n] for n in mix.columns], into)
    _turn(state, len(mix.rows))
    return y


def _compiled(
    core: Any,
    run: Plan,
    state: SamplerState,
    x: Floats,
    model: Floats,
    unconditional: Floats | None,
    guidance: float,
    noise: Floats | None,
    out: Floats,
) -> None:
    """The step without words: whatever does not fit is an exception of the compiled part."""
    if state.call < 0:
        raise ValueError
    mix = run.mixes[state.call]
    if unconditional is not None:
        mix = mix.guided(guidance)
    elif guidance != 1.0:
        raise ValueError
    terms = {
        "x": x, "m": model, "h1": state.h1, "h2": state.h2, "last": state.last, "noise": noise,
        "u": unconditional,
    }  # fmt: skip
    if model.shape != out.shape or x.shape != out.shape:
        raise ValueError
    outs = [out, state.spare, state.spare_last][: len(mix.rows)]
    core.combine([terms[n] for n in mix.columns], mix.weights, outs)
    _turn(state, len(mix.rows))


def _turn(state: SamplerState, rows: int) -> None:
    """What was written becomes what the next call reads; the arrays themselves stay."""
    if rows == 3:
        state.last, state.spare_last = state.spare_last, state.last
    if rows >= 2:
        state.h1, state.h2, state.spare = state.spare, state.h1, state.h2
    state.call += 1


def _combine(row: NDArray[np.float32], terms: list[Floats], out: Floats) -> None:
    """``out = sum(weight * term)``."""
    out[:] = row[0] * terms[0]
    for term, weight in zip(terms[1:], row[1:], strict=True):
        if weight != 0.0:
            out += weight * term
