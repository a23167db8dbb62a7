"""The demo in the terminal: captions, level, rates, the separated track, the ledger."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ossicle.streaming.captions.cue import Cue, Op, Priority
from ossicle.streaming.demo.tally import Tally

BARS = " ▁▂▃▄▅▆▇█"
LINES = 6


class View(Protocol):
    """Shows a tally again and again."""

    def update(self) -> None:
        """Show how it stands."""
        ...

    def close(self) -> None:
        """Show it for the last time."""
        ...


class PlainView:
    """One line a final caption: for logs and pipes."""

    def __init__(self, tally: Tally, title: str) -> None:
        self._tally, self._said, self._second = tally, 0, 0
        print(title, flush=True)

    def update(self) -> None:
        """Print what is new, and every five seconds how it stands."""
        cues = self._tally.cues
        for cue in cues[self._said :]:
            if cue.op is Op.OPEN or cue.op is Op.CLOSE:
                sign = "+" if cue.op is Op.OPEN else "."
                print(f"  {clock(cue)} {sign} {cue.text}", flush=True)
        self._said = len(cues)
        if int(self._tally.played_s) // 5 > self._second:
            self._second = int(self._tally.played_s) // 5
            print("  " + status_line(self._tally), flush=True)

    def close(self) -> None:
        """Print the rest."""
        self.update()


class LiveView:
    """A panel that is redrawn ten times a second."""

    def __init__(self, tally: Tally, title: str, tracks: list[str], duration_s: float) -> None:
        from rich.live import Live

        self._tally, self._title, self._tracks = tally, title, tracks
        self._duration_s = duration_s
        self._open: dict[int, Cue] = {}
        self._past: list[Cue] = []
        self._said = 0
        self._live = Live(self._render(), refresh_per_second=10, transient=False)
        self._live.start()

    def update(self) -> None:
        """Redraw."""
        for cue in self._tally.cues[self._said :]:
            if cue.is_heartbeat:
                continue
            self._open.pop(cue.cue_id, None)
            if not cue.is_final:
                self._open[cue.cue_id] = cue
            elif cue.op is Op.CLOSE:
                self._past = [*self._past, cue][-LINES:]
        self._said = len(self._tally.cues)
        self._live.update(self._render())

    def close(self) -> None:
        """Redraw for the last time and leave it there."""
        self.update()
        self._live.stop()

    def _render(self) -> Any:
        from rich.console import Group
        from rich.panel import Panel

        tally = self._tally
        done = f"{tally.played_s:4.1f} s of {self._duration_s:.0f} s"
        return Panel(
            Group(self._captions(), self._meters(), self._ledger()),
            title=f"ossicle demo  {done}",
            subtitle=self._title,
        )

    def _captions(self) -> Any:
        from rich.text import Text

        text = Text()
        lines = [(c, "dim") for c in self._past]
        lines += [(c, _style(c)) for c in self._open.values()]
        for cue, style in lines[-LINES:]:
            text.append(f"{clock(cue)}  ", "dim")
            text.append(f"{cue.text}\n", style)
        text.append("\n" * (LINES - len(lines[-LINES:])))
        return text

    def _meters(self) -> Any:
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        tally = self._tally
        table.add_row("level", meter(tally.level_dbfs), f"{tally.level_dbfs:5.1f} dBFS")
        table.add_row(
            "codec",
            f"{tally.packet_kbps:.2f} kbps as packets",
            f"{tally.wire_kbps:.1f} kbps on the wire",
        )
        for track in self._tracks:
            table.add_row(track, envelope(tally, track), "")
        return table

    def _ledger(self) -> Any:
        from rich.table import Table

        table = Table("ms", "wait", "queue", "batch", "compute", "post", "p99 total", "budget")
        for task, held in sorted(self._tally.ledgers.items()):
            last = held[-1][1]
            parts = (last.wait_us, last.queue_us, last.batch_us, last.compute_us, last.post_us)
            totals = [e.total_us / 1000 for _, e in held[-500:]]
            budget = budget_ms(self._tally, task)
            worst = float(np.percentile(totals, 99))
            style = "green" if worst <= budget else "red"
            table.add_row(
                task, *(f"{us / 1000:.2f}" for us in parts), f"[{style}]{worst:.1f}[/]",
                f"{budget:g}",
            )  # fmt: skip
        return table


def budget_ms(tally: Tally, task: str) -> float:
    """Return the deadline of a task: what was asked for, else one hop."""
    for started in tally.started.values():
        for t in started.tasks:
            if t.name == task:
                return t.deadline_ms or 1000 * t.hop_samples / t.model_rate_hz
    return float("inf")


def meter(level_dbfs: float, width: int = 32) -> str:
    """Return a bar from -60 to 0 dBFS.

    >>> meter(-30.0, 4)
    '██  '
    """
    filled = round(width * min(1.0, max(0.0, (level_dbfs + 60) / 60)))
    return "█" * filled + " " * (width - filled)


def envelope(tally: Tally, track: str, width: int = 48) -> str:
    """Return the last seconds of a track's level as a row of blocks."""
    sounds = tally.sounds.get(track, [])[-600:]
    if not sounds:
        return ""
    joined = np.concatenate([s.samples[0] for s in sounds])[-8 * sounds[0].rate_hz :]
    parts = np.array_split(joined, width)
    levels = [10 * np.log10(float(np.mean(np.square(p))) + 1e-9) if p.size else -90 for p in parts]
    return "".join(BARS[int(min(8, max(0, (level + 60) / 6)))] for level in levels)


def status_line(tally: Tally) -> str:
    """Return how it stands in one line."""
    worst = {t: tally.percentiles(t).get("total", {}).get("p99", 0.0) for t in tally.ledgers}
    parts = ", ".join(f"{t} {ms:.1f} ms" for t, ms in sorted(worst.items()))
    return (
        f"{tally.played_s:5.1f} s, level {tally.level_dbfs:.0f} dBFS, codec "
        f"{tally.packet_kbps:.2f} kbps ({tally.wire_kbps:.1f} on the wire); p99: {parts}"
    )


def clock(cue: Cue) -> str:
    """Return when a cue began."""
    seconds = cue.start_sample / cue.sample_rate_hz
    return f"{int(seconds) // 60:02}:{seconds % 60:04.1f}"


def _style(cue: Cue) -> str:
    return "bold white on red" if cue.priority is Priority.ALERT else "bold"
