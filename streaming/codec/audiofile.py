"""Audio files and pipes of any format as runs of samples, and back."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any, BinaryIO, Protocol

import numpy as np

from ossicle.runtime.audio import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ, Samples
from ossicle.runtime.errors import AudioError

RUN_S = 1  # seconds read at a time
MAX_SKIP = 16 << 20  # bytes of foreign chunks before the samples of a WAV
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_UNKNOWN = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class AudioSource:
    """What can be read, and how much of it there is."""

    rate_hz: int
    channels: int
    total: int | None  # samples; None: a pipe that does not say
    runs: Iterator[Samples]  # [C, T]


class AudioSink(Protocol):
    """Takes runs of samples."""

    def write(self, samples: Samples) -> None:
        """Append ``[C, T]`` samples, clipped to full scale."""
        ...


@contextlib.contextmanager
def open_source(where: str | os.PathLike[str]) -> Iterator[AudioSource]:
    """Open an audio file of any libsndfile format, or ``-`` for standard input.

    WAV is read from a pipe as it comes; another format is first kept in a temporary file.

    Raises:
        AudioError: missing, not audio, or a rate or channel count that cannot be used.
    """
    with contextlib.ExitStack() as stack:
        if os.fspath(where) != "-":
            source = _from_file(os.fspath(where), stack)
        else:
            source = stack.enter_context(open_pipe(sys.stdin.buffer))
        if not MIN_RATE_HZ <= source.rate_hz <= MAX_RATE_HZ or source.channels > MAX_CHANNELS:
            raise AudioError(
                f"{where}: {source.rate_hz} Hz x {source.channels}; {MIN_RATE_HZ} to "
                f"{MAX_RATE_HZ} Hz and at most {MAX_CHANNELS} channels are allowed"
            )
        yield source


@contextlib.contextmanager
def open_pipe(pipe: BinaryIO) -> Iterator[AudioSource]:
    """Read an audio file from a pipe: WAV as it comes, another format once all of it is there.

    Raises:
        AudioError: nothing, or nothing that libsndfile reads.
    """
    with contextlib.ExitStack() as stack:
        yield _from_pipe(pipe, stack)


@contextlib.contextmanager
def open_sink(where: str | os.PathLike[str], rate_hz: int, channels: int) -> Iterator[AudioSink]:
    """Open a file to be written, its format by its name, or ``-`` for WAV on standard output.

    A file appears under its name only when all of it was written.

    Raises:
        AudioError: a format that libsndfile does not write, or a place that cannot be written.
    """
    if os.fspath(where) == "-":
        yield _WavPipe(sys.stdout.buffer, rate_hz, channels)
        return
    library = _soundfile()
    with whole_file(where) as part:
        try:
            file = library.SoundFile(part, "w", rate_hz, channels, format=_format(library, where))
        except (library.LibsndfileError, TypeError, ValueError) as error:
            raise AudioError(f"{where} cannot be written: {error}") from error
        with file:
            yield _File(file)


@contextlib.contextmanager
def whole_file(where: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``where`` that takes its name if nothing goes wrong.

    Raises:
        AudioError: the folder cannot be written to.
    """
    place = Path(where)
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(place)
    except OSError as error:
        raise AudioError(f"{place} cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _soundfile() -> ModuleType:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise AudioError(
            f"audio files need soundfile: pip install 'ossicle[audio]' ({error})"
        ) from (error)
    module: ModuleType = soundfile
    return module


def _format(library: ModuleType, where: str | os.PathLike[str]) -> str:
    suffix = Path(where).suffix.lstrip(".").upper()
    known = {"WAVE": "WAV", "AIF": "AIFF", "OPUS": "OGG"}.get(suffix, suffix)
    if known not in library.available_formats():
        raise AudioError(
            f"{where}: no audio format goes by '.{suffix.lower()}'; .wav, .flac or .ogg are usual"
        )
    return known


def _from_file(where: str | BinaryIO, stack: contextlib.ExitStack) -> AudioSource:
    library = _soundfile()
    if isinstance(where, str) and not Path(where).is_file():
        raise AudioError(f"{where}: no such file")
    try:
        file = stack.enter_context(library.SoundFile(where))
    except (library.LibsndfileError, TypeError, RuntimeError) as error:
        name = where if isinstance(where, str) else "standard input"
        raise AudioError(f"{name} is not audio that libsndfile can read: {error}") from error
    return AudioSource(file.samplerate, file.channels, file.frames, _runs(library, file))


