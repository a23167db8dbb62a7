"""A day of captions: whether times drift, states grow, or a sound is ever told otherwise.

    python -m benchmarks.captions_day --bundle sounds-16k --hours 24 --model-hours 1

Two runs, both with the sample clock opened just under 2**31, where 32 bits would end. The clock
run feeds made-up scores to tracker, composer and stabiliser, a sound a minute. The model run
plays one minute of audio again and again through the whole captioner; every minute's cues have to
be the same but for the time, no number may come twice, and nothing may grow.
"""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.machine import RESULTS, describe, one_thread

one_thread()

import numpy as np  # noqa: E402 - after the thread counts are set
from numpy.typing import NDArray  # noqa: E402

from ossicle.runtime import snapshot  # noqa: E402
from ossicle.runtime.audio import AudioFormat, Chunk  # noqa: E402
from ossicle.runtime.model import Model  # noqa: E402
from ossicle.runtime.scene.labels import LABELS  # noqa: E402
from ossicle.runtime.scene.mix import demo_scene  # noqa: E402
from ossicle.runtime.task import CueEvent, Hop, InlineRun  # noqa: E402
from ossicle.streaming.captions.cue import Op  # noqa: E402
from ossicle.streaming.captions.task import CaptionState, CaptionTask  # noqa: E402

RATE = 16_000
FIRST = (1 << 31) - 30 * RATE - 77  # half a minute before 32 bits end; odd, so no float32 has it
MINUTE = 60 * RATE


def clock(task: CaptionTask, hours: float, first: int = FIRST) -> dict[str, Any]:
    """A sound a minute, each class in turn, for ``hours``: how far onsets and offsets stray."""
    state, hop = task.open(), task.manifest.hop
    lag = {name: _lag(task, name) for name in LABELS}
    silence = np.zeros((1, hop), np.float32)
    quiet = np.zeros((2, len(LABELS)), np.float32)
    onsets: dict[int, int] = {}
    offsets: list[int] = []
    told, early_size, size = 0, 0, 0
    period = MINUTE // hop
    hops = round(hours * 3600 * RATE / hop)
    for i in range(hops):
        minute, at = i // period, first + i * hop
        k, inside = minute % len(LABELS), i % period
        scores = quiet
        if 20 <= inside < 60:
            scores = quiet.copy()
            scores[:, k] = 0.999
        task.push(state, Chunk(silence, at, AudioFormat(RATE)))
        for event in task.take(state, Hop({}, at, at + hop), {"scores": scores}):
            if not isinstance(event, CueEvent) or not event.cue.labels:
                continue
            label = event.cue.labels[0]
            begun = (label.onset_sample - first) // MINUTE * MINUTE + first
            if event.cue.op == "OPEN" and event.cue.labels[0].name == LABELS[k]:
                want = first + minute * MINUTE + 20 * hop - task.delay - lag[label.name]
                onsets.setdefault(minute, abs(label.onset_sample - want))
                told += 1
            if label.offset_sample is not None:
                offsets.append(abs(label.offset_sample - (begun + 60 * hop - task.delay)))
        if i % (60 * period) == 60 * period - 1:
            size = len(pickle.dumps(snapshot.dump(state)))
            early_size = early_size or size
    return {
        "hours": hours,
        "first_sample": first,
        "sounds": hops // period,
        "told": len(onsets),
        "opened": told,
        "worst_onset_error_samples": max(onsets.values(), default=0),
        "worst_offset_error_samples": max(offsets, default=0),
        "state_bytes_after_an_hour": early_size,
        "state_bytes_at_the_end": size,
    }


def _lag(task: CaptionTask, name: str) -> int:
    rule = task.manifest.extra["thresholds"].get(name, {})
    return round(float(rule.get("lag_ms", 0)) * RATE / 1000)


def minute_of_audio() -> NDArray[np.float32]:
    """A scene with its sounds, then silence: a minute [T], a whole number of hops."""
    samples, _ = demo_scene()
    return np.concatenate([samples, np.zeros(MINUTE - len(samples), np.float32)])


def cues(
    task: CaptionTask, model: Model, hours: float
) -> Iterator[tuple[int, list[Any], CaptionState]]:
    """The cues of each minute, cue numbers counted from the minute's first, times from its start.

    And the state behind them. The last second of a minute is silence: no cue is open at its end.
    """
    run, audio = InlineRun(task, model), minute_of_audio()
    chunk = RATE // 2
    number = 0
    for minute in range(round(hours * 60)):
        start, rows = FIRST + minute * MINUTE, list[Any]()
        for at in range(0, MINUTE, chunk):
            part = Chunk(audio[None, at : at + chunk], start + at, AudioFormat(RATE))
            rows += [e.cue for e in run.feed(part) if isinstance(e, CueEvent)]
        opened = [cue.cue_id for cue in rows if cue.op is Op.OPEN]
        assert sorted(set(opened)) == opened, f"minute {minute}: a cue was opened twice"
        assert not opened or opened[0] > number, f"minute {minute}: an old cue was opened again"
        yield minute, [_relative(cue, start, number) for cue in rows], run.state
        number = max([number, *(cue.cue_id for cue in rows)])


def _relative(cue: Any, start: int, number: int) -> dict[str, Any]:
    """What a cue says, its times and numbers counted from the minute's start."""
    return {
        "op": str(cue.op),
        "text": cue.text,
        "id": cue.cue_id - number,
        "start": cue.start_sample - start,
        "end": cue.end_sample - start,
        "labels": [
            {**asdict(x), "onset_sample": x.onset_sample - start,
             "offset_sample": None if x.offset_sample is None else x.offset_sample - start}
            for x in cue.labels
        ],
        "relations": [(str(r.kind), r.cue_id - number) for r in cue.relations],
    }  # fmt: skip


def model_day(task: CaptionTask, model: Model, hours: float) -> dict[str, Any]:
    """Minutes whose cues differ from the second minute's in anything but the time."""
    want: list[Any] | None = None
    other = count = total = 0
    sizes: list[tuple[int, int]] = []  # of the state, and of the process, an hour
    for minute, rows, state in cues(task, model, hours):
        spoken = [r for r in rows if r["text"]]
        if minute % 60 == 59:
            sizes.append((len(pickle.dumps(snapshot.dump(state))), resident_kib()))
        if minute == 0:
            continue
        want = spoken if want is None else want
        other += spoken != want
        count, total = count + 1, total + len(spoken)
    return {"hours": hours, "first_sample": FIRST, "minutes": count, "minutes_that_differ": other,
            "cue_lines": total, "cue_lines_a_minute": len(want or ()),
            "state_bytes_by_hour": [a for a, _ in sizes],
            "process_kib_by_hour": [b for _, b in sizes]}  # fmt: skip


def resident_kib() -> int:
    """Memory of this process that is in use; 0 where the system does not tell."""
    place = Path("/proc/self/statm")
    return int(place.read_text().split()[1]) * 4 if place.exists() else 0


def main() -> None:
    """Measure both and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="sounds-16k")
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--model-hours", type=float, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    model = Model.load(asked.bundle)
    task = CaptionTask(model.manifest)
    report = {
        "bundle": model.manifest.name,
        "version": model.manifest.version,
        "machine": describe(),
        "clock": clock(task, asked.hours),
        "model": model_day(task, model, asked.model_hours),
    }
    place = asked.out / f"captions-day-{model.manifest.name}.json"
    place.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
    print(json.dumps(report, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
