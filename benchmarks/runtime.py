"""What the runtime itself costs: plumbing a hop, the engine over the bare model, snapshots, memory.

``python -m benchmarks.runtime [--json PLACE] [--seconds S]``
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from benchmarks.machine import one_thread, save, times_us

one_thread()

import numpy as np  # noqa: E402 - after the thread counts are set
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.engine_cost import breakdown, engine_over_model  # noqa: E402
from ossicle.runtime.audio import AudioFormat, Chunk  # noqa: E402
from ossicle.runtime.bundle import Bundle, list_bundles  # noqa: E402
from ossicle.runtime.framer import Framer  # noqa: E402
from ossicle.runtime.model import Model  # noqa: E402
from ossicle.runtime.snapshot import dump, load  # noqa: E402
from ossicle.runtime.stage import Pipeline  # noqa: E402

STEPPED = [name for name in list_bundles() if not name.startswith("captioner")]


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


def _exported(model: Model, state: Any) -> bytes:
    return dump(model.export_row(state, 0))


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
            "export_us": times_us(partial(_exported, model, state), 200),
            "import_us": times_us(partial(load, data), 200),
        }
    return {**found, "bar_us": 1000}


def engines(seconds: float) -> list[dict[str, Any]]:
    """The engine over every program that it runs, on both backends; masked batches once a bundle.

    A captioner's words are chosen inside its task, hop by hop of the tagger: no engine steps them.
    """
    trials = []
    for name in STEPPED:
        for backend in ("ort", "auto"):  # what load_model and what the service take by default
            programs = list(Bundle.open(name).manifest.programs)
            trials += [(name, program, backend, "compact") for program in programs]
        trials.append((name, programs[0], "auto", "masked"))
    return [engine_over_model(*trial, seconds) for trial in trials]


def show(console: Console, results: dict[str, Any]) -> None:
    """Print tables."""
    console.print(f"plumbing, 5 stages: {results['plumbing']['us_per_hop']}")
    table = Table("model", "program", "backend", "batching", "bare us", "engine us",
                  "us a stream", "overhead", "of minima", "half ready us")  # fmt: skip
    for row in results["engine"]:
        table.add_row(row["model"], row["program"], row["backend"], row["batching"],
                      f"{row['bare_us']['median']:.0f}", f"{row['engine_us']['median']:.0f}",
                      f"{row['us_per_stream_hop']:.2f}", f"{100 * row['overhead']:.1f} %",
                      f"{100 * row['overhead_of_minima']:.1f} %",
                      f"{row['half_ready_us']['median']:.0f}")  # fmt: skip
    console.print(table)
    console.print(f"us a stream and hop, by part: {results['parts']}")
    for row in results["streams"]:
        console.print(row)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", default=None)
    parser.add_argument("--seconds", type=float, default=1.5, help="for each engine, both ways")
    asked = parser.parse_args()
    results = {
        "plumbing": plumbing(),
        "engine": engines(asked.seconds),
        "parts": {n: breakdown(n, "step", "auto") for n in ("separate-16k", "sounds-16k-tiny")},
        "streams": [snapshots_and_memory(n) for n in STEPPED],
    }
    console = Console(width=140)
    show(console, results)
    console.print(f"written to {save('runtime', results, asked.json)}")


if __name__ == "__main__":
    main()
