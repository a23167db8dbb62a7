"""Which streams fit: measured step costs, and what follows for one more promise.

With ``n`` streams of a group (a model's program) ready together, one run of the smallest bucket
that holds them costs ``c(n)``; a hop lasts ``P``. The thread's load is the sum of ``c(n) / P``
over the groups. Hops run earliest deadline first and are not interrupted, so a hop waits at most
for one run of every other group and then for its own. A stream is admitted only if the load stays
under the limit and that sum stays under every promised deadline.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ossicle.runtime.budget import Budget
from ossicle.runtime.engine.settings import EngineSettings
from ossicle.runtime.engine.slot import Slot
from ossicle.runtime.errors import CapacityError
from ossicle.runtime.model import Model

MARGIN = 1.25  # on measured medians: what scheduling and Python add


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much is promised, and how much there is."""

    load: float  # share of the engine's thread that is promised
    limit: float
    streams: int
    max_streams: int


class Costs:
    """The measured time of one run, by group and bucket; kept current while running."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self._table: dict[tuple[str, str], dict[int, float]] = {}  # us
        self._sizes: dict[str, list[int]] = {}  # by model
        self._bucket: dict[tuple[str, int], int] = {}  # by model and rows
        self._hop_us: dict[tuple[str, str], float] = {}  # Python around the model, per stream

    def calibrate(self, model: Model, program: str) -> dict[int, float]:
        """Measure and return the median time in us of one run for each bucket."""
        line = model.program(program)
        generator = np.random.default_rng(0)
        found: dict[int, float] = {}
        for bucket in self.buckets(model):
            state = model.open(bucket, program)
            state.unset.clear()
            inputs = {
                given.name: _example(generator, (bucket, *map(abs, given.shape)), given.dtype)
                for given in line.inputs
                if given.kind != "condition"
            }
            times = []
            for _ in range(self.settings.calibration_runs):
                begin = time.perf_counter_ns()
                model.step(state, inputs)
                times.append(time.perf_counter_ns() - begin)
            found[bucket] = float(np.median(times[len(times) // 5 :])) / 1e3
        self._table[model.name, program] = found
        self._hop_us.setdefault((model.name, program), 20.0)
        return found

    def buckets(self, model: Model) -> list[int]:
        """Return the batch sizes used for a model, smallest first; 1 is always one."""
        name = model.name
        if name not in self._sizes:
            sizes = [b for b in model.manifest.batch if b <= self.settings.max_batch]
            self._sizes[name] = sizes if sizes and sizes[0] == 1 else [1, *sizes]
        return self._sizes[name]

    def bucket(self, model: Model, rows: int) -> int:
        """Return the smallest bucket that holds ``rows``, or the largest there is."""
        key = (model.name, rows)
        if key not in self._bucket:
            sizes = self.buckets(model)
            self._bucket[key] = next((b for b in sizes if b >= rows), sizes[-1])
        return self._bucket[key]

    def run_us(self, model: Model, program: str, streams: int) -> float:
        """Return what one hop of ``streams`` streams costs, in us."""
        table = self._table.get((model.name, program))
        if table is None:
            table = self.calibrate(model, program)
        sizes = self.buckets(model)
        whole, rest = divmod(streams, sizes[-1])
        cost = whole * table[sizes[-1]]
        if rest:
            cost += table[self.bucket(model, rest)]
        around = self._hop_us[model.name, program] + self.settings.around_us
        return MARGIN * cost + streams * around

    def observe(self, model: Model, program: str, bucket: int, us: float, hop_us: float) -> None:
        """Blend a run's measured time into the table: costs follow the machine, slowly."""
        key = (model.name, program)
        table = self._table.get(key)
        if table is not None and bucket in table:
            bounded = min(us, 8 * table[bucket])  # one stall is not a new machine
            table[bucket] += 0.02 * (bounded - table[bucket])
            self._hop_us[key] += 0.02 * (min(hop_us, 1000.0) - self._hop_us[key])

    def table(self) -> dict[str, dict[int, float]]:
        """Return the costs in us by ``model.program`` and bucket."""
        return {f"{m}.{p}": dict(costs) for (m, p), costs in self._table.items()}


def admit(
    slots: Iterable[Slot],
    costs: Costs,
    settings: EngineSettings,
    newcomer: tuple[Model, str, int, Budget] | None,
) -> Capacity:
    """Return the capacity with the newcomer in, or refuse it.

    Raises:
        CapacityError: no slot, too much load, or a promise that would break.
    """
    held = list(slots)
    counts: Counter[tuple[str, str]] = Counter()
    groups: dict[tuple[str, str], tuple[Model, int]] = {}
    deadlines: list[float] = []
    offered = [(s.model, s.task.program, s.period_ns, s.budget) for s in held]
    if newcomer is not None:
        offered.append(newcomer)
    for model, program, period_ns, budget in offered:
        key = (model.name, program)
        counts[key] += 1
        groups[key] = (model, min(period_ns, groups.get(key, (model, period_ns))[1]))
        if budget.deadline_ms is not None:
            deadlines.append(budget.deadline_ms)
    runs = {k: costs.run_us(groups[k][0], k[1], n) for k, n in counts.items()}
    load = sum(us * 1e3 / groups[k][1] for k, us in runs.items())
    used = len(offered)
    if newcomer is None:
        return Capacity(load, settings.max_load, used, settings.max_streams)
    _refuse(load, sum(runs.values()) / 1e3, deadlines, used, settings)
    return Capacity(load, settings.max_load, used, settings.max_streams)


def _refuse(
    load: float, worst_ms: float, deadlines: list[float], used: int, settings: EngineSettings
) -> None:
    if used > settings.max_streams:
        raise CapacityError(
            f"all {settings.max_streams} slots are taken; try again when a stream has ended",
            reason="slots", used=used - 1, total=settings.max_streams,
        )  # fmt: skip
    if load > settings.max_load:
        raise CapacityError(
            f"the stream would bring the load to {load:.2f} of one thread; {settings.max_load:.2f} "
            "may be promised. Try later, another server, or a smaller bundle",
            reason="load", used=round(load, 4), total=settings.max_load,
        )  # fmt: skip
    if deadlines and worst_ms > min(deadlines):
        raise CapacityError(
            f"a hop could take {worst_ms:.2f} ms with the stream in; {min(deadlines):g} ms are "
            "promised. Ask for a longer budget or try later",
            reason="deadline", used=round(worst_ms, 3), total=min(deadlines),
        )  # fmt: skip


def _example(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Any:
    if dtype.startswith("float"):
        return (0.05 * generator.standard_normal(shape)).astype(dtype)
    return np.zeros(shape, dtype)
