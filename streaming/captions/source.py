"""Audio to caption: a file, or raw PCM from a pipe, a tenth of a second at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.errors import AudioError

CHUNK_S = 0.1


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
    if rate_hz is None or stdin is None:
        raise AudioError("raw audio from a pipe needs its sample rate: --rate 16000, for example")
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
