"""JSON lines: the whole feed, one change a line, heartbeats included."""

from __future__ import annotations

from ossicle.streaming.captions.cue import Cue, to_json_line
from ossicle.streaming.captions.sinks.files import Output, Target


class JsonLines:
    """Writes every line of the feed as it comes."""

    def __init__(self, target: Target) -> None:
        self.output = Output(target)
        self.output.begin(0)

    def put(self, cue: Cue) -> None:
        """Write one line."""
        self.output.write(to_json_line(cue) + b"\n")

    def close(self) -> None:
        """Close the file."""
        self.output.end()
