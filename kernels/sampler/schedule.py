"""Noise schedules: a sample at node ``i`` is ``alpha[i] * data + sigma[i] * noise``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels import check
from ossicle.kernels.errors import RangeError

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Nodes from noise to data; the last one may have ``sigma`` 0."""

    time: F64  # [S + 1] what the model is told
    alpha: F64  # [S + 1]
    sigma: F64  # [S + 1]

    @property
    def steps(self) -> int:
        """Intervals between nodes."""
        return len(self.time) - 1


def _steps(steps: int) -> int:
    return check.number("steps", steps, 1, 100_000)


def variance_preserving(
    steps: int, *, beta: tuple[float, float] = (0.1, 20.0), last: float = 0.0, first: float = 1.0
) -> Schedule:
    """The continuous linear schedule of Song et al. 2021 (VP-SDE), evenly spaced in time.

    ``alpha(t) = exp(-t^2 (b1 - b0) / 4 - t b0 / 2)``.
    """
    _steps(steps)
    if not 0.0 <= last < first <= 1.0:
        raise RangeError(f"times fall from {first} to {last}; they must fall within 1 to 0")
    t = np.linspace(first, last, steps + 1)
    alpha = np.exp(-0.25 * t**2 * (beta[1] - beta[0]) - 0.5 * t * beta[0])
    return Schedule(t, alpha, np.sqrt(-np.expm1(2.0 * np.log(alpha))))


def karras(
    steps: int,
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    to_zero: bool = True,
) -> Schedule:
    """The nodes of Karras et al. 2022, equation 5: ``alpha`` is 1 and ``sigma`` is the time."""
    _steps(steps)
    if not 0.0 < sigma_min < sigma_max:
        raise RangeError(f"sigma is {sigma_min} to {sigma_max}; it must rise from above 0")
    ramp = np.linspace(0.0, 1.0, steps if to_zero else steps + 1)
    low, high = sigma_min ** (1.0 / rho), sigma_max ** (1.0 / rho)
    sigma = (high + ramp * (low - high)) ** rho
    if to_zero:
        sigma = np.append(sigma, 0.0)
    return Schedule(sigma, np.ones_like(sigma), sigma)


def rectified(steps: int, *, first: float = 1.0, last: float = 0.0) -> Schedule:
    """Straight paths (Liu et al. 2022): ``alpha = 1 - t``, ``sigma = t``, evenly spaced."""
    _steps(steps)
    if not 0.0 <= last < first <= 1.0:
        raise RangeError(f"times fall from {first} to {last}; they must fall within 1 to 0")
    t = np.linspace(first, last, steps + 1)
    return Schedule(t, 1.0 - t, t)
