"""Spectrograms before and after, as a PNG."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.audio import Samples
from ossicle.runtime.errors import AudioError

FRAMES = 900  # columns of a spectrogram at most
RANGE_DB = 80.0


def spectrogram_db(samples: Samples, rate_hz: int) -> NDArray[np.float64]:
    """Level [F, frames] in dB of the channels' mean of ``samples`` [C, T]."""
    mono = np.nan_to_num(samples.mean(axis=0))
    size = 1 << max(6, round(np.log2(rate_hz * 0.032)))
    if len(mono) < size:
        mono = np.pad(mono, (0, size - len(mono)))
    hop = max(size // 4, (len(mono) - size) // FRAMES)
    frames = np.lib.stride_tricks.sliding_window_view(mono, size)[::hop]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(size)))) / size
    return np.asarray(10 * np.log10(power.T + 1e-12))


def plot_spectrograms(
    place: str | os.PathLike[str], tracks: Sequence[Samples], names: Sequence[str], rate_hz: int
) -> None:
    """Write one row per track ``[C, T]``, all on one scale of level.

    Raises:
        AudioError: matplotlib is missing, or the file cannot be written.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        raise AudioError("plots need matplotlib: pip install 'ossicle[plot]'") from None
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    levels = [spectrogram_db(track, rate_hz) for track in tracks]
    top = max(float(level.max()) for level in levels)
    figure, axes = plt.subplots(
        len(tracks), 1, figsize=(10, 2.4 * len(tracks)), squeeze=False, sharex=True,
        layout="constrained",
    )  # fmt: skip
    for axis, level, track, name in zip(axes[:, 0], levels, tracks, names, strict=True):
        seconds = max(track.shape[1] / rate_hz, 1e-3)
        image = axis.imshow(
            level, origin="lower", aspect="auto", cmap="magma", vmin=top - RANGE_DB, vmax=top,
            extent=(0, seconds, 0, rate_hz / 2000),
        )  # fmt: skip
        axis.set_ylabel("kHz")
        axis.set_title(name.replace("$", r"\$"), loc="left", fontsize=10)
    axes[-1, 0].set_xlabel("s")
    figure.colorbar(image, ax=axes[:, 0], label="dB")
    try:
        figure.savefig(place, dpi=110)
    except (OSError, ValueError) as error:
        raise AudioError(f"plot {os.fspath(place)} cannot be written: {error}") from error
    finally:
        plt.close(figure)
