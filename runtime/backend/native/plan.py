"""A lowered graph as a compiled plan: scratch shared by lifetimes, then every step written."""

from __future__ import annotations

from typing import Any

import numpy as np

from ossicle.runtime.backend.native.lowering import Lowering
from ossicle.runtime.backend.native.steps import ConvertStep, GemmStep, MapStep, Step, TapsStep
from ossicle.runtime.backend.native.views import Buffer, Home, Shape, View

Place = tuple[int, int, list[int], list[int]]
ALIGN = 16  # floats: a cache line


def write_plan(low: Lowering, core: Any, half: bool) -> Any:
    """Return a ``StepPlan`` of everything that ``low`` gathered.

    ``half`` keeps weights as bfloat16; sums and everything else stay float32.
    """
    plan = core.StepPlan()
    share(low.steps)
    writer = _Writer(plan, half)
    for state in low.states.values():
        writer.number(state.buffer)
    for step in low.steps:
        writer.write(step)
    plan.seal()
    return plan


def share(steps: list[Step]) -> int:
    """Give scratch buffers their places, so that those alive together are apart; return the end."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    roots: dict[int, Buffer] = {}
    for at, step in enumerate(steps):
        for view in [step.out, *step.reads()]:
            root, _ = view.buffer.root()
            if root.home is Home.SCRATCH:
                roots[id(root)] = root
                first.setdefault(id(root), at)
                last[id(root)] = at
    placed: list[tuple[int, int, int, int]] = []  # first, last, place, end
    end = 0
    for key in sorted(roots, key=lambda k: -roots[k].size):
        size = -(-roots[key].size // ALIGN) * ALIGN
        at = 0
        busy = sorted(
            (place, stop) for f, t, place, stop in placed if f <= last[key] and t >= first[key]
        )
        for place, stop in busy:
            if at + size <= place:
                break
            at = max(at, stop)
        roots[key].place = at
        placed.append((first[key], last[key], at, at + size))
        end = max(end, at + size)
    return end


class _Writer:
    """Numbers buffers as they are met, and writes steps in the executor's terms."""

    def __init__(self, plan: Any, half: bool) -> None:
        self._plan, self._half = plan, half
        self._numbers: dict[int, int] = {}
        self._kept: list[Buffer] = []  # so that no id is used twice

    def number(self, buffer: Buffer) -> int:
        """Return the executor's number of a buffer."""
        if id(buffer) not in self._numbers:
            self._kept.append(buffer)
            if buffer.held is not None:
                made = self._plan.constant(buffer.held.reshape(-1))
            else:
                kind, item = int(buffer.home), int(buffer.item)
                made = self._plan.buffer(kind, buffer.size, buffer.place, item)
            self._numbers[id(buffer)] = made
        return self._numbers[id(buffer)]

    def place(self, view: View | None) -> Place | None:
        """Return a view in the executor's terms."""
        if view is None:
            return None
        root, offset = view.buffer.root()
        return self.number(root), offset + view.offset, list(view.shape), list(view.strides)

    def write(self, step: Step) -> None:
        """Add one step to the plan."""
        plan = self._plan
        if isinstance(step, MapStep):
            out, a, b = narrowed(step.out, step.a, step.b)
            plan.map(int(step.op), step.p, step.q, *(self.place(v) for v in (out, a, b)))
        elif isinstance(step, GemmStep):
            bias = None if step.bias is None else np.ascontiguousarray(step.bias, np.float32)
            rows = np.ascontiguousarray(step.weights, np.float32)
            widths = [p.shape[-1] for p in step.parts]
            weights = plan.weights(rows, bias, widths, self._half or step.whole)
            parts = [self.place(p) for p in step.parts]
            places = self.place(step.out), self.place(step.residual)
            plan.gemm(weights, parts, *places, int(step.act), step.alpha)
        elif isinstance(step, TapsStep):
            views = [self.place(v) for v in (step.out, step.x, step.w, step.bias)]
            plan.taps(*views, int(step.act), step.alpha)
        elif isinstance(step, ConvertStep):
            out, x, _ = narrowed(step.out, step.x, None)
            plan.convert(self.place(out), self.place(x))
        else:
            views = [self.place(v) for v in (step.out, step.x, step.scale, step.bias)]
            plan.row(int(step.op), step.p, *views)


def narrowed(out: View, a: View, b: View | None) -> tuple[View, View, View | None]:
    """Return the views of one shape without the axes that have a single place."""
    kept = [i for i, n in enumerate(out.shape) if n != 1]

    def cut(view: View) -> View:
        shape: Shape = tuple(view.shape[i] for i in kept)
        return View(view.buffer, view.offset, shape, tuple(view.strides[i] for i in kept))

    return cut(out), cut(a), None if b is None else cut(b)
