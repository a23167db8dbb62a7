"""Imported models against the libraries that usually run them, side by side in one process.

``python -m benchmarks.importers [--data FOLDER] [--hops 300] [--backend both] [--json PLACE]``

One thread, one core. The sides take turns of 20 hops, and the CPU time of the calling thread is
what counts, so that the rest of the machine falls out; medians over all hops. For 16 streams the
other side runs its 16 instances one after the other, as its fixed batch of one demands (EnCodec's
library takes the batch). A time counts only over a green check: the same codes or samples.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.importer_peers import Array, DtlnOrt, GtcrnOrt, session_of
from benchmarks.importer_trials import LYRA_PARTS, encodec, lyra, lyra_quality, stepped, yamnet
from benchmarks.machine import describe, save

import numpy as np  # isort: skip - after the thread counts are set
import soundfile  # isort: skip

from ossicle.export.importers import import_model

STREAMS = 16
BACKENDS = {"ort": ("ort",), "native": ("native",), "both": ("ort", "native")}
GOALS = {"lyra": (1.0, 0.5), "gtcrn": (1.0, 0.6), "dtln": (1.0, 0.6)}  # share at 1 and 16 streams
CLIPS = 64  # of speech, for PESQ
PEERS = {"gtcrn": "ORT loop", "dtln": "ORT loop", "yamnet": "TFLite"}
FOLDERS = {"lyra": "lyra_v2", "gtcrn": "gtcrn", "dtln": "dtln", "yamnet": "yamnet"}


def _read(path: Path) -> Array:
    return np.asarray(soundfile.read(path, dtype="float32")[0])


def run(data: Path, hops: int, backend: str) -> dict[str, Any]:
    """Measure everything; raises where a check is red."""
    weights, backends = data / "weights", BACKENDS[backend]
    noisy = _read(weights / "gtcrn" / "mix.wav")
    files = sorted((data / "train" / "speech_picovoice_sti").rglob("*.flac"))
    speech = np.concatenate([_read(f) for f in files[:8]])
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        made = {
            family: import_model(family, weights / folder, Path(scratch) / family)
            for family, folder in FOLDERS.items()
        }
        gtcrn = session_of(weights / "gtcrn" / "gtcrn_simple.onnx")
        dtln = [session_of(weights / "dtln" / f"model_{k}.onnx") for k in (1, 2)]
        for streams in (1, STREAMS):
            count = hops if streams == 1 else max(40, hops // 4)
            few = max(12, count // 10)
            results[f"streams {streams}"] = {
                "lyra": lyra(
                    weights / "lyra_v2", made["lyra"], speech, count, streams, backends
                ),
                "gtcrn": stepped(
                    made["gtcrn"], "ORT loop", lambda: GtcrnOrt(gtcrn), noisy, count, streams,
                    backends,
                ),
                "dtln": stepped(
                    made["dtln"], "ORT loop", lambda: DtlnOrt(*dtln), noisy, count, streams,
                    backends, ("as_published", "step"),
                ),
                "yamnet": yamnet(
                    weights / "yamnet", made["yamnet"], speech, few, streams, backends
                ),
                "encodec": encodec(few, streams, backends),
            }  # fmt: skip
        _check(results)
        clips = [c for c in map(_read, files[:: len(files) // CLIPS][:CLIPS]) if len(c) >= 32000]
        results["lyra_pesq_3200_bps"] = lyra_quality(weights / "lyra_v2", made["lyra"], clips, 16)
    results["rows"] = rows(results, backends)
    return results


def _check(results: dict[str, Any]) -> None:
    for streams in (1, STREAMS):
        found = results[f"streams {streams}"]
        for side, equal in found["lyra"]["codes_equal_first_16"].items():
            if equal < 0.95:
                raise SystemExit(f"Lyra's codes differ: {side} {equal}")
        for family, allowed in (("gtcrn", 1e-4), ("dtln", 1e-4), ("yamnet", 0.1)):
            for side, far in found[family]["largest_difference"].items():
                levelled = family == "dtln" and not side.startswith("as_published")
                if far > allowed and not levelled:  # brought to one loudness: another output
                    raise SystemExit(f"{family} differs by {far} on {side}")


def rows(results: dict[str, Any], backends: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return each pair that was timed, with its goal where there is one, and whether it is met."""
    made = []
    for index, streams in enumerate((1, STREAMS)):
        found = results[f"streams {streams}"]
        pairs: list[tuple[str, str, float, float]] = []
        for side in sorted(found["lyra"]["codes_equal_first_16"]):
            us = found["lyra"]["us"]
            pairs += [
                ("lyra", f"{side} {part}", us[f"{side} {part}"], us[f"TFLite {part}"])
                for part in ("all", *LYRA_PARTS)
            ]
        for family, peer in PEERS.items():
            us = found[family]["us"]
            pairs += [(family, side, us[side], us[peer]) for side in us if side != peer]
        us = found["encodec"]["us"]
        pairs += [
            ("encodec", f"{backend} {part}", us[f"{backend} {part}"], us[f"transformers {part}"])
            for backend in backends
            for part in ("encode", "decode")
            if f"{backend} {part}" in us
        ]
        made += [_row(family, side, streams, index, ours, other)
                 for family, side, ours, other in pairs]  # fmt: skip
    return made


