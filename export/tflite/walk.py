"""One walk over a TFLite subgraph: which ONNX value stands for which tensor.

Rank-4 tensors, which TFLite keeps as ``[B, H, W, C]``, become ``[B, C, H, W]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.export.graph import StepWriter
from ossicle.export.tflite.layout import channels_first, dequantised, grid_of
from ossicle.export.tflite.reader import Operator, Subgraph, Tensor
from ossicle.runtime.errors import ExportError

Array = NDArray[Any]


class Walk:
    """What is known so far; ``values`` maps tensor index to ONNX name."""

    def __init__(
        self,
        graph: Subgraph,
        name: str,
        quantised: bool,
        eight_bits: bool = True,
        grids: bool = False,
    ) -> None:
        self.graph = graph
        self.out = StepWriter(name)
        self.quantised = quantised
        self.eight_bits = eight_bits
        self.grids = grids and not quantised
        self.on_grid: dict[str, tuple[float, int]] = {}  # float values held to scale and zero
        self.values: dict[int, str] = {}
        self.handles: dict[int, str] = {}
        self.constants: dict[int, Array] = {}
        self.stored_values: dict[int, str] = {}  # float tensor -> its bytes
        self.joined: dict[int, tuple[int, ...]] = {}  # concatenation -> its parts
        self.join_axis: dict[int, int] = {}
        self.bytes: dict[int, int] = {}  # float tensor -> the int8 tensor it was made of
        self.floats: dict[int, str] = {}  # int8 tensor -> its value as floats, where there is one
        self.pieces: dict[int, tuple[tuple[str, int], ...]] = {}  # value -> parts along time
        self.tails: dict[int, tuple[str, int]] = {}  # zero-padded state -> its name and length

    def tensor(self, index: int) -> Tensor:
        """Get what the file says of a tensor."""
        return self.graph.tensors[index]

    def arrived(self, index: int, value: str) -> str:
        """Get an input of any shape, in TFLite's order of values, as the tensor it stands for."""
        shape = self.tensor(index).shape
        if len(shape) != 4:
            return value
        if sum(n > 1 for n in shape[1:]) > 1 and shape[3] > 1:
            return self.out.transpose(self.out.reshape(value, -1, *shape[1:]), 0, 3, 1, 2)
        return self.out.reshape(value, -1, shape[3], shape[1], shape[2])

    def left(self, index: int, shape: tuple[int, ...]) -> str:
        """Get a tensor, in TFLite's order of values, in the shape it leaves in."""
        value, have = self.real(index), self.tensor(index).shape
        if len(have) == 4 and sum(n > 1 for n in have[1:]) > 1 and have[3] > 1:
            value = self.out.transpose(value, 0, 2, 3, 1)
        return self.out.reshape(value, -1, *shape)

    def stored(self, index: int) -> bool:
        """Tell whether a tensor is kept as uint8 in the new graph."""
        tensor = self.tensor(index)
        return self.quantised and tensor.dtype == "int8" and tensor.data is None

    def rounded(self, index: int) -> bool:
        """Tell whether a tensor is kept as floats that lie on its int8 grid."""
        tensor = self.tensor(index)
        return self.grids and tensor.dtype == "int8" and tensor.data is None

    def on(self, index: int) -> tuple[float, int]:
        """Get scale and zero point of a tensor's grid."""
        grid = grid_of(self.tensor(index))
        return float(grid.scale[0]), int(grid.zero[0])

    def real(self, index: int, rank: int = 0) -> str:
        """Get the float value of a tensor; a constant is made to broadcast against ``rank``."""
        if index in self.constants or self.tensor(index).data is not None:
            return self.out.weight(channels_first(self.constant(index), rank))
        if index in self.floats:
            return self.floats[index]
        value = self.values[index]
        if not self.stored(index):
            return value
        return self.out.node("DequantizeLinear", value, *self.scale(index))

    def constant(self, index: int) -> Array:
        """Get a constant in TFLite's axis order, as float where it is quantised."""
        if index in self.constants:
            return self.constants[index]
        tensor = self.tensor(index)
        if tensor.data is None:
            raise ExportError(f"tensor {tensor.name!r} must be a constant here")
        if tensor.quant is None:
            return tensor.data
        return dequantised(tensor)

    def scale(self, index: int) -> tuple[str, str]:
        """Get the names of scale and zero point (of ``uint8``) of a tensor's grid."""
        quant = self.tensor(index).quant
        if quant is None or quant.scale.size != 1:
            raise ExportError(f"activation {self.tensor(index).name!r} is not quantised per tensor")
        zero = np.uint8(int(quant.zero[0]) + 128)
        return self.out.weight(np.float32(quant.scale[0])), self.out.weight(np.asarray(zero))

    def give(self, op: Operator, value: str, gain: float = 1.0) -> None:
        """Store a float result, after the fused activation, quantised where the tensor is.

        ``gain`` is for tensors kept as floats on a grid alone, and comes before the rounding.
        """
        activation = op.options.get("activation", "")
        if activation == "Relu6":
            zero, six = np.float32(0), np.float32(6)
            value = self.out.node("Clip", value, self.out.weight(zero), self.out.weight(six))
        elif activation:
            value = self.out.node(activation, value)
        index = op.outputs[0]
        if self.stored(index):
            value = self.out.node("QuantizeLinear", value, *self.scale(index))
        elif self.rounded(index) and self.on_grid.get(value) != self.on(index):
            value = self.hold(value, [index], gain)
            self.on_grid[value] = self.on(index)
        self.values[index] = value

    def hold(self, value: str, tensors: Sequence[int], gain: float = 1.0) -> str:
        """Append rounding of floats to int8 grids and back, each tensor's on its channels.

        What an integer engine would do to them, in float arithmetic alone.
        """
        wide = self.tensor(tensors[0]).shape[-1]
        grids = np.array([self.on(i) for i in tensors])
        if len(tensors) > 1:
            grids = np.repeat(grids, wide, axis=0)
        scale, zero = (v.reshape(-1, 1, 1) if len(v) > 1 else v.reshape(()) for v in grids.T)

        def named(number: Array) -> str:
            return self.out.weight(np.asarray(number, np.float32))

        whole = self.out.node("Round", self.out.node("Div", value, named(scale / gain)))
        low, high = named(-128 - zero), named(127 - zero)
        if len(tensors) == 1:
            held = self.out.node("Clip", whole, low, high)
        else:
            held = self.out.node("Min", self.out.node("Max", whole, low), high)
        return self.out.node("Mul", held, named(scale))


Conversion = Callable[[Walk, Operator], None]
CONVERSIONS: dict[str, Conversion] = {}


def converts(*kinds: str) -> Callable[[Conversion], Conversion]:
    """Register what converts TFLite operators of ``kinds``."""

    def register(conversion: Conversion) -> Conversion:
        CONVERSIONS.update(dict.fromkeys(kinds, conversion))
        return conversion

    return register
