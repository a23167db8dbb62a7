"""The laws, one function each: take a subject, return a row that says what was measured.

A law that does not apply (no audio comes out, nothing is remembered) says so and is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ossicle.runtime.conformance.memorylaws import (
    BATCH_CODES,
    continuation,
    reset,
    slot_isolation,
)
from ossicle.runtime.conformance.report import Row
from ossicle.runtime.conformance.subject import Hops, Subject, largest_difference
from ossicle.runtime.conformance.timelaws import (
    causality,
    chunk_invariance,
    far_counters,
    latency,
)
from ossicle.runtime.conformance.valuelaws import bad_samples, level_sweep, silence

Law = Callable[[Subject], Row]


def shapes(subject: Subject) -> Row:
    """Every program gives what its manifest promises, and nothing but finite values."""
    for name in subject.programs:
        made = subject.run(name, subject.examples(name, 4))
        for out in subject.model.program(name).outputs:
            have = made[out.name]
            fits = len(have.shape) == len(out.shape) + 1 and all(
                w in (-1, h) for w, h in zip(out.shape, have.shape[1:], strict=True)
            )
            if not fits or have.dtype != out.dtype:
                measured = f"{name}.{out.name}: {have.dtype} {have.shape[1:]}"
                return Row("outputs as declared", False, measured, f"{out.dtype} {out.shape}")
            if have.dtype.kind == "f" and not np.isfinite(have).all():
                return Row("outputs as declared", False, f"{name}.{out.name}: not finite", "finite")
    return Row("outputs as declared", True, f"{len(subject.programs)} program(s)", "")


def golden(subject: Subject) -> Row:
    """The vectors in the bundle come out as they did where it was made."""
    if not subject.manifest.golden:
        return Row("golden vectors", None, "the bundle has none", "")
    worst_share = 0.0
    for vector in subject.manifest.golden:
        given = subject.model.bundle.arrays(vector.inputs)
        expected = subject.model.bundle.arrays(vector.outputs)
        count = len(next(iter(given.values())))
        hops: Hops = [{k: v[i] for k, v in given.items()} for i in range(count)]
        made = subject.run(vector.program, hops)
        floats, codes = largest_difference(expected, {k: made[k] for k in expected})
        worst_share = max(worst_share, floats / vector.tolerance)
        if floats > vector.tolerance or codes > BATCH_CODES:
            return Row("golden vectors", False, f"{vector.program}: {floats:.2g} of the peak, "
                       f"{100 * codes:.2g} % of codes", f"{vector.tolerance:g}")  # fmt: skip
    return Row("golden vectors", True, f"{100 * worst_share:.2g} % of the tolerance used", "")


def cost(subject: Subject) -> Row:
    """Median time of one step, one row and the largest batch; a figure, never a judgement."""
    parts = []
    for name in subject.programs:
        for size in sorted({1, subject.manifest.batch[-1]}):
            hops = subject.examples(name, 1)
            state = subject.model.open(size, name)
            inputs = {k: np.stack([v] * size) for k, v in hops[0].items()}
            times = []
            for _ in range(30):
                begin = time.perf_counter_ns()
                subject.model.step(state, inputs)
                times.append(time.perf_counter_ns() - begin)
            parts.append(f"{name} x{size}: {np.median(times) / 1e3:.0f} us")
    return Row("cost of a step", None, "; ".join(parts), "")


LAWS: dict[str, Law] = {
    law.__name__: law
    for law in (
        shapes, chunk_invariance, slot_isolation, reset, causality, latency, continuation,
        far_counters, bad_samples, level_sweep, silence, golden, cost,
    )
}  # fmt: skip
