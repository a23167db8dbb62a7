"""TFLite subgraphs to ONNX steps, with resource variables as explicit states.

Rank-4 tensors, which TFLite keeps as ``[B, H, W, C]``, become ``[B, C, H, W]``. A region of full
int8 arithmetic (trained quantisation) is kept as QDQ pairs, ``uint8`` activations and ``int8``
weights per channel, or is dequantised, as asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.export.graph import StepWriter
from ossicle.export.tflite.reader import Operator, Quant, Subgraph, Tensor, TFLite
from ossicle.runtime.errors import ExportError

Array = NDArray[Any]
_BINARY = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div"}
_UNARY = {"RELU": "Relu", "LOGISTIC": "Sigmoid", "TANH": "Tanh", "SQRT": "Sqrt", "LOG": "Log"}
_MOVES = frozenset({"STRIDED_SLICE", "SPLIT", "RESHAPE"})  # move int8 values as they are
_STATE = frozenset({"CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"})


@dataclass(frozen=True, slots=True)
class Feed:
    """A tensor given from outside: the ONNX name and shape (without B) it comes under."""

    tensor: int
    name: str
    shape: tuple[int, ...]


def convert(
    model: TFLite,
    subgraph: int,
    name: str,
    inputs: Sequence[Feed],
    outputs: Sequence[Feed],
    *,
    quantised: bool = False,
) -> StepWriter:
    """Get the step that makes ``outputs`` of ``inputs``; only what they need is converted.

    ``quantised`` keeps int8 regions as QDQ. Raises ``ExportError`` naming every operator that has
    no counterpart here.
    """
    graph = model.subgraphs[subgraph]
    needed = _needed(graph, {f.tensor for f in inputs}, {f.tensor for f in outputs})
    known = {k[4:].upper() for k in dir(_Converter) if k.startswith("_op_")}
    known |= set(_BINARY) | set(_UNARY)
    unknown = sorted({op.kind for op in needed} - known)
    if unknown:
        raise ExportError(
            f"{name}: no conversion for TFLite operator {', '.join(unknown)}; "
            f"{', '.join(sorted(known))} are known"
        )
    try:
        return _walk(_Converter(graph, name, quantised), needed, inputs, outputs)
    except (LookupError, ArithmeticError, ValueError, TypeError, AttributeError) as err:
        raise ExportError(
            f"{name}: the TFLite graph contradicts itself ({type(err).__name__}: {err}); the file "
            "is damaged"
        ) from err


def _walk(
    converter: _Converter, needed: list[Operator], inputs: Sequence[Feed], outputs: Sequence[Feed]
) -> StepWriter:
    for feed in inputs:
        value = converter.out.input(feed.name, feed.shape)
        converter.values[feed.tensor] = converter.arrived(feed.tensor, value)
    for op in needed:
        converter.run(op)
    for feed in outputs:
        value = converter.left(feed.tensor, feed.shape)
        converter.out.output(feed.name, value, feed.shape)
    return converter.out


def _needed(graph: Subgraph, given: set[int], wanted: set[int]) -> list[Operator]:
    """Get the operators that ``wanted`` and the states depend on, in running order."""
    live = set(wanted)
    kept: list[Operator] = []
    for op in reversed(graph.operators):
        if op.kind == "CALL_ONCE":
            continue
        if op.kind == "ASSIGN_VARIABLE" or any(o in live for o in op.outputs):
            kept.append(op)
            live |= {i for i in op.inputs if i >= 0 and i not in given}
    return kept[::-1]


class _Converter:
    """One walk over a subgraph; ``values`` maps tensor index to ONNX name."""

    def __init__(self, graph: Subgraph, name: str, quantised: bool) -> None:
        self.graph = graph
        self.out = StepWriter(name)
        self.quantised = quantised
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
        return self.graph.tensors[index]

    def run(self, op: Operator) -> None:
        if op.kind == "ADD" and self._add_tail(op):
            return
        if op.kind in _BINARY:
            rank = len(self.tensor(op.outputs[0]).shape)
            value = self.out.node(_BINARY[op.kind], *(self.real(i, rank) for i in op.inputs))
            self.give(op, value)
        elif op.kind in _UNARY:
            self.give(op, self.out.node(_UNARY[op.kind], self.real(op.inputs[0])))
        else:
            getattr(self, f"_op_{op.kind.lower()}")(op)

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

    # Reading and writing values.

    def stored(self, index: int) -> bool:
        """Tell whether a tensor is kept as uint8 in the new graph."""
        tensor = self.tensor(index)
        return self.quantised and tensor.dtype == "int8" and tensor.data is None

    def real(self, index: int, rank: int = 0) -> str:
        """Get the float value of a tensor; a constant is made to broadcast against ``rank``."""
        if index in self.constants or self.tensor(index).data is not None:
            return self.out.weight(_channels_first(self.constant(index), rank))
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
        return _dequantised(tensor)

    def scale(self, index: int) -> tuple[str, str]:
        quant = self.tensor(index).quant
        if quant is None or quant.scale.size != 1:
            raise ExportError(f"activation {self.tensor(index).name!r} is not quantised per tensor")
        zero = np.uint8(int(quant.zero[0]) + 128)
        return self.out.weight(np.float32(quant.scale[0])), self.out.weight(np.asarray(zero))

    def give(self, op: Operator, value: str) -> None:
        """Store a float result, after the fused activation, quantised where the tensor is."""
        activation = op.options.get("activation", "")
        if activation == "Relu6":
            zero, six = np.float32(0), np.float32(6)
            value = self.out.node("Clip", value, self.out.weight(zero), self.out.weight(six))
        elif activation:
            value = self.out.node(activation, value)
        index = op.outputs[0]
        if self.stored(index):
            value = self.out.node("QuantizeLinear", value, *self.scale(index))
        self.values[index] = value

    # States.

    def _op_var_handle(self, op: Operator) -> None:
        self.handles[op.outputs[0]] = str(op.options["shared_name"])

    def _op_read_variable(self, op: Operator) -> None:
        """Append a state; one that only ever holds int8 values is kept as bytes."""
        index = op.outputs[0]
        shape = _channels_first_shape(self.tensor(index).shape)[1:]
        name = _plain(self.handles[op.inputs[0]])
        grid = self._grid_of_state(index)
        if grid is None:
            self.values[index] = self.out.state(name, shape)
            return
        zero = np.uint8(int(_quant(self.tensor(grid)).zero[0]) + 128)
        init = f"{name}.npy"
        self.out.inits[init] = np.full(shape, zero)
        value = self.out.state(name, shape, "uint8", init)
        self.bytes[index] = grid
        self.values[index] = self.out.node("DequantizeLinear", value, *self.scale(grid))
        self.stored_values[index] = value

    def _grid_of_state(self, index: int) -> int | None:
        """Get the int8 tensor whose scale a state's values keep, if they keep one.

        That is so where the state and dequantised values are joined and quantised again, all with
        one scale and zero point.
        """
        readers = [op for op in self.graph.operators if index in op.inputs]
        if not self.quantised or [op.kind for op in readers] != ["CONCATENATION"]:
            return None
        after = [op for op in self.graph.operators if readers[0].outputs[0] in op.inputs]
        if [op.kind for op in after] != ["QUANTIZE"]:
            return None
        made = {o: op for op in self.graph.operators for o in op.outputs}
        grid = after[0].outputs[0]
        for part in readers[0].inputs:
            source = made.get(part)
            if part != index and (
                source is None
                or source.kind != "DEQUANTIZE"
                or not _same_grid(self.tensor(source.inputs[0]), self.tensor(grid))
            ):
                return None
        return grid

    def _op_assign_variable(self, op: Operator) -> None:
        name = _plain(self.handles[op.inputs[0]])
        kept = {s.input: s.dtype for s in self.out.states}
        if kept.get(name) == "uint8":
            self.out.keep(name, self.stored_values[op.inputs[1]])
        else:
            self.out.keep(name, self.real(op.inputs[1]))

    # Quantisation.

    def _op_quantize(self, op: Operator) -> None:
        parts = self.joined.get(op.inputs[0])
        grid = self.tensor(op.outputs[0])
        if parts and all(
            part in self.bytes and _same_grid(self.tensor(self.bytes[part]), grid) for part in parts
        ):
            rank = len(grid.shape)
            axis = _axis(self.join_axis[op.inputs[0]], rank)
            bytes_ = [self.stored_values[part] for part in parts]
            self.values[op.outputs[0]] = self.out.concat(*bytes_, axis=axis)
            return
        self.give(op, self.real(op.inputs[0]))

    def _op_dequantize(self, op: Operator) -> None:
        if self.tensor(op.inputs[0]).data is not None:
            self.constants[op.outputs[0]] = self.constant(op.inputs[0])
        else:
            self.values[op.outputs[0]] = self.real(op.inputs[0])
            if self.stored(op.inputs[0]):
                self.bytes[op.outputs[0]] = op.inputs[0]
                self.stored_values[op.outputs[0]] = self.values[op.inputs[0]]

    # Moving values.

    def _raw(self, index: int) -> str:
        return self.values[index] if index in self.values else self.real(index)

    def _op_reshape(self, op: Operator) -> None:
        source, target = (self.tensor(i).shape for i in (op.inputs[0], op.outputs[0]))
        value = self._raw(op.inputs[0])
        if len(source) == 4 and sum(n > 1 for n in source[1:]) > 1:
            value = self.out.transpose(value, 0, 2, 3, 1)
        if len(target) == 4 and sum(n > 1 for n in target[1:]) > 1:
            value = self.out.reshape(value, -1, *target[1:])
            self.values[op.outputs[0]] = self.out.transpose(value, 0, 3, 1, 2)
        else:
            shape = _channels_first_shape(target)[1:]
            self.values[op.outputs[0]] = self.out.reshape(value, -1, *shape)

    def _op_concatenation(self, op: Operator) -> None:
        rank = len(self.tensor(op.outputs[0]).shape)
        axis = _axis(int(op.options["axis"]), rank)
        self.joined[op.outputs[0]] = op.inputs
        self.join_axis[op.outputs[0]] = int(op.options["axis"])
        if self._is_padded_state(op):
            state = op.inputs[0]
            length = self.tensor(state).shape[int(op.options["axis"])]
            self.tails[op.outputs[0]] = (self.values[state], length)
            return
        parts = [self._rowed(i) for i in op.inputs]
        self.give(op, self.out.concat(*parts, axis=axis))

    def _is_padded_state(self, op: Operator) -> bool:
        """Tell whether this is a state, then zeros, on their way to be added to something."""
        if len(op.inputs) != 2 or len(self.tensor(op.outputs[0]).shape) != 4:
            return False
        rest = self.tensor(op.inputs[1]).data
        readers = [o for o in self.graph.operators if op.outputs[0] in o.inputs]
        return (
            rest is not None
            and not rest.any()
            and self.tensor(op.inputs[0]).data is None
            and int(op.options["axis"]) == 1
            and [o.kind for o in readers] == ["ADD"]
            and not readers[0].options["activation"]
        )

    def _add_tail(self, op: Operator) -> bool:
        """Add a state to the front of a longer value, where that is what an ADD does."""
        padded = next((i for i in op.inputs if i in self.tails), None)
        if padded is None:
            return False
        state, length = self.tails[padded]
        other = next(i for i in op.inputs if i != padded)
        total = self.tensor(op.outputs[0]).shape[1]
        sizes = [length, total - 2 * length, length] if total > 2 * length else [length] * 2
        if sum(sizes) != total:
            sizes = [length, total - length]
        count = self.out.ints(*sizes)
        parts = self.out.nodes("Split", self.real(other), count, outputs=len(sizes), axis=2)
        parts[0] = self.out.node("Add", parts[0], state)
        self.pieces[op.outputs[0]] = tuple(zip(parts, sizes, strict=True))
        self.give(op, self.out.concat(*parts, axis=2))
        return True

    def _rowed(self, index: int) -> str:
        """Get a value with its B rows, also where it is a constant."""
        value = self.real(index)
        if self.tensor(index).data is None:
            return value
        like = next(i for i in self.out.states)
        lead = self.out.slice(self.out.node("Shape", like.input), 0, 1, 0)
        shape = _channels_first_shape(self.tensor(index).shape)
        full = self.out.concat(lead, self.out.ints(*shape[1:]), axis=0)
        return self.out.node("Expand", value, full)

    def _op_strided_slice(self, op: Operator) -> None:
        shape = self.tensor(op.inputs[0]).shape
        begin, end, step = (self.constant(i).tolist() for i in op.inputs[1:4])
        masks = op.options
        if masks["ellipsis_mask"] or masks["new_axis_mask"] or masks["shrink_axis_mask"]:
            raise ExportError("STRIDED_SLICE with ellipsis, new or shrunk axes is not converted")
        value = self._raw(op.inputs[0])
        pieces = self.pieces.get(op.inputs[0], ())
        for axis, size in enumerate(shape):
            start = 0 if masks["begin_mask"] >> axis & 1 else begin[axis]
            stop = size if masks["end_mask"] >> axis & 1 else end[axis]
            start, stop = (n + size if n < 0 else n for n in (start, stop))
            if step[axis] != 1:
                raise ExportError(f"STRIDED_SLICE with step {step[axis]} is not converted")
            found = _pieces_of(pieces, start, stop) if axis == 1 else []
            if found:
                value = found[0] if len(found) == 1 else self.out.concat(*found, axis=2)
            elif (start, stop) != (0, size):
                value = self.out.slice(value, start, stop, _axis(axis, len(shape)))
        self.values[op.outputs[0]] = value

    def _op_split(self, op: Operator) -> None:
        source = op.inputs[1]
        axis = _axis(int(self.constant(op.inputs[0])), len(self.tensor(source).shape))
        count = len(op.outputs)
        parts = self.out.nodes(
            "Split", self._raw(source), outputs=count, axis=axis, num_outputs=count
        )
        self.values.update(zip(op.outputs, parts, strict=True))

    # Arithmetic.

    def _op_leaky_relu(self, op: Operator) -> None:
        alpha = float(op.options["alpha"])
        source, result = op.inputs[0], op.outputs[0]
        if not (self.stored(source) and self.stored(result)):
            self.give(op, self.out.node("LeakyRelu", self.real(source), alpha=alpha))
            return
        ratio = _only(self.tensor(source)) / _only(self.tensor(result))
        slope, alpha = _xnnpack_slopes(ratio, alpha)
        scale = self.out.weight(np.float32(slope * _only(self.tensor(result))))
        zero = self.scale(source)[1]
        value = self.out.node("DequantizeLinear", self.values[source], scale, zero)
        self.give(op, self.out.node("LeakyRelu", value, alpha=alpha))

    def _op_mean(self, op: Operator) -> None:
        rank = len(self.tensor(op.inputs[0]).shape)
        axes = sorted(_axis(int(a), rank) for a in self.constant(op.inputs[1]).reshape(-1))
        keep = int(bool(op.options["keep_dims"]))
        value = self.real(op.inputs[0])
        self.give(op, self.out.node("ReduceMean", value, self.out.ints(*axes), keepdims=keep))

    def _op_fully_connected(self, op: Operator) -> None:
        stored = self.tensor(op.inputs[1]).data
        if stored is not None and self._dynamic(op):
            self.give(op, self._in_eight_bits(op, "MatMul", stored.T))
            return
        weight = self.out.weight(np.ascontiguousarray(self.constant(op.inputs[1]).T))
        value = self.out.node("MatMul", self.real(op.inputs[0]), weight)
        if len(op.inputs) > 2 and op.inputs[2] >= 0:
            value = self.out.node("Add", value, self.real(op.inputs[2]))
        self.give(op, value)

    def _op_conv_2d(self, op: Operator) -> None:
        weight = self.tensor(op.inputs[1])
        channels = self.tensor(op.inputs[0]).shape[3]
        self._convolve(op, (0, 3, 1, 2), channels // weight.shape[3], weight.shape[1:3])

    def _op_depthwise_conv_2d(self, op: Operator) -> None:
        weight = self.tensor(op.inputs[1])
        self._convolve(op, (3, 0, 1, 2), weight.shape[3], weight.shape[1:3])

    def _convolve(
        self, op: Operator, perm: tuple[int, ...], groups: int, kernel: Sequence[int]
    ) -> None:
        options = op.options
        strides = [options["stride_h"], options["stride_w"]]
        dilations = [options.get("dilation_h", 1), options.get("dilation_w", 1)]
        sizes = self.tensor(op.inputs[0]).shape[1:3]
        pads = _pads(options["padding"], sizes, kernel, strides, dilations)
        stored = self.tensor(op.inputs[1]).data
        if stored is not None and self._dynamic(op) and tuple(kernel) == (1, 1) and groups == 1:
            weight = stored.transpose(perm)
            self.give(op, self._in_eight_bits(op, "Conv", weight, strides=strides))
            return
        value = self.out.node(
            "Conv", self.real(op.inputs[0]), self._kernel(op.inputs[1], perm),
            *self._bias(op, 2), group=groups, kernel_shape=list(kernel), strides=strides,
            dilations=dilations, pads=pads,
        )  # fmt: skip
        self.give(op, value)

    def _op_transpose_conv(self, op: Operator) -> None:
        """Append a transposed convolution; those on the parts of one SPLIT become one of groups."""
        if op.options["padding"] != "VALID":
            raise ExportError("TRANSPOSE_CONV with SAME padding is not converted")
        if op.outputs[0] in self.values:
            return  # came with the first of its group
        split, group = self._siblings(op)
        if split is None:
            self.give(op, self._spread(op.inputs[2], [op]))
            return
        value = self._spread(split.inputs[1], group)
        outputs = [o.outputs[0] for o in group]
        if self.stored(outputs[0]):
            value = self._rounded_per_channel(value, outputs)
        count = len(group)
        parts = self.out.nodes("Split", value, outputs=count, axis=1, num_outputs=count)
        for output, part in zip(outputs, parts, strict=True):
            if self.stored(output):
                self.floats[output] = part
                self.values[output] = self.out.node("QuantizeLinear", part, *self.scale(output))
            else:
                self.values[output] = part

    def _siblings(self, op: Operator) -> tuple[Operator | None, list[Operator]]:
        """Get the SPLIT over channels that ``op`` reads a part of, and all that read the others."""
        made = {o: producer for producer in self.graph.operators for o in producer.outputs}
        split = made.get(op.inputs[2])
        if split is None or split.kind != "SPLIT" or op.options["activation"]:
            return None, [op]
        if int(self.constant(split.inputs[0])) % 4 != 3 or split.inputs[1] not in self.values:
            return None, [op]
        group = []
        for part in split.outputs:
            readers = [o for o in self.graph.operators if part in o.inputs]
            if len(readers) != 1 or readers[0].kind != op.kind or readers[0].options != op.options:
                return None, [op]
            group.append(readers[0])
        shapes = {self.tensor(o.inputs[1]).shape for o in group}
        return (split, group) if len(shapes) == 1 and len(op.inputs) == 4 else (None, [op])

    def _spread(self, source: int, group: Sequence[Operator]) -> str:
        """Append the transposed convolutions of ``group`` on the channel groups of ``source``."""
        kernels = [self.constant(o.inputs[1]).transpose(3, 0, 1, 2) for o in group]
        biases = [self.constant(o.inputs[3]) for o in group if len(o.inputs) > 3]
        if self.stored(source):
            # Whole numbers, with the scale in the weights: next to a DequantizeLinear, ONNX
            # Runtime would round float weights and biases a second time.
            scale, zero = _only(self.tensor(source)), int(_quant(self.tensor(source)).zero[0])
            plain = self.out.node("Cast", self.values[source], to=1)
            value = self.out.node("Sub", plain, self.out.weight(np.float32(zero + 128)))
            kernels = [kernel * np.float32(scale) for kernel in kernels]
        else:
            value = self.real(source)
        options = group[0].options
        steps = self.tensor(group[0].inputs[2]).shape[1:3]
        two_strides = kernels[0].shape[2:] == (2 * options["stride_h"], 1) and steps[1] == 1
        if two_strides and steps[0] > 2 and biases:  # for one or two steps it does not pay
            return self._spread_by_product(
                value, np.stack(kernels), np.concatenate(biases), steps[0]
            )
        return self.out.node(
            "ConvTranspose", value, self.out.weight(np.concatenate(kernels)),
            *([self.out.weight(np.concatenate(biases))] if biases else []),
            kernel_shape=list(kernels[0].shape[2:]), group=len(group),
            strides=[options["stride_h"], options["stride_w"]],
        )  # fmt: skip

    def _spread_by_product(self, value: str, kernels: Array, bias: Array, length: int) -> str:
        """Append a transposed convolution over time whose taps are two strides, as a product.

        ``kernels`` is ``[G, C, O, 2 s, 1]``. For a few steps of time this is quicker than ONNX
        Runtime's own transposed convolution. Each step gives a first and a second half; a
        stride of output is the first half of its step and the second half of the one before.
        """
        g, (groups, inputs, outputs, taps, _) = self.out, kernels.shape
        weight = np.ascontiguousarray(kernels[..., 0].transpose(0, 1, 3, 2))  # [G, C, taps, O]
        rows = g.transpose(g.reshape(value, -1, groups, inputs, length), 0, 1, 3, 2)
        weight = weight.reshape(groups, inputs, taps * outputs)
        made = g.node("MatMul", rows, g.weight(weight if groups > 1 else weight[0]))
        if length > 1:
            first, second = g.nodes("Split", made, outputs=2, axis=3, num_outputs=2)
            first = g.node("Pad", first, g.ints(0, 0, 0, 0, 0, 0, 1, 0))
            second = g.node("Pad", second, g.ints(0, 0, 1, 0, 0, 0, 0, 0))
            made = g.node("Add", first, second)
        time = (length + 1) * taps // 2
        made = g.transpose(g.reshape(made, -1, groups, time, outputs), 0, 1, 3, 2)
        made = g.reshape(made, -1, groups * outputs, time, 1)
        return g.node("Add", made, g.weight(bias.reshape(-1, 1, 1)))

    def _rounded_per_channel(self, value: str, tensors: Sequence[int]) -> str:
        """Append quantisation and its inverse, with each tensor's scale on its channels."""
        wide = self.tensor(tensors[0]).shape[3]
        grids = [_quant(self.tensor(i)) for i in tensors]
        scale = np.repeat([g.scale[0] for g in grids], wide).astype(np.float32)
        zero = np.repeat([int(g.zero[0]) + 128 for g in grids], wide).astype(np.uint8)
        names = self.out.weight(scale), self.out.weight(zero)
        stored = self.out.node("QuantizeLinear", value, *names, axis=1)
        return self.out.node("DequantizeLinear", stored, *names, axis=1)

    def _dynamic(self, op: Operator) -> bool:
        """Tell whether TFLite rounds this operator's float input to 8 bits as it runs.

        Its "dynamic range" kernels do so next to int8 weights, in dense layers and pointwise
        convolutions, with one range per row or pixel.
        """
        tensors = [self.tensor(i) for i in op.inputs[:2]]
        return (tensors[0].dtype, tensors[1].dtype) == ("float32", "int8")

    def _in_eight_bits(self, op: Operator, product: str, weight: Array, **settings: Any) -> str:
        """Append a product of 8-bit values, exact in float32, and give it its scale and bias."""
        if not _never_negative(self.graph, op.inputs[0]):
            raise ExportError(f"{op.kind} with int8 weights on values of both signs")
        g, quant = self.out, self.tensor(op.inputs[1]).quant
        if quant is None or quant.scale.size != 1 or quant.zero.any():
            raise ExportError(f"{op.kind}: int8 weights of one symmetric scale are converted")
        value = self.real(op.inputs[0])
        top = g.node("ReduceMax", value, g.ints(1), keepdims=1)  # over the channels
        top = g.node("Max", top, g.weight(np.float32(1e-30)))
        scale = g.node("Div", g.weight(np.float32(255)), top)
        rounded = g.node("Round", g.node("Mul", value, scale))
        made = g.node(product, rounded, g.weight(weight.astype(np.float32)), **settings)
        made = g.node("Mul", made, g.node("Reciprocal", scale))
        made = g.node("Mul", made, g.weight(quant.scale[0]))
        if len(op.inputs) > 2 and op.inputs[2] >= 0:
            rank = len(self.tensor(op.outputs[0]).shape)
            made = g.node("Add", made, self.real(op.inputs[2], rank))
        return made

    def _kernel(self, index: int, perm: tuple[int, ...]) -> str:
        """Get a weight with its axes permuted, as int8 with its scales in a QDQ region."""
        tensor = self.tensor(index)
        if not (self.quantised and tensor.dtype == "int8" and _full_integer(self.graph, index)):
            return self.out.weight(self.constant(index).transpose(perm))
        assert tensor.quant is not None
        assert tensor.data is not None
        scale = self.out.weight(_scalar_or_vector(tensor.quant.scale))
        zero = self.out.weight(_scalar_or_vector(tensor.quant.zero.astype(np.int8)))
        stored = self.out.weight(np.ascontiguousarray(tensor.data.transpose(perm)))
        axis = perm.index(tensor.quant.axis) if tensor.quant.scale.size > 1 else 0
        return self.out.node("DequantizeLinear", stored, scale, zero, axis=axis)

    def _bias(self, op: Operator, position: int) -> list[str]:
        if len(op.inputs) <= position or op.inputs[position] < 0:
            return []
        tensor = self.tensor(op.inputs[position])
        if not (self.quantised and tensor.dtype == "int32"):
            return [self.out.weight(self.constant(tensor.index))]
        assert tensor.quant is not None
        assert tensor.data is not None
        scale = self.out.weight(_scalar_or_vector(tensor.quant.scale))
        return [self.out.node("DequantizeLinear", self.out.weight(tensor.data), scale, axis=0)]


