"""Silence as five bytes: when to send nothing, what it sounded like, and how to play it again."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime import snapshot
from ossicle.runtime.audio import Samples
from ossicle.streaming.codec.packet import NOISE_BANDS, Noise

HANGOVER = 10  # quiet frames that are still sent as codes
SMOOTH = 0.8  # of the old spectrum kept per quiet frame
FLOOR = 1e-14  # power below any 24-bit signal


@snapshot.record("codec.SilenceState")
@dataclass(slots=True)
class SilenceState:
    """How long one stream has been quiet, and its average spectrum since."""

    quiet: int = 0  # frames in a row
    power: NDArray[np.float64] = field(default_factory=lambda: np.zeros(NOISE_BANDS))


@dataclass(frozen=True, slots=True)
class SilenceDetector:
    """Calls a frame silent when it and ``HANGOVER`` frames before it were below the threshold.

    The threshold is absolute on purpose: rain and engines are sounds, not silence.
    """

    threshold_dbfs: float = -50.0

    def open(self) -> SilenceState:
        """Return the state of a stream that has not been quiet yet."""
        return SilenceState()

    def step(self, state: SilenceState, samples: Samples) -> Noise | None:
        """Return what to send instead of this hop ``[C, T]``, or None if it must be coded."""
        power = float(np.mean(np.square(samples, dtype=np.float64)))
        if power > 10 ** (self.threshold_dbfs / 10):
            state.quiet = 0
            return None
        bands = _band_power(samples.mean(0))
        keep = SMOOTH if state.quiet else 0.0
        state.power = keep * state.power + (1 - keep) * bands
        state.quiet += 1
        return describe(state.power) if state.quiet > HANGOVER else None


def describe(power: NDArray[np.float64]) -> Noise:
    """Return the descriptor of noise with mean-square ``power`` in each of the bands."""
    total = 10 * np.log10(max(float(power.sum()), FLOOR))
    level = int(np.clip(round(-total), 0, 127))
    density = np.maximum(power, FLOOR) / _band_sizes(512)
    steps = 10 * np.log10(density.max() / density) / 3
    return Noise(level, tuple(int(b) for b in np.clip(np.round(steps), 0, 15)))


def comfort_noise(
    noise: Noise, index: int, hop: int, tail: Samples | None
) -> tuple[Samples, Samples]:
    """Return ``[hop]`` samples of noise for frame ``index``, and the overlap for the next frame.

    A pure function of its arguments: the same frame sounds the same wherever it is decoded.
    ``tail`` is the overlap of the frame before, None at the start.
    """
    if noise.level == 127:
        heard = np.zeros(hop, np.float32) if tail is None else tail
        return heard, np.zeros(hop, np.float32)
    wide = 2 * hop
    white = np.random.Generator(np.random.Philox(key=index)).standard_normal(wide)
    shaped = np.fft.irfft(np.fft.rfft(white) * _curve(noise.bands, wide), wide)
    window = np.sin(np.pi * (np.arange(wide) + 0.5) / wide)
    grain = (shaped * window * 10 ** (-noise.level / 20)).astype(np.float32)
    head = grain[:hop] if tail is None else grain[:hop] + tail
    return head, grain[hop:].copy()


@lru_cache(maxsize=64)
def _curve(bands: tuple[int, ...], wide: int) -> NDArray[np.float64]:
    """Gain of every bin, of unit mean power."""
    power = (10.0 ** (-0.3 * np.array(bands)))[_band_of_bin(wide)]
    weight = np.full(power.size, 2.0)
    weight[0] = weight[-1] = 1.0
    return np.asarray(np.sqrt(power * wide / (power * weight).sum()))


@lru_cache(maxsize=8)
def _band_of_bin(wide: int) -> NDArray[np.intp]:
    """Band of each of the ``wide // 2 + 1`` bins: edges grow as the square of their number."""
    place = np.arange(wide // 2 + 1) / (wide // 2 + 1)
    return np.asarray(np.minimum(np.sqrt(place) * NOISE_BANDS, NOISE_BANDS - 1).astype(np.intp))


@lru_cache(maxsize=8)
def _band_sizes(wide: int) -> NDArray[np.float64]:
    return np.maximum(np.bincount(_band_of_bin(wide), minlength=NOISE_BANDS), 1).astype(np.float64)


def _band_power(samples: Samples) -> NDArray[np.float64]:
    """Mean-square power of ``samples`` ``[T]`` in each band."""
    size = samples.size
    spectrum = np.abs(np.fft.rfft(samples.astype(np.float64))) ** 2
    spectrum[1 : (size + 1) // 2] *= 2
    return np.bincount(_band_of_bin(size), spectrum, NOISE_BANDS) / size**2
