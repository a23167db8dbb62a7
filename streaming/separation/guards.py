"""What stands between a model and an ear: bad numbers are kept out, resets are not heard.

:class:`GuardedModel` protects a model that is stepped in this process: inputs are scrubbed, and
when outputs or memory turn out not finite the memory goes back to where it last was sound.
:class:`Shadow` is for tasks, whose memory another thread owns: after a reset the model runs on
unheard until it knows the scene again, then fades in over the dry signal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime import snapshot
from ossicle.runtime.audio import Samples, scrub
from ossicle.runtime.model import Model, ModelState

Array = NDArray[Any]


def scrub_output(samples: Samples, dry: Samples, ceiling: float = 8.0) -> tuple[Samples, bool]:
    """``samples`` [C, T] if they are finite and below ``ceiling``, else ``dry``; and which.

    ``ceiling`` is a factor over full scale: no mask can lift an input of +-1 that far.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    sound = bool(np.isfinite(peak)) and peak <= ceiling
    return (samples if sound else dry), sound


@dataclass
class GuardedState:
    """A model's memory with one stream in it, and its last sound copy."""

    memory: ModelState
    good: dict[str, Array]
    scrubbed: int = 0  # input samples silenced
    rollbacks: int = 0


class GuardedModel:
    """A model stepped with one row, whose memory never stays poisoned."""

    def __init__(self, model: Model, program: str = "step") -> None:
        self.model, self.program = model, program

    def open(self) -> GuardedState:
        """Return fresh memory."""
        memory = self.model.open(1, self.program)
        return GuardedState(memory, self.model.export_row(memory, 0))

    def step(self, state: GuardedState, inputs: Mapping[str, Array]) -> dict[str, Array] | None:
        """Run one hop; ``None`` when its outcome was not finite and was rolled back."""
        clean = {}
        for name, array in inputs.items():
            clean[name], bad = scrub(array)
            state.scrubbed += bad
        outputs = self.model.step(state.memory, clean)
        memory = self.model.export_row(state.memory, 0)
        if _finite(outputs) and _finite(memory):
            state.good = memory
            return outputs
        self.model.import_row(state.memory, 0, state.good)
        state.rollbacks += 1
        return None


def _finite(arrays: Mapping[str, Array]) -> bool:
    return all(np.isfinite(a.sum(dtype=np.float64)) for a in arrays.values() if a.dtype.kind == "f")


@snapshot.record("shadow.State")
@dataclass
class ShadowState:
    """How far a model that began anew has come: hops left unheard, and how loud it is."""

    left: int = 0
    heard: float = 1.0
    resets: int = field(default=0)


@dataclass(frozen=True, slots=True)
class Shadow:
    """Warm-up of ``hops`` hops, then a fade over ``fade_hops``; the dry signal until then."""

    hops: int
    fade_hops: int = 2

    def open(self, warm: bool = True) -> ShadowState:
        """Return the state of a model that is heard from its first hop on, or (not) yet."""
        return ShadowState(0, 1.0) if warm else ShadowState(self.hops, 0.0)

    def restart(self, state: ShadowState) -> None:
        """The model's memory was reset: take it off the air."""
        state.left, state.resets = self.hops, state.resets + 1

    def mix(self, state: ShadowState, dry: Samples, wet: Samples) -> Samples:
        """What the listener gets of ``dry`` and ``wet`` [C, T] in this hop."""
        before = state.heard
        if state.left:
            state.left -= 1
            target = 0.0
        else:
            target = min(1.0, before + 1.0 / self.fade_hops)
        if before == target:
            return wet if target == 1.0 else dry
        if target < before:  # a reset happened between hops: wet is already that of a new memory
            state.heard = 0.0
            return dry
        state.heard = target
        ramp = np.linspace(before, target, wet.shape[1], endpoint=False, dtype=np.float32)
        return np.asarray(dry + (wet - dry) * ramp, np.float32)
