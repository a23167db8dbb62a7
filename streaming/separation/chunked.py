"""Separate long recordings with a model that takes whole windows, in pieces with hidden seams.

For separators that see seconds at once (AudioSep and its kind) and are not streaming. The
recording is cut into windows of equal length that overlap by exactly the cross-fade, so no second
is computed more often than the fade needs. A recording that fits in one window goes through in one
call and comes back exactly as the model gave it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.audio import Samples
from ossicle.runtime.errors import AudioError

Network = Callable[[Samples], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Windows:
    """How a recording is cut, in samples.

    ``window`` is what the network sees in one call, ``fade`` how much two windows share. ``margin``
    samples at each inner edge are computed but not used, for networks that are poor at edges.
    """

    window: int
    fade: int
    margin: int = 0

    def __post_init__(self) -> None:
        if self.window < 1 or self.fade < 0 or self.margin < 0:
            raise AudioError(f"window {self.window}, fade {self.fade}, margin {self.margin}; "
                             "a window of at least 1 and no negative size expected")  # fmt: skip
        if self.stride < 1:
            raise AudioError(
                f"a window of {self.window} samples leaves nothing between a fade of {self.fade} "
                f"and margins of {self.margin}; make it longer than fade + 2 margins"
            )

    @property
    def stride(self) -> int:
        """New samples per call."""
        return self.window - self.fade - 2 * self.margin

    def starts(self, length: int) -> list[int]:
        """Where each window begins in a recording of ``length`` samples.

        The last one is moved back to end with the recording, so that it sees no padding.

        >>> Windows(10, 2).starts(26), Windows(10, 2).starts(9)
        ([0, 8, 16], [0])
        """
        if length <= self.window:
            return [0]
        starts = list(range(0, length - self.window, self.stride))
        return [*starts, length - self.window]

    def work(self, length: int) -> float:
        """Samples computed per sample given back."""
        return len(self.starts(length)) * min(self.window, length) / max(1, length)


def separate_windows(samples: Samples, network: Network, windows: Windows) -> Samples:
    """``network`` applied to ``samples`` [C, T] in windows with cross-faded seams; [C', T].

    The two fades of a seam are a raised cosine and its complement: where both windows agree, the
    seam is exact.

    Raises:
        AudioError: the network gave another length than it took.
    """
    if samples.ndim != 2:
        raise AudioError(f"samples of shape {samples.shape}; [C, T] expected")
    length = samples.shape[1]
    if length == 0:
        return samples
    made: Samples | None = None
    reached = 0  # samples of ``made`` that are final or fading
    for start, out in _run(samples, network, windows):
        if made is None:
            if out.shape[1] == length:
                return out
            made = np.zeros((out.shape[0], length), np.float32)
            made[:, : out.shape[1]] = out
        else:
            seam = reached - windows.margin - windows.fade  # the new window is heard from here
            joint = seam + windows.fade
            ramp = _ramp(windows.fade)
            fresh = out[:, seam - start :]
            made[:, seam:joint] += (fresh[:, : windows.fade] - made[:, seam:joint]) * ramp
            made[:, joint : start + out.shape[1]] = fresh[:, windows.fade :]
        reached = start + out.shape[1]
    assert made is not None
    return made


def _run(
    samples: Samples, network: Network, windows: Windows
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for start in windows.starts(samples.shape[1]):
        piece = np.ascontiguousarray(samples[:, start : start + windows.window])
        out = np.asarray(network(piece), np.float32)
        if out.ndim != 2 or out.shape[1] != piece.shape[1]:
            raise AudioError(
                f"the network gave {out.shape} for {piece.shape}; [C, T] of the same T expected"
            )
        yield start, out


def _ramp(size: int) -> NDArray[np.float32]:
    phase = (np.arange(size) + 0.5) / max(1, size)
    return (0.5 - 0.5 * np.cos(np.pi * phase)).astype(np.float32)
