r"""Write what was measured into a tagger bundle: its card, its credits and its metrics.

    python -m ossicle.export.recipes.tagger_card --bundle runtime/bundles/sounds-16k \
        --results benchmarks/results/captions-sounds-16k.json --story story.json --data FOLDER

Graphs and golden vectors stay byte for byte what they were.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ossicle.runtime.bundle import Bundle, write_bundle
from ossicle.runtime.manifest import Manifest, Metric
from ossicle.runtime.scene.labels import LABELS

_HEAD = """# {name}

{what}

| | |
|---|---|
| input | mono, 16 kHz, hops of {hop} samples ({hop_ms:g} ms); log-mel made by the host |
| output | scores of {classes} classes and an embedding of {embedding} numbers every 40 ms |
| memory | {states} values a stream; no sound is heard twice |
| size | {size} |
| cost | {macs:.1f} million multiply-accumulates a second, about 2 more for the log-mel |
| licence | {license} |

Classes: {labels}.

## How it was made

{how}

## Data and credits

- ESC-10 (K. J. Piczak, 2015), folds {folds}: each clip is CC0 or CC BY; authors, titles and
  addresses stand in `ATTRIBUTION.tsv`.
- Speech: Picovoice speech-to-intent and wake-word benchmarks (Apache-2.0), English commands.
- Music: Slakh2100 stems (CC BY 4.0; E. Manilow et al., 2019), Sonic Pi samples (CC0), Web Audio
  loops (Apache-2.0). Rooms: impulse responses of the Web Audio samples (Apache-2.0).
{more}- Alarms, household sounds, noise, and some of the music and of the sounds without a name:
  synthesised by `ossicle.runtime.scene`.
- YAMNet (M. Plakal and D. Ellis, Apache-2.0) was the teacher: the trunk was trained from random
  initialisation to imitate YAMNet on our audio, and its embedding guided the rest. None of its
  weights are here.

## What was measured

{measured}

## What it cannot do

{limits}
"""


_MORE = """- Further music and speech, sounds of the classes and sounds without a name: {count:,}
  recordings out of {places} public repositories under free licences, which `CREDITS.tsv` names.
  Some are CC BY-SA, GPL or (baby cries) ODbL; of some apps only the repository's own licence is
  known. Nothing of a recording is in the bundle, and whoever reads those licences more strictly
  can train without them.
