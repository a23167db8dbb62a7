"""Log-mel spectra, causal and streamed: each frame ends where its hop ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.errors import ManifestError
from ossicle.runtime.host.base import Array, HostState, Params, host_op
from ossicle.runtime.host.framing import frames_of


def hz_to_mel(hz: NDArray[np.float64], formula: str) -> NDArray[np.float64]:
    """Return mels: O'Shaughnessy's formula (``htk``), or Slaney's, linear below 1 kHz."""
    if formula == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + hz / 700.0))
    linear = hz / (200.0 / 3)
    above = 15.0 + np.log(np.maximum(hz, 1e-9) / 1000.0) * 27.0 / np.log(6.4)
    return np.where(hz >= 1000.0, above, linear)


def mel_to_hz(mel: NDArray[np.float64], formula: str) -> NDArray[np.float64]:
    """Return the inverse of :func:`hz_to_mel`."""
    if formula == "htk":
        return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))
    above = 1000.0 * np.exp((mel - 15.0) * np.log(6.4) / 27.0)
    return np.where(mel >= 15.0, above, mel * (200.0 / 3))


def mel_filters(
    rate_hz: int, n_fft: int, n_mels: int, fmin_hz: float, fmax_hz: float, formula: str
) -> NDArray[np.float32]:
    """Return triangular filters ``[F, M]``.

    ``htk``: peaks of 1, triangles linear in mel (HTK Book, 5.4); ``slaney``: triangles linear in
    Hz with equal area (M. Slaney, Auditory Toolbox, 1998).
    """
    bins_hz = np.arange(n_fft // 2 + 1, dtype=np.float64) * (rate_hz / n_fft)
    low_mel, high_mel = hz_to_mel(np.array([fmin_hz, fmax_hz]), formula).tolist()
    edges = np.linspace(low_mel, high_mel, n_mels + 2, dtype=np.float64)
    if formula == "htk":
        place, marks = hz_to_mel(bins_hz, formula), edges
    else:
        place, marks = bins_hz, mel_to_hz(edges, formula)
    filters: NDArray[np.float64]
    low, centre, high = marks[:-2], marks[1:-1], marks[2:]
    rising = (place[:, None] - low) / (centre - low)
    falling = (high - place[:, None]) / (high - centre)
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if formula == "slaney":
        filters *= 2.0 / (high - low)
    else:
        filters[0] = 0.0  # HTK leaves out the constant component
    return np.asarray(filters, np.float32)


class LogMel:
    """``[B, 1, T*hop]`` -> ``[B, T, M]``: ``log(max(mel(|X|^power), floor) + offset)``."""

    def __init__(
        self,
        window: NDArray[np.float32],
        n_fft: int,
        hop: int,
        filters: NDArray[np.float32],
        power: int,
        floor: float,
        offset: float,
        base10: bool,
    ) -> None:
        self.window, self.n_fft, self.hop = window, n_fft, hop
        self.filters, self.power = filters, power
        self.floor, self.offset, self.base10 = np.float32(floor), np.float32(offset), base10

    def open(self, batch: int) -> HostState:
        """Return silent history."""
        return {"history": np.zeros((batch, len(self.window) - self.hop), np.float32)}

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Return one row of log mel energies for each frame."""
        frames = frames_of(state["history"], inputs[0][:, 0], len(self.window), self.hop)
        spectra = np.fft.rfft(frames * self.window, self.n_fft)
        energy = spectra.real**2 + spectra.imag**2
        if self.power == 1:
            energy = np.sqrt(energy)
        mel = energy.astype(np.float32, copy=False) @ self.filters
        mel = np.maximum(mel, self.floor) + self.offset
        return [np.log10(mel) if self.base10 else np.log(mel)]


@host_op("log_mel")
def _log_mel(params: Params) -> LogMel:
    n_fft = params.integer("n_fft", 2, 1 << 16)
    win = params.integer("win", 2, n_fft, n_fft)
    hop = params.integer("hop", 1, win)
    rate = params.integer("rate", 8_000, 192_000, 16_000)
    n_mels = params.integer("n_mels", 1, 1024)
    fmin, fmax = params.number("fmin", 0, rate / 2, 0), params.number("fmax", 1, rate / 2, rate / 2)
    formula = params.choice("formula", ("htk", "slaney"), "htk")
    floor = params.number("floor", 0.0, 1.0, 0.0)
    offset = params.number("offset", 0.0, 1.0, 0.0)
    if floor == 0.0 and offset == 0.0:
        raise ManifestError("log_mel needs a floor or an offset above 0: silence has no logarithm")
    if fmin >= fmax:
        raise ManifestError(f"log_mel: fmin {fmin} Hz is not below fmax {fmax} Hz")
    return LogMel(
        params.window("window", win),
        n_fft,
        hop,
        mel_filters(rate, n_fft, n_mels, fmin, fmax, formula),
        params.integer("power", 1, 2, 2),
        floor,
        offset,
        params.choice("log", ("ln", "log10"), "ln") == "log10",
    )
