"""The steps of a plan, as the compiled executor knows them; the numbers are its own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from numpy.typing import NDArray

from ossicle.runtime.backend.native.views import View


class Map(IntEnum):
    """Element by element: of one operand, then of two."""

    COPY = 0
    NEG = 1
    ABS = 2
    SQRT = 3
    SQUARE = 4
    RECIPROCAL = 5
    EXP = 6
    LOG = 7
    SIGMOID = 8
    TANH = 9
    RELU = 10
    LEAKY = 11
    SILU = 12
    GELU = 13
    CLIP = 14
    ROUND = 15
    QUANTISE_U8 = 16
    QUANTISE_I8 = 17
    DEQUANTISE = 18
    ADD = 19
    SUB = 20
    MUL = 21
    DIV = 22
    LEAST = 23
    MOST = 24
    POW = 25


class Act(IntEnum):
    """What follows the sums of a product."""

    NONE = 0
    RELU = 1
    LEAKY = 2
    SILU = 3
    SIGMOID = 4
    TANH = 5
    GELU = 6


class Row(IntEnum):
    """Over the last axis: to one number, or to a row."""

    SUM = 0
    MEAN = 1
    SUM_SQUARE = 2
    MOST = 3
    NORM = 4
    SOFTMAX = 5


@dataclass(frozen=True, slots=True)
class MapStep:
    """``out = op(a)`` or ``op(a, b)``; all of one shape."""

    op: Map
    out: View
    a: View
    b: View | None = None
    p: float = 0.0
    q: float = 0.0

    def reads(self) -> list[View]:
        """What the step reads."""
        return [self.a] if self.b is None else [self.a, self.b]


@dataclass(frozen=True, slots=True)
class GemmStep:
    """``out = act(parts @ weights + bias) + residual``; parts are ``[rows..., width]``.

    ``whole`` weights are whole numbers up to 256, which bfloat16 holds exactly.
    """

    out: View
    parts: tuple[View, ...]
    weights: NDArray[Any]  # [K, N]
    bias: NDArray[Any] | None
    act: Act = Act.NONE
    alpha: float = 0.0
    residual: View | None = None
    whole: bool = False

    def reads(self) -> list[View]:
        """What the step reads."""
        return [*self.parts] if self.residual is None else [*self.parts, self.residual]


@dataclass(frozen=True, slots=True)
class TapsStep:
    """``out[r, c] = act(bias[c] + sum_k w[k, c] x[k, r, c])``."""

    out: View
    x: View
    w: View
    bias: View
    act: Act = Act.NONE
    alpha: float = 0.0

    def reads(self) -> list[View]:
        """What the step reads."""
        return [self.x, self.w, self.bias]


@dataclass(frozen=True, slots=True)
class RowStep:
    """One row in; a number or a row out."""

    op: Row
    out: View
    x: View
    p: float = 0.0
    scale: View | None = None
    bias: View | None = None

    def reads(self) -> list[View]:
        """What the step reads."""
        return [self.x, *(v for v in (self.scale, self.bias) if v is not None)]


@dataclass(frozen=True, slots=True)
class ConvertStep:
    """Whole numbers between a buffer of bytes outside and one of floats."""

    out: View
    x: View

    def reads(self) -> list[View]:
        """What the step reads."""
        return [self.x]


Step = MapStep | GemmStep | TapsStep | RowStep | ConvertStep
