"""Short-time Fourier transforms, forward and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.errors import ManifestError
from ossicle.runtime.host.base import Array, HostState, Params, host_op
from ossicle.runtime.host.framing import frames_of, overlap_add


class Stft:
    """``[B, 1, T*hop]`` -> ``[B, F, T, 2]`` (real, imaginary); each frame ends at its hop's end."""

    def __init__(self, n_fft: int, hop: int, window: NDArray[np.float32]) -> None:
        self.n_fft, self.hop, self.window = n_fft, hop, window

    def open(self, batch: int) -> HostState:
        """Return silent history."""
        return {"history": np.zeros((batch, self.n_fft - self.hop), np.float32)}

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Return the spectra of the frames that end in this hop."""
        frames = frames_of(state["history"], inputs[0][:, 0], self.n_fft, self.hop)
        spectra = np.fft.rfft(frames * self.window).astype(np.complex64, copy=False)
        pairs = np.ascontiguousarray(spectra.transpose(0, 2, 1)).view(np.float32)
        return [pairs.reshape(*pairs.shape[:2], -1, 2)]


class Istft:
    """``[B, F, T, 2]`` -> ``[B, 1, T*hop]``, trailing by ``support - hop`` samples.

    Only the last ``support`` samples of each frame are synthesised: a long analysis window keeps
    its frequency resolution while the delay stays that of the short one (D. Mauler and R. Martin,
    "A low delay, variable resolution, perfect reconstruction spectral analysis-synthesis system",
    EUSIPCO 2007).
    """

    def __init__(
        self,
        n_fft: int,
        hop: int,
        analysis: NDArray[np.float32],
        synthesis: NDArray[np.float32],
    ) -> None:
        self.n_fft, self.hop, self.support = n_fft, hop, len(synthesis)
        product = np.zeros(-(-self.support // hop) * hop)
        product[: self.support] = analysis[n_fft - self.support :].astype(np.float64) * synthesis
        total = product.reshape(-1, hop).sum(axis=0)  # gain at each phase of the hop
        if total.min() < 1e-3 * total.max():
            raise ManifestError("istft: the two windows leave samples of the hop unheard")
        gain = np.tile(total, -(-self.support // hop))[: self.support]
        self.window = (synthesis / gain).astype(np.float32)

    def open(self, batch: int) -> HostState:
        """Return an empty tail."""
        return {"tail": np.zeros((batch, self.support - self.hop), np.float32)}

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Return the finished samples."""
        pairs = np.ascontiguousarray(inputs[0].transpose(0, 2, 1, 3), np.float32)
        spectra = pairs.view(np.complex64)[..., 0]
        frames = np.fft.irfft(spectra, self.n_fft)[..., self.n_fft - self.support :]
        frames = frames.astype(np.float32, copy=False) * self.window
        return [overlap_add(state["tail"], frames, self.hop)[:, None]]


class Stateless:
    """A transform that remembers nothing."""

    def open(self, batch: int) -> HostState:
        """Return no memory."""
        return {}


class Magnitude(Stateless):
    """``[B, F, T, 2]`` -> ``[B, T, F]``."""

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Return the absolute values."""
        real, imaginary = inputs[0][..., 0], inputs[0][..., 1]
        return [np.ascontiguousarray(np.hypot(real, imaginary).transpose(0, 2, 1))]


class ApplyMask(Stateless):
    """Spectrum ``[B, F, T, 2]`` and gains ``[B, T, F]`` -> spectrum."""

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Return the spectrum with each bin scaled."""
        return [inputs[0] * inputs[1].transpose(0, 2, 1)[..., None]]


class Irfft(Stateless):
    """``[B, F, T, 2]`` -> ``[B, T, n_fft]``, without a window."""

    def __init__(self, n_fft: int) -> None:
        self.n_fft = n_fft

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Return the frames."""
        pairs = np.ascontiguousarray(inputs[0].transpose(0, 2, 1, 3), np.float32)
        spectra = pairs.view(np.complex64)[..., 0]
        return [np.fft.irfft(spectra, self.n_fft).astype(np.float32, copy=False)]


def _sizes(params: Params) -> tuple[int, int]:
    n_fft = params.integer("n_fft", 2, 1 << 16)
    return n_fft, params.integer("hop", 1, n_fft)


@host_op("stft")
def _stft(params: Params) -> Stft:
    n_fft, hop = _sizes(params)
    return Stft(n_fft, hop, params.window("window", n_fft))


@host_op("istft")
def _istft(params: Params) -> Istft:
    n_fft, hop = _sizes(params)
    support = params.integer("support", hop, n_fft, n_fft)
    synthesis = params.window("synthesis", support, "hann") if support != n_fft else None
    analysis = params.window("window", n_fft)
    return Istft(n_fft, hop, analysis, analysis if synthesis is None else synthesis)


@host_op("magnitude")
def _magnitude(params: Params) -> Magnitude:
    return Magnitude()


@host_op("apply_mask")
def _apply_mask(params: Params) -> ApplyMask:
    return ApplyMask()


@host_op("irfft")
def _irfft(params: Params) -> Irfft:
    return Irfft(params.integer("n_fft", 2, 1 << 16))
