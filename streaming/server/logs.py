"""Logs as JSON lines: who, what, when. Never audio, caption text, queries or secrets."""

from __future__ import annotations

import json
import logging
import sys
import time

FIELDS = (
    "session",
    "client",
    "peer",
    "reason",
    "tasks",
    "resumed",
    "port",
    "host",
    "seconds",
    "number",
    "bytes",
)


class JsonLines(logging.Formatter):
    """One JSON object a line; of a record's extras only those named in ``FIELDS``.

    Args:
        text: also what was captioned and asked for, from loggers that were told to say it.
    """

    def __init__(self, text: bool = False) -> None:
        super().__init__()
        self._fields = (*FIELDS, "text") if text else FIELDS

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in self._fields if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Stderr(logging.Handler):
    """Writes to whatever standard error is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        print(self.format(record), file=sys.stderr)


def configure(level: str, text: bool = False) -> None:
    """Send the project's logs to standard error."""
    handler = _Stderr()
    handler.setFormatter(JsonLines(text))
    root = logging.getLogger("ossicle")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False
