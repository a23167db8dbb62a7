"""Quality of held-out speech against minutes of training: the curve a model card shows."""

from __future__ import annotations

import json
from pathlib import Path

RATES = ("1.5", "3", "6")


def read_log(log: Path) -> list[dict[str, float]]:
    """The rows of ``log.jsonl`` that judged held-out speech, in order."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return [row for row in rows if "pesq_3" in row]


def joined(logs: list[Path]) -> list[dict[str, float]]:
    """Rows of parts that followed each other, minutes counted on from part to part."""
    out: list[dict[str, float]] = []
    for log in logs:
        before = out[-1]["minutes"] if out else 0.0
        out += [{**row, "minutes": row["minutes"] + before} for row in read_log(log)]
    return out


def table(rows: list[dict[str, float]]) -> str:
    """Markdown: a row a check, PESQ-WB / STOI by rate."""
    head = "| CPU minutes | " + " | ".join(f"{r} kbps" for r in RATES) + " |"
    lines = [head, "|---" * (len(RATES) + 1) + "|"]
    for row in rows:
        cells = (f"{row[f'pesq_{r}']:.2f} / {row[f'stoi_{r}']:.3f}" for r in RATES)
        lines.append(f"| {row['minutes']:.1f} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def curve(logs: list[Path], out: Path) -> None:
    """Writes ``curve.md`` and ``curve.png`` into ``out``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = joined([log for log in logs if log.exists()])
    (out / "curve.md").write_text(table(rows))
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4))
    for axis, mark in zip(axes, ("pesq", "stoi"), strict=True):
        for rate in RATES:
            points = [(row["minutes"], row[f"{mark}_{rate}"]) for row in rows]
            axis.plot([x for x, _ in points], [y for _, y in points], "o-", label=f"{rate} kbps")
        axis.set_xlabel("CPU minutes")
        axis.set_title(f"{mark.upper()}, held-out sentences")
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(out / "curve.png", dpi=80)
    pyplot.close(figure)
