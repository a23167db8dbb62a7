"""The card of an imported enhancer: what it is, and what it leaves of speech and of alarms.

The figures in ``enhancers.json`` were measured by ``python -m benchmarks.separation`` on files
whose digests stand beside them. Other files of the same family get a card that says so instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ossicle.export.importers.source import Draft
from ossicle.runtime.manifest import Manifest, Metric

FIGURES = Path(__file__).parent / "enhancers.json"
COMMAND = "python -m benchmarks.separation"
HELD = "recordings and synthesised alarms that nobody here trained on"


def with_card(draft: Draft, about: str) -> Draft:
    """Get ``draft`` with a ``README.md``, and with metrics where these very files were measured."""
    found = figures_of(draft.manifest)
    metrics = _metrics(found) if found else ()
    manifest = msgspec.structs.replace(draft.manifest, metrics=metrics)
    text = card(manifest, about, found).encode()
    return Draft(manifest, {**draft.files, "README.md": text}, draft.tolerance)


def figures_of(manifest: Manifest) -> Mapping[str, Any]:
    """Get what was measured of the files that ``manifest`` was made of; nothing for others."""
    held = json.loads(FIGURES.read_text()).get(manifest.name, {})
    return held if held.get("source") == manifest.source else {}


def card(manifest: Manifest, about: str, found: Mapping[str, Any]) -> str:
    """Get the card as Markdown."""
    ms = 1000 / manifest.sample_rate_hz
    what = (
        f"Speech enhancement, imported. Hop {manifest.hop * ms:g} ms, algorithmic latency "
        f"{manifest.latency * ms:g} ms, class `{manifest.latency_class}`. Licence "
        f"{manifest.license}. Made of {manifest.source}."
    )
    rest = _measured(found) if found else _unmeasured()
    lines = [f"# {manifest.name}", "", about, "", what, "", *rest]
    return "\n".join(lines) + "\n"


def _unmeasured() -> list[str]:
    return [
        "Nothing was measured of these files. Denoisers take alarms away, public ones by 11 to",
        f"53 dB; keep the alarm guard on (it is by default), and run `{COMMAND}`.",
    ]


def _measured(found: Mapping[str, Any]) -> list[str]:
    lines = [
        f"`{COMMAND}`: speech in noise at 0, 5 and 10 dB.", "",
        "| | SI-SDRi dB | PESQ-WB | STOI | DNSMOS ovr |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for name, row in found["speech"].items():
        marks = row.get("dnsmos", {}).get("ovr", "")
        lines.append(f"| {name} | {row['si_sdri_db']} | {row.get('pesq_wb', '')} | "
                     f"{row.get('stoi', '')} | {marks} |")  # fmt: skip
    lines += [
        "", f"Input level -30 to +10 dB: SI-SDR spans {found['level_span_db']} dB.", "",
        "What is left of alarms, mean (worst), in dB relative to the input: by the model alone,",
        "and behind the alarm guard that `enhance` puts there unless told otherwise. The alarms",
        "are synthesised; real sounders may differ.", "",
        "| alarm | alone | guarded |", "|---|---|---|",
    ]  # fmt: skip
    for alarm, row in found["alarms"].items():
        cells = [f"{c['mean_db']} ({c['worst_db']})" for c in (row["bare"], row["guarded"])]
        lines.append(f"| {alarm} | {cells[0]} | {cells[1]} |")
    return lines


def _metrics(found: Mapping[str, Any]) -> tuple[Metric, ...]:
    alarms = found["alarms"].values()
    bare, guarded = (min(row[how]["worst_db"] for row in alarms) for how in ("bare", "guarded"))
    return (
        Metric("speech_si_sdri", found["speech"]["alone"]["si_sdri_db"], "dB", HELD, COMMAND),
        Metric("level_span", found["level_span_db"], "dB", HELD, COMMAND),
        Metric("worst_alarm", bare, "dB", HELD, COMMAND),
        Metric("worst_alarm_guarded", guarded, "dB", HELD, COMMAND),
    )
