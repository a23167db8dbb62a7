"""How long the engine keeps every other thread from running Python.

``python -m benchmarks.serving_gil [--seconds S] [--only WORDS]``

For each load the engine runs on its thread, as in a server, and this one sends real-time audio:

``p50`` to ``max``: how long the engine held the interpreter's lock, from the moment it had it back
until it gave it up: an upper bound, taken on the engine's own thread (see
:mod:`benchmarks.serving_watch`). Nobody waits for the lock meanwhile, so nobody takes it away:
a thread that asks for it would get it after the server's switch interval at the latest.

``maxima``: each load runs three times, with a new engine; these are the three longest holds, and
``middle_max`` the middle one of them. What the engine does it does every time; what happens to the
machine once in a while does not come back in the same load. All other figures of a load are those
of the run with its longest hold.

``waited``: what a thread that asks for the lock all the time waits for it: a hold, or the switch
interval if that is shorter, and what the scheduler needs to wake it (see
:mod:`benchmarks.serving_waits`). On a machine that is busy with something else both wall times are
of that; measure on a quiet one.

``long``: every hold over a millisecond with what could explain it: page faults, switches to other
threads, the interpreter's collections. ``held_s``: how long the lock was held in all.

``stolen_ms``: what the hypervisor says it kept its processors for itself meanwhile, in steps of
10 ms. A virtual machine counts that as CPU time of whoever ran. ``a bare loop`` is the control: the
CPU time of short pieces of arithmetic that always take the same, with nothing of the engine in
them, and how many of them took a millisecond (``over_1_ms``). A hold of milliseconds among
thousands of a third is such a pause if bare loops have as many in a second of theirs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving_waits import waits
from benchmarks.serving_watch import LONG_MS, Watch, summary, watched
from ossicle.runtime import snapshot
from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.budget import Budget
from ossicle.runtime.engine import Engine, EngineSettings
from ossicle.runtime.errors import CapacityError
from ossicle.runtime.model import Model
from ossicle.streaming import messages as m
from ossicle.streaming.server.run import steady
from ossicle.streaming.tasks import BUILT_IN, build

RATE, MESSAGE_S = 16_000, 0.02
SIZE = int(RATE * MESSAGE_S)
OPTIONS: dict[str, dict[str, Any]] = {
    "encode": {"frames_per_packet": 1},
    "separate": {"query": "speech"},
}
RUNS = 3  # of every load
WARM_S = 1.0  # before the first hold that counts


@dataclass(frozen=True)
class Load:
    """What the engine has to do."""

    name: str
    kinds: tuple[str, ...]
    streams: int
    spread: bool = False  # messages come one after another, and not all at once
    reopen: int = 0  # messages after which one stream is closed and another opened
    snapshots: int = 0  # messages after which every stream is asked for a snapshot
    waiting: bool = False  # measure also what a thread that wants the lock waits


LOADS = (
    Load("16 encode", ("encode",), 16, waiting=True),
    Load("40 encode", ("encode",), 40, waiting=True),
    Load("40 encode, spread", ("encode",), 40, spread=True),
    Load("40 encode, streams come and go", ("encode",), 40, spread=True, reopen=1),
    Load("40 encode, snapshots", ("encode",), 40, snapshots=25),
    Load("40 caption", ("caption",), 40, waiting=True),
    Load("40 caption, snapshots", ("caption",), 40, spread=True, snapshots=25),
    Load("16 separate", ("separate",), 16),
    Load("8 enhance", ("enhance",), 8),
    Load(
        "8 of three tasks, all of it", ("encode", "caption", "separate"), 8,
        spread=True, reopen=5, snapshots=25,
    ),
)  # fmt: skip


@dataclass
class Trial:
    """One load's streams."""

    engine: Engine
    load: Load
    leases: list[list[Any]] = field(default_factory=list)
    ticks: int = 0

    def __post_init__(self) -> None:
        noise = 0.1 * np.random.default_rng(0).standard_normal((1, RATE))
        self.noise = noise.astype(np.float32)
        self.at = [0] * self.load.streams
        self.bytes = 0
        with contextlib.suppress(CapacityError):  # as many as this machine takes at the moment
            for _ in range(self.load.streams):
                self.leases.append(self.opened())

    def opened(self) -> list[Any]:
        """Return a new stream's leases."""
        leases = []
        for kind in self.load.kinds:
            model = self.engine.models[BUILT_IN[kind]]
            task = build(m.TaskSpec(kind, options=OPTIONS.get(kind, {})), model, True)
            leases.append(self.engine.open(task, Budget(), lambda events: None))
        return leases

    def tick(self, spread_s: float = 0.0) -> None:
        """Send every stream one message, and do what else is due."""
        self.ticks += 1
        begun = time.perf_counter()
        for index, leases in enumerate(self.leases):
            _until(begun + spread_s * index / len(self.leases))
            start = self.at[index]
            place = start % (RATE - SIZE)
            for lease in leases:
                lease.push(Chunk(self.noise[:, place : place + SIZE], start, AudioFormat(RATE)))
            self.at[index] += SIZE
        if self.load.reopen and self.ticks % self.load.reopen == 0:
            index = self.ticks // self.load.reopen % len(self.leases)
            for lease in self.leases[index]:
                lease.close()
            self.leases[index], self.at[index] = self.opened(), 0
        if self.load.snapshots and self.ticks % self.load.snapshots == 0:
            for leases in self.leases:
                for lease in leases:
                    lease.export_later(self.written)

    def written(self, tree: dict[str, Any]) -> None:
        """Write a snapshot, as a session does on the engine's thread."""
        self.bytes += len(snapshot.dump(tree))

    def send(self, seconds: float) -> None:
        """Send messages in real time."""
        spread_s = 0.9 * MESSAGE_S if self.load.spread else 0.0
        begun = time.perf_counter()
        for tick in range(round(seconds / MESSAGE_S)):
            _until(begun + tick * MESSAGE_S)
            self.tick(spread_s)


