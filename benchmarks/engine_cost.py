"""What the engine adds to a batched model run: ticks of ready streams, and where the time goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks.machine import summary
from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.budget import Budget
from ossicle.runtime.engine import Engine, EngineSettings, Lease
from ossicle.runtime.model import Model
from ossicle.runtime.task import AudioEvent, Event, Hop

STREAMS = 32
BAR = 0.15
PARTS = ("push", "take in", "choose", "batch", "model", "post")


class Feed:
    """A task with no work around the model, so that what is measured is the engine.

    It answers every hop with one event, so that its ledger and its delivery count as well.
    """

    kind = "bench"

    def __init__(self, model: Model, program: str, inputs: dict[str, Any], chunk: Chunk) -> None:
        self.model, self.program, self.inputs = model.name, program, inputs
        self.input_format, self.latency = chunk.format, model.manifest.latency
        self.answer: list[Event] = [AudioEvent("audio", chunk)]
        self.seen: Any = None

    def open(self) -> None:
        """Remember nothing."""

    def push(self, state: None, item: Chunk) -> list[Hop]:
        """Every chunk is a hop."""
        return [Hop(self.inputs, item.start, item.stop)]

    def take(self, state: None, hop: Hop, outputs: Any) -> list[Event]:
        """Every hop is an event."""
        self.seen = outputs
        return self.answer

    def flush(self, state: None) -> list[Hop]:
        """Nothing is held."""
        return []

    def end(self, state: None) -> list[Event]:
        """Nothing is left."""
        return []

    def update(self, state: None, control: Mapping[str, Any]) -> list[Event]:
        """Nothing can be asked of it."""
        raise TypeError("this task takes no controls")


class Trial:
    """One program of a bundle: the same hop for 32 streams, bare and through the engine."""

    def __init__(self, model: Model, program: str, batching: str) -> None:
        self.model, manifest = model, model.manifest
        line = manifest.programs[program]
        rng = np.random.default_rng(0)
        audio = (0.05 * rng.standard_normal((manifest.channels, manifest.hop))).astype("f4")
        given = {
            p.name: audio if p.kind == "audio" else np.zeros([abs(n) for n in p.shape], p.dtype)
            for p in line.inputs
        }
        self.batch = {k: np.stack([v] * STREAMS) for k, v in given.items()}
        self.state = model.open(STREAMS, program)
        self.engine = Engine({model.name: model}, EngineSettings(
            max_streams=STREAMS, batching=batching, max_load=1.0, calibration_runs=3))  # fmt: skip
        self.engine.costs.run_us = lambda *given: 0.0  # type: ignore[method-assign] # admit all
        self.chunk = Chunk(audio, 0, AudioFormat(manifest.sample_rate_hz, manifest.channels))
        self.tasks = [Feed(model, program, given, self.chunk) for _ in range(STREAMS)]
        self.heard: list[Any] = []
        self.leases: list[Lease] = [
            self.engine.open(task, Budget(), self.heard.append) for task in self.tasks
        ]

    def bare(self) -> float:
        """Run the batch without the engine; return us."""
        begin = time.perf_counter_ns()
        self.made = self.model.step(self.state, self.batch)
        return (time.perf_counter_ns() - begin) / 1e3

    def tick(self, which: Any) -> float:
        """Push one hop of some streams and run what is ready; return us."""
        begin = time.perf_counter_ns()
        for index in which:
            self.leases[index].push(self.chunk)
        while self.engine.run_once():
            pass
        took = (time.perf_counter_ns() - begin) / 1e3
        assert len(self.heard) == len(which)
        self.heard.clear()
        return took

    def check(self) -> None:
        """What each stream got is its row of the bare run."""
        for task in self.tasks:
            for key, value in task.seen.items():
                np.testing.assert_allclose(value, self.made[key][0], atol=1e-3)


def engine_over_model(
    name: str, program: str, backend: str, batching: str, seconds: float
) -> dict[str, Any]:
    """Return medians of bare and engine ticks, alternating, and of ticks with half the streams."""
    trial = Trial(Model.load(name, backend), program, batching)
    for _ in range(5):
        trial.bare()
        trial.tick(range(STREAMS))
    trial.check()
    bare: list[float] = []
    through: list[float] = []
    ragged: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(bare) < 30:
        bare.append(trial.bare())
        through.append(trial.tick(range(STREAMS)))
    rng = np.random.default_rng(0)
    until = time.perf_counter() + seconds / 3
    while time.perf_counter() < until or len(ragged) < 10:  # another half each time: memory moves
        ragged.append(trial.tick(rng.permutation(STREAMS)[: STREAMS // 2].tolist()))
    one, two = summary(bare), summary(through)
    return {
        "model": name,
        "program": program,
        "backend": trial.model.backend.name,
        "batching": batching,
        "streams": STREAMS,
        "bare_us": one,
        "engine_us": two,
        "us_per_stream_hop": round((two["median"] - one["median"]) / STREAMS, 2),
        "overhead": round(two["median"] / one["median"] - 1, 4),
        "overhead_of_minima": round(two["min"] / one["min"] - 1, 4),
        "half_ready_us": summary(ragged),
        "bar_overhead": BAR,
    }


def breakdown(name: str, program: str, backend: str, ticks: int = 300) -> dict[str, float]:
    """Return the median us a stream and hop of each part of a tick."""
    trial = Trial(Model.load(name, backend), program, "compact")
    rounds = trial.engine._rounds
    with _timed(rounds, trial.model) as spent:
        for _ in range(ticks):
            begin = time.perf_counter_ns()
            for lease in trial.leases:
                lease.push(trial.chunk)
            spent["push"].append(time.perf_counter_ns() - begin)
            trial.engine.run_once()
    us = {part: float(np.median(times)) / STREAMS / 1e3 for part, times in spent.items()}
    us["post"] = us.pop("run") - us["step"]
    us["batch"] = us.pop("step") - us["model"]
    return {part: round(us[part], 2) for part in PARTS}


@contextmanager
def _timed(rounds: Any, model: Any) -> Iterator[defaultdict[str, list[int]]]:
    """Time the calls of one round; a timer costs 0.1 us and there is one for 32 streams."""
    spent: defaultdict[str, list[int]] = defaultdict(list)
    places = {
        "take in": (rounds.turns, "take_in"),
        "choose": (rounds.turns, "choose"),
        "run": (rounds, "_run"),
        "step": (rounds._stepper, "step"),
        "model": (model, "step"),
    }

    def timed(part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            begin = time.perf_counter_ns()
            made = call(*given, **named)
            spent[part].append(time.perf_counter_ns() - begin)
            return made

        return run

    for part, (owner, method) in places.items():
        setattr(owner, method, timed(part, getattr(owner, method)))
    try:
        yield spent
    finally:
        for owner, method in places.values():
            delattr(owner, method)
