"""Fills the codec's model card: measured tables and a curve into its template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def card_files(
    template: Path, version: str, results: Path, lost: Path, curve: Path
) -> dict[str, bytes]:
    """The card's files: ``template`` with the measured tables, and the curve's plot.

    ``results`` is ``codec_quality.json`` with ``.md`` beside it, ``lost`` ``codec_loss.json``,
    ``curve`` a folder with ``curve.md`` and ``curve.png``.
    """
    table = results.with_suffix(".md").read_text().split("\n", 2)[2].strip()
    marks = {
        "{version}": version,
        "{table}": table,
        "{curve}": (curve / "curve.md").read_text(),
        "{loss}": lost_table(json.loads(lost.read_text())["results"]),
    }
    text = template.read_text()
    for mark, value in marks.items():
        text = text.replace(mark, value)
    return {"README.md": text.encode(), "curve.png": (curve / "curve.png").read_bytes()}


def lost_table(result: dict[str, Any]) -> str:
    """What loss does, from ``codec_loss.json``, as Markdown."""
    own = result["models"]["codec-16k"]
    lines = [
        f"PESQ-WB / STOI of {result['pieces']} pieces of {result['seconds']:g} s of held-out",
        f"speech with {100 * result['loss']:g} % of packets lost in bursts of {result['burst']}",
        "(Gilbert), equal bits, one frame a packet, the decoder waiting for",
        f"{result['delay_frames']} frames (`python -m benchmarks.codec_loss`):",
        "",
        "| kbps | no loss | layers alone | with redundancy | gain |",
        "|---|---|---|---|---|",
    ]
    for row in own["rows"]:
        cells = [f"{row[k]['pesq_wb']:.2f} / {row[k]['stoi']:.3f}"
                 for k in ("no loss", "layers", "redundancy")]  # fmt: skip
        lines.append(f"| {row['kbps']:g} | {' | '.join(cells)} | {row['gain_pesq']:+.2f} |")
    found = own["resync"]
    settled = [
        f"after {n} lost within -60 dB in {found[f'quiet_frames after {n} lost']} and the same to "
        f"the bit in {found[f'identical_frames after {n} lost']}"
        for n in (1, 5)
    ]
    end = f"Frames until a decoder is over a loss, the worst of all pieces: {'; '.join(settled)}."
    return "\n".join([*lines, "", end])
