"""The separation benchmark's results as Markdown and as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def markdown(results: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    """All tables of one run."""
    lines = [
        "# Separation and enhancement",
        "",
        (
            f"`{described['command']}` on {described['cpu']}, {described['date']}, commit "
            f"{described['commit']}. Held-out recordings; alarms and noise from other seeds."
        ),
        "",
        *([described["note"] + ".", ""] if described.get("note") else []),
        *enhancement_table(results["enhancement"]),
        *separation_tables(results["separation"]),
        "## Change of query",
        "",
        *table(
            ["model", "changes", "settled", "median ms", "90th percentile ms"],
            [
                [n, r["changes"], r["settled"], r["median_ms"], r["p90_ms"]]
                for n, r in results["settle"].items()
            ],
        ),
        "## Input level (SI-SDR in dB, speech in noise at 5 dB)",
        "",
        *level_table(results["levels"]),
        *alarm_table(results["alarms"]),
        *cost_table(results["costs"]),
    ]
    return "\n".join(lines) + "\n"


def imported_figures(
    results: Mapping[str, Any], sources: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """What the cards of imported enhancers say; ``sources`` names the files of each."""
    kinds = {"alone": "", "behind the alarm guard": ", alarms kept"}
    return {
        name: {
            "source": source,
            "speech": {k: results["enhancement"][name + end] for k, end in kinds.items()},
            "level_span_db": results["levels"][name]["span_db"],
            "alarms": {
                alarm: {how: row[f"{name}, {how}"] for how in ("bare", "guarded")}
                for alarm, row in results["alarms"].items()
            },
        }
        for name, source in sources.items()
    }


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """A Markdown table and a blank line."""
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows),
        "",
    ]


def enhancement_table(found: Mapping[str, Any]) -> list[str]:
    """Every system on the same mixtures."""
    rows = []
    for name, row in found.items():
        marks = row.get("dnsmos", {})
        rows.append(
            [name, row["si_sdr_db"], row["si_sdri_db"], row.get("pesq_wb", ""),
             row.get("stoi", ""), marks.get("sig", ""), marks.get("bak", ""), marks.get("ovr", "")]
        )  # fmt: skip
    head = ["system", "SI-SDR dB", "SI-SDRi dB", "PESQ-WB", "STOI", "DNSMOS sig", "bak", "ovr"]
    kinds = list(next(iter(found.values()))["by_noise_si_sdri_db"])
    by_kind = [
        [name, *(row["by_noise_si_sdri_db"][kind] for kind in kinds)]
        for name, row in found.items()
        if name != "input"
    ]
    return [
        "## Speech in noise at 0, 5 and 10 dB", "", *table(head, rows),
        "SI-SDRi in dB by kind of noise:", "", *table(["system", *kinds], by_kind),
    ]  # fmt: skip


def separation_tables(found: Mapping[str, Any]) -> list[str]:
    """What was asked for, and what was not there."""
    rows = [
        [
            name, part["sources"], part["mixtures"], part["si_sdri_db"], part["absent_db_mean"],
            part["absent_db_median"], part["absent_db_90th"],
        ]
        for name, parts in found.items()
        for part in parts.values()
    ]  # fmt: skip
    head = ["model", "sources", "mixtures", "SI-SDRi dB, mean over classes",
            "absent: mean dB", "median", "90th percentile"]  # fmt: skip
    first = next(iter(found.values()))["two"]
    by_class = [
        [
            label,
            *(p["two"]["by_class_si_sdri_db"][label] for p in found.values()),
            *(p["three"]["by_class_si_sdri_db"][label] for p in found.values()),
            *(p["two"]["by_absent_class_db"].get(label, "") for p in found.values()),
        ]
        for label in first["by_class_si_sdri_db"]
    ]
    columns = [
        "asked for",
        *(f"{name}, two" for name in found),
        *(f"{name}, three" for name in found),
        *(f"{name}, absent dB" for name in found),
    ]
    return ["## Separation on request, sources at equal level", "", *table(head, rows),
            *table(columns, by_class)]  # fmt: skip


def level_table(found: Mapping[str, Any]) -> list[str]:
    """One row per system."""
    columns = list(next(iter(found.values())))
    return table(["system", *columns], [[n, *(r[c] for c in columns)] for n, r in found.items()])


def alarm_table(found: Mapping[str, Any]) -> list[str]:
    """Mean (worst) of what is left of each alarm."""
    columns = list(next(iter(found.values())))
    rows = [
        [alarm, *(f"{row[c]['mean_db']} ({row[c]['worst_db']})" for c in columns)]
        for alarm, row in found.items()
    ]
    return ["## Alarms behind an enhancer: level in dB relative to the input, mean (worst)", "",
            *table(["alarm", *columns], rows)]  # fmt: skip


def cost_table(found: Mapping[str, Any]) -> list[str]:
    """Processor time; the peers as their scripts print it."""
    rows = []
    for name, entries in found.items():
        if isinstance(entries, list):
            rows += [
                [name, e["streams"], e["hop_ms"], e["cpu_us_per_hop"],
                 e["cpu_us_per_hop_and_stream"], e["real_time_factor"],
                 e["state_bytes_per_stream"]]
                for e in entries
            ]  # fmt: skip
    lines = ["## Cost on one core", "", *table(
        ["model", "streams", "hop ms", "CPU us a hop", "a hop and stream", "real-time factor",
         "state bytes a stream"], rows)]  # fmt: skip
    gtcrn, dtln = found.get("peer gtcrn_ort.py"), found.get("peer dtln_ort.py")
    if gtcrn:
        held = gtcrn["gtcrn_simple.onnx"]
        lines.append(f"GTCRN by its own script: {held['hop_cpu_ms']['p50']} ms CPU a 16 ms hop, "
                     f"real-time factor {held['rtf_cpu']}.")  # fmt: skip
    if dtln:
        lines.append(f"DTLN by its own script: {dtln['block_cpu_ms']['p50']} ms CPU an 8 ms hop, "
                     f"real-time factor {dtln['rtf_cpu']}.")  # fmt: skip
    return [*lines, ""]


def plot(results: dict[str, Any], place: Path) -> None:
    """Bars of enhancement and of separation per class."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12, 7), layout="constrained")
    rows = {k: v["si_sdri_db"] for k, v in results["enhancement"].items() if k != "input"}
    axes[0].barh(list(rows)[::-1], list(rows.values())[::-1])
    axes[0].set_title("speech in noise: SI-SDR improvement, dB")
    for offset, (name, parts) in enumerate(results["separation"].items()):
        by_class = parts["two"]["by_class_si_sdri_db"]
        at = np.arange(len(by_class)) + 0.4 * offset
        axes[1].barh(at, list(by_class.values()), height=0.4, label=name)
        axes[1].set_yticks(np.arange(len(by_class)), list(by_class))
    axes[1].legend()
    axes[1].set_title("two sources, by what was asked for: SI-SDR improvement, dB")
    figure.savefig(place, dpi=110)
    plt.close(figure)
