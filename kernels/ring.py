"""A ring of samples between one producer and one consumer, for the seam to an audio callback.

Neither side blocks or takes a lock on the compiled path; on the plain one the interpreter's own
lock orders the two. A full ring refuses the newest samples and counts them.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels import check, paths

Floats = NDArray[np.float32]

__all__ = ["PlainRing", "Ring", "ring"]


class Ring(Protocol):
    """What both rings offer; frames are ``[T, C]``, interleaved."""

    @property
    def capacity(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    def __len__(self) -> int: ...
    def push(self, frames: Floats) -> int: ...
    def pop(self, out: Floats) -> int: ...


class PlainRing:
    """The NumPy twin of the compiled ring."""

    def __init__(self, samples: int, channels: int) -> None:
        self._data = np.zeros((1 << (samples - 1).bit_length(), channels), np.float32)
        self._written = 0
        self._read = 0
        self._dropped = 0

    @property
    def capacity(self) -> int:
        """Frames that fit."""
        return len(self._data)

    @property
    def dropped(self) -> int:
        """Frames refused so far."""
        return self._dropped

    def __len__(self) -> int:
        return self._written - self._read

    def push(self, frames: Floats) -> int:
        """Takes as many frames as fit and says how many; the rest is counted as dropped."""
        check.array("frames", frames, np.float32, "[T, C]", None, self._data.shape[1])
        n = min(len(frames), self.capacity - len(self))
        self._data[(self._written + np.arange(n)) & (self.capacity - 1)] = frames[:n]
        self._written += n
        self._dropped += len(frames) - n
        return n

    def pop(self, out: Floats) -> int:
        """Fills ``out`` with the oldest frames and says how many there were."""
        check.output("out", out, np.float32, "[T, C]", len(out), self._data.shape[1])
        n = min(len(out), len(self))
        out[:n] = self._data[(self._read + np.arange(n)) & (self.capacity - 1)]
        self._read += n
        return n


def ring(samples: int, channels: int, *, path: paths.Path | None = None) -> Ring:
    """A ring with room for at least ``samples`` frames.

    Raises:
        RangeError: ``samples`` is not 1 to 2^26 or ``channels`` not 1 to 64.
    """
    check.number("samples", samples, 1, 1 << 26)
    check.number("channels", channels, 1, 64)
    core = paths.core()
    if paths.choose(path) == "core" and core is not None:
        made: Ring = core.SampleRing(samples, channels)
        return made
    return PlainRing(samples, channels)
