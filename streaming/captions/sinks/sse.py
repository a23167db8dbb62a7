"""Captions to browsers: server-sent events, and a page that shows them live.

    hub = EventHub(); Outlets({"browser": hub}); uvicorn.run(web_app(hub))

``GET /events`` gives the feed, one event a line, ``id`` its ``seq``; a browser that reconnects
sends the last id and gets what it missed, as far back as the hub remembers. ``GET /`` is the page;
``/?media=URL`` plays a video or audio file with the captions as a text track.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ossicle.runtime.errors import CaptionError
from ossicle.streaming.captions.cue import Cue, to_json_line

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

PAGE = Path(__file__).with_name("page.html")
SCRIPT = Path(__file__).with_name("page.js")
REMEMBERED = 1024  # lines kept for readers that reconnect
WAITING = 512  # lines that a slow reader may be behind
MAX_READERS = 64
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; "
    "media-src *"
)


@dataclass(eq=False)
class Reader:
    """One connected browser."""

    loop: asyncio.AbstractEventLoop
    lines: deque[Cue] = field(default_factory=lambda: deque(maxlen=WAITING))
    ready: asyncio.Event = field(default_factory=asyncio.Event)


class EventHub:
    """A sink that fans the feed out to any number of browsers, up to ``MAX_READERS``.

    ``put`` never waits: a reader that is ``WAITING`` lines behind loses the oldest and is told.
    """

    def __init__(self) -> None:
        self.closed = False
        self._past: deque[Cue] = deque(maxlen=REMEMBERED)
        self._readers: set[Reader] = set()
        self._lock = threading.Lock()

    def put(self, cue: Cue) -> None:
        """Hand one line to every reader."""
        with self._lock:
            self._past.append(cue)
            for reader in self._readers:
                reader.lines.append(cue)
                self._wake(reader)

    def close(self) -> None:
        """End every reader's stream after what it still has to get."""
        with self._lock:
            self.closed = True
            for reader in self._readers:
                self._wake(reader)

    async def events(self, after: int = -1) -> AsyncIterator[str]:
        """Yield server-sent events from line ``after + 1`` on.

        Raises:
            CaptionError: too many readers.
        """
        reader = Reader(asyncio.get_running_loop())
        with self._lock:
            if len(self._readers) >= MAX_READERS:
                raise CaptionError(f"{MAX_READERS} browsers are connected; close one")
            reader.lines.extend(c for c in self._past if c.seq > after)
            self._readers.add(reader)
        last = after
        try:
            yield "retry: 1000\n\n"
            while True:
                while reader.lines:
                    cue = reader.lines.popleft()
                    if 0 <= last < cue.seq - 1:
                        yield gap_event(last + 1, cue.seq - 1)
                    last = cue.seq
                    yield cue_event(cue)
                if self.closed:
                    yield "event: end\ndata: {}\n\n"
                    return
                await reader.ready.wait()
                reader.ready.clear()
        finally:
            with self._lock:
                self._readers.discard(reader)

    @staticmethod
    def _wake(reader: Reader) -> None:
        with contextlib.suppress(RuntimeError):  # the reader's loop is gone
            reader.loop.call_soon_threadsafe(reader.ready.set)


def cue_event(cue: Cue) -> str:
    """Return one line of the feed as an event."""
    return f"id: {cue.seq}\nevent: cue\ndata: {to_json_line(cue).decode('utf-8')}\n\n"


def gap_event(first: int, last: int) -> str:
    r"""Return the event that says which lines a reader did not get.

    >>> gap_event(3, 5)
    'event: gap\ndata: {"first": 3, "last": 5}\n\n'
    """
    return f"event: gap\ndata: {json.dumps({'first': first, 'last': last})}\n\n"


def web_app(hub: EventHub) -> Starlette:
    """Return the ASGI application.

    Raises:
        CaptionError: starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.responses import Response, StreamingResponse
        from starlette.routing import Route
    except ImportError as error:
        raise CaptionError(
            "captions in a browser need starlette and uvicorn; install ossicle[web]"
        ) from error

    async def page(request: Request) -> Response:
        headers = {"content-security-policy": POLICY}
        return Response(PAGE.read_text("utf-8"), media_type="text/html", headers=headers)

    async def script(request: Request) -> Response:
        return Response(SCRIPT.read_text("utf-8"), media_type="text/javascript")

    async def events(request: Request) -> Response:
        given = request.headers.get("last-event-id", "")
        after = int(given) if given.isascii() and given.isdigit() and len(given) < 16 else -1
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(hub.events(after), media_type="text/event-stream", headers=headers)

    return Starlette(routes=[
        Route("/", page), Route("/page.js", script), Route("/events", events),
    ])  # fmt: skip
