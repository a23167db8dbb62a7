"""Separation and enhancement: how well, how fast, and how safely for alarms.

Everything is measured on recordings that the built-in separators were never trained on: ESC-10's
fold 4, held-out utterances, one held-out song, alarms and noise from other seeds.

    python -m benchmarks.separation [--data FOLDER] [--peers FOLDER] [--fast]
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import machine

machine.one_thread()

import numpy as np  # noqa: E402

from benchmarks.separation_costs import cost, peer, stream_cost  # noqa: E402
from benchmarks.separation_measures import (  # noqa: E402
    HeldOut,
    Signals,
    dnsmos,
    guarded,
    level_db,
    pesq_wb,
    queried,
    run_batch,
    si_sdr,
    stoi_of,
)
from ossicle.runtime.bundle import cache_folder  # noqa: E402
from ossicle.runtime.model import Model  # noqa: E402
from ossicle.runtime.scene.alarms import VARIANTS, synthesise  # noqa: E402

OURS = ("separate-16k", "separate-16k-talk")
IMPORTED = ("gtcrn", "dtln")
NOISES = (
    "rain", "sea_waves", "helicopter", "chainsaw", "fire_crackling", "clock_tick", "dog_bark",
    "baby_cry", "rooster", "sneeze", "guitar", "piano", "noise", "noise", "noise",
)  # fmt: skip


def models_of(data: Path, names: tuple[str, ...]) -> dict[str, Model]:
    """The built-in separators, and enhancers imported from ``data/weights`` where they are."""
    from ossicle.export.importers import import_model

    found = {name: Model.load(name) for name in names}
    for family in IMPORTED:
        weights = data / "weights" / family
        if weights.is_dir():
            place = cache_folder() / "benchmarks" / family
            found[family] = Model.load(import_model(family, weights, place))
    return found


def enhance(model: Model, heard: Signals) -> Signals:
    """Speech out of every row, the way the task of that model asks for it."""
    asked = queried(model, [["speech"]] * len(heard)) if model.manifest.labels else None
    return run_batch(model, heard, asked)


def keep_alarms(model: Model, heard: Signals, out: Signals) -> Signals:
    """``out`` as the task gives it by default, with the alarm guard behind it."""
    return guarded(heard, out, model.manifest.delay, model.manifest.hop)


def enhancement(models: dict[str, Model], data: Path, count: int, slow: bool) -> dict[str, Any]:
    """Speech in noise: every system on the same mixtures at 0, 5 and 10 dB."""
    aside = HeldOut(data, seed=11)
    casts = [("speech", NOISES[i % len(NOISES)]) for i in range(count)]
    mixed = aside.mixtures(casts, [(0.0, 5.0, 10.0)[i % 3] for i in range(count)])
    heard, target = mixed.heard, mixed.parts[:, 0]
    score = dnsmos(data / "weights" / "dnsmos") if (data / "weights" / "dnsmos").exists() else None
    outs: dict[str, Signals] = {"input": heard}
    for name, model in models.items():
        outs[name] = enhance(model, heard)
        outs[f"{name}, alarms kept"] = keep_alarms(model, heard, outs[name])
    before = si_sdr(heard, target)
    table: dict[str, Any] = {}
    for name, out in outs.items():
        gain = si_sdr(out, target) - before
        kinds = defaultdict(list)
        for (_, kind), value in zip(casts, gain, strict=True):
            kinds[kind].append(float(value))
        row: dict[str, Any] = {
            "si_sdr_db": round(float(np.mean(gain + before)), 2),
            "si_sdri_db": round(float(np.mean(gain)), 2),
            "by_noise_si_sdri_db": {k: round(float(np.mean(v)), 2) for k, v in kinds.items()},
        }
        if slow:
            row["pesq_wb"] = round(float(np.mean(pesq_wb(target, out))), 3)
            row["stoi"] = round(float(np.mean(stoi_of(target, out))), 3)
        if slow and score is not None:
            marks = np.mean([score(x) for x in out], axis=0)
            sig, bak, ovr = (round(float(mark), 2) for mark in marks)
            row["dnsmos"] = {"sig": sig, "bak": bak, "ovr": ovr}
        table[name] = row
    return table


def separation(model: Model, data: Path, each: int, sources: int) -> dict[str, Any]:
    """Two or three sources at equal level: each is asked for, and one that is not there."""
    aside = HeldOut(data, seed=23 + sources)
    labels, rng = aside.labels, np.random.default_rng(sources)
    casts = []
    for label in labels:
        for _ in range(each):
            others = [k for k in labels if k != label]
            casts.append((label, *rng.choice(others, sources - 1, replace=False).tolist()))
    mixed = aside.mixtures(casts, [0.0] * len(casts))
    heard, target = mixed.heard, mixed.parts[:, 0]
    out = run_batch(model, heard, queried(model, [[cast[0]] for cast in casts]))
    gain = si_sdr(out, target) - si_sdr(heard, target)
    absent = [[str(rng.choice([k for k in labels if k not in cast]))] for cast in casts]
    left = level_db(run_batch(model, heard, queried(model, absent))) - level_db(heard)
    by_class = defaultdict(list)
    by_absent = defaultdict(list)
    for cast, asked, value, quiet in zip(casts, absent, gain, left, strict=True):
        by_class[cast[0]].append(float(value))
        by_absent[asked[0]].append(float(quiet))
    return {
        "sources": sources,
        "mixtures": len(casts),
        "si_sdri_db": round(float(np.mean([np.mean(v) for v in by_class.values()])), 2),
        "absent_db_mean": round(float(np.mean(left)), 2),
        "absent_db_median": round(float(np.median(left)), 2),
        "absent_db_90th": round(float(np.percentile(left, 90)), 2),
        "by_class_si_sdri_db": {k: round(float(np.mean(v)), 2) for k, v in by_class.items()},
        "by_absent_class_db": {k: round(float(np.mean(v)), 2) for k, v in by_absent.items()},
    }


def settle(model: Model, data: Path, pairs: int) -> dict[str, Any]:
    """Milliseconds after a change of query until the output is that of one who asked all along.

    Settled: within 1 dB of the other's level and with an error 15 dB below it, in 20 ms frames,
    for 100 ms.
    """
    aside = HeldOut(data, seed=37)
    casts = [("speech", NOISES[i % 8]) for i in range(pairs)]
    heard = aside.mixtures(casts, [0.0] * pairs).heard
    first = queried(model, [["speech"]] * pairs)
    second = queried(model, [[kind] for _, kind in casts])
    steady = run_batch(model, heard, second)
    hop, delay = model.manifest.hop, model.manifest.delay
    change = heard.shape[1] // 2 // hop * hop
    state = model.open(batch=pairs)
    made = []
    for at in range(0, heard.shape[1] // hop * hop, hop):
        asked = first if at < change else second
        made.append(model.step(state, {"audio": heard[:, None, at : at + hop], **asked}))
    switched = np.concatenate([out["separated"][:, 0] for out in made], axis=1)[:, delay:]
    frame = 320
    count = (switched.shape[1] - change) // frame
    cut = slice(change, change + count * frame)
    error = np.square(switched[:, cut] - steady[:, cut]).reshape(pairs, count, frame).mean(-1)
    loud = np.square(steady[:, cut]).reshape(pairs, count, frame).mean(-1)
    floor = 1e-3 * loud.mean(-1, keepdims=True)
    good = error < 10**-1.5 * (loud + floor)
    times = []
    for row in good:
        runs = [i for i in range(count - 5) if row[i : i + 5].all()]
        times.append(20.0 * runs[0] if runs else float("inf"))
    finite = [t for t in times if np.isfinite(t)]
    return {
        "changes": pairs,
        "settled": len(finite),
        "median_ms": float(np.median(times)) if finite else None,
        "p90_ms": float(np.percentile(finite, 90)) if finite else None,
    }


def levels(models: dict[str, Model], data: Path, count: int) -> dict[str, Any]:
    """SI-SDR of the same mixtures from 30 dB softer to 10 dB louder."""
    aside = HeldOut(data, seed=41)
    casts = [("speech", NOISES[i % len(NOISES)]) for i in range(count)]
    mixed = aside.mixtures(casts, [5.0] * count)
    table: dict[str, Any] = {}
    for name, model in models.items():
        row = {}
        for gain_db in (-30, -20, -10, 0, 10):
            scale = np.float32(10 ** (gain_db / 20))
            out = enhance(model, mixed.heard * scale)
            row[f"{gain_db:+d} dB"] = round(float(si_sdr(out, mixed.parts[:, 0]).mean()), 2)
        row["span_db"] = round(max(row.values()) - min(row.values()), 2)
        table[name] = row
    return table


def alarms(models: dict[str, Model], each: int) -> dict[str, Any]:
    """What is left of every alarm behind every enhancer, in dB; alone, over a little room noise."""
    table: dict[str, Any] = {}
    for label, kinds in VARIANTS.items():
        for kind in kinds:
            rng = np.random.default_rng(71)
            clips = []
            for _ in range(each):
                x = synthesise(label, rng, 4.0, variant=kind).samples * 0.1
                clips.append(x + 2e-4 * rng.standard_normal(len(x)))
            heard = np.stack(clips)[:, :63_744].astype(np.float32)
            row = {}
            for name, model in models.items():
                bare = enhance(model, heard)
                for words, out in (("bare", bare), ("guarded", keep_alarms(model, heard, bare))):
                    left = level_db(out) - level_db(heard)
                    row[f"{name}, {words}"] = {
                        "mean_db": round(float(left.mean()), 1),
                        "worst_db": round(float(left.min()), 1),
                    }
            table[f"{label} {kind}"] = row
    return table


def costs(models: dict[str, Model], peers: Path | None, hops: int) -> dict[str, Any]:
    """Processor time per hop for 1 and 16 streams, and the peers' own scripts in the same run."""
    table: dict[str, Any] = {
        name: [cost(model, batch, hops) for batch in (1, 16)] for name, model in models.items()
    }
    for name, model in models.items():
        table[f"{name}, served with its guards"] = [stream_cost(model, hops)]
    for script in ("gtcrn_ort.py", "dtln_ort.py"):
        if peers is not None and (peers / script).exists():
            table[f"peer {script}"] = peer(peers / script)
    return table


