"""What every result carries: where, when and from which code it came; and fair timing."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def describe() -> dict[str, Any]:
    """Return machine, library versions, commit and command."""
    versions = {}
    for name in ("numpy", "onnxruntime", "torch", "soxr", "grpcio", "ai-edge-litert"):
        try:
            import importlib.metadata

            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions,
        "commit": _commit(),
        "command": " ".join(["python", "-m", *_module(), *sys.argv[1:]]),
        "load_average": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d"),
    }


def one_thread() -> None:
    """Pin this process to one core, and numeric libraries to one thread, where that can be done.

    Call it before NumPy or torch are imported.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})


def times_us(action: Callable[[], Any], runs: int = 200, warm_up: int = 20) -> dict[str, float]:
    """Return median, p99 and minimum of ``action`` in microseconds, after a warm-up."""
    for _ in range(warm_up):
        action()
    found = []
    for _ in range(runs):
        begin = time.perf_counter_ns()
        action()
        found.append((time.perf_counter_ns() - begin) / 1e3)
    return summary(found)


def summary(values: list[float]) -> dict[str, float]:
    """Return median, p99 and minimum of a list."""
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), 2),
        "p99": round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 2),
        "min": round(ordered[0], 2),
    }


def save(name: str, results: Any, place: str | os.PathLike[str] | None = None) -> Path:
    """Write ``results`` with the machine's description as JSON and return the place."""
    target = Path(place) if place else RESULTS / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": describe(), "results": results}, indent=1)
    target.write_text(text + "\n")
    return target


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def _commit() -> str:
    """The commit; ``-dirty`` where anything but earlier results differs from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/",
                  ":(exclude,top)benchmarks/results", ":(exclude,top)*.md")  # fmt: skip
    return (git("describe", "--always") or "unknown") + ("-dirty" if changed else "")


def _module() -> list[str]:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return [spec.name] if spec else [sys.argv[0]]
