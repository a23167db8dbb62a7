"""What the runtime itself costs: plumbing a hop, the engine over the bare model, snapshots, memory.

``python -m benchmarks.runtime [--json PLACE]``
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks.machine import one_thread, save, summary, times_us

one_thread()

import numpy as np  # noqa: E402 - after the thread counts are set
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from ossicle.runtime.audio import AudioFormat, Chunk  # noqa: E402
from ossicle.runtime.budget import Budget  # noqa: E402
from ossicle.runtime.bundle import list_bundles  # noqa: E402
from ossicle.runtime.engine import Engine, EngineSettings  # noqa: E402
from ossicle.runtime.framer import Framer  # noqa: E402
from ossicle.runtime.model import Model  # noqa: E402
from ossicle.runtime.snapshot import dump, load  # noqa: E402
from ossicle.runtime.stage import Pipeline  # noqa: E402
from ossicle.runtime.task import Event, Hop  # noqa: E402

STREAMS = 32


class Passing:
    """The least a stage can do: hand the chunk on."""

    def __init__(self, format: AudioFormat) -> None:
        self.input = self.output = format
        self.latency = 0

    def open(self) -> list[int]:
        return [0]

    def step(self, state: list[int], chunk: Chunk) -> list[Chunk]:
        state[0] = chunk.stop
        return [chunk]

    def flush(self, state: list[int]) -> list[Chunk]:
        return []


def plumbing() -> dict[str, Any]:
    """A pipeline of five stages, 20 ms hops: what carrying a chunk through costs."""
    mono = AudioFormat(16_000)
    pipeline = Pipeline([Framer(mono, 320), *(Passing(mono) for _ in range(4))])
    state = pipeline.open()
    samples = np.zeros((1, 320), np.float32)
    place = [0]

    def hop() -> None:
        made = pipeline.step(state, Chunk(samples, place[0], mono))
        assert made[0].start == place[0]
        place[0] += 320

    return {"us_per_hop": times_us(hop, 20_000), "bar_us": 10}


class Feed:
    """A task with no work around the model, so that what is measured is the engine."""

    kind, update, end = "bench", None, staticmethod(lambda state: [])

    def __init__(self, model: Model, program: str, inputs: dict[str, Any]) -> None:
        self.model, self.program, self.inputs = model.name, program, inputs
        self.input_format = AudioFormat(model.manifest.sample_rate_hz, model.manifest.channels)
        self.latency, self.hop = model.manifest.latency, model.manifest.hop
        self.seen: list[Any] = []

    def open(self) -> list[int]:
        return [0]

    def push(self, state: list[int], item: Chunk) -> list[Hop]:
        return [Hop(self.inputs, item.start, item.stop)]

    def take(self, state: list[int], hop: Hop, outputs: Any) -> list[Event]:
        self.seen.append(outputs)
        return []

    def flush(self, state: list[int]) -> list[Hop]:
        return []


def engine_over_model(name: str, batching: str) -> dict[str, Any]:
    """Ticks of 32 ready streams through the engine, against the same batch run bare."""
    model = Model.load(name)
    program = next(iter(model.manifest.programs))
    line = model.manifest.programs[program]
    rng = np.random.default_rng(0)
    audio = (0.05 * rng.standard_normal((model.manifest.channels, model.manifest.hop))).astype("f4")
    given = {
        p.name: audio if p.kind == "audio" else np.zeros([abs(n) for n in p.shape], p.dtype)
        for p in line.inputs
    }
    state = model.open(STREAMS, program)
    batch = {k: np.stack([v] * STREAMS) for k, v in given.items()}
    engine = Engine({model.name: model}, EngineSettings(max_streams=STREAMS, batching=batching,
                                                        max_load=1.0))  # fmt: skip
    tasks = [Feed(model, program, given) for _ in range(STREAMS)]
    leases = [engine.open(task, Budget(), lambda e: None) for task in tasks]  # type: ignore[arg-type]
    chunk = Chunk(audio, 0, tasks[0].input_format)
    bare, through, ragged = [], [], []
    for tick in range(230):
        begin = time.perf_counter_ns()
        expected = model.step(state, batch)
        bare.append((time.perf_counter_ns() - begin) / 1e3)
        begin = time.perf_counter_ns()
        for lease in leases:
            lease.push(chunk)
        while engine.run_once():
            pass
        through.append((time.perf_counter_ns() - begin) / 1e3)
        if tick == 20:
            for task in tasks:
                for key, value in task.seen[-1].items():
                    np.testing.assert_allclose(value, expected[key][0], atol=1e-3)
        for task in tasks:
            task.seen.clear()
    order = rng.permutation(STREAMS)
    for _ in range(100):  # another half of the streams each time: memory must move
        order = rng.permutation(STREAMS)
        begin = time.perf_counter_ns()
        for index in order[: STREAMS // 2]:
            leases[index].push(chunk)
        while engine.run_once():
            pass
        ragged.append((time.perf_counter_ns() - begin) / 1e3)
    one, two = summary(bare[30:]), summary(through[30:])
    return {
        "model": name,
        "batching": batching,
        "streams": STREAMS,
        "bare_us": one,
        "engine_us": two,
        "overhead": round(two["median"] / one["median"] - 1, 4),
        "half_ready_us": summary(ragged),
        "bar_overhead": 0.15,
    }


def snapshots_and_memory(name: str) -> dict[str, Any]:
    """What one stream remembers, and how long it takes to export and to read back."""
    model = Model.load(name)
    found: dict[str, Any] = {"model": name}
    for program in model.manifest.programs:
        state = model.open(1, program)
        rows = model.export_row(state, 0)
        data = dump(rows)
        again = load(data)
        assert all(np.array_equal(rows[k], again[k]) for k in rows)
        found[program] = {
            "memory_bytes": model.memory_bytes(program),
            "snapshot_bytes": len(data),
            "export_us": times_us(lambda s=state: dump(model.export_row(s, 0)), 200),
            "import_us": times_us(lambda d=data: load(d), 200),
        }
    return {**found, "bar_us": 1000}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", default=None)
    place = parser.parse_args().json
    names = [n for n in list_bundles() if not n.startswith("captioner")]
    engines = [engine_over_model(n, b) for n in names for b in ("compact", "masked")]
    results = {
        "plumbing": plumbing(),
        "engine": engines,
        "streams": [snapshots_and_memory(n) for n in names],
    }
    console = Console()
    console.print(f"plumbing, 5 stages: {results['plumbing']['us_per_hop']}")  # type: ignore[index]
    table = Table("model", "batching", "bare us", "engine us", "overhead", "half ready us")
    for row in engines:
        table.add_row(row["model"], row["batching"], str(row["bare_us"]["median"]),
                      str(row["engine_us"]["median"]), f"{100 * row['overhead']:.1f} %",
                      str(row["half_ready_us"]["median"]))  # fmt: skip
    console.print(table)
    for row in results["streams"]:
        console.print(row)
    console.print(f"written to {save('runtime', results, place)}")


if __name__ == "__main__":
    main()
