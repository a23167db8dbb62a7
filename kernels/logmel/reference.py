"""Mel filters and log mel energies in fp64."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Formula = Literal["htk", "slaney"]


def to_mel(hz: NDArray[np.float64], formula: Formula) -> NDArray[np.float64]:
    """Mel of Hz: one logarithm (htk), or linear below 1 kHz and logarithmic above (slaney)."""
    if formula == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + hz / 700.0))
    low = hz / (200.0 / 3.0)
    high = 15.0 + np.log(np.maximum(hz, 1e-9) / 1000.0) / (np.log(6.4) / 27.0)
    return np.where(hz < 1000.0, low, high)


def to_hz(mel: NDArray[np.float64], formula: Formula) -> NDArray[np.float64]:
    """The inverse of :func:`to_mel`."""
    if formula == "htk":
        return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))
    return np.where(
        mel < 15.0, mel * (200.0 / 3.0), 1000.0 * np.exp((mel - 15.0) * (np.log(6.4) / 27.0))
    )


def filters(
    rate_hz: int,
    n_fft: int,
    mels: int,
    low_hz: float,
    high_hz: float,
    formula: Formula = "slaney",
    unit_area: bool = True,
) -> NDArray[np.float64]:
    """Triangles ``[M, n_fft / 2 + 1]``, with ``unit_area`` each divided by half its width in Hz."""
    edges = to_mel(np.array([low_hz, high_hz]), formula)
    hz = to_hz(np.linspace(edges[0], edges[1], mels + 2), formula)
    bins = np.arange(n_fft // 2 + 1) * (rate_hz / n_fft)
    up = (bins - hz[:-2, None]) / (hz[1:-1] - hz[:-2])[:, None]
    down = (hz[2:, None] - bins) / (hz[2:] - hz[1:-1])[:, None]
    triangles = np.maximum(0.0, np.minimum(up, down))
    if unit_area:
        triangles *= (2.0 / (hz[2:] - hz[:-2]))[:, None]
    return np.asarray(triangles)


def log_mel(
    frames: NDArray[np.floating],
    window: NDArray[np.floating],
    triangles: NDArray[np.float64],
    *,
    power: int,
    offset: float,
    floor: float,
    decimal: bool,
) -> NDArray[np.float64]:
    """``log(max(mel + offset, floor))`` ``[T, M]`` of frames ``[T, n_fft]``."""
    spectrum = np.abs(np.fft.rfft(frames.astype(np.float64) * window.astype(np.float64)))
    energy = np.maximum(spectrum**power @ triangles.T + offset, floor)
    return np.asarray(np.log10(energy) if decimal else np.log(energy))
