"""Streaming convolution: packed weights, a ring of past inputs, one to eight new frames a step.

Arrays are channels last, ``[B, T, C]``: the frames of a step are then rows of a small matrix
product, for any number of streams at once. A transposed convolution of stride ``s`` is an ordinary
one that makes ``s`` outputs of each input. Sources: the causal padding of EnCodec (Defossez et al.
2022); cached convolutions (Caillon and Esling 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels import check, memory, paths
from ossicle.kernels.conv import cpu
from ossicle.kernels.errors import RangeError, ShapeError

Dtype = Literal["float32", "fixed24", "bfloat16", "int8"]
KINDS: Final[dict[str, int]] = {"float32": 0, "fixed24": 3, "bfloat16": 1, "int8": 2}
RING: Final[dict[str, type[np.generic]]] = {
    "float32": np.float32,
    "fixed24": np.float32,
    "bfloat16": np.uint16,
    "int8": np.int8,
}

__all__ = ["ConvState", "PackedConv", "fresh", "pack", "step"]


@dataclass(frozen=True, slots=True)
class PackedConv:
    """Weights laid out for streaming; immutable, shared by any number of streams and threads."""

    inputs: int  # C_in
    outputs: int  # C_out
    taps: int  # of the inner, ordinary convolution
    stride: int  # 1 if transposed
    dilation: int
    up: int  # outputs per input: the stride of a transposed convolution, else 1
    dtype: Dtype
    input_scale: float  # of one step of int8 input
    path: paths.Path
    compiled: Any | None  # _core.Matrix
    turned: NDArray[Any]  # [taps * C, M], for the other paths
    scale: NDArray[np.float32] | None  # [M], int8
    bias: NDArray[np.float32] | None  # [M]

    @property
    def history(self) -> int:
        """Past frames that a step needs."""
        return (self.taps - 1) * self.dilation + 1 - self.stride

    @property
    def padded(self) -> int:
        """``C_in`` rounded up to what the ring stores."""
        group = {"bfloat16": 2, "int8": 4}.get(self.dtype, 1)
        return -(-self.inputs // group) * group


@dataclass(slots=True)
class ConvState:
    """What a stream remembers: copy it, stack it, save it. Fresh is all zeros."""

    ring: NDArray[
        Any
    ]  # [B, history, C]: float32, bfloat16 as uint16, or int8; frame a at a % history
    position: NDArray[np.int64]  # [B] frames seen


def _ordinary(weight: NDArray[np.float32], stride: int) -> NDArray[np.float32]:
    """The ordinary weights ``[stride * C_out, C_in, taps]`` of transposed ``[C_in, C_out, k]``.

    Output ``t * stride + p`` is the sum over ``m`` of ``weight[:, :, p + m * stride]`` on input ``t
    - m``.
    """
    C_in, C_out, k = weight.shape
    taps = -(-k // stride)
    full = np.zeros((C_in, C_out, taps * stride), np.float32)
    full[:, :, :k] = weight
    phases = full.reshape(C_in, C_out, taps, stride)[:, :, ::-1]  # oldest input first
    turned = phases.transpose(3, 1, 0, 2).reshape(stride * C_out, C_in, taps)
    return np.ascontiguousarray(turned)


def pack(
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None = None,
    *,
    stride: int = 1,
    dilation: int = 1,
    transposed: bool = False,
    dtype: Dtype = "float32",
    input_scale: float | None = None,
    path: paths.Path | None = None,
) -> PackedConv:
    """Weights ready for :func:`step`.

    Args:
        weight: ``[C_out, C_in, k]``, or ``[C_in, C_out, k]`` if transposed, as PyTorch lays them.
        bias: ``[C_out]``.
        stride: inputs per output, or outputs per input if transposed.
        dilation: frames between taps; 1 if transposed.
        transposed: upsample.
        dtype: of the product; sums are fp32 (int32 for int8). fixed24 keeps weights as whole
            numbers of 24 bits in a unit of their row, to 2^-23 of the row's largest, and all of the
            inputs: where fp32 weights are larger than the second cache, their bytes are what a step
            waits for. A row with a weight that is not finite gives NaN. int8 weights are scaled per
            output channel.
        input_scale: int8 only: the input that one step stands for, about ``max|x| / 127``.
        path: ``"core"``, ``"numba"`` or ``"numpy"``; the fastest installed by default.

    Raises:
        ShapeError, DtypeError, LayoutError: an array does not fit, or the taps do not span the
        stride.
        RangeError: a number is out of range.
    """
    check.array("weight", weight, np.float32, "[C_out, C_in, k]", None, None, None)
    if dtype not in KINDS:
        raise RangeError(f"dtype is {dtype!r}; it must be one of {', '.join(KINDS)}")
    check.number("stride", stride, 1, 4096)
    check.number("dilation", dilation, 1, 65536)
    if transposed and dilation != 1:
        raise RangeError(f"dilation is {dilation}; a transposed convolution takes 1")
    if (input_scale is not None) != (dtype == "int8"):
        raise RangeError(
            f"input_scale is {input_scale}; int8 needs one and {dtype} takes none of its own"
        )
    if input_scale is not None and not 0.0 < input_scale < np.inf:
        raise RangeError(f"input_scale is {input_scale}; it must be positive and finite")
    C_out = weight.shape[1] if transposed else weight.shape[0]
    if bias is not None:
        check.array("bias", bias, np.float32, "[C_out]", C_out)
    w, up, inner = (_ordinary(weight, stride), stride, 1) if transposed else (weight, 1, stride)
    full = None if bias is None else np.tile(bias, up)
    taps = w.shape[2]
    if (taps - 1) * dilation + 1 < inner:
        raise ShapeError(
            f"weight of {taps} taps at dilation {dilation} does not span the stride {stride}: "
            "inputs would be skipped; use at least as many taps"
        )
    rows = np.ascontiguousarray(w.transpose(0, 2, 1))  # [M, taps, C]
    taken = paths.choose(path)
    core = paths.core()
    packed = (
        core.Matrix(rows, full, KINDS[dtype], input_scale or 0.0)
        if taken == "core" and core
        else None
    )
    turned, scale = (
        _turned(rows, dtype, input_scale) if packed is None else (np.empty((0, 0)), None)
    )
    return PackedConv(
        w.shape[1],
        C_out,
        taps,
        inner,
        dilation,
        up,
        dtype,
        input_scale or 0.0,
        taken,
        packed,
        turned,
        scale,
        full,
    )


def _turned(
    rows: NDArray[np.float32], dtype: Dtype, input_scale: float | None
) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """``[taps * C, M]`` for the plain paths: int8 as fp64 (exact), every other as fp32."""
    M = len(rows)
    flat = rows.reshape(M, -1)
    if dtype == "float32":
        return np.ascontiguousarray(flat.T), None
    if dtype == "fixed24":
        return np.ascontiguousarray(cpu.fixed24(flat).T), None
    if dtype == "bfloat16":
        return np.ascontiguousarray(cpu.from_bf16(cpu.to_bf16(flat)).T), None
    peak = np.abs(flat).max(1) / np.float32(127.0)
    q = np.rint(flat / np.where(peak > 0, peak, 1)[:, None])
    return np.ascontiguousarray(q.T.astype(np.float64)), (peak * np.float32(input_scale or 1.0))


def fresh(packed: PackedConv, batch: int = 1) -> ConvState:
    """The state of ``batch`` fresh streams.

    Raises:
        RangeError: ``batch`` is below 1.
    """
    check.number("batch", batch, 1, 1 << 20)
    ring = memory.zeros((batch, packed.history, packed.padded), RING[packed.dtype])
    return ConvState(ring, np.zeros(batch, np.int64))


def step(
    packed: PackedConv,
    state: ConvState,
    x: NDArray[np.float32],
    *,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """The outputs ``[B, T * up / stride, C_out]`` of new frames ``[B, T, C_in]``.

    The state moves on in place. On the compiled and numba paths a result does not depend, to the
    bit, on how the signal was cut or on which streams were stepped together.

    Raises:
        ShapeError, DtypeError, LayoutError: an array does not fit, or T is no multiple of the
        stride.
    """
    compiled = packed.compiled
    if compiled is not None and out is not None and packed.up == 1:
        # The compiled part checks as much before it touches anything; what it refuses is put into
        # words below.
        try:
            compiled.conv_step(x, state.ring, state.position, packed.stride, packed.dilation, out)
            return out
        except (TypeError, ValueError, AttributeError):
            pass
    check.array("x", x, np.float32, "[B, T, C_in]", None, None, packed.inputs)
    B, T = x.shape[:2]
    if T % packed.stride:
        raise ShapeError(
            f"x has T = {T} frames; it must be a multiple of the stride {packed.stride}"
        )
    if state.ring.shape[1]:
        kind = RING[packed.dtype]
        check.array(
            "state.ring", state.ring, kind, "[B, history, C]", B, packed.history, packed.padded
        )
    check.array("state.position", state.position, np.int64, "[B]", B)
    made = T * packed.up // packed.stride
    y = check.output("out", out, np.float32, "[B, T, C_out]", B, made, packed.outputs)
    inner = y.reshape(B, T // packed.stride, packed.up * packed.outputs)
    if compiled is not None:
        compiled.conv_step(x, state.ring, state.position, packed.stride, packed.dilation, inner)
    else:
        _plain_step(packed, state, x, inner)
    return y


def _plain_step(
    packed: PackedConv, state: ConvState, x: NDArray[np.float32], y: NDArray[np.float32]
) -> None:
    new: NDArray[Any] = x
    if packed.dtype == "bfloat16":
        new = cpu.to_bf16(x)
    elif packed.dtype == "int8":
        new = cpu.to_int8(x, float(np.float32(1.0) / np.float32(packed.input_scale)))
    spare = packed.padded - packed.inputs
    if spare:
        new = np.pad(new, ((0, 0), (0, 0), (0, spare)))
    taken = cpu.rows(new, state.ring, state.position, packed.taps, packed.stride, packed.dilation)
    taken = taken[..., : packed.inputs].reshape(-1, packed.taps * packed.inputs)
    if packed.dtype == "bfloat16":
        taken = cpu.from_bf16(taken)
    taken = np.ascontiguousarray(taken, packed.turned.dtype)
    sums = cpu.gemm(taken, packed.turned, packed.path == "numba")
    if packed.scale is not None:
        sums = sums.astype(np.float32) * packed.scale
    y[:] = (sums if packed.bias is None else sums + packed.bias).reshape(y.shape)
    cpu.remember(new, state.ring, state.position)