def _never_negative(graph: Subgraph, index: int) -> bool:
    """Tell whether a tensor is a ReLU's result, or the mean of one."""
    for op in graph.operators:
        if index in op.outputs:
            if op.kind == "MEAN":
                return _never_negative(graph, op.inputs[0])
            return op.kind == "RELU" or op.options.get("activation") in ("Relu", "Relu6")
    return False


def _pieces_of(pieces: Sequence[tuple[str, int]], start: int, stop: int) -> list[str]:
    """Get the parts that make up ``start:stop`` exactly, or none."""
    begin, found = 0, []
    for value, length in pieces:
        if start <= begin and begin + length <= stop:
            found.append((value, length))
        begin += length
    return [value for value, _ in found] if sum(n for _, n in found) == stop - start else []


def _quant(tensor: Tensor) -> Quant:
    if tensor.quant is None:
        raise ExportError(f"tensor {tensor.name!r} has no quantisation")
    return tensor.quant


def _same_grid(one: Tensor, two: Tensor) -> bool:
    """Tell whether two int8 tensors have the same scale and zero point."""
    if one.quant is None or two.quant is None or one.dtype != two.dtype:
        return False
    same_scale = np.array_equal(one.quant.scale, two.quant.scale)
    return same_scale and np.array_equal(one.quant.zero, two.quant.zero)


