"""What a demo came to, in a few lines for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

OWN = """with your own sound:
  ossicle demo FILE                                   any audio file
  ossicle mic                                         your microphone
  ffmpeg -i URL -f s16le -ac 1 -ar 16000 - | ossicle caption - --rate 16000
  ossicle serve                                       and then, from anywhere on this machine:
  ossicle caption FILE --server 127.0.0.1:8061"""
FILES = {
    "captions.vtt": "what was heard, for any video player",
    "decoded.wav": "the sound after the codec",
    "separated.wav": "what the query asked for",
    "latency.png": "where the time of every answer went",
    "report.json": "all figures",
}


def show_summary(folder: Path, report: dict[str, Any]) -> None:
    """Print captions beside the truth, latencies beside their budgets, and the files."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print()
    for line in heard(report):
        console.print(line, markup=False)
    console.print(latencies(report))
    late = {t: s["late"] for t, s in report["latency_ms"].items() if s["late"] > 0.01}
    if late:
        shares = ", ".join(f"{task} {100 * share:.0f} %" for task, share in sorted(late.items()))
        console.print(
            f"[yellow]later than the budget: {shares} of the answers.[/] Is this machine busy with "
            "something else? `ossicle bench` says what each step costs here."
        )
    console.print(f"\nwritten to {folder}/:")
    for name in report["files"]:
        console.print(f"  {name:15} {FILES.get(name, '')}")
    for note in report["notes"]:
        console.print(f"  {note}")
    console.print(OWN, markup=False)


def heard(report: dict[str, Any]) -> list[str]:
    """Return a line for each caption and, where it is known, what is truly in the scene.

    >>> heard({"captions": [{"text": "[dog barks]", "start_s": 1.0, "end_s": 2.5}], "truth": []})
    ['captioned:  1.0-2.5 [dog barks]']
    """

    def span(start: float, end: float) -> str:
        return f"{start:.1f}-{end:.1f}"

    truth = [f"{span(a, b)} {label.replace('_', ' ')}" for label, a, b in report["truth"]]
    found = [f"{span(c['start_s'], c['end_s'])} {c['text']}" for c in report["captions"]]
    lines = [f"in the scene: {', '.join(truth)}"] if truth else []
    return [*lines, f"captioned:  {', '.join(found) or 'nothing'}"]


def latencies(report: dict[str, Any]) -> Any:
    """Return a table of how long after its last sample each task answered."""
    from rich.table import Table

    table = Table("task", "p50", "p95", "p99 ms", "budget", "model's own", "late", box=None)
    for task, stages in report["latency_ms"].items():
        total = stages.get("total", {})
        table.add_row(
            task,
            *(f"{total.get(p, 0.0):.1f}" for p in ("p50", "p95", "p99")),
            f"{stages['budget']:g}",
            f"{stages['algorithmic']:g}",
            f"{100 * stages['late']:.1f} %",
        )
    codec = report["codec"]
    if codec["packets"]:
        table.caption = (
            f"codec: {codec['asked_kbps']:g} kbps of codes asked for, {codec['packet_kbps']:.2f} "
            f"as packets, {codec['wire_kbps']:.1f} on the wire"
        )
        table.caption_justify = "left"
    return table