def held_ms(load: Load, seconds: float) -> dict[str, Any]:
    """Return the percentiles of the engine's holds under a load, and what another thread waits."""
    models = [Model.load(BUILT_IN[kind], "auto") for kind in load.kinds]  # what a server takes
    slots = len(load.kinds) * load.streams + 1
    engine = Engine({x.name: x for x in models}, EngineSettings(max_streams=slots, max_load=1.0))
    with watched(engine) as watch, engine:
        trial = Trial(engine, load)
        steady()  # as a server does
        trial.send(WARM_S)
        _watch(engine, watch)
        before = stolen_ms()
        trial.send(seconds)
        watch.thread = None
        stolen = round(stolen_ms() - before)
        found = {"streams": len(trial.leases), **watch.results(), "stolen_ms": stolen}
        thread = engine._thread
        if load.waiting and thread is not None and thread.ident is not None:
            found["waited"] = waits(thread.ident, seconds, trial.tick, MESSAGE_S)
        if load.snapshots and not trial.bytes:
            raise SystemExit(f"{load.name}: no snapshot was written")
        for leases in trial.leases:
            for lease in leases:
                lease.close()
    return found


def all_held_ms(seconds: float, only: str = "") -> dict[str, Any]:
    """Return the worst of three runs for every load whose name holds some words."""
    loads = [load for load in LOADS if only in load.name]
    rounds = [{load.name: held_ms(load, seconds) for load in loads} for _ in range(RUNS)]
    results = {}
    for load in loads:
        runs = sorted((each[load.name] for each in rounds), key=lambda run: float(run["max"]))
        maxima = [run["max"] for run in runs]
        results[load.name] = {**runs[-1], "maxima": maxima, "middle_max": maxima[RUNS // 2]}
    return results


def bare_ms(seconds: float) -> dict[str, float]:
    """Return the percentiles of what the same arithmetic, about 0.1 ms of it, is charged."""
    spent: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begun = time.thread_time()
        sum(range(8000))
        spent.append(1000 * (time.thread_time() - begun))
    over = sum(ms > LONG_MS for ms in spent)
    return {"pieces": len(spent), "spent_s": round(sum(spent) / 1e3, 3), **summary(spent),
            "over_1_ms": over}  # fmt: skip


def stolen_ms() -> float:
    """Return the time that the hypervisor has kept from this machine so far; 0 where none says."""
    try:
        first = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return 0.0
    return 1000.0 * int(first[8]) / os.sysconf("SC_CLK_TCK")


def _watch(engine: Engine, watch: Watch) -> None:
    watch.thread = engine._thread


def _until(moment: float) -> None:
    pause = moment - time.perf_counter()
    if pause > 0:
        time.sleep(pause)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only", default="", help="loads whose name holds these words")
    given = parser.parse_args()
    for name, found in all_held_ms(given.seconds, given.only).items():
        print(name, json.dumps(found), flush=True)
    print("a bare loop", json.dumps(bare_ms(2.5 * given.seconds)))


if __name__ == "__main__":
    main()
