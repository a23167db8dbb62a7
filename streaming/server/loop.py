"""The event loop of a server: what gRPC has for it is taken in gulps, not sip by sip.

gRPC's asyncio layer writes one byte into a socket pair for every event of its completion queue, and
takes all waiting events but only one byte each time the loop finds that socket readable: with ten
events waiting the loop then goes round nine times for nothing. Here the bytes go with the events.
And a loop that looks at its sockets at most every ``pace_s`` finds several streams' messages
waiting at once: they share one wake-up of this thread, of gRPC's poller and of the engine.
"""

from __future__ import annotations

import asyncio
import fcntl
import selectors
import struct
import termios
import time
from collections.abc import Callable
from typing import Any

_NO_BYTES = struct.pack("i", 0)


class PacedSelector(selectors.DefaultSelector):
    """Waits for sockets, but looks at them at most once every ``pace_s`` seconds.

    After a pause longer than that it answers at once, so a lone message is not held back. Timers
    are kept; a poll (``timeout`` 0) never waits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pace_s = 0.0
        self.hurried = False  # somebody has more to do than fits one look a pace
        self._looked_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready, as any selector does."""
        hurried, self.hurried = self.hurried, False
        if self.pace_s and not hurried and (timeout is None or timeout > 0):
            early = self._looked_s + self.pace_s - time.monotonic()
            if early > 0:
                if timeout is not None:
                    early = min(early, timeout)
                    timeout -= early
                time.sleep(early)
            found = super().select(timeout)
            self._looked_s = time.monotonic()
            return found
        return super().select(timeout)


class ServerLoop(asyncio.SelectorEventLoop):
    """An event loop that answers gRPC's wake-ups together; made by ``asyncio.Runner``."""

    def __init__(self) -> None:
        self._paced = PacedSelector()
        super().__init__(self._paced)

    def pace(self, seconds: float) -> None:
        """Look at the sockets at most so often from now on; 0: whenever something comes."""
        self._paced.pace_s = seconds

    def hurry(self) -> None:
        """Look at the sockets at once the next time: a stream has more waiting than one message."""
        self._paced.hurried = True

    def add_reader(  # type: ignore[override]  # typeshed ties the arguments to the callback
        self, fd: Any, callback: Callable[..., Any], *args: Any
    ) -> None:
        """Call ``callback`` when ``fd`` can be read."""
        if _is_grpc(callback):
            callback = _all_bytes(fd, callback)
        super().add_reader(fd, callback, *args)


def _is_grpc(callback: Any) -> bool:
    """Whether this is what gRPC's poller wakes; any other gRPC is served as any other reader."""
    owner = getattr(getattr(callback, "func", callback), "__self__", None)
    return type(owner).__name__ == "PollerCompletionQueue"


def _all_bytes(socket: Any, callback: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``callback`` after taking every waiting byte but the one it reads itself."""
    number = socket.fileno()

    def read(*args: Any) -> None:
        waiting = struct.unpack("i", fcntl.ioctl(number, termios.FIONREAD, _NO_BYTES))[0]
        if waiting > 1:
            socket.recv(waiting - 1)
        callback(*args)

    return read
