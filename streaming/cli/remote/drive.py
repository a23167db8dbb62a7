"""A whole stream: everything is sent while every answer is read; and what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np

from ossicle.runtime.audio import Chunk, Samples
from ossicle.streaming import messages as m
from ossicle.streaming.client import Stream

MAX_RATE_HZ = 48_000


async def drive(stream: Stream, pieces: Iterator[Samples]) -> AsyncIterator[m.Response]:
    """Send every piece and yield every answer."""

    async def send() -> None:
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            await stream.send(piece)
        await stream.end()

    async for response in _both(stream, send()):
        yield response


async def drive_packets(stream: Stream, packets: list[m.WirePacket]) -> AsyncIterator[m.Response]:
    """Send every packet and yield every answer."""

    async def send() -> None:
        for at in range(0, len(packets), 25):
            await stream.send_packets(packets[at : at + 25])
        await stream.end()

    async for response in _both(stream, send()):
        yield response


async def _both(stream: Stream, sending: Any) -> AsyncIterator[m.Response]:
    sender = asyncio.create_task(sending)
    sender.add_done_callback(lambda t: t.cancelled() or t.exception())
    try:
        async with stream:
            async for response in stream:
                yield response
                if sender.done() and not sender.cancelled() and sender.exception() is not None:
                    break
        await sender
    finally:
        sender.cancel()


def chained(first: Chunk, rest: Iterator[Chunk]) -> Iterator[Samples]:
    """Yield the samples of a chunk and of those after it."""
    yield first.samples
    for chunk in rest:
        yield chunk.samples


def narrow(pieces: Iterator[Samples], channels: int) -> Iterator[Samples]:
    """Mix what has more channels than the wire carries, as the runtime would."""
    for piece in pieces:
        if piece.shape[0] == channels:
            yield piece
        else:
            yield piece.mean(axis=0, keepdims=True, dtype=np.float32)
