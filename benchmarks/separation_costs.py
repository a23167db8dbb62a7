"""What separation costs: processor time per hop and memory per stream, ours and our peers'."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from ossicle.runtime import snapshot
from ossicle.runtime.audio import Chunk
from ossicle.runtime.model import Model
from ossicle.runtime.task import InlineRun
from ossicle.streaming.separation.tasks import EnhanceTask


def cost(model: Model, batch: int, hops: int = 300) -> dict[str, float]:
    """Processor time per hop of ``batch`` streams, in microseconds, and what each remembers."""
    state = model.open(batch=batch)
    line = model.program("step")
    source = next(p.name for p in line.inputs if p.kind == "audio")
    x = np.random.default_rng(0).standard_normal((batch, 1, model.manifest.hop))
    x = (0.05 * x).astype(np.float32)
    for _ in range(30):
        model.step(state, {source: x})
    spent = []
    for _ in range(hops):
        begin = time.thread_time_ns()
        model.step(state, {source: x})
        spent.append((time.thread_time_ns() - begin) / 1e3)
    hop_ms = 1000 * model.manifest.hop / model.manifest.sample_rate_hz
    median = float(np.median(spent))
    return {
        "streams": batch,
        "hop_ms": hop_ms,
        "cpu_us_per_hop": round(median, 1),
        "cpu_us_per_hop_and_stream": round(median / batch, 1),
        "cpu_us_p99": round(float(np.percentile(spent, 99)), 1),
        "real_time_factor": round(median / batch / 1000 / hop_ms, 5),
        "state_bytes_per_stream": model.memory_bytes(),
    }


def stream_cost(model: Model, hops: int = 300) -> dict[str, float]:
    """The same for one stream as it is served: guards, alarm guard and alignment included."""
    task = EnhanceTask(model)
    run = InlineRun(task, model)
    hop = model.manifest.hop
    noise = np.random.default_rng(0).standard_normal((hops + 30, 1, hop))
    spent = []
    for index, samples in enumerate((0.05 * noise).astype(np.float32)):
        chunk = Chunk(samples, index * hop, task.input_format)
        begin = time.thread_time_ns()
        run.feed(chunk)
        spent.append((time.thread_time_ns() - begin) / 1e3)
    hop_ms = 1000 * hop / model.manifest.sample_rate_hz
    median = float(np.median(spent[30:]))
    return {
        "streams": 1,
        "hop_ms": hop_ms,
        "cpu_us_per_hop": round(median, 1),
        "cpu_us_per_hop_and_stream": round(median, 1),
        "cpu_us_p99": round(float(np.percentile(spent[30:], 99)), 1),
        "real_time_factor": round(median / 1000 / hop_ms, 5),
        "state_bytes_per_stream": model.memory_bytes() + len(snapshot.dump(run.state)),
    }


def peer(script: Path) -> dict[str, Any]:
    """What a peer's script prints when run as it is, on this machine, now."""
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=600
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
