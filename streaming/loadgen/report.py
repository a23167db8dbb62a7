"""A load run as a table and as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def load_table(report: dict[str, Any]) -> Any:
    """Return a rich table, a row for each step."""
    from rich.table import Table

    budget = report["plan"]["budget_ms"]
    table = Table(
        "streams", "refused", "p50", "p95", "p99", "p99.9 ms", f"over {budget:g} ms", "engine",
        "queue p99", "kbps out", "", title=_title(report), title_justify="left",
    )  # fmt: skip
    for step in report["steps"]:
        ms, queue = step["latency_ms"], step["ledger_ms"].get("queue", {})
        table.add_row(
            f"{step['opened']} of {step['streams']}",
            ", ".join(f"{n} {why}" for why, n in step["refused"].items()),
            *(f"{ms[p]:.2f}" for p in ("p50", "p95", "p99", "p999")),
            str(step["over_budget"]),
            f"{step['engine_misses']} misses",
            f"{queue.get('p99', 0.0):.2f}",
            f"{step['wire_kbps_out']:.1f}",
            "[green]kept[/]" if step["kept"] else "[red]broken[/]",
        )
    return table


def _title(report: dict[str, Any]) -> str:
    plan = report["plan"]
    what = f"{', '.join(plan['tasks'])}; {plan['message_ms']:g} ms of audio a message"
    found = report["capacity_streams"]
    return what if found is None else f"{what}; capacity: {found} streams"


def plot_load(path: Path, report: dict[str, Any]) -> None:
    """Draw the percentiles over the number of streams (or the stages of a single step)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    steps = sorted(report["steps"], key=lambda s: s["streams"])
    figure, axis = plt.subplots(figsize=(7, 4))
    names = ("p50", "p95", "p99", "p999")
    if len(steps) > 1:
        streams = [s["streams"] for s in steps]
        for name in names:
            axis.plot(streams, [s["latency_ms"][name] for s in steps], marker="o", label=name)
        axis.set_xlabel("streams")
    else:
        stages = list(steps[0]["ledger_ms"])
        for name in names:
            axis.plot(stages, [steps[0]["ledger_ms"][s].get(name, 0) for s in stages],
                      marker="o", label=name)  # fmt: skip
    axis.axhline(report["plan"]["budget_ms"], color="black", linestyle="--", linewidth=1)
    axis.set_ylabel("ms")
    axis.set_yscale("log")
    axis.set_title(_title(report), fontsize=9)
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
