"""Strided views of planned memory: most operators that move data become one of these, at no cost.

Shapes are those of one stream: the batch axis of the graph is left out everywhere, since every
buffer holds its streams one after the other. Strides count floats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]


class Home(IntEnum):
    """Where a buffer lies; the numbers are those of the compiled side."""

    CONSTANT = 0
    SCRATCH = 1
    STATE_IN = 2
    STATE_OUT = 3
    INPUT = 4
    OUTPUT = 5


class Item(IntEnum):
    """What a buffer holds; bytes lie only outside."""

    FLOAT32 = 0
    UINT8 = 1
    INT8 = 2


@dataclass(eq=False, slots=True)
class Buffer:
    """A run of floats of one stream; a scratch buffer may turn out to be part of another."""

    home: Home
    size: int
    place: int = 0  # which input, output or state; scratch is placed at the end
    held: NDArray[Any] | None = None  # a constant's values
    parent: tuple[Buffer, int] | None = None
    item: Item = Item.FLOAT32

    def root(self) -> tuple[Buffer, int]:
        """Return the buffer that holds the memory, and where this one begins in it."""
        buffer, offset = self, 0
        while buffer.parent is not None:
            buffer, more = buffer.parent
            offset += more
        return buffer, offset


@dataclass(frozen=True, slots=True)
class View:
    """Some floats of a buffer."""

    buffer: Buffer
    offset: int
    shape: Shape
    strides: Shape

    @property
    def count(self) -> int:
        """How many numbers, repeated ones counted."""
        return math.prod(self.shape)

    def slice(self, axis: int, start: int, count: int, step: int = 1) -> View:
        """Return ``count`` places of an axis."""
        shape, strides = list(self.shape), list(self.strides)
        offset = self.offset + start * strides[axis]
        shape[axis], strides[axis] = count, strides[axis] * step
        return View(self.buffer, offset, tuple(shape), tuple(strides))

    def pick(self, axis: int, index: int) -> View:
        """Return one place of an axis, without the axis."""
        one = self.slice(axis, index, 1)
        return View(one.buffer, one.offset, _without(one.shape, axis), _without(one.strides, axis))

    def transpose(self, axes: Shape) -> View:
        """Return the axes in another order."""
        return View(
            self.buffer,
            self.offset,
            tuple(self.shape[a] for a in axes),
            tuple(self.strides[a] for a in axes),
        )

    def broadcast(self, shape: Shape) -> View:
        """Return the view repeated to ``shape``, by NumPy's rules.

        Raises:
            ValueError: it does not fit.
        """
        extra = len(shape) - len(self.shape)
        if extra < 0:
            raise ValueError(f"{self.shape} does not broadcast to {shape}")
        strides = [0] * extra
        for have, want, stride in zip(self.shape, shape[extra:], self.strides, strict=True):
            if have not in (1, want):
                raise ValueError(f"{self.shape} does not broadcast to {shape}")
            strides.append(stride if have == want else 0)
        return View(self.buffer, self.offset, shape, tuple(strides))

    def reshape(self, shape: Shape) -> View | None:
        """Return the same numbers in another shape, or ``None`` where they would have to move."""
        strides = restride(self.shape, self.strides, shape)
        return None if strides is None else View(self.buffer, self.offset, shape, strides)

    def order(self) -> Shape:
        """Return the axes from the widest stride to the narrowest."""
        return tuple(sorted(range(len(self.shape)), key=lambda a: -self.strides[a]))

    def covers(self) -> bool:
        """Whether this is its whole buffer, each number once."""
        return self.offset == 0 and self.count == self.buffer.size and self.dense()

    def dense(self) -> bool:
        """Whether the numbers lie side by side, in some order of the axes."""
        expected = 1
        for axis in reversed(self.order()):
            if self.shape[axis] == 1:
                continue
            if self.strides[axis] != expected:
                return False
            expected *= self.shape[axis]
        return True

    def unit(self) -> bool:
        """Whether the last axis lies side by side."""
        return not self.shape or self.shape[-1] == 1 or self.strides[-1] == 1


def _without(values: Shape, axis: int) -> Shape:
    return values[:axis] + values[axis + 1 :]


def ordered(shape: Shape, order: Shape) -> Shape:
    """Return the strides of a fresh array whose axes lie in ``order``, widest first."""
    strides, step = [0] * len(shape), 1
    for axis in reversed(order):
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)


def rows_first(shape: Shape) -> Shape:
    """Return the strides of a plain C array."""
    return ordered(shape, tuple(range(len(shape))))


def constant(values: NDArray[Any]) -> View:
    """Return a view of a constant's values."""
    held = np.ascontiguousarray(values, np.float32)
    return View(Buffer(Home.CONSTANT, held.size, held=held), 0, held.shape, rows_first(held.shape))


def restride(shape: Shape, strides: Shape, wanted: Shape) -> Shape | None:
    """Return strides for ``wanted`` over the same numbers in the same order, or ``None``."""
    old = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    new = [axis for axis, n in enumerate(wanted) if n != 1]
    found = [1] * len(wanted)
    at = first = 0
    while first < len(new) and at < len(old):
        # the fewest axes on each side that hold as many numbers as each other
        last, end = first, at
        count, have = wanted[new[first]], old[at][0]
        while count != have:
            if count < have:
                last += 1
                if last == len(new):
                    return None
                count *= wanted[new[last]]
            else:
                end += 1
                if end == len(old) or old[end - 1][1] != old[end][0] * old[end][1]:
                    return None
                have *= old[end][0]
        step = old[end][1]
        for axis in reversed(new[first : last + 1]):
            found[axis] = step
            step *= wanted[axis]
        first, at = last + 1, end + 1
    return tuple(found) if first == len(new) and at == len(old) else None
