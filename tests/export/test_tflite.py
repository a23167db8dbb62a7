"""The TFLite reader on files made here: what it reads, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossicle.export.parity import open_session
from ossicle.export.tflite.convert import Feed, convert
from ossicle.export.tflite.reader import parse
from ossicle.runtime.errors import ExportError

flatbuffers = pytest.importorskip("flatbuffers")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

FLOAT, INT32, RESOURCE = 0, 2, 13


def tensor(shape: list[int], kind: int = FLOAT, buffer: int = 0, name: str = "t") -> object:
    t = schema.TensorT()
    t.shape, t.type, t.buffer, t.name = shape, kind, buffer, name
    return t


def operator(code: int, inputs: list[int], outputs: list[int], options: object = None) -> object:
    o = schema.OperatorT()
    o.opcodeIndex, o.inputs, o.outputs = code, inputs, outputs
    if options is not None:
        o.builtinOptionsType = getattr(
            schema.BuiltinOptions, type(options).__name__.removesuffix("T")
        )
        o.builtinOptions = options
    return o


def model(
    codes: list[int],
    tensors: list[object],
    operators: list[object],
    buffers: list[np.ndarray],
    inputs: list[int],
    outputs: list[int],
) -> bytes:
    m = schema.ModelT()
    m.version, m.operatorCodes, m.buffers = 3, [], []
    for code in codes:
        c = schema.OperatorCodeT()
        c.builtinCode, c.deprecatedBuiltinCode = code, min(code, 127)
        m.operatorCodes.append(c)
    for data in [np.zeros(0, np.uint8), *buffers]:
        b = schema.BufferT()
        b.data = np.frombuffer(data.tobytes(), np.uint8)
        m.buffers.append(b)
    g = schema.SubGraphT()
    g.tensors, g.operators, g.inputs, g.outputs = tensors, operators, inputs, outputs
    g.name = "main"
    m.subgraphs = [g]
    builder = flatbuffers.Builder(1024)
    builder.Finish(m.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def causal() -> tuple[bytes, np.ndarray]:
    """A depth-1 causal convolution with a resource variable: cat, slice, assign, conv, leaky."""
    op = schema.BuiltinOperator
    codes = [op.VAR_HANDLE, op.READ_VARIABLE, op.CONCATENATION, op.STRIDED_SLICE,
             op.ASSIGN_VARIABLE, op.CONV_2D, op.LEAKY_RELU]  # fmt: skip
    weight = np.random.default_rng(0).standard_normal((3, 3, 1, 2)).astype(np.float32)
    bounds = [np.array(v, np.int32) for v in ([0, 4, 0, 0], [1, 6, 1, 2], [1, 1, 1, 1])]
    tensors = [
        tensor([1, 4, 1, 2]), tensor([], RESOURCE), tensor([1, 2, 1, 2]), tensor([1, 6, 1, 2]),
        *(tensor([4], INT32, i) for i in (1, 2, 3)), tensor([1, 2, 1, 2]),
        tensor([3, 3, 1, 2], FLOAT, 4), tensor([1, 4, 1, 3]), tensor([1, 4, 1, 3]),
    ]  # fmt: skip
    handle, join, cut, conv, leaky = (
        schema.VarHandleOptionsT(), schema.ConcatenationOptionsT(), schema.StridedSliceOptionsT(),
        schema.Conv2DOptionsT(), schema.LeakyReluOptionsT(),
    )  # fmt: skip
    handle.sharedName, join.axis = "layer/conv/states", 1
    cut.beginMask, cut.endMask = 13, 15
    conv.padding, conv.strideH, conv.strideW = 1, 1, 1
    conv.dilationHFactor = conv.dilationWFactor = 1
    leaky.alpha = 0.25
    operators = [
        operator(0, [], [1], handle), operator(1, [1], [2]), operator(2, [2, 0], [3], join),
        operator(3, [3, 4, 5, 6], [7], cut), operator(4, [1, 7], []),
        operator(5, [3, 8, -1], [9], conv), operator(6, [9], [10], leaky),
    ]  # fmt: skip
    return model(codes, tensors, operators, [*bounds, weight], [0], [10]), weight


def test_resource_variables_become_states() -> None:
    data, weight = causal()
    step = convert(parse(data), 0, "toy", [Feed(0, "x", (4, 2))], [Feed(10, "y", (4, 3))])
    assert [(s.input, s.output, s.shape) for s in step.states] == [
        ("layer_conv", "layer_conv_next", (2, 2, 1))
    ]
    session = open_session(step.bytes())
    rng = np.random.default_rng(1)
    x = rng.standard_normal((5, 12, 2)).astype(np.float32)  # five streams of three hops
    state, rows = np.zeros((5, 2, 2, 1), np.float32), []
    for hop in np.split(x, 3, axis=1):
        y, state = session.run(None, {"x": hop, "layer_conv": state})
        rows.append(y)
    line = np.pad(x, ((0, 0), (2, 0), (0, 0)))
    taps = np.stack([line[:, k : k + 12] for k in range(3)], axis=2)  # [B, T, k, C]
    wanted = np.einsum("btkc,okc->bto", taps, weight[:, :, 0])
    wanted = np.where(wanted > 0, wanted, 0.25 * wanted)
    np.testing.assert_allclose(np.concatenate(rows, 1).reshape(5, 12, 3), wanted, atol=1e-5)


def test_unknown_operators_are_all_listed() -> None:
    op = schema.BuiltinOperator
    data = model(
        [op.SIN, op.COS], [tensor([1, 4]), tensor([1, 4]), tensor([1, 4])],
        [operator(0, [0], [1]), operator(1, [1], [2])], [], [0], [2],
    )  # fmt: skip
    with pytest.raises(ExportError, match=r"BUILTIN:108, BUILTIN:66|BUILTIN:66, BUILTIN:108"):
        convert(parse(data), 0, "toy", [Feed(0, "x", (4,))], [Feed(2, "y", (4,))])


def test_every_truncation_is_a_typed_error_or_a_model() -> None:
    data, _ = causal()
    refused = 0
    for size in range(0, len(data), 7):
        try:
            parse(data[:size])
        except ExportError:
            refused += 1
    assert refused > 50


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_flipped_bytes_never_crash(changes: list[tuple[int, int]]) -> None:
    data = bytearray(causal()[0])
    for place, value in changes:
        data[place % len(data)] = value
    try:
        found = parse(bytes(data))
        convert(found, 0, "toy", [Feed(0, "x", (4, 2))], [Feed(10, "y", (4, 3))])
    except ExportError:
        pass


def test_other_files_are_named() -> None:
    with pytest.raises(ExportError, match="cut short, or is it another kind"):
        parse(b"RIFF" * 10)