def _row(
    family: str, side: str, streams: int, index: int, ours: float, other: float
) -> dict[str, Any]:
    allowed = GOALS[family][index] if family in GOALS else None
    return {
        "what": f"{family} {side}", "streams": streams, "ossicle_us": ours, "other_us": other,
        "share": round(ours / other, 3), "allowed": allowed,
        "met": None if allowed is None else ours <= allowed * other,
    }  # fmt: skip


def page(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    machine, first = describe(), results["streams 1"]
    lines = [
        "# Imported models against the libraries that usually run them",
        "",
        (
            f"{machine['cpu']}, one core, one thread; commit {machine['commit']}; "
            f"load average {machine['load_average']}; `{machine['command']}`"
        ),
        "",
        "CPU time of the thread, median, microseconds per stream and hop; `share` is that of the",
        "other side's time, `allowed` the goal. The other side: TFLite for Lyra and YAMNet, a loop",
        "over ONNX Runtime for GTCRN and DTLN, transformers in PyTorch for EnCodec.",
        "",
        "| what | streams | Ossicle | other | share | allowed | met |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['what']} | {r['streams']} | {r['ossicle_us']} | {r['other_us']} | {r['share']} | "
        f"{r['allowed'] or '-'} | {'-' if r['met'] is None else 'yes' if r['met'] else 'no'} |"
        for r in results["rows"]
    ]
    lines += ["", "Checks:", ""]
    lines += [
        f"- Lyra, {side}: {equal:.2%} of the codes of the first 16 layers equal TFLite's."
        for side, equal in first["lyra"]["codes_equal_first_16"].items()
    ]
    for family in PEERS:
        far = ", ".join(f"{s} {d}" for s, d in first[family]["largest_difference"].items())
        lines.append(f"- {family}: largest difference of a value: {far}.")
        lines += [f"- {family}: {why}" for why in first[family]["refused"].values()]
    lines += [f"- encodec: {why}" for why in first["encodec"]["refused"].values()]
    lines.append(_quality_line(results["lyra_pesq_3200_bps"]))
    return "\n".join(lines) + "\n"


def _quality_line(found: dict[str, Any]) -> str:
    mean, low, high = (found[k] for k in ("mean", "difference_lowest", "difference_highest"))
    spans = [f"{low[kind]} to {high[kind]} ({kind})" for kind in ("QDQ", "float")]
    apart, width = found["difference_mean"], found["difference_95"]
    means = [f"{kind} {apart[kind]:+} (95 %: +-{width[kind]})" for kind in ("QDQ", "float")]
    return (
        f"- Lyra, PESQ at 3.2 kbps over {found['clips']} utterances: TFLite {mean['TFLite']}, "
        f"{', '.join(means)}; one utterance differs by {' and '.join(spans)}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("OSSICLE_DATA", "../shared/data"))
    parser.add_argument("--hops", type=int, default=300)
    parser.add_argument("--backend", choices=BACKENDS, default="both")
    parser.add_argument("--json", default=None)
    options = parser.parse_args()
    results = run(Path(options.data), options.hops, options.backend)
    place = save("importers", results, options.json)
    text = page(results)
    place.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