def _full_integer(graph: Subgraph, weight: int) -> bool:
    """Tell whether the operator that reads ``weight`` also reads int8 activations."""
    for op in graph.operators:
        if weight in op.inputs:
            return any(graph.tensors[i].dtype == "int8" for i in op.inputs if i not in (weight, -1))
    return False


def _dequantised(tensor: Tensor) -> Array:
    assert tensor.quant is not None
    assert tensor.data is not None
    shape = [1] * tensor.data.ndim
    if tensor.quant.scale.size > 1:
        shape[tensor.quant.axis] = -1
    scale, zero = (v.reshape(shape or [-1]) for v in (tensor.quant.scale, tensor.quant.zero))
    return ((tensor.data.astype(np.float64) - zero) * scale).astype(np.float32)


def _only(tensor: Tensor) -> float:
    assert tensor.quant is not None
    return float(tensor.quant.scale[0])


def _xnnpack_slopes(ratio: float, alpha: float) -> tuple[float, float]:
    """Get the slope above zero, and that below as a share of it, as TFLite's kernels have them.

    XNNPACK, the delegate with which TFLite runs int8, keeps both slopes in 1/256 and rounds halves
    up; the runtimes here round halves to even. A nudge of 1e-6 puts each half on XNNPACK's side.
    """
    above, below = (np.rint(256 * v) / 256 for v in (ratio, ratio * alpha))
    return float(above * (1 + 1e-6)), float(below / above * (1 - 2e-6))


