"""Where a client's audio comes from: files, arrays, pipes, generators, microphones.

A source has a rate, a channel count and a pace, and yields samples `[C, T]`. A file is not live: it
is sent as fast as the server takes it, unless ``realtime`` asks for its own pace.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from ossicle.runtime.audio import Samples
from ossicle.runtime.errors import AudioError
from ossicle.streaming.encodings import PCM_WIDTH, PcmReader

CHUNK_MS = 20


class Source(Protocol):
    """Samples at one rate."""

    rate_hz: int
    channels: int
    live: bool

    def chunks(self) -> AsyncIterator[Samples]:
        """Yield samples `[C, T]` until there are no more."""
        ...


@dataclass
class ArraySource:
    """Samples that are here already, `[C, T]` or `[T]`."""

    samples: Samples
    rate_hz: int
    live: bool = False
    chunk_ms: float = CHUNK_MS

    def __post_init__(self) -> None:
        self.samples = np.atleast_2d(np.asarray(self.samples, np.float32))
        self.channels = self.samples.shape[0]
        if self.channels > 2:
            raise AudioError(
                f"samples of shape {self.samples.shape}: [C, T] with 1 or 2 channels expected"
            )

    async def chunks(self) -> AsyncIterator[Samples]:
        """Yield pieces of ``chunk_ms``; at the pace of a clock where live."""
        step = max(1, round(self.rate_hz * self.chunk_ms / 1000))
        begun = time.monotonic()
        for at in range(0, self.samples.shape[1], step):
            piece = self.samples[:, at : at + step]
            if self.live:
                due = begun + (at + piece.shape[1]) / self.rate_hz
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            yield piece


class FileSource:
    """A file that libsndfile reads: WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF and more.

    Raises:
        AudioError: no such file, or no such format.
    """

    def __init__(self, path: str | Path, realtime: bool = False) -> None:
        import soundfile

        self.path, self.live = Path(path), realtime
        try:
            info = soundfile.info(str(path))
        except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
            raise AudioError(
                f"{path} cannot be read as audio: {error}. Convert it, for example with "
                f"`ffmpeg -i {path} out.wav`"
            ) from None
        self.rate_hz, self.channels = int(info.samplerate), min(2, int(info.channels))
        self.frames = int(info.frames)
        self._all_channels = int(info.channels)

    async def chunks(self) -> AsyncIterator[Samples]:
        """Yield pieces of 20 ms (live) or 200 ms; more than two channels are mixed to one."""
        import soundfile

        step = round(self.rate_hz * (CHUNK_MS if self.live else 200) / 1000)
        begun, sent = time.monotonic(), 0
        with soundfile.SoundFile(str(self.path)) as file:
            while len(piece := file.read(step, dtype="float32", always_2d=True)):
                samples = piece.T
                if self._all_channels > 2:
                    samples = np.repeat(samples.mean(axis=0, keepdims=True), 2, axis=0)
                sent += samples.shape[1]
                if self.live:
                    due = begun + sent / self.rate_hz
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                yield np.ascontiguousarray(samples, np.float32)


@dataclass
class PipeSource:
    """Raw PCM from a pipe, such as standard input; live, at whatever pace it comes."""

    stream: BinaryIO
    rate_hz: int
    channels: int = 1
    encoding: str = "pcm_s16"
    live: bool = True

    def __post_init__(self) -> None:
        if self.encoding not in PCM_WIDTH:
            raise AudioError(
                f"a pipe carries raw PCM; {self.encoding!r} is none of {', '.join(PCM_WIDTH)}"
            )

    async def chunks(self) -> AsyncIterator[Samples]:
        """Yield what the pipe gives, as it gives it."""
        reader = PcmReader(self.encoding, self.channels)
        size = PCM_WIDTH[self.encoding] * self.channels * self.rate_hz // 10
        read = getattr(self.stream, "read1", self.stream.read)
        while data := await asyncio.to_thread(read, size):
            samples = reader.feed(data)
            if samples.shape[1]:
                yield samples
        reader.finish()


@dataclass
class IterableSource:
    """Samples from any iterable, sync or async."""

    items: Iterable[Samples] | AsyncIterator[Samples]
    rate_hz: int
    channels: int = 1
    live: bool = True

    async def chunks(self) -> AsyncIterator[Samples]:
        """Yield each item as `[C, T]`."""
        if hasattr(self.items, "__aiter__"):
            async for item in self.items:
                yield np.atleast_2d(np.asarray(item, np.float32))
            return
        iterator: Iterator[Any] = iter(self.items)
        while (item := await asyncio.to_thread(next, iterator, None)) is not None:
            yield np.atleast_2d(np.asarray(item, np.float32))


def open_source(what: Any, rate_hz: int | None = None, realtime: bool = False) -> Source:
    """Return the source that ``what`` means: a path, an array (with ``rate_hz``), or a source.

    Raises:
        AudioError: a rate is missing, or it is nothing that sounds.
    """
    if hasattr(what, "chunks") and hasattr(what, "rate_hz"):
        source: Source = what
        return source
    if isinstance(what, str | Path):
        return FileSource(what, realtime)
    if rate_hz is None:
        raise AudioError(f"a {type(what).__name__} has no rate of its own; give rate_hz")
    if isinstance(what, np.ndarray):
        return ArraySource(what, rate_hz, realtime)
    if hasattr(what, "__iter__") or hasattr(what, "__aiter__"):
        return IterableSource(what, rate_hz)
    raise AudioError(f"a {type(what).__name__} is no audio; give a path, an array or an iterable")
