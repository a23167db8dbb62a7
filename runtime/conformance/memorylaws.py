"""Laws about rows and what they remember: slots, neighbours, reset, export and import."""

from __future__ import annotations

from typing import Any

import numpy as np

from ossicle.runtime.audio import Chunk
from ossicle.runtime.conformance.report import Row
from ossicle.runtime.conformance.subject import Hops, Subject, largest_difference
from ossicle.runtime.snapshot import dump, load

# Documented tolerances: float outputs relative to their peak; integer outputs (codes) by share.
# Libraries choose another matrix kernel for another batch size, which moves the last bits, and a
# moved bit may tip a tie between two codes.
BATCH_FLOAT, BATCH_CODES = 2e-4, 0.02


def slot_isolation(subject: Subject) -> Row:
    """Output does not depend on the slot, on neighbours, on joins and leaves."""
    worst_float = worst_codes = 0.0
    for name in subject.programs:
        rows = [subject.examples(name, 6, seed) for seed in range(3)]
        alone = [subject.run(name, row) for row in rows]
        for size in sorted({2, 3, subject.manifest.batch[-1]}):
            filled = [rows[i % 3] for i in range(size)]
            for slot, made in enumerate(subject.run_batch(name, filled)):
                a, b = largest_difference(alone[slot % 3], made)
                worst_float, worst_codes = max(worst_float, a), max(worst_codes, b)
        a, b = _after_neighbour_left(subject, name, rows)
        worst_float, worst_codes = max(worst_float, a), max(worst_codes, b)
    ok = bool(worst_float <= BATCH_FLOAT and worst_codes <= BATCH_CODES)
    measured = f"{worst_float:.1e} of the peak, {100 * worst_codes:.2g} % of codes"
    return Row("slot isolation", ok, measured, f"{BATCH_FLOAT:g}, {100 * BATCH_CODES:g} %")


def reset(subject: Subject) -> Row:
    """A reset row equals a new one, bit for bit, and a second flush is empty."""
    for name in subject.programs:
        hops = subject.examples(name, 5)
        state = subject.model.open(1, name)
        first = subject.run(name, hops, state)
        subject.model.reset(state, 0)
        again = subject.run(name, hops, state)
        for key, value in first.items():
            if not np.array_equal(value, again[key]):
                return Row("reset equals new", False, f"{name}.{key} differs", "the same bits")
    if subject.stage is not None:
        stream = subject.stage.open()
        signal = subject.signal(3 * subject.manifest.hop + 5)
        subject.stage.condition(stream, subject.conditions())
        subject.stage.step(stream, Chunk(signal, 0, subject.format))
        subject.stage.flush(stream)
        if subject.stage.flush(stream):
            return Row("reset equals new", False, "a second flush gives samples", "nothing")
    return Row("reset equals new", True, "the same bits", "the same bits")


def continuation(subject: Subject) -> Row:
    """State export, snapshot, import and continue is bit-exact in a new state."""
    for name in subject.programs:
        hops = subject.examples(name, 10)
        whole = subject.run(name, hops)
        state = subject.model.open(1, name)
        subject.run(name, hops[:4], state)
        memory = load(dump(subject.model.export_row(state, 0)))
        other = subject.model.open(2, name)
        subject.model.import_row(other, 1, memory)
        rest = _second_row(subject, name, hops[4:], other)
        worst, unequal = largest_difference({k: v[4:] for k, v in whole.items()}, rest)
        if worst > BATCH_FLOAT or unequal > BATCH_CODES:
            return Row("continues elsewhere", False, f"{name}: row differs by {worst:.2g}", "")
        fresh = subject.model.open(1, name)
        subject.model.import_row(fresh, 0, memory)
        fresh.unset.clear()
        exact = subject.run(name, hops[4:], fresh)
        for key, value in exact.items():
            if not np.array_equal(value, whole[key][4:]):
                return Row("continues elsewhere", False, f"{name}.{key} differs", "the same bits")
    size = subject.model.memory_bytes(subject.programs[0])
    return Row("continues elsewhere", True, f"the same bits; {size} bytes of memory", "")


def _after_neighbour_left(subject: Subject, name: str, rows: list[Hops]) -> tuple[float, float]:
    """Run two rows, reset one half way, and compare the other with itself alone."""
    state = subject.model.open(2, name)
    made = []
    for index, hop in enumerate(rows[0]):
        if index == 3:
            subject.model.reset(state, 1)
        inputs = {k: np.stack([hop[k], rows[1][index][k]]) for k in hop}
        made.append(subject.model.step(state, inputs))
    kept = {k: np.stack([m[k][0] for m in made]) for k in made[0]}
    return largest_difference(subject.run(name, rows[0]), kept)


def _second_row(subject: Subject, name: str, hops: Hops, state: Any) -> dict[str, Any]:
    state.unset.clear()
    made = []
    for hop in hops:
        inputs = {k: np.stack([np.zeros_like(v), v]) for k, v in hop.items()}
        made.append(subject.model.step(state, inputs))
    return {k: np.stack([m[k][1] for m in made]) for k in made[0]}
