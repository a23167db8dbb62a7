"""Captions in the terminal as they come: what is on now, and below it what was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ossicle.streaming.captions.cue import Cue, Op, Priority


@contextmanager
def watching(wanted: bool = True, console: Any = None) -> Iterator[Callable[[Cue], None] | None]:
    """Yield a function that shows each line of a feed in the terminal; None if not ``wanted``.

    The view goes to standard error unless ``console`` says otherwise, so that captions can still
    be written to standard output.
    """
    if not wanted:
        yield None
        return
    from rich.console import Console
    from rich.live import Live

    view = LiveText()
    with Live(view.render(), console=console or Console(stderr=True), refresh_per_second=10) as on:

        def see(cue: Cue) -> None:
            view.take(cue)
            on.update(view.render())

        yield see


class LiveText:
    """What the terminal shows."""

    def __init__(self, lines: int = 12) -> None:
        self.lines = lines
        self.open: dict[int, Cue] = {}
        self.past: list[Cue] = []
        self.heard_s = 0.0

    def take(self, cue: Cue) -> None:
        """Take one line of the feed."""
        self.heard_s = cue.audio_seen_sample / cue.sample_rate_hz
        if cue.is_heartbeat:
            return
        self.open.pop(cue.cue_id, None)
        if not cue.is_final:
            self.open[cue.cue_id] = cue
        elif cue.op is Op.CLOSE:
            self.past = [*self.past, cue][-self.lines :]

    def render(self) -> Any:
        """Return the view as a rich renderable; cue text is never read as markup."""
        from rich.text import Text

        text = Text()
        for cue in self.past[-self.lines :]:
            text.append(f"{_at(cue)}  {cue.text.replace(chr(10), ' ')}\n", "dim")
        for cue in self.open.values():
            style = "bold white on red" if cue.priority is Priority.ALERT else "bold"
            text.append(f"{_at(cue)}  ", "dim")
            text.append(f"{cue.text}\n", style)
        minutes, seconds = divmod(int(self.heard_s), 60)
        text.append(f"listening {minutes // 60}:{minutes % 60:02}:{seconds:02}", "green")
        return text


def _at(cue: Cue) -> str:
    seconds = cue.start_sample // cue.sample_rate_hz
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