def main() -> None:
    """Measure, then write JSON, Markdown and a plot."""
    from benchmarks.separation_report import imported_figures, markdown, plot

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("OSSICLE_DATA", "../shared/data"))
    )
    parser.add_argument("--peers", type=Path, default=Path("../shared/peers"))
    parser.add_argument("--models", nargs="*", default=list(OURS))
    parser.add_argument("--fast", action="store_true", help="fewer mixtures, no PESQ, STOI, DNSMOS")
    parser.add_argument("--out", type=Path, default=machine.RESULTS)
    parser.add_argument("--only", nargs="*", help="measure these parts anew, keep the others")
    given = parser.parse_args()
    if not (given.data / "train").is_dir():
        raise SystemExit(f"no audio at {given.data}; give --data or set OSSICLE_DATA")
    models = models_of(given.data, tuple(given.models))
    ours = {name: model for name, model in models.items() if name in given.models}
    few = given.fast
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "enhancement": lambda: enhancement(models, given.data, 15 if few else 30, not few),
        "separation": lambda: {
            name: {
                "two": separation(model, given.data, 2 if few else 4, 2),
                "three": separation(model, given.data, 1 if few else 2, 3),
            }
            for name, model in ours.items()
        },
        "settle": lambda: {n: settle(m, given.data, 8 if few else 16) for n, m in ours.items()},
        "levels": lambda: levels(models, given.data, 6 if few else 15),
        "alarms": lambda: alarms(models, 2 if few else 4),
        "costs": lambda: costs(models, given.peers, 100 if few else 400),
    }
    place = given.out / "separation.json"
    results: dict[str, Any] = {}
    if given.only and place.exists():
        results = json.loads(place.read_text())["results"]
    for name in given.only or sections:
        results[name] = sections[name]()
        machine.save("separation", results, place)
    if set(sections) - set(results):
        return
    sources = {n: models[n].manifest.source for n in IMPORTED if n in models}
    if sources and given.out == machine.RESULTS and not given.fast:
        card = machine.RESULTS.parents[1] / "export" / "importers" / "enhancers.json"
        card.write_text(json.dumps(imported_figures(results, sources), indent=1) + "\n")
    place.with_suffix(".md").write_text(markdown(results, machine.describe()))
    plot(results, place.with_suffix(".png"))
    print(place.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
