"""The client on asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ossicle.runtime.audio import Samples
from ossicle.runtime.errors import WireError
from ossicle.streaming import messages as m
from ossicle.streaming.captions.cue import Cue
from ossicle.streaming.client.sound import Sound
from ossicle.streaming.client.sources import Source, open_source
from ossicle.streaming.client.stream import Stream
from ossicle.streaming.client.transport import Transport

if TYPE_CHECKING:
    from ossicle.streaming.client.player import Player


class AsyncClient:
    """Talks to one service; made by :func:`ossicle.connect`."""

    def __init__(self, transport: Transport, name: str = "", patience_s: float = 30.0) -> None:
        self.transport = transport
        self.name, self.patience_s = name, patience_s

    def stream(
        self,
        *tasks: m.TaskSpec,
        rate_hz: int,
        channels: int = 1,
        live: bool = True,
        resume: bool = True,
        **settings: Any,
    ) -> Stream:
        """Return a stream to send to and iterate over; nothing is sent until it is used.

        ``settings`` are further fields of :class:`~ossicle.streaming.messages.Config`.
        """
        fields: dict[str, Any] = {
            "sample_rate_hz": rate_hz,
            "channels": channels,
            "tasks": tasks,
            "pace": "live" if live else "file",
            "output_encoding": "pcm_f32",
            "client": self.name,
        }
        config = m.Config(**{**fields, **settings})
        return Stream(self.transport, config, self.patience_s, resume)

    async def run(
        self,
        source: Any,
        *tasks: m.TaskSpec,
        rate_hz: int | None = None,
        realtime: bool = False,
        **settings: Any,
    ) -> AsyncIterator[m.Response]:
        """Send a whole source and yield every answer.

        Args:
            source: a path, an array (with ``rate_hz``), an iterable, or a source.
            tasks: what to do with it.
            rate_hz: of an array or iterable.
            realtime: send a file at its own pace.
            settings: see :meth:`stream`.
        """
        opened = open_source(source, rate_hz, realtime)
        stream = self.stream(
            *tasks,
            rate_hz=opened.rate_hz,
            channels=opened.channels,
            live=opened.live,
            **settings,
        )
        async with stream:
            pump = asyncio.create_task(_pump(opened, stream))
            try:
                async for response in stream:
                    yield response
                await pump
            finally:
                pump.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await pump

    async def caption(self, source: Any, **settings: Any) -> AsyncIterator[Cue]:
        """Yield every change of every caption of a source; heartbeats are left out."""
        options = settings.pop("options", {})
        spec = m.TaskSpec("caption", model=settings.pop("model", ""), options=options)
        async for response in self.run(source, spec, **settings):
            if isinstance(response.body, Cue) and not response.body.is_heartbeat:
                yield response.body

    async def enhance(self, source: Any, **settings: Any) -> AsyncIterator[Sound]:
        """Yield the source with its noise taken away."""
        spec = m.TaskSpec("enhance", model=settings.pop("model", ""))
        async for response in self.run(source, spec, **settings):
            if isinstance(response.body, Sound):
                yield response.body

    async def separate(
        self, source: Any, query: str | Sequence[str], **settings: Any
    ) -> AsyncIterator[Sound]:
        """Yield what ``query`` names, out of the source; of several, by ``Sound.track``.

        The tracks are called ``query0``, ``query1``, ... in the order of the queries.
        """
        asked = {"query": query} if isinstance(query, str) else {"queries": tuple(query)}
        spec = m.TaskSpec("separate", model=settings.pop("model", ""), options=asked)
        async for response in self.run(source, spec, **settings):
            if isinstance(response.body, Sound):
                yield response.body

    async def encode(
        self, source: Any, kbps: float = 0.0, **settings: Any
    ) -> AsyncIterator[m.WirePacket]:
        """Yield the codec's packets of a source."""
        spec = m.TaskSpec("encode", model=settings.pop("model", ""), options={"kbps": kbps})
        async for response in self.run(source, spec, **settings):
            if isinstance(response.body, m.PacketsOut):
                for packet in response.body.packets:
                    yield packet

    async def decode(
        self, packets: list[m.WirePacket], rate_hz: int = 16_000, **settings: Any
    ) -> AsyncIterator[Sound]:
        """Yield the samples of codec packets."""
        spec = m.TaskSpec(
            "decode", model=settings.pop("model", ""), options=settings.pop("options", {})
        )
        stream = self.stream(spec, rate_hz=rate_hz, live=False, **settings)
        async with stream:
            pump = asyncio.create_task(_pump_packets(packets, stream))
            async for response in stream:
                if isinstance(response.body, Sound):
                    yield response.body
            await pump

    async def listen(
        self, source: Any, player: Player, kbps: float = 0.0, **settings: Any
    ) -> AsyncIterator[m.Response]:
        """Have a source encoded by the service and play what comes back; yield every answer.

        The player's notices of clock drift are the player's own: see its ``on_notice``.
        """
        options = {"kbps": kbps, "frames_per_packet": 1}
        spec = m.TaskSpec("encode", model=settings.pop("model", ""), options=options)
        async for response in self.run(source, spec, **settings):
            if isinstance(response.body, m.PacketsOut):
                for packet in response.body.packets:
                    player.push(packet.data)
            yield response

    async def models(self, task: str = "") -> list[m.ModelInfo]:
        """Return the service's models, for one task or all."""
        return await self.transport.models(task)

    async def status(self) -> m.Status:
        """Return how the service is."""
        return await self.transport.status()

    async def close(self) -> None:
        """Hang up."""
        await self.transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


async def _pump(source: Source, stream: Stream) -> None:
    """Send everything; a stream that failed meanwhile says so to its reader, not here."""
    chunks = source.chunks()
    try:
        async for samples in chunks:
            await stream.send(samples)
        await stream.end()
    except WireError:
        if not stream.over:
            raise
    finally:
        await chunks.aclose()  # type: ignore[attr-defined]


async def _pump_packets(packets: list[m.WirePacket], stream: Stream) -> None:
    for at in range(0, len(packets), 25):
        await stream.send_packets(packets[at : at + 25])
    await stream.end()


def with_options(spec: m.TaskSpec, **options: Any) -> m.TaskSpec:
    """Return ``spec`` with further options."""
    return replace(spec, options={**spec.options, **options})


def concatenate(sounds: list[Sound]) -> Samples:
    """Return the samples of sounds that follow each other, `[C, T]`; holes are silence."""
    import numpy as np

    if not sounds:
        return np.zeros((1, 0), np.float32)
    first = min(s.start_sample for s in sounds)
    out = np.zeros((sounds[0].samples.shape[0], sounds[-1].stop_sample - first), np.float32)
    for sound in sounds:
        out[:, sound.start_sample - first : sound.stop_sample - first] = sound.samples
    return out
