"""Marks on the engine's thread where it gives the interpreter's lock up and where it has it back.

What lies between is a hold. It is noted as wall time and as CPU time of the engine's thread: they
differ where the machine ran something else on that core, or where the interpreter took the lock
away for another thread that had asked for it. Neither is what the engine does with the lock, so the
CPU time is the hold, and the wall time stands beside it.

Marked are: a step of a compiled graph, a Fourier transform of NumPy, a snapshot's hash, waiting for
something to do, and the rest between two streams that the engine takes when it has held the lock
for a while. All else counts as held, also where NumPy gives the lock up for a moment: the figures
are upper bounds.
"""

from __future__ import annotations

import gc
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from ossicle.runtime import snapshot
from ossicle.runtime.backend.native.backend import NativeGraph
from ossicle.runtime.engine import Engine
from ossicle.runtime.model import Model

PERCENTILES = {"p50": 50.0, "p99": 99.0, "p999": 99.9, "max": 100.0}
LONG_MS = 1.0  # a hold that is looked at one by one


def summary(ms: list[float]) -> dict[str, float]:
    """Return the percentiles of some times."""
    found = np.percentile(ms, [*PERCENTILES.values()]) if ms else np.zeros(len(PERCENTILES))
    return {name: round(float(v), 3) for name, v in zip(PERCENTILES, found, strict=True)}


class Watch:
    """Every hold of one thread, in ms: wall time and CPU time."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None  # whose marks count
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.long: list[dict[str, float]] = []  # what is known of each of the longest
        self._since: tuple[int, int] | None = None
        self._before: tuple[int, ...] = ()

    def give(self) -> None:
        """Note that the lock is given up next."""
        if threading.current_thread() is self.thread and self._since is not None:
            cpu, wall = time.thread_time_ns(), time.monotonic_ns()
            self.wall.append((wall - self._since[0]) / 1e6)
            self.cpu.append((cpu - self._since[1]) / 1e6)
            self._since = None
            if self.cpu[-1] > LONG_MS:
                self._look()

    def take(self) -> None:
        """Note that the lock was got back just now."""
        if threading.current_thread() is self.thread:
            self._before = _charged()
            self._since = time.monotonic_ns(), time.thread_time_ns()

    def free(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``call``, which runs without the lock, with both marks."""

        def marked(*given: Any, **named: Any) -> Any:
            self.give()
            try:
                return call(*given, **named)
            finally:
                self.take()

        return marked

    def _look(self) -> None:
        """Keep what the interpreter and the kernel did in the last hold."""
        names = ("page_faults", "switches", "collections")
        done = (b - a for a, b in zip(self._before, _charged(), strict=True))
        times = {"cpu_ms": round(self.cpu[-1], 3), "wall_ms": round(self.wall[-1], 3)}
        self.long.append({**times, **dict(zip(names, done, strict=True))})

    def results(self) -> dict[str, Any]:
        """Return how many holds there were, their percentiles, and the long ones one by one."""
        found: dict[str, Any] = {"holds": len(self.cpu), "held_s": round(sum(self.cpu) / 1e3, 3)}
        return {**found, **summary(self.cpu), "wall": summary(self.wall), "long": self.long}


def _charged() -> tuple[int, ...]:
    """Return this thread's page faults and switches so far, and the interpreter's collections."""
    used = resource.getrusage(resource.RUSAGE_THREAD)
    collections = sum(each["collections"] for each in gc.get_stats())
    return used.ru_minflt + used.ru_majflt, used.ru_nvcsw + used.ru_nivcsw, collections


class Step:
    """A compiled graph's step with marks around it."""

    def __init__(self, run: Any, watch: Watch) -> None:
        self._run, self.step = run, watch.free(run.step)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)


class Bell:
    """The engine's bell with marks around the waiting; one that was rung already keeps the lock."""

    def __init__(self, bell: Any, watch: Watch) -> None:
        self._bell, self._wait, self.release = bell, watch.free(bell.acquire), bell.release

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Wait until it rings, or not at all."""
        if self._bell.acquire(blocking=False):
            return True
        return blocking and bool(self._wait(timeout=timeout))


@contextmanager
def watched(engine: Engine) -> Iterator[Watch]:
    """Watch an engine that was not started, with graphs that were not bound."""
    watch = Watch()
    for model in engine.models.values():
        _mark(model, watch)
    engine._bell = Bell(engine._bell, watch)  # type: ignore[assignment]
    engine._rounds.rest = watch.free(time.sleep)
    transforms = np.fft.rfft, np.fft.irfft
    np.fft.rfft, np.fft.irfft = watch.free(np.fft.rfft), watch.free(np.fft.irfft)
    reader: Any = snapshot
    hashes = reader.hashlib
    reader.hashlib = SimpleNamespace(blake2b=watch.free(hashes.blake2b))
    try:
        yield watch
    finally:
        np.fft.rfft, np.fft.irfft = transforms
        reader.hashlib = hashes


def _mark(model: Model, watch: Watch) -> None:
    for graph in model._graphs.values():
        if not isinstance(graph, NativeGraph):
            raise SystemExit(f"{model.name} runs on {model.backend.name}; the compiled part needed")
        run = graph.core.StepRun
        made = watch.free(run)  # its scratch is made without the lock too
        graph.core = SimpleNamespace(StepRun=lambda *given, made=made: Step(made(*given), watch))
