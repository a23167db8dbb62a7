"""What the demo leaves behind: captions, two tracks, a plot of the latency, a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ossicle.runtime.audio import Samples
from ossicle.runtime.errors import OssicleError
from ossicle.streaming.client import Sound
from ossicle.streaming.demo.scene import Played
from ossicle.streaming.demo.tally import Tally, as_plain, summary
from ossicle.streaming.demo.view import budget_ms
from ossicle.streaming.version import VERSION


def write_results(
    folder: Path, played: Played, tally: Tally, query: str, kbps: float
) -> dict[str, Any]:
    """Write every file that there is something for, and return the report."""
    files: list[str] = []
    notes: list[str] = []
    if tally.cues:
        _captions(folder / "captions.vtt", tally)
        files.append("captions.vtt")
    for task, name in (("decode", "decoded.wav"), ("separate", "separated.wav")):
        if sounds := tally.sounds.get(task):
            _audio(folder / name, sounds)
            files.append(name)
    try:
        plot_latency(folder / "latency.png", tally)
        files.append("latency.png")
    except ModuleNotFoundError:
        notes.append("no plot: pip install 'ossicle[plot]'")
    report = _report(played, tally, query, kbps)
    report |= {"files": [*files, "report.json"], "notes": notes}
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def _report(played: Played, tally: Tally, query: str, kbps: float) -> dict[str, Any]:
    return {
        "version": VERSION,
        "scene": played.title,
        "seconds": round(played.samples.shape[1] / played.rate_hz, 3),
        "truth": [list(row) for row in played.truth],
        "captions": [
            {"text": c.text, "start_s": round(c.start_sample / c.sample_rate_hz, 3),
             "end_s": round(c.end_sample / c.sample_rate_hz, 3)}
            for c in tally.cues if c.is_final
        ],
        "query": query,
        "codec": {
            "asked_kbps": kbps,
            "packet_kbps": round(tally.packet_kbps, 3),
            "wire_kbps": round(tally.wire_kbps, 3),
            "packets": tally.packets,
        },
        "latency_ms": {
            task: {
                "budget": budget_ms(tally, task),
                "algorithmic": _algorithmic(tally, task),
                "late": tally.late(task, budget_ms(tally, task)),
                **tally.percentiles(task),
            }
            for task in sorted(tally.ledgers)
        },
        "round_trip_ms": {name: summary(values) for name, values in tally.trips.items()},
        "streams": {name: as_plain(ended) for name, ended in tally.ended.items()},
        "gaps": len(tally.gaps),
        "notices": [n.text for n in tally.notices],
    }  # fmt: skip


def _algorithmic(tally: Tally, task: str) -> float:
    for started in tally.started.values():
        for t in started.tasks:
            if t.name == task:
                return round(1000 * t.latency_samples / t.model_rate_hz, 2)
    return 0.0


def _captions(path: Path, tally: Tally) -> None:
    from ossicle.streaming.captions.sinks import Outlets, file_sink

    outlets = Outlets({"vtt": file_sink("vtt", path)}, when_full="wait")
    for cue in tally.cues:
        outlets.put(cue)
    failed = [report.failure for report in outlets.close() if report.failure]
    if failed:
        raise OssicleError(f"captions could not be written: {failed[0]}")


def _audio(path: Path, sounds: list[Sound]) -> None:
    from ossicle.streaming.client.aio import concatenate
    from ossicle.streaming.codec.audiofile import open_sink

    samples: Samples = concatenate(sounds)
    with open_sink(path, sounds[0].rate_hz, samples.shape[0]) as sink:
        sink.write(np.clip(samples, -1.0, 1.0))


def plot_latency(path: Path, tally: Tally) -> None:
    """Draw the ledger's stages over time, a panel for each task, with its budget."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    tasks = sorted(tally.ledgers)
    figure, axes = plt.subplots(
        max(1, len(tasks)), 1, figsize=(9, 2.2 * max(1, len(tasks)) + 0.6), squeeze=False
    )
    stages = ("wait", "queue", "batch", "compute", "post")
    for axis, task in zip(axes[:, 0], tasks, strict=False):
        held = tally.ledgers[task]
        times = [at for at, _ in held]
        rows = np.array([[getattr(e, f"{s}_us") / 1000 for s in stages] for _, e in held])
        axis.stackplot(times, rows.T, labels=stages, step="post", linewidth=0)
        budget = budget_ms(tally, task)
        axis.axhline(budget, color="black", linestyle="--", linewidth=1)
        axis.set_ylim(0, max(1.2 * budget, float(np.percentile(rows.sum(axis=1), 99.5))))
        axis.set_ylabel("ms")
        axis.set_title(f"{task}: response after its last sample; budget {budget:g} ms", fontsize=9)
    axes[-1, 0].set_xlabel("s")
    axes[0, 0].legend(ncols=5, fontsize=7, loc="upper right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
