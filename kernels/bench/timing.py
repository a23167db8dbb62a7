"""Rows of the table, and fair timing: kernel and opponents in turn, the least CPU time of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Action = Callable[[], object]


@dataclass(slots=True)
class Row:
    """One kernel at one size, its opponents, and whether it was right."""

    kernel: str
    size: str
    us: float  # per unit
    unit: str
    opponents: dict[str, float] = field(default_factory=dict)  # us per unit
    correct: bool = False
    bar: str = ""
    reached: bool | None = None


def least(actions: Mapping[str, Action], quick: bool) -> dict[str, float]:
    """Microseconds of CPU time a call of each, the least over rounds taken in turn."""
    counts = {}
    for name, action in actions.items():
        action()
        begin = time.perf_counter()
        action()
        action()
        counts[name] = max(1, int((0.002 if quick else 0.01) / ((time.perf_counter() - begin) / 2)))
    found = dict.fromkeys(actions, np.inf)
    for _ in range(3 if quick else 25):
        for name, action in actions.items():
            begin = time.thread_time_ns()
            for _ in range(counts[name]):
                action()
            found[name] = min(found[name], (time.thread_time_ns() - begin) / 1e3 / counts[name])
    return found


def floats(rng: np.random.Generator, *shape: int) -> Floats:
    """Standard normal numbers."""
    return rng.standard_normal(shape).astype(np.float32)


def made(
    kernel: str, size: str, us: Mapping[str, float], per: int, unit: str, correct: bool,
    at_most: float | None = None,
) -> Row:  # fmt: skip
    """A row whose times are divided by ``per``, held to a bar in microseconds if there is one."""
    own = round(us["ours"] / per, 2)
    others = {name: round(v / per, 2) for name, v in us.items() if name != "ours"}
    row = Row(kernel, size, own, unit, others, correct)
    if at_most is not None:
        row.bar, row.reached = f"<= {at_most:g} us", correct and own <= at_most
    return row


def versus(row: Row, opponent: str, factor: float) -> None:
    """Holds a row to a multiple of an opponent's speed."""
    row.bar = f">= {factor:g} x {opponent}"
    row.reached = row.correct and row.opponents[opponent] >= factor * row.us


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A row in words, under :data:`HEAD`."""
    others = ", ".join(
        f"{name} {us:g} ({us / row['us']:.1f} x)" for name, us in row["opponents"].items()
    )
    verdict = "" if row["reached"] is None else "reached" if row["reached"] else "missed"
    return (
        row["kernel"], row["size"], f"{row['us']:g} us a {row['unit']}", others,
        f"{row['bar']} {verdict}".strip(), "equal" if row["correct"] else "WRONG",
    )  # fmt: skip


HEAD = ("kernel", "size", "ours", "opponents (ours is faster by)", "bar", "check")
