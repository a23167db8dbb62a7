"""Captions in browsers as they come: a page and its events, for as long as a command runs."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ossicle.runtime.errors import CaptionError
from ossicle.streaming.captions.cue import Cue
from ossicle.streaming.captions.sinks.sse import EventHub, web_app

HOST = "127.0.0.1"  # this machine only: the page asks nobody for a password
PATIENCE_S = 3  # for browsers to take what is left


@contextmanager
def browsing(port: int | None) -> Iterator[Callable[[Cue], None] | None]:
    """Yield a function that shows each line of a feed at ``http://127.0.0.1:port/``.

    None if no ``port`` is named. The address is said on standard error.

    Raises:
        CaptionError: the port is taken, or starlette and uvicorn are not installed.
    """
    if port is None:
        yield None
        return
    hub = EventHub()
    app = web_app(hub)
    import uvicorn

    try:
        door = socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        raise CaptionError(f"captions cannot be shown at port {port}: {error}") from error
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="error", lifespan="off", ws="none",
                       timeout_graceful_shutdown=PATIENCE_S)
    )  # fmt: skip
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    print(f"captions at http://{HOST}:{door.getsockname()[1]}/", file=sys.stderr, flush=True)
    try:
        yield hub.put
    finally:
        hub.close()
        server.should_exit = True
        thread.join(2 * PATIENCE_S)
        door.close()


def together(*each: Callable[[Cue], None] | None) -> Callable[[Cue], None] | None:
    """Return one function that hands a line to all of ``each``; None if there is none."""
    wanted = [see for see in each if see is not None]
    if not wanted:
        return None

    def see(cue: Cue) -> None:
        for take in wanted:
            take(cue)

    return see
