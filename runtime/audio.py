"""The values that travel: a run of samples, and the format that gives them meaning."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from ossicle.runtime import snapshot
from ossicle.runtime.errors import AudioError
from ossicle.runtime.rows import all_finite

Samples = NDArray[np.float32]

MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 192_000
MAX_CHANNELS = 64


@snapshot.record("audio.Format")
@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How a stream of samples is to be read.

    >>> AudioFormat(16_000).duration_ms(320)
    20.0
    """

    rate_hz: int  # samples per second, per channel
    channels: int = 1

    def __post_init__(self) -> None:
        if not MIN_RATE_HZ <= self.rate_hz <= MAX_RATE_HZ:
            raise AudioError(
                f"sample rate of {self.rate_hz} Hz; {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz are allowed"
            )
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise AudioError(f"{self.channels} channels; 1 to {MAX_CHANNELS} are allowed")

    def duration_ms(self, samples: int) -> float:
        """How long ``samples`` last, in milliseconds."""
        return 1000.0 * samples / self.rate_hz


@snapshot.record("audio.Chunk")
class Chunk(msgspec.Struct, frozen=True, gc=False):
    """A run of consecutive samples and its place in the stream.

    ``start`` counts samples, not seconds: an integer stays exact for as long as the stream runs.
    A struct and not a dataclass: several are made for every hop, ten times faster so.
    """

    samples: Samples  # [C, T], full scale is [-1, 1]
    start: int  # index of samples[:, 0] since the stream opened, at format.rate_hz
    format: AudioFormat
    discont: bool = False  # samples before ``start`` were lost; state behind it is stale

    @property
    def length(self) -> int:
        """Samples per channel."""
        length: int = self.samples.shape[-1]
        return length

    @property
    def stop(self) -> int:
        """Index of the first sample after this chunk."""
        stop: int = self.start + self.samples.shape[-1]
        return stop

    def after_gap(self) -> Chunk:
        """Return this chunk with the mark that samples before it were lost."""
        return Chunk(self.samples, self.start, self.format, True)


def check(chunk: Chunk, format: AudioFormat) -> Chunk:
    """Return ``chunk`` if it is what a stage opened for ``format`` may be fed.

    Raises:
        AudioError: wrong format, shape, dtype or position.
    """
    _check_kind(chunk)
    if chunk.format is not format and chunk.format != format:
        raise AudioError(
            f"fed {chunk.format.rate_hz} Hz x {chunk.format.channels}, opened for "
            f"{format.rate_hz} Hz x {format.channels}; put a Resampler before it"
        )
    samples = chunk.samples
    if samples.dtype != np.float32:
        raise AudioError(f"samples of dtype {samples.dtype}; float32 with full scale +-1 expected")
    if samples.ndim != 2 or samples.shape[0] != format.channels:
        raise AudioError(
            f"samples of shape {samples.shape}; [C, T] with C = {format.channels} expected"
        )
    if chunk.start < 0:
        raise AudioError(f"chunk starts at sample {chunk.start}; 0 or later expected")
    return chunk


def _check_kind(fed: object) -> None:
    array = fed.samples if isinstance(fed, Chunk) else None
    if not isinstance(array, np.ndarray):
        kind = type(array if isinstance(fed, Chunk) else fed).__name__
        raise AudioError(f"fed {kind}; a Chunk of a float32 array [C, T] expected")


def scrub(samples: Samples) -> tuple[Samples, int]:
    """Return ``samples`` with NaN and Inf silenced, and how many there were."""
    if all_finite([samples]):
        return samples, 0
    good = np.isfinite(samples)
    if good.all():
        return samples, 0
    return np.where(good, samples, np.float32(0)), int(samples.size - good.sum())


def scrubbed(chunk: Chunk) -> Chunk:
    """Return the chunk with NaN and Inf silenced; what is no audio, for :func:`check` to refuse."""
    try:
        samples, bad = scrub(chunk.samples)
    except TypeError:  # no numbers
        return chunk
    return Chunk(samples, chunk.start, chunk.format, chunk.discont) if bad else chunk
