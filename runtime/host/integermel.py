"""Log-mel as models with 8-bit matrices compute it: a Fourier transform by matrix product.

Some mobile models carry their own front end, its cosines, sines and mel weights rounded to int8 and
each row of activations quantised to 8 bits on the way. An exact log-mel differs from theirs by
several nepers wherever a band is quiet, so the same arithmetic is done here, scales one after the
other as they do it. All sums stay below 2^24, where float32 is exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.errors import ManifestError
from ossicle.runtime.host.base import Array, HostState, Params, host_op
from ossicle.runtime.host.framing import frames_of

Floats = NDArray[np.float32]
EXACT = 1 << 24
TINY = np.float32(1e-30)


def quantised_rows(rows: Floats) -> tuple[Floats, Floats]:
    """Return ``rows`` ``[..., n]`` as whole numbers in -255..255, and each row's step ``[..., 1]``.

    Asymmetric 8 bits over the row's range with 0 in it; the zero point is taken off again.
    """
    low = np.minimum(rows.min(axis=-1, keepdims=True), np.float32(0))
    high = np.maximum(rows.max(axis=-1, keepdims=True), np.float32(0))
    span = high - low
    scale = np.where(span > TINY, np.float32(255) / np.maximum(span, TINY), np.float32(1))
    bottom, top = low * scale, high * scale
    from_low, from_high = np.float32(-128) - bottom, np.float32(127) - top
    nearer = (-128 + bottom) + (127 + top) > 0
    zero = np.clip(np.rint(np.where(nearer, from_low, from_high)), -128, 127)
    stored = np.clip(np.rint(rows * scale) + zero, -128, 127)
    return (stored - zero).astype(np.float32), (np.float32(1) / scale).astype(np.float32)


class IntegerLogMel:
    """``[B, 1, T*hop]`` -> ``[B, T, M]``: ``ln(mel(|X|) + offset)`` with int8 matrices."""

    def __init__(
        self, window: Floats, hop: int, wave: Array, mel: Array,
        steps: tuple[float, float], offset: float,
    ) -> None:  # fmt: skip
        self.window, self.hop = window, hop
        self.wave = np.ascontiguousarray(wave.T, np.float32)  # [win, 2F]: cosines, then sines
        self.mel = np.ascontiguousarray(mel.T, np.float32)  # [F, M]
        self.steps, self.offset = np.asarray(steps, np.float32), np.float32(offset)

    def open(self, batch: int) -> HostState:
        """Return silent history."""
        return {"history": np.zeros((batch, len(self.window) - self.hop), np.float32)}

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Return one row of log mel magnitudes for each frame."""
        frames = frames_of(state["history"], inputs[0][:, 0], len(self.window), self.hop)
        rows, step = quantised_rows(frames * self.window)
        waves = (rows @ self.wave) * step * self.steps[0]
        real, imaginary = np.split(waves, 2, axis=-1)
        rows, step = quantised_rows(np.sqrt(real * real + imaginary * imaginary))
        return [self._logs((rows @ self.mel) * step)]

    def _logs(self, bands: Floats) -> Floats:
        """Return ``ln(bands * step + offset)``: one fused multiply-add, then the nearest float.

        A product of two float32 is exact in float64.
        """
        sums = bands.astype(np.float64) * self.steps[1] + self.offset
        made: Floats = np.log(sums.astype(np.float32), dtype=np.float64).astype(np.float32)
        return made


@host_op("integer_log_mel")
def _integer_log_mel(params: Params) -> IntegerLogMel:
    win = params.integer("win", 2, 1 << 14)
    hop = params.integer("hop", 1, win)
    wave, mel = params.array("wave"), params.array("mel")
    if wave.dtype != np.int8 or wave.ndim != 2 or wave.shape[1] != win or len(wave) % 2:
        raise ManifestError(f"integer_log_mel.wave: {wave.dtype} {wave.shape}; int8 [2F, {win}]")
    if mel.dtype != np.int8 or mel.ndim != 2 or mel.shape[1] != len(wave) // 2:
        raise ManifestError(f"integer_log_mel.mel: {mel.dtype} {mel.shape}; int8 [M, F] expected")
    if 255 * 127 * max(wave.shape[1], mel.shape[1]) > EXACT:
        raise ManifestError("integer_log_mel: matrices too long for exact sums in float32")
    steps = (params.number("wave_step", 0, 1), params.number("mel_step", 0, 1))
    offset = params.number("offset", 1e-12, 1.0)
    return IntegerLogMel(params.window("window", win), hop, wave, mel, steps, offset)
