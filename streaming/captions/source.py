"""Audio to caption: a file, or raw PCM from a pipe, a tenth of a second at a time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.errors import AudioError
from ossicle.streaming.codec.audiofile import open_pipe

CHUNK_S = 0.1
CONTAINERS = (b"RIFF", b"fLaC", b"OggS", b"FORM", b"caff", b"ID3", b".snd")  # say their own rate
NO_RATE = "raw audio from a pipe needs its sample rate: --rate 16000, for example"


def read_audio(
    source: str | Path, rate_hz: int | None = None, channels: int = 1,
    stdin: IO[bytes] | None = None,
) -> Iterator[Chunk]:  # fmt: skip
    """Yield a file, or raw PCM from a pipe, in chunks of a tenth of a second.

    Raises:
        AudioError: a file that cannot be read, or a pipe without a rate.
    """
    if str(source) != "-":
        yield from _read_file(Path(source))
        return
    if rate_hz is None:
        yield from _read_container(stdin)
        return
    if stdin is None:
        raise AudioError(NO_RATE)
    form = AudioFormat(rate_hz, channels)
    size, start, held = round(CHUNK_S * rate_hz) * 2 * channels, 0, b""
    while data := stdin.read(size):
        data = held + data
        whole = len(data) - len(data) % (2 * channels)
        held = data[whole:]
        pcm = np.frombuffer(data[:whole], "<i2").reshape(-1, channels).T
        chunk = Chunk(np.divide(pcm, 32768, dtype=np.float32), start, form)
        start = chunk.stop
        if chunk.length:
            yield chunk
    if held:
        raise AudioError(
            f"the pipe ended in the middle of a sample: {len(held)} bytes of "
            f"{2 * channels} are left; is it 16-bit PCM of {channels} channel(s)?"
        )


def _read_container(stdin: IO[bytes] | None) -> Iterator[Chunk]:
    """Yield what a pipe holds that says itself what it is: WAV as it comes, others when whole."""
    if stdin is None:
        raise AudioError(NO_RATE)
    try:
        pipe = stdin if isinstance(stdin, io.BufferedReader) else io.BufferedReader(stdin)  # type: ignore[type-var]
        head = pipe.peek(4)
    except OSError as error:
        raise AudioError(NO_RATE) from error
    if not head.startswith(CONTAINERS):
        raise AudioError(NO_RATE)
    with open_pipe(pipe) as source:
        form, start = AudioFormat(source.rate_hz, source.channels), 0
        size = round(CHUNK_S * source.rate_hz)
        for run in source.runs:
            for at in range(0, run.shape[1], size):
                chunk = Chunk(np.ascontiguousarray(run[:, at : at + size]), start, form)
                start = chunk.stop
                yield chunk


def _read_file(path: Path) -> Iterator[Chunk]:
    try:
        import soundfile
    except ImportError as error:
        raise AudioError("audio files need soundfile; install ossicle[audio]") from error
    if not path.is_file():
        raise AudioError(f"no audio file at {path}")
    try:
        with soundfile.SoundFile(path) as file:
            form = AudioFormat(file.samplerate, file.channels)
            start, size = 0, round(CHUNK_S * file.samplerate)
            while len(frames := file.read(size, "float32", always_2d=True)):
                chunk = Chunk(np.ascontiguousarray(frames.T), start, form)
                start = chunk.stop
                yield chunk
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path} cannot be read as audio: {error}") from error
