"""FLAC and Ogg Opus, decoded while they arrive.

libsndfile pulls its input, a stream pushes: a thread per coded stream stands between them. Ogg
goes through a pipe (libsndfile then does not look for the last page); FLAC needs to seek within
its header and reads from a growing file. Both sides are bounded: bytes in by ``IN_BYTES``, samples
out by ``OUT_SAMPLES``, so a small file that decodes to hours of silence holds no memory.
"""

from __future__ import annotations

import fcntl
import io
import os
import threading
from collections import deque
from typing import Any

from ossicle.runtime.audio import Samples
from ossicle.runtime.errors import WireError

IN_BYTES = 1 << 20
OUT_SAMPLES = 1 << 20
READ_SAMPLES = 4800
_FAR = 1 << 40  # "where does the file end?" before it has ended


class _Growing(io.RawIOBase):
    """A file that grows while libsndfile reads it; what was read long ago is let go."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._base = 0  # file position of _bytes[0]
        self._at = 0
        self._done = False
        self._changed = threading.Condition()

    def room(self) -> int:
        return IN_BYTES - max(0, self._base + len(self._bytes) - self._at)

    def put(self, data: bytes) -> None:
        with self._changed:
            self._bytes += data
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._done = True
            self._changed.notify_all()

    def seek(self, offset: int, whence: int = 0) -> int:
        with self._changed:
            end = self._base + len(self._bytes) if self._done else _FAR
            self._at = offset + (0, self._at, end)[whence]
            return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        with self._changed:
            while not self._done and self._base + len(self._bytes) <= self._at < _FAR // 2:
                self._changed.wait()
            begin = self._at - self._base
            if begin < 0:
                return 0
            data = self._bytes[begin : begin + len(buffer)]
            buffer[: len(data)] = data
            self._at += len(data)
            if begin > 2 * IN_BYTES:
                del self._bytes[: begin - IN_BYTES]
                self._base += begin - IN_BYTES
            return len(data)


class CodedReader:
    """Decodes one coded stream: ``put`` what arrives, ``take`` what is ready.

    Raises:
        WireError: from ``take``, when the bytes are not what was promised.
    """

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self.rate_hz = 0  # known once the header was read
        self.channels = 0
        self._ready: deque[Samples] = deque()
        self._held = 0
        self._error: str | None = None
        self._over = False
        self._closed = False
        self._room = threading.Condition()
        self._file: _Growing | None = None
        self._pipe: tuple[int, int] | None = None
        if encoding == "flac":
            self._file = _Growing()
        else:
            self._pipe = os.pipe()
            fcntl.fcntl(self._pipe[1], fcntl.F_SETPIPE_SZ, IN_BYTES)
            os.set_blocking(self._pipe[1], False)
        self._writer: int | None = self._pipe[1] if self._pipe else None
        self._thread = threading.Thread(target=self._run, name="ossicle-coded", daemon=True)
        self._thread.start()

    def put(self, data: bytes) -> int:
        """Take as much of ``data`` as there is room for and return how much that was."""
        if self._error or self._over:
            return len(data)
        if self._file is not None:
            count = max(0, min(len(data), self._file.room()))
            self._file.put(data[:count])
            return count
        try:
            return os.write(self._writer, data) if self._writer is not None else len(data)
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            return len(data)

    def end(self) -> None:
        """Say that no more bytes come."""
        if self._file is not None:
            self._file.end()
        if self._writer is not None:
            os.close(self._writer)
            self._writer = None

    @property
    def over(self) -> bool:
        """All that came was decoded and taken."""
        return self._over and not self._ready

    def take(self) -> list[Samples]:
        """Return what is decoded by now, `[C, T]` each."""
        with self._room:
            ready = list(self._ready)
            self._ready.clear()
            self._held = 0
            self._room.notify_all()
        if self._error and not ready:
            raise WireError(
                f"the audio is not {self.encoding}: {self._error}; does the config's encoding "
                "match the bytes, header first?",
                field="audio.data",
            )
        return ready

    def close(self) -> None:
        """Give the thread and its pipe back."""
        with self._room:
            self._closed = True
            self._room.notify_all()
        self.end()
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        import soundfile

        try:
            source: Any = self._file if self._file is not None else self._pipe[0]  # type: ignore[index]
            with soundfile.SoundFile(source) as file:
                self.rate_hz, self.channels = int(file.samplerate), int(file.channels)
                while not self._closed:
                    samples = file.read(READ_SAMPLES, dtype="float32", always_2d=True)
                    if not len(samples):
                        break
                    self._keep(samples.T.copy())
        except (soundfile.LibsndfileError, RuntimeError, OSError, ValueError) as error:
            self._error = str(error)
        finally:
            self._over = True

    def _keep(self, samples: Samples) -> None:
        with self._room:
            while self._held > OUT_SAMPLES and not self._closed:
                self._room.wait()
            self._ready.append(samples)
            self._held += samples.shape[-1]
