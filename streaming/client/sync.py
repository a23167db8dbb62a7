"""The client for code without asyncio: the same calls, run on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from ossicle.streaming import messages as m
from ossicle.streaming.captions.cue import Cue
from ossicle.streaming.client.aio import AsyncClient
from ossicle.streaming.client.sound import Sound

T = TypeVar("T")


class Client:
    """Talks to one service; made by :func:`ossicle.connect` and used with ``with``."""

    def __init__(self, make: Callable[[], AsyncClient]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="ossicle-client", daemon=True
        )
        self._thread.start()

        async def made() -> AsyncClient:
            return make()

        self._client = self._wait(made())

    def run(self, source: Any, *tasks: m.TaskSpec, **settings: Any) -> Iterator[m.Response]:
        """Send a whole source and yield every answer; see :meth:`AsyncClient.run`."""
        return self._each(lambda: self._client.run(source, *tasks, **settings))

    def caption(self, source: Any, **settings: Any) -> Iterator[Cue]:
        """Yield every change of every caption of a source."""
        return self._each(lambda: self._client.caption(source, **settings))

    def enhance(self, source: Any, **settings: Any) -> Iterator[Sound]:
        """Yield the source with its noise taken away."""
        return self._each(lambda: self._client.enhance(source, **settings))

    def separate(self, source: Any, query: str | Sequence[str], **settings: Any) -> Iterator[Sound]:
        """Yield what ``query`` names, out of the source; of several, by ``Sound.track``."""
        return self._each(lambda: self._client.separate(source, query, **settings))

    def encode(self, source: Any, kbps: float = 0.0, **settings: Any) -> Iterator[m.WirePacket]:
        """Yield the codec's packets of a source."""
        return self._each(lambda: self._client.encode(source, kbps, **settings))

    def decode(self, packets: list[m.WirePacket], **settings: Any) -> Iterator[Sound]:
        """Yield the samples of codec packets."""
        return self._each(lambda: self._client.decode(packets, **settings))

    def models(self, task: str = "") -> list[m.ModelInfo]:
        """Return the service's models, for one task or all."""
        return self._wait(self._client.models(task))

    def status(self) -> m.Status:
        """Return how the service is."""
        return self._wait(self._client.status())

    def close(self) -> None:
        """Hang up and stop the thread."""
        if not self._loop.is_closed():
            self._wait(self._client.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _each(self, make: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
        """Yield from an async iterator; leaving early closes it."""
        iterator = make()

        async def following() -> tuple[bool, Any]:
            try:
                return True, await anext(iterator)
            except StopAsyncIteration:
                return False, None

        try:
            while True:
                more, item = self._wait(following())
                if not more:
                    return
                yield item
        finally:
            self._wait(iterator.aclose())  # type: ignore[attr-defined]
