"""How long another thread waits for the interpreter's lock while the engine steps real streams.

A thread spins. A turn of the spin in which it went to sleep waited for the lock (nothing else in it
can sleep). That is what a thread suffers, and more than what the engine holds: the scheduler must
wake the waiting thread first, and if it does so after the engine has taken the lock again, the
thread is charged with that hold too. ``worked`` is the CPU time of the engine's thread meanwhile,
its graphs included, which run without the lock: a bound of what it can have held.
"""

from __future__ import annotations

import resource
import time
from typing import Any

from benchmarks.serving_watch import summary


def waits(thread_id: int, seconds: float, tick: Any, tick_s: float) -> dict[str, Any]:
    """Spin beside a thread and call ``tick`` when it is due; return the percentiles in ms."""
    clock = time.pthread_getcpuclockid(thread_id)
    waited: list[float] = []
    worked: list[float] = []
    begun = due = time.perf_counter()
    last, used, slept = _look(clock)
    while last - begun < seconds:
        now, cpu, sleeps = _look(clock)
        if sleeps > slept:
            waited.append(1000 * (now - last))
            worked.append(1000 * min(now - last, cpu - used))
        last, used, slept = now, cpu, sleeps
        if now >= due:
            due += tick_s
            tick()
            last, used, slept = _look(clock)
    return {"waits": len(waited), **summary(waited), "worked": summary(worked)}


def _look(clock: int) -> tuple[float, float, int]:
    """Return the time, the other thread's CPU time, and how often this thread has slept."""
    slept = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    return time.perf_counter(), time.clock_gettime(clock), slept
