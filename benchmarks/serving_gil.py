"""How long one step of the engine keeps every other thread from running Python.

``python -m benchmarks.serving_gil [--model BUNDLE] [--streams N] [--seconds S]``

The engine steps real streams on its thread while this thread spins. A turn of the spin in which
this thread went to sleep waited for the interpreter lock (nothing else in it can sleep); what the
engine held of it is at most the CPU time that its thread used meanwhile. On a machine that is busy
with something else both bounds are loose: measure on a quiet one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import time
from typing import Any

import numpy as np

from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.budget import Budget
from ossicle.runtime.engine import Engine, EngineSettings
from ossicle.runtime.errors import CapacityError
from ossicle.runtime.model import Model
from ossicle.streaming import messages as m
from ossicle.streaming.server.run import steady
from ossicle.streaming.tasks import build

RATE, HOP_MS = 16_000, 20


def held_ms(name: str, streams: int, seconds: float) -> dict[str, float]:
    """Return the percentiles of how long the lock was held, each time it was waited for."""
    model = Model.load(name, "auto")  # what a server takes
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, RATE)).astype(np.float32)
    with Engine({model.name: model}, EngineSettings(max_streams=streams, max_load=1.0)) as engine:
        task = build(m.TaskSpec("encode", options={"frames_per_packet": 1}), model, True)
        leases = _open(engine, task, streams)
        steady()  # as a server does
        thread = engine._thread
        assert thread is not None
        clock = time.pthread_getcpuclockid(thread.ident)  # type: ignore[arg-type]
        held = _spin(leases, noise, clock, seconds)
        for lease in leases:
            lease.close()
    found = np.percentile(held, [50, 99, 99.9, 100]) if held else np.zeros(4)
    names = ("p50", "p99", "p999", "max")
    rounded = {n: round(float(v), 3) for n, v in zip(names, found, strict=True)}
    return {"streams": len(leases), "turns": len(held), **rounded}


def _open(engine: Engine, task: Any, streams: int) -> list[Any]:
    """Return as many leases as this machine takes at the moment."""
    leases: list[Any] = []
    with contextlib.suppress(CapacityError):
        while len(leases) < streams:
            leases.append(engine.open(task, Budget(), lambda events: None))
    return leases


def _spin(leases: list[Any], noise: Any, clock: int, seconds: float) -> list[float]:
    size, at, held = RATE * HOP_MS // 1000, 0, []
    begun = due = time.perf_counter()
    last, used, slept = _look(clock)
    while last - begun < seconds:
        now, cpu, sleeps = _look(clock)
        if sleeps > slept:
            held.append(1000 * min(now - last, cpu - used))
        last, used, slept = now, cpu, sleeps
        if now >= due:
            due += HOP_MS / 1000
            place = at % (noise.shape[1] - size)
            for lease in leases:
                lease.push(Chunk(noise[:, place : place + size], at, AudioFormat(RATE)))
            at += size
            last, used, slept = _look(clock)
    return held


def _look(clock: int) -> tuple[float, float, int]:
    """Return the time, the engine's CPU time, and how often this thread has slept."""
    slept = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    return time.perf_counter(), time.clock_gettime(clock), slept


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="codec-16k")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    print(json.dumps(held_ms(given.model, given.streams, given.seconds)))


if __name__ == "__main__":
    main()
