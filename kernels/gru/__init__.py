"""A gated recurrent unit, one to a few frames a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels import check, paths
from ossicle.kernels.conv.cpu import fixed24, gemm
from ossicle.kernels.errors import RangeError

Floats = NDArray[np.float32]
Dtype = Literal["float32", "fixed24"]
KINDS: Final[dict[str, int]] = {"float32": 0, "fixed24": 3}

__all__ = ["PackedGru", "fresh", "pack", "step"]


@dataclass(frozen=True, slots=True)
class PackedGru:
    """Weights laid out for streaming; immutable, shared by any number of streams and threads."""

    inputs: int
    width: int  # H
    path: paths.Path
    compiled: tuple[Any, Any] | None  # _core.Matrix of input and hidden
    turned: tuple[Floats, Floats]  # [I, 3 H], [H, 3 H]
    biases: tuple[Floats, Floats]  # [3 H]


def pack(
    w_ih: Floats, w_hh: Floats, b_ih: Floats, b_hh: Floats, *, dtype: Dtype = "float32",
    path: paths.Path | None = None,
) -> PackedGru:  # fmt: skip
    """Weights ``[3 H, I]``, ``[3 H, H]`` and biases ``[3 H]`` in PyTorch's gate order r, z, n.

    ``dtype`` is that of the weights alone; fixed24 keeps each to 2^-23 of the
    largest of its row.

    Raises:
        RangeError: the dtype is unknown.
        ShapeError, DtypeError, LayoutError: an array does not fit.
    """
    check.array("w_hh", w_hh, np.float32, "[3 H, H]", None, None)
    H = w_hh.shape[1]
    check.array("w_hh", w_hh, np.float32, "[3 H, H]", 3 * H, H)
    check.array("w_ih", w_ih, np.float32, "[3 H, I]", 3 * H, None)
    check.array("b_ih", b_ih, np.float32, "[3 H]", 3 * H)
    check.array("b_hh", b_hh, np.float32, "[3 H]", 3 * H)
    if dtype not in KINDS:
        raise RangeError(f"dtype is {dtype!r}; it must be one of {', '.join(KINDS)}")
    taken, core = paths.choose(path), paths.core()
    compiled = None
    if taken == "core" and core is not None:
        compiled = (
            core.Matrix(w_ih[:, None], b_ih, KINDS[dtype], 0.0),
            core.Matrix(w_hh[:, None], b_hh, KINDS[dtype], 0.0),
        )
    if dtype == "fixed24":
        w_ih, w_hh = fixed24(w_ih), fixed24(w_hh)
    turned = (np.ascontiguousarray(w_ih.T), np.ascontiguousarray(w_hh.T))
    return PackedGru(w_ih.shape[1], H, taken, compiled, turned, (b_ih.copy(), b_hh.copy()))


def fresh(packed: PackedGru, batch: int = 1) -> Floats:
    """The state ``[B, H]`` of ``batch`` fresh streams: zeros."""
    check.number("batch", batch, 1, 1 << 20)
    return np.zeros((batch, packed.width), np.float32)


def step(packed: PackedGru, h: Floats, x: Floats, *, out: Floats | None = None) -> Floats:
    """The outputs ``[B, T, H]`` of new frames ``[B, T, I]``; ``h`` ``[B, H]`` moves on in place.

    Raises:
        ShapeError, DtypeError, LayoutError: an array does not fit.
    """
    check.array("x", x, np.float32, "[B, T, I]", None, None, packed.inputs)
    B, T = x.shape[:2]
    check.output("h", h, np.float32, "[B, H]", B, packed.width)
    y = check.output("out", out, np.float32, "[B, T, H]", B, T, packed.width)
    core = paths.core()
    if packed.compiled is not None and core is not None:
        core.gru_step(*packed.compiled, x, h, y)
    else:
        _plain_step(packed, h, x, y)
    return y


def _plain_step(packed: PackedGru, h: Floats, x: Floats, y: Floats) -> None:
    H, numba = packed.width, packed.path == "numba"
    (w_ih, w_hh), (b_ih, b_hh) = packed.turned, packed.biases
    xi = gemm(x.reshape(-1, packed.inputs), w_ih, numba).reshape(*x.shape[:2], 3 * H) + b_ih
    for t in range(x.shape[1]):
        hh = gemm(h, w_hh, numba) + b_hh
        r, z = (
            np.float32(0.5) * (np.tanh(np.float32(0.5) * (xi[:, t, s] + hh[:, s])) + np.float32(1))
            for s in (slice(0, H), slice(H, 2 * H))
        )
        n = np.tanh(xi[:, t, 2 * H :] + r * hh[:, 2 * H :])
        h[:] = n + z * (h - n)
        y[:, t] = h
