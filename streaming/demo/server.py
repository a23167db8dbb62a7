"""A server in a process of its own on a free loopback port."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ossicle.runtime.errors import WireError

START_S = 60.0


@contextmanager
def running_server(*arguments: str) -> Iterator[tuple[int, list[str]]]:
    """Start ``ossicle serve`` and give its port and models; it is drained at the end.

    Raises:
        WireError: it did not start; the message holds what it said.
    """
    with tempfile.TemporaryDirectory(prefix="ossicle-") as folder:
        log = Path(folder) / "server.log"
        with log.open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "ossicle.streaming.cli", "serve", "--port", "0", "--json",
                 "--state-dir", str(Path(folder) / "state"), *arguments],
                stdout=subprocess.PIPE, stderr=said, text=True,
            )  # fmt: skip
        watchdog = threading.Timer(START_S, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            watchdog.cancel()
            if not line:
                raise WireError(f"the server did not start: {log.read_text()[-2000:]}")
            about = json.loads(line)
            yield int(about["port"]), list(about["models"])
        finally:
            watchdog.cancel()
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