def _runs(library: ModuleType, file: Any) -> Iterator[Samples]:
    while True:
        try:
            run = file.read(RUN_S * file.samplerate, dtype="float32", always_2d=True)
        except library.LibsndfileError as error:
            raise AudioError(f"{file.name} cannot be read to its end: {error}") from error
        if not len(run):
            return
        yield np.ascontiguousarray(run.T)


def _from_pipe(pipe: BinaryIO, stack: contextlib.ExitStack) -> AudioSource:
    start = pipe.read(12)
    if start[:4] == b"RIFF" and start[8:] == b"WAVE":
        return _wav(pipe)
    if not start:
        raise AudioError("standard input is empty; pipe an audio file into it")
    spool = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  (the stack closes it)
    spool.write(start)
    shutil.copyfileobj(pipe, spool)
    spool.seek(0)
    return _from_file(spool, stack)


def _wav(pipe: BinaryIO) -> AudioSource:
    """Read a WAV's head up to its samples; sizes in it bound nothing but the reading."""
    layout, skipped = None, 0
    while True:
        head = pipe.read(8)
        if len(head) < 8:
            raise AudioError("WAV on standard input ends before its samples")
        name, size = struct.unpack("<4sI", head)
        if name == b"data":
            break
        skipped += size
        if skipped > MAX_SKIP:
            raise AudioError(f"WAV on standard input has {skipped} bytes before its samples")
        body = pipe.read(size + size % 2)
        if name == b"fmt " and len(body) >= 16:
            layout = body
    if layout is None:
        raise AudioError("WAV on standard input says nothing of its format")
    tag, channels, rate, _, _, width = struct.unpack_from("<HHIIHH", layout)
    if tag == _EXTENSIBLE and len(layout) >= 26:
        (tag,) = struct.unpack_from("<H", layout, 24)
    if (tag, width) not in _READERS or not channels:
        raise AudioError(
            f"WAV on standard input has format {tag} of {width} bits; PCM of 8 to 32 bits or "
            "float of 32 or 64 is read from pipes. Convert it, or give a file"
        )
    left = None if size in (0, _UNKNOWN) else size
    total = None if left is None else left // (channels * width // 8)
    return AudioSource(rate, channels, total, _wav_runs(pipe, rate, channels, (tag, width), left))


def _wav_runs(
    pipe: BinaryIO, rate: int, channels: int, kind: tuple[int, int], left: int | None
) -> Iterator[Samples]:
    width = channels * kind[1] // 8
    while left is None or left >= width:
        want = RUN_S * rate * width
        data = pipe.read(want if left is None else min(want, left))
        left = None if left is None else left - len(data)
        data = data[: len(data) // width * width]
        if not data:
            return
        flat = _READERS[kind](data)
        yield np.ascontiguousarray(flat.reshape(-1, channels).T, np.float32)


def _pcm24(data: bytes) -> Any:
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return wide.view("<i4")[:, 0] / 2.0**31


_READERS: dict[tuple[int, int], Callable[[bytes], Any]] = {
    (_PCM, 8): lambda data: (np.frombuffer(data, np.uint8) - 128.0) / 128.0,
    (_PCM, 16): lambda data: np.frombuffer(data, "<i2") / 32768.0,
    (_PCM, 24): _pcm24,
    (_PCM, 32): lambda data: np.frombuffer(data, "<i4") / 2.0**31,
    (_FLOAT, 32): lambda data: np.frombuffer(data, "<f4"),
    (_FLOAT, 64): lambda data: np.frombuffer(data, "<f8"),
}


class _File:
    """A libsndfile file."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, samples: Samples) -> None:
        """Append samples."""
        self._file.write(np.clip(samples.T, -1, 1))


class _WavPipe:
    """A WAV of 16 bits whose length nobody knows yet."""

    def __init__(self, pipe: IO[bytes], rate_hz: int, channels: int) -> None:
        self._pipe = pipe
        form = struct.pack(
            "<HHIIHH", _PCM, channels, rate_hz, 2 * channels * rate_hz, 2 * channels, 16
        )
        head = struct.pack("<4sI4s4sI", b"RIFF", _UNKNOWN, b"WAVE", b"fmt ", 16)
        pipe.write(head + form + struct.pack("<4sI", b"data", _UNKNOWN))

    def write(self, samples: Samples) -> None:
        """Append samples."""
        scaled = np.rint(np.clip(samples.T, -1, 1) * 32767)
        self._pipe.write(scaled.astype("<i2").tobytes())
        self._pipe.flush()