def _scalar_or_vector(values: Array) -> Array:
    return values.reshape(()) if values.size == 1 else values


def _axis(axis: int, rank: int) -> int:
    """Get where an axis of ``[B, H, W, C]`` lies in ``[B, C, H, W]``; other ranks keep theirs."""
    axis %= rank
    return (0, 2, 3, 1)[axis] if rank == 4 else axis


def _channels_first_shape(shape: Sequence[int]) -> tuple[int, ...]:
    if len(shape) == 4:
        return (shape[0], shape[3], shape[1], shape[2])
    return tuple(shape)


def _channels_first(value: Array, rank: int) -> Array:
    """Get a constant that broadcasts against ``[B, C, H, W]`` as it did against ``[..., C]``."""
    if value.ndim == 4:
        return np.ascontiguousarray(value.transpose(0, 3, 1, 2))
    if rank == 4 and value.ndim == 1:
        return value.reshape(-1, 1, 1)
    return value


def _pads(
    padding: str,
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    if padding == "VALID":
        return [0, 0, 0, 0]
    begin, end = [], []
    for size, taps, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        reach = (taps - 1) * dilation + 1
        total = max(0, (-(-size // stride) - 1) * stride + reach - size)
        begin.append(total // 2)
        end.append(total - total // 2)
    return [*begin, *end]


def _plain(name: str) -> str:
    """Get a state's name: ``encoder_0/simpleconv/states`` becomes ``encoder_0_simpleconv``."""
    return name.removesuffix("/states").replace("/", "_")


def states_by_name(step: StepWriter) -> Mapping[str, tuple[int, ...]]:
    """Get the shape of every state of ``step`` (without B)."""
    return {s.input: s.shape for s in step.states}