"""


def gathered(manifest: Path) -> list[tuple[str, str, int]]:
    """Repository, licence and number of the recordings that a folder's ``MANIFEST.tsv`` lists.

    Only those of its ``train`` part: the others were measured with and not trained on.
    """
    head, *lines = manifest.read_text(encoding="utf-8").splitlines()
    names = head.split("\t")
    rows = [dict(zip(names, line.split("\t"), strict=False)) for line in lines]
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        if row["file"].startswith("train/"):
            key = (row["repo"], row["licence"])
            counts[key] = counts.get(key, 0) + 1
    return [(repo, licence, n) for (repo, licence), n in sorted(counts.items())]


def card(
    manifest: Manifest,
    story: Mapping[str, Any],
    report: Mapping[str, Any] | None,
    more: Sequence[tuple[str, str, int]] = (),
) -> str:
    """The card in Markdown; ``story`` has ``what``, ``how``, ``size``, ``folds``, ``limits``.

    ``more`` are the repositories, licences and numbers of further recordings.
    """
    states = sum(_count(s.shape) for g in manifest.graphs.values() for s in g.states)
    return _HEAD.format(
        name=manifest.name,
        what=story["what"],
        hop=manifest.hop,
        hop_ms=1000 * manifest.hop / manifest.sample_rate_hz,
        classes=len(LABELS),
        embedding=manifest.extra["embedding"],
        states=f"{states:,}",
        size=story["size"],
        macs=manifest.extra["macs_per_second"] / 1e6,
        license=manifest.license,
        labels=", ".join(f"`{x}`" for x in LABELS),
        how=story["how"],
        folds=story["folds"],
        measured=story["measured"] + ("\n\n" + table(report) if report else ""),
        limits=story["limits"],
        more=_MORE.format(count=sum(n for _, _, n in more), places=len({r for r, _, _ in more}))
        if more
        else "",
    )


def _count(shape: Sequence[int]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total


def table(report: Mapping[str, Any]) -> str:
    """The figures of :func:`metrics_of` as a table."""
    rows = [f"| {m.name} | {m.value:g} {m.unit} |" for m in metrics_of(report)]
    about = f"`{report['machine']['command']}` on {report['machine']['cpu']}"
    return "\n".join([f"{about}:", "", "| measure | value |", "|---|---|", *rows])


def metrics_of(report: Mapping[str, Any]) -> list[Metric]:
    """The figures of a caption report that a reader of the bundle wants first."""
    s, calm, alerts = report["scenes"], report["calm"]["all"], report["alarms"]["alerts"]
    data = f"fold {report['folds']} and held-out speech, music, rooms; seed {report['seed']}"
    command = str(report["machine"]["command"])
    rows: list[tuple[str, float | None, str]] = [
        ("clip accuracy, ten classes", report["clips"]["accuracy"], ""),
        ("segment F1, two-event scenes", s["segment"]["f1"], ""),
        ("event F1, 200 ms collars", s["event"]["f1"], ""),
        ("onset F1, 200 ms", s["onset"]["f1"], ""),
        ("PSDS1", s.get("psds1"), ""),
        ("PSDS2", s.get("psds2"), ""),
        ("onset to caption p50", s["latency"]["unaware"].get("p50"), "s"),
        ("onset to caption p95", s["latency"]["unaware"].get("p95"), "s"),
        ("alert in household noise, recall", alerts["recall"], ""),
        ("warning sounds in household noise, recall", report["alarms"]["all"]["recall"], ""),
        ("alert in household noise, onset to caption p95", alerts["unaware"].get("p95"), "s"),
        ("false captions", calm["per_hour"], "per hour"),
        ("false alerts", calm["alerts_per_hour"], "per hour"),
        ("duplicates", s["duplicates"]["per_event"], "per event"),
        ("normalised erasure", s["erasure"]["erasure"], ""),
        ("one stream", report["cost"]["core_percent"], "% of a core"),
    ]
    return [Metric(n, float(v), unit, data, command) for n, v, unit in rows if v is not None]


def credits_of(data: Path, folds: Sequence[int]) -> bytes:
    """The lines of ESC-10's attributions for the clips of ``folds`` that are there to train on."""
    there = {path.stem for path in (data / "train" / "env_esc10_f1-4").rglob("*.flac")}
    head, *rows = (data / "esc10_attribution.tsv").read_text(encoding="utf-8").splitlines()
    kept = [r for r in rows if int(r[0]) in folds and Path(r.split("\t")[0]).stem in there]
    return ("\n".join([head, *kept]) + "\n").encode()


def restate(bundle: Bundle, files: Mapping[str, bytes], metrics: Sequence[Metric]) -> Bundle:
    """``bundle`` in its own place with further ``files`` and ``metrics``; its graphs untouched."""
    content = {name: bundle.read(name) for name in bundle.manifest.files} | dict(files)
    manifest = msgspec.structs.replace(bundle.manifest, metrics=tuple(metrics))
    return write_bundle(bundle.root, manifest, content)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write card, credits and metrics of one bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OSSICLE_DATA", ".")))
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--story", type=Path, required=True)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--more", type=Path, help="MANIFEST.tsv of further recordings")
    asked = parser.parse_args(arguments)
    report = json.loads(asked.results.read_text()) if asked.results else None
    story = json.loads(asked.story.read_text())
    more = gathered(asked.more) if asked.more else []
    bundle = Bundle.open(asked.bundle)
    files = {
        "README.md": card(bundle.manifest, story, report, more).encode(),
        "ATTRIBUTION.tsv": credits_of(asked.data, asked.folds),
    }
    if more:
        lines = ["repository\tlicence\trecordings", *(f"{a}\t{b}\t{n}" for a, b, n in more)]
        files["CREDITS.tsv"] = ("\n".join(lines) + "\n").encode()
    restate(bundle, files, metrics_of(report) if report else bundle.manifest.metrics)


if __name__ == "__main__":
    main()
