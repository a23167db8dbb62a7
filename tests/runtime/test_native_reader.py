"""The reader of ONNX files and the plan behind it: damage gives typed errors, never more."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from stepgraphs import Sketch, in_memory

from ossicle.kernels.paths import core
from ossicle.runtime.backend.native import NativeBackend
from ossicle.runtime.backend.native.onnxfile import read_onnx
from ossicle.runtime.backend.native.views import restride, rows_first
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import BackendError

CORE = core()
needs_core = pytest.mark.skipif(
    CORE is None or not hasattr(CORE, "StepPlan"), reason="no compiled part"
)


def sketch() -> Sketch:
    made = Sketch({"x": (3, 8)}, {"past": (2, 8)})
    rng = np.random.default_rng(0)
    joined = made("Concat", "past", "x", axis=1)
    taps = [made("Slice", joined, [i], [i + 3], [1]) for i in range(3)]
    wide = made("Concat", *taps, axis=2)
    y = made("MatMul", wide, rng.standard_normal((24, 5)).astype(np.float32))
    made.end("out", made("LeakyRelu", y, alpha=0.3), (3, 5))
    made.end("past_next", made("Slice", joined, [3], [5], [1]), (2, 8))
    return made


WHOLE = sketch().onnx()


@pytest.mark.parametrize("name", ["codec-16k", "separate-16k", "sounds-16k", "sounds-16k-tiny"])
def test_files_read_as_the_onnx_package_reads_them(name: str) -> None:
    bundle = Bundle.open(name)
    for spec in bundle.manifest.graphs.values():
        data = bundle.read(spec.file)
        mine, theirs = read_onnx(data), onnx.load_from_string(data).graph
        assert [n.op for n in mine.nodes] == [n.op_type for n in theirs.node]
        assert [n.inputs for n in mine.nodes] == [tuple(n.input) for n in theirs.node]
        assert [n.outputs for n in mine.nodes] == [tuple(n.output) for n in theirs.node]
        for node, other in zip(mine.nodes, theirs.node, strict=True):
            for attribute in other.attribute:
                value = helper.get_attribute_value(attribute)
                held = node.attributes[attribute.name]
                assert held == (value.decode() if isinstance(value, bytes) else value)
        assert list(mine.outputs) == [o.name for o in theirs.output]
        for tensor in theirs.initializer:
            np.testing.assert_array_equal(
                mine.constants[tensor.name], numpy_helper.to_array(tensor)
            )


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (TensorProto.FLOAT, [1.5, -2.0]), (TensorProto.INT64, [-3, 1 << 40]),
        (TensorProto.INT32, [-3, 7]), (TensorProto.UINT8, [0, 255]), (TensorProto.INT8, [-128, 3]),
        (TensorProto.DOUBLE, [1e300, -1.0]), (TensorProto.BOOL, [True, False]),
        (TensorProto.FLOAT16, [1.5, -2.0]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("raw", [False, True])
def test_constants_of_every_kind_and_form(kind: int, values: list[float], raw: bool) -> None:
    if raw:
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        tensor = numpy_helper.from_array(np.array(values, dtype), "c")
    else:
        tensor = helper.make_tensor("c", kind, [2], values)
    graph = helper.make_graph([], "g", [], [], [tensor])
    data = helper.make_model(graph).SerializeToString()
    np.testing.assert_array_equal(read_onnx(data).constants["c"], numpy_helper.to_array(tensor))


def load(data: bytes) -> None:
    NativeBackend().load(in_memory(sketch().bundle().manifest.graphs["step"], data), "step")


@needs_core
@given(st.data())
def test_a_damaged_file_is_a_backend_error_or_still_a_graph(data: st.DataObject) -> None:
    damaged = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    for piece in (bytes(damaged), bytes(damaged[:cut])):
        try:
            load(piece)
        except BackendError:
            continue


@given(st.binary(max_size=200))
def test_any_bytes_are_a_backend_error(data: bytes) -> None:
    with pytest.raises(BackendError):
        load(data)


def test_nothing_is_allocated_because_a_header_says_so() -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "c")
    del tensor.dims[:]
    tensor.dims.extend([1 << 20, 1 << 20])
    graph = helper.make_graph([], "g", [], [], [tensor])
    data = helper.make_model(graph).SerializeToString()
    long = b"\x3a" + b"\xff\xff\xff\xff\x0f"  # field 7 of 4 GiB
    tracemalloc.start()
    for piece, words in ((data, "comes with 4 values"), (long, "claims 4294967295 bytes")):
        with pytest.raises(BackendError, match=words):
            read_onnx(piece)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_parts_elsewhere_and_graphs_inside_are_refused() -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "c")
    tensor.data_location = TensorProto.EXTERNAL
    graph = helper.make_graph([], "g", [], [], [tensor])
    with pytest.raises(BackendError, match="another file"):
        read_onnx(helper.make_model(graph).SerializeToString())
    inner = helper.make_graph([], "g", [], [])
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    with pytest.raises(BackendError, match="straight"):
        read_onnx(helper.make_model(helper.make_graph([node], "g", [], [])).SerializeToString())


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4), st.randoms(use_true_random=False),
    st.data(),
)  # fmt: skip
def test_strides_for_another_shape_are_those_of_numpy(
    shape: list[int], rnd: object, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(shape))))
    array = np.arange(int(np.prod(shape))).reshape([shape[a] for a in order])
    array = array.transpose(np.argsort(order))
    wanted = tuple(data.draw(st.permutations([*shape, 1])))
    merged = data.draw(st.booleans())
    if merged and len(wanted) > 1:
        wanted = (wanted[0] * wanted[1], *wanted[2:])
    strides = tuple(s // 8 for s in array.strides)
    found = restride(tuple(array.shape), strides, wanted)
    if found is not None:
        seen = np.lib.stride_tricks.as_strided(array, wanted, [8 * s for s in found])
        np.testing.assert_array_equal(seen, array.reshape(wanted))
    if array.flags.c_contiguous:
        assert found is not None
        assert [s for s, n in zip(found, wanted, strict=True) if n > 1] == [
            s for s, n in zip(rows_first(wanted), wanted, strict=True) if n > 1
        ]


@needs_core
def test_the_executor_refuses_views_outside_their_buffers() -> None:
    """Whatever the lowering might get wrong, no plan reaches other memory."""
    whole = ([4], [1])
    bad = [
        (9, 0, *whole), (0, 4, *whole), (0, 1, *whole), (0, -1, *whole), (0, 0, [5], [1]),
        (0, 0, [2], [4]), (0, 0, [1 << 62, 1 << 62], [1 << 62, 1 << 62]), (0, 0, [0], [1]),
        (0, 0, [4], [-1]), (0, 0, [2] * 7, [0] * 7), (0, 0, [4], []),
    ]  # fmt: skip
    for place in bad:
        plan = CORE.StepPlan()
        plan.buffer(1, 4, 0, 0)
        plan.buffer(1, 4, 16, 0)
        with pytest.raises(ValueError, match=r"."):
            plan.map(0, 0.0, 0.0, place, (1, 0, [4], [1]), None)
        with pytest.raises(ValueError, match=r"."):
            plan.map(0, 0.0, 0.0, (1, 0, [4], [1]), place, None)


@needs_core
def test_the_executor_refuses_arrays_that_do_not_fit() -> None:
    plan = CORE.StepPlan()
    plan.buffer(4, 4, 0, 0)
    plan.buffer(5, 4, 0, 0)
    plan.map(0, 0.0, 0.0, (1, 0, [4], [1]), (0, 0, [4], [1]), None)
    good = np.zeros((2, 4), np.float32)
    CORE.StepRun(plan, 2, [good], [good.copy()], [], []).step(0)
    for other in (
        np.zeros((2, 3), np.float32), np.zeros((2, 4)), good[:, ::-1], np.zeros((2, 4), np.uint8),
        "text",
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"."):
            CORE.StepRun(plan, 2, [good], [other], [], [])
    with pytest.raises(ValueError, match="missing"):
        CORE.StepRun(plan, 2, [], [good], [], [])
    with pytest.raises(ValueError, match="sealed"):
        plan.buffer(1, 4, 0, 0)


def test_a_number_that_is_too_long_is_refused() -> None:
    with pytest.raises(BackendError, match="number"):
        read_onnx(b"\xff" * 11)
    with pytest.raises(BackendError, match="ends inside"):
        read_onnx(b"\xff")
    with pytest.raises(BackendError, match="float"):
        read_onnx(b"\x3a\x0b\x0a\x09\x2a\x07\x12\x05" + struct.pack("<f", 1.0) + b"\0")
