"""The file that a sink writes: a path that turns over every 24 hours, or a stream that goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ossicle.runtime.errors import CaptionError
from ossicle.streaming.captions.cue import Cue
from ossicle.streaming.captions.sinks.base import Finals, Shot, within_day

Target = str | Path | IO[bytes]


class Output:
    """Bytes to a path or an open binary stream, each write flushed so that readers can follow.

    Raises:
        CaptionError: the file cannot be written (full disk, no permission, closed pipe).
    """

    def __init__(self, target: Target) -> None:
        self.path = Path(target) if isinstance(target, str | Path) else None
        self._stream: IO[bytes] | None = None if isinstance(target, str | Path) else target

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return str(self.path) if self.path else str(getattr(self._stream, "name", "stream"))

    def begin(self, part: int) -> None:
        """Start the file of day ``part``: ``name.vtt``, then ``name.001.vtt``, ..."""
        if self.path is None:
            return
        self.end()
        path = self.path if part == 0 else self.path.with_suffix(f".{part:03}{self.path.suffix}")
        try:
            self._stream = path.open("wb")
        except OSError as error:
            raise CaptionError(f"captions cannot be written to {path}: {error}") from error

    def write(self, data: bytes) -> None:
        """Write and flush ``data``."""
        assert self._stream is not None, "begin() comes first"
        try:
            self._stream.write(data)
            self._stream.flush()
        except (OSError, ValueError) as error:  # ValueError: a stream closed by its owner
            self.end()
            raise CaptionError(
                f"captions cannot be written to {self.name}: {error}; free space or choose "
                "another place"
            ) from error

    def end(self) -> None:
        """Close a file that was opened here; streams stay open."""
        if self.path is not None and self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()
            self._stream = None


class TextSink:
    """Writes final captions, one after another, with a header at the start of each file.

    ``header`` and ``render(number, shot)`` make the format. A file turns over after 24 hours; a
    pipe cannot, and its hours go on counting.
    """

    def __init__(self, target: Target, header: str, render: Callable[[int, Shot], str]) -> None:
        self.output = Output(target)
        self.header, self.render = header, render
        self.written = 0
        self._finals = Finals()
        self._day, self._number = -1, 0

    def put(self, cue: Cue) -> None:
        """Take one line of the feed."""
        if self._day < 0:
            self._turn(0)
        for shot in self._finals.put(cue):
            self._write(shot)

    def close(self) -> None:
        """Write what is left; an empty feed gives a file with its header."""
        if self._day < 0:
            self._turn(0)
        for shot in self._finals.close():
            self._write(shot)
        self.output.end()

    def _write(self, shot: Shot) -> None:
        if self.output.path is not None:
            day, shot = within_day(shot)
            while self._day < day:
                self._turn(self._day + 1)
        self._number += 1
        self.written += 1
        self.output.write(self.render(self._number, shot).encode("utf-8"))

    def _turn(self, day: int) -> None:
        self._day, self._number = day, 0
        self.output.begin(day)
        self.output.write(self.header.encode("utf-8"))
