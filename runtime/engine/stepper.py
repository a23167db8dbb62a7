"""One batch: bring the rows together, run the model, take them apart, and mind what it made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ossicle.runtime.engine.admission import Costs
from ossicle.runtime.engine.batch import BatchMemory, send_home
from ossicle.runtime.engine.settings import EngineSettings
from ossicle.runtime.engine.slot import Slot
from ossicle.runtime.engine.turns import Turns
from ossicle.runtime.model import Model
from ossicle.runtime.rows import finite_values, read_rows

BAD_HOPS_BEFORE_RESET = 3
Outputs = dict[str, Any]


class Made(NamedTuple):
    """What a step made, and how long it took."""

    outputs: Outputs | None  # ``[B, ...]``: slot ``i`` has row ``places[i]``
    places: list[int]
    rows: Sequence[Outputs]  # by slot and looked at, if ``outputs`` is ``None``
    batch_us: int
    compute_us: int


class Stepper:
    """Steps the first ready hop of several streams of one program.

    Compacted batching (the default) brings only the ready rows together; masked batching steps
    every row that is resident and puts the idle ones back. Compacted is never slower on a CPU,
    where the work grows with the rows; ``benchmarks/runtime.py`` measures both.
    """

    def __init__(self, settings: EngineSettings, costs: Costs, turns: Turns) -> None:
        self.masked = settings.batching == "masked"
        self.costs, self.turns = costs, turns
        self._batches: dict[tuple[str, str, int], BatchMemory] = {}
        self._memories: dict[tuple[int, int], BatchMemory | None] = {}  # by group and streams

    def step(self, slots: list[Slot], begun: int) -> Made:
        """Return what the model made of each slot's hop, and the us spent batching and computing.

        Not all of it need be finite: see :meth:`mind`.
        """
        first = slots[0]
        key = first.group, len(slots)
        if key not in self._memories:
            self.turns.pause()
            self._memories[key] = self._memory(first.model, first.task.program, len(slots))
            self.turns.pause()
        memory = self._memories[key]
        if memory is None:
            return self._one_by_one(slots, begun)
        turns = self.turns
        clock = turns.clock
        seated = slots == memory.seated  # and nobody moved since
        places = memory.places if seated else memory.seat(slots, self.masked, turns.pause)
        turns.pause()  # host transforms before the first graph keep the lock
        saved = memory.guard(places) if self.masked else ()
        gathered = clock()
        if not turns.gather(memory.inputs, memory.state.held, slots, places):
            memory.bring(slots, places)
        outputs = first.model.step(memory.state, memory.inputs)
        done = turns.since = clock()  # a graph runs without the lock
        batch_us, compute_us = (gathered - begun) // 1000, (done - gathered) // 1000
        if saved:
            memory.restore(saved)
        hop_us = batch_us / len(slots)
        self.costs.observe(first.model, memory.program, memory.bucket, compute_us, hop_us)
        return Made(outputs, places, (), batch_us, compute_us)

    def mind(self, slots: list[Slot], made: Made) -> Sequence[Outputs]:
        """Return what may be heard of each slot.

        Where a model made NaN or Inf, the step is taken back for that slot, silence stands in,
        and ``slot.bad_hops`` counts; after several in a row the memory is made anew.
        """
        if made.outputs is None:
            return made.rows
        rows = read_rows(made.outputs, made.places)
        return [_mind(slot, row) for slot, row in zip(slots, rows, strict=True)]

    def _one_by_one(self, slots: list[Slot], begun: int) -> Made:
        first, clock = slots[0], self.turns.clock
        gathered = clock()
        rows: list[Outputs] = []
        made: Outputs = {}
        for slot in slots:
            send_home(slot)
            inputs = {k: np.asarray(v)[None] for k, v in slot.hop.inputs.items()}
            made = slot.model.step(slot.memory, inputs)
            if len(slots) > 1:
                rows.append(_mind(slot, {name: array[0] for name, array in made.items()}))
        done = self.turns.since = clock()
        batch_us, compute_us = (gathered - begun) // 1000, (done - gathered) // 1000
        each_us, hop_us = compute_us / len(slots), batch_us / len(slots)
        self.costs.observe(first.model, first.task.program, 1, each_us, hop_us)
        return Made(None if rows else made, [0], rows, batch_us, compute_us)

    def _memory(self, model: Model, program: str, streams: int) -> BatchMemory | None:
        """Return the memory for a number of streams; ``None``: they are stepped one by one."""
        if streams == 1:
            return None
        bucket = self.costs.bucket(model, streams)
        size = self.costs.buckets(model)[-1] if self.masked else bucket
        key = (model.name, program, size)
        if key not in self._batches:
            self._batches[key] = BatchMemory(model, program, size)
        memory = self._batches[key]
        return memory if memory.batchable else None


def _mind(slot: Slot, outputs: Outputs) -> Outputs:
    """Keep NaN and Inf that a model made from the listener and out of its memory."""
    if finite_values(outputs):
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
