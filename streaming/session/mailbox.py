"""From the engine's thread onto the event loop: in order, with one wake-up for all that waits."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any


class Mailbox:
    """Calls made on one thread, carried out on the loop's, in the order they were made."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._awake = False

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Have ``function`` called on the loop; at once where this is the loop's thread."""
        if threading.get_ident() == self._thread:
            self.empty()
            function(*arguments)
            return
        self._waiting.append((function, arguments))
        if not self._awake:
            self._awake = True
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody listens
                self._loop.call_soon_threadsafe(self.empty)

    def empty(self) -> None:
        """Carry out everything that waits."""
        self._awake = False
        while self._waiting:
            function, arguments = self._waiting.popleft()
            function(*arguments)
