"""Log mel energies of frames: one transform, one sparse product, one logarithm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels import check, paths
from ossicle.kernels.errors import RangeError
from ossicle.kernels.logmel.reference import Formula
from ossicle.kernels.logmel.reference import filters as triangles

Floats = NDArray[np.float32]

__all__ = ["Filters", "filters", "log_mel"]


@dataclass(frozen=True, slots=True)
class Filters:
    """Mel filters stored by their non-zero runs, and how the energies become logarithms."""

    window: Floats  # [n_fft]
    first: NDArray[np.int32]  # [M] first bin of each filter
    length: NDArray[np.int32]  # [M] bins of each filter
    weights: Floats  # [M, longest]
    dense: Floats  # [F, M]
    power: int
    offset: float
    floor: float
    log_scale: float  # 1 for natural logarithms, 1 / ln 10 for decimal


def filters(
    rate_hz: int,
    window: Floats,
    mels: int,
    low_hz: float = 0.0,
    high_hz: float | None = None,
    *,
    formula: Formula = "slaney",
    unit_area: bool = True,
    power: int = 2,
    offset: float = 0.0,
    floor: float = 1e-10,
    decimal: bool = False,
) -> Filters:
    """Filters for :func:`log_mel`.

    Args:
        rate_hz: of the samples.
        window: ``[n_fft]``; its length is the length of the transform.
        mels: filters, ``M``.
        low_hz: lower edge.
        high_hz: upper edge; half the rate by default.
        formula: ``"htk"`` or ``"slaney"``.
        unit_area: divide each filter by half its width in Hz.
        power: 1 for magnitudes, 2 for energies.
        offset: added before the logarithm.
        floor: least value whose logarithm is taken; above 0.
        decimal: log10 instead of ln.

    Raises:
        ShapeError, DtypeError, LayoutError: the window does not fit.
        RangeError: a number is out of range.
    """
    check.array("window", window, np.float32, "[n_fft]", None)
    high = rate_hz / 2 if high_hz is None else high_hz
    check.number("mels", mels, 1, 4096)
    check.number("power", power, 1, 2)
    if not 0.0 <= low_hz < high <= rate_hz / 2:
        raise RangeError(
            f"edges are {low_hz} to {high} Hz; they must rise within 0 to {rate_hz / 2}"
        )
    if not 1.2e-38 <= floor < np.inf or formula not in ("htk", "slaney"):
        raise RangeError(
            f"floor is {floor} and formula {formula!r}; a floor is >= 1.2e-38, htk or slaney"
        )
    dense = triangles(rate_hz, len(window), mels, low_hz, high, formula, unit_area)
    first, length = np.zeros(mels, np.int32), np.zeros(mels, np.int32)
    for m, row in enumerate(dense):
        bins = np.flatnonzero(row)
        if len(bins):
            first[m], length[m] = bins[0], bins[-1] + 1 - bins[0]
    weights = np.zeros((mels, max(1, int(length.max()))), np.float32)
    for m, row in enumerate(dense):
        weights[m, : length[m]] = row[first[m] : first[m] + length[m]]
    scale = float(1.0 / np.log(10.0)) if decimal else 1.0
    turned = np.ascontiguousarray(dense.T.astype(np.float32))
    return Filters(window.copy(), first, length, weights, turned, power, offset, floor, scale)


def log_mel(
    frames: Floats, mel: Filters, *, out: Floats | None = None, path: paths.Path | None = None
) -> Floats:
    """``[T, M]`` log mel energies of frames ``[T, n_fft]``.

    Raises:
        ShapeError, DtypeError, LayoutError: an array does not fit.
    """
    check.array("frames", frames, np.float32, "[T, n_fft]", None, len(mel.window))
    T, M = len(frames), len(mel.first)
    y = check.output("out", out, np.float32, "[T, M]", T, M)
    spectrum = np.fft.rfft(frames * mel.window).astype(np.complex64, copy=False)
    core = paths.core()
    if paths.choose(path) == "core" and core is not None:
        core.log_mel(
            spectrum, mel.first, mel.length, mel.weights, mel.power, mel.offset, mel.floor,
            mel.log_scale, y,
        )  # fmt: skip
    else:
        energy = spectrum.real**2 + spectrum.imag**2
        if mel.power == 1:
            energy = np.sqrt(energy)
        total = np.maximum(energy @ mel.dense + np.float32(mel.offset), np.float32(mel.floor))
        y[:] = np.log(total) * np.float32(mel.log_scale)
    return y
