"""One batch: bring the rows together, run the model, take them apart, and mind what it made."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ossicle.runtime.engine.admission import Costs
from ossicle.runtime.engine.batch import BatchMemory, send_home
from ossicle.runtime.engine.settings import EngineSettings
from ossicle.runtime.engine.slot import Slot
from ossicle.runtime.model import Model
from ossicle.runtime.rows import all_finite, read_rows

BAD_HOPS_BEFORE_RESET = 3
Outputs = dict[str, Any]


class Stepper:
    """Steps the first ready hop of several streams of one program.

    Compacted batching (the default) brings only the ready rows together; masked batching steps
    every row that is resident and puts the idle ones back. Compacted is never slower on a CPU,
    where the work grows with the rows; ``benchmarks/runtime.py`` measures both.
    """

    def __init__(self, settings: EngineSettings, costs: Costs) -> None:
        self.settings, self.costs = settings, costs
        self.clock: Callable[[], int] = time.monotonic_ns
        self._batches: dict[tuple[str, str, int], BatchMemory] = {}

    def step(self, slots: list[Slot], begun: int) -> tuple[list[Outputs], int, int]:
        """Return what may be heard of each slot, and the us spent gathering and computing.

        Where a model made NaN or Inf, the step is taken back for that slot, silence stands in,
        and ``slot.bad_hops`` counts; after several in a row the memory is made anew.
        """
        model, program = slots[0].model, slots[0].task.program
        size = self.costs.bucket(model, len(slots))
        memory = self._memory(model, program, size) if len(slots) > 1 else None
        if memory is None or not memory.batchable:
            rows, gathered, done = self._one_by_one(slots)
            size, runs = 1, len(slots)
        else:
            rows, gathered, done = self._together(slots, memory)
            runs = 1
        compute_us = (done - gathered) // 1000
        gather_us = (gathered - begun) // 1000
        self.costs.observe(model, program, size, compute_us / runs, gather_us / len(slots))
        return rows, gather_us, compute_us

    def _one_by_one(self, slots: list[Slot]) -> tuple[list[Outputs], int, int]:
        gathered = self.clock()
        rows = []
        for slot in slots:
            send_home(slot)
            inputs = {k: np.asarray(v)[None] for k, v in slot.ready[0].hop.inputs.items()}
            made = slot.model.step(slot.memory, inputs)
            rows.append(_mind(slot, {name: array[0] for name, array in made.items()}))
        return rows, gathered, self.clock()

    def _together(self, slots: list[Slot], memory: BatchMemory) -> tuple[list[Outputs], int, int]:
        masked = self.settings.batching == "masked"
        places = memory.seat(slots, keep=masked)
        saved = memory.guard(places) if masked else []
        gathered = self.clock()
        made = memory.step([slot.ready[0].hop for slot in slots], places)
        done = self.clock()
        memory.restore(saved)
        rows = read_rows(made, places)
        if _finite(made):  # one look at the batch is cheaper than one at each row
            for slot in slots:
                slot.bad_hops = 0
        else:
            rows = [_mind(slot, row) for slot, row in zip(slots, rows, strict=True)]
        return rows, gathered, done

    def _memory(self, model: Model, program: str, size: int) -> BatchMemory:
        if self.settings.batching == "masked":
            size = self.costs.buckets(model)[-1]
        key = (model.name, program, size)
        if key not in self._batches:
            self._batches[key] = BatchMemory(model, program, size)
        return self._batches[key]


def _finite(outputs: Outputs) -> bool:
    floats = [array for array in outputs.values() if array.dtype.kind == "f"]
    return all_finite(floats) or all(np.isfinite(array).all() for array in floats)


def _mind(slot: Slot, outputs: Outputs) -> Outputs:
    """Keep NaN and Inf that a model made from the listener and out of its memory."""
    if _finite(outputs):
        slot.bad_hops = 0
        return outputs
    slot.bad_hops += 1
    memory, row = (slot.home[0].state, slot.home[1]) if slot.home else (slot.memory, 0)
    memory.undo_row(row)
    if slot.bad_hops >= BAD_HOPS_BEFORE_RESET:
        renew(slot)
    return {
        k: np.nan_to_num(v, nan=0.0, posinf=0.0, neginf=0.0) if v.dtype.kind == "f" else v
        for k, v in outputs.items()
    }


def renew(slot: Slot) -> None:
    """Give a slot its first memory again; conditions stay as given."""
    send_home(slot)
    held = {k: v.copy() for k, v in slot.memory.held.items()}
    unset = set(slot.memory.unset)
    slot.memory = slot.model.open(1, slot.task.program)
    for name, value in held.items():
        slot.memory.held[name][:] = value
    slot.memory.unset = unset
