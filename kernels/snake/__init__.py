"""The snake activation ``x + sin(alpha x)^2 / beta``, channels last."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels import check, paths
from ossicle.kernels.errors import RangeError, ShapeError
from ossicle.kernels.snake.reference import EPSILON

Floats = NDArray[np.float32]

__all__ = ["snake"]


def snake(
    x: Floats,
    alpha: Floats,
    beta: Floats | None = None,
    *,
    out: Floats | None = None,
    path: paths.Path | None = None,
) -> Floats:
    """``x + sin(alpha x)^2 / beta`` of ``x`` ``[..., C]``; ``out`` may be ``x`` itself.

    Args:
        x: any number of leading axes.
        alpha: ``[C]``, frequencies.
        beta: ``[C]``, inverse magnitudes; ``alpha`` where it is ``None``. 1e-9 is added, as in DAC.
        out: caller's array.
        path: of the computation.

    Raises:
        ShapeError, DtypeError, LayoutError: an array does not fit.
        RangeError: ``beta`` plus 1e-9 is 0 somewhere.
    """
    if not isinstance(x, np.ndarray) or x.ndim < 1:
        raise ShapeError("x must be an array [..., C]")
    check.array("x", x, np.float32, "[..., C]", *([None] * x.ndim))
    C = x.shape[-1]
    check.array("alpha", alpha, np.float32, "[C]", C)
    if beta is not None:
        check.array("beta", beta, np.float32, "[C]", C)
    divisor = (alpha if beta is None else beta) + np.float32(EPSILON)
    if not divisor.all():
        raise RangeError("beta + 1e-9 is 0 for some channel; the magnitude would be infinite")
    inverse = np.float32(1.0) / divisor
    y = check.output("out", out, np.float32, "[..., C]", *x.shape)
    core = paths.core()
    if paths.choose(path) == "core" and core is not None:
        core.snake(x, alpha, inverse, y)
    else:
        y[:] = x + inverse * np.square(np.sin(x * alpha))
    return y
