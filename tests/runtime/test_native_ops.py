"""Every operator of the native executor against ONNX Runtime, alone and in the fused forms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stepgraphs import Array, Sketch, side_by_side

from ossicle.kernels.conv.cpu import fixed24
from ossicle.kernels.paths import core
from ossicle.kernels.tolerance import close
from ossicle.runtime.backend.native import NativeBackend
from ossicle.runtime.backend.ort import OrtBackend
from ossicle.runtime.errors import BackendError

CORE = core()
if CORE is None or not hasattr(CORE, "StepPlan"):
    pytest.skip("no compiled part", allow_module_level=True)
RNG = np.random.default_rng(1)


@pytest.fixture(params=CORE.offered())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test under each instruction set of this processor."""
    before = CORE.isa()
    CORE.choose(request.param)
    yield request.param
    CORE.choose(before)


def noise(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def ends(
    shape: tuple[int, ...], make: Any, inputs: dict[str, tuple[int, ...]] | None = None
) -> Any:
    """Return a bundle: ``make(sketch)`` names the value of ``shape`` that comes out."""
    sketch = Sketch(inputs or {"x": (4, 33)})
    sketch.end("out", make(sketch), shape)
    return sketch.bundle()


UNARY = ["Neg", "Abs", "Exp", "Sigmoid", "Tanh", "Relu", "Gelu", "Reciprocal"]


@pytest.mark.parametrize("op", UNARY)
def test_one_operand(op: str, isa: str) -> None:
    side_by_side(ends((4, 33), lambda s: s(op, "x")))


@pytest.mark.parametrize("op", ["Log", "Sqrt"])
def test_one_positive_operand(op: str) -> None:
    side_by_side(ends((4, 33), lambda s: s(op, s("Add", s("Abs", "x"), np.float32(0.01)))))


def test_leaky_and_clip() -> None:
    side_by_side(ends((4, 33), lambda s: s("LeakyRelu", "x", alpha=0.3)))
    low, high = np.float32(-0.5), np.float32(0.7)
    side_by_side(ends((4, 33), lambda s: s("Clip", "x", low, high)))


def test_rounding_to_even_and_of_numbers_without_fractions(isa: str) -> None:
    halves = np.float32(np.arange(-66, 66).reshape(4, 33)) / np.float32(2)
    large = np.float32(2.0) ** np.float32(np.arange(20, 152).reshape(4, 33) % 100)
    for held in (halves, -halves, large, -large - np.float32(1)):
        side_by_side(
            ends((4, 33), lambda s, h=held: s("Round", s("Add", s("Mul", "x", np.float32(0)), h)))
        )


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Min", "Max"])
@pytest.mark.parametrize("shape", [(4, 33), (1, 33), (4, 1), (33,), ()])
def test_two_operands_and_a_constant_of_any_shape(op: str, shape: tuple[int, ...]) -> None:
    held = np.abs(noise(*shape)) + np.float32(0.5)
    side_by_side(ends((4, 33), lambda s: s(op, "x", np.asarray(held, np.float32))))
    if op != "Div":
        side_by_side(ends((4, 33), lambda s: s(op, np.asarray(held, np.float32), "x")))


def test_powers() -> None:
    for power in (2.0, 0.5, 3.0):
        held = np.float32(power)
        side_by_side(ends((4, 33), lambda s, p=held: s("Pow", s("Abs", "x"), p)))


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceSumSquare"])
@pytest.mark.parametrize(("axes", "shape"), [([2], (4, 1)), ([1], (1, 33)), ([1, 2], (1, 1))])
def test_reductions(op: str, axes: list[int], shape: tuple[int, ...]) -> None:
    side_by_side(ends(shape, lambda s: s(op, "x", np.array(axes))))
    if len(axes) == 1:
        flat = tuple(n for n in shape if n != 1)
        side_by_side(ends(flat, lambda s: s(op, "x", np.array(axes), keepdims=0)))


def test_norm_and_softmax(isa: str) -> None:
    scale, bias = noise(33), noise(33)
    side_by_side(ends((4, 33), lambda s: s("LayerNormalization", "x", scale, bias)))
    side_by_side(ends((4, 33), lambda s: s("Softmax", "x", axis=-1)))


@settings(max_examples=40)
@given(
    rows=st.integers(1, 30), k=st.integers(1, 130), n=st.integers(1, 200),
    batch=st.integers(1, 5), act=st.sampled_from(["", "LeakyRelu", "Sigmoid", "Tanh", "silu"]),
    bias=st.booleans(), residual=st.booleans(),
)  # fmt: skip
def test_products_with_all_that_follows(
    rows: int, k: int, n: int, batch: int, act: str, bias: bool, residual: bool
) -> None:
    def make(s: Sketch) -> str:
        y: str = s("MatMul", "x", noise(k, n) / np.float32(k**0.5))
        if bias:
            y = s("Add", y, noise(n))
        if act == "silu":
            y = s("Mul", y, s("Sigmoid", y))
        elif act:
            y = s(act, y)
        return s("Add", "other", y) if residual else y

    inputs: dict[str, tuple[int, ...]] = {"x": (rows, k), "other": (rows, n)}
    sketch = Sketch(inputs)
    sketch.end("seen", sketch("Neg", "other"), (rows, n))  # so that it is there before the product
    sketch.end("out", make(sketch), (rows, n))
    side_by_side(sketch.bundle(), batch=batch, steps=2)


def test_products_under_every_instruction_set(isa: str) -> None:
    for rows, k, n in ((1, 70, 64), (4, 33, 322), (20, 64, 16), (7, 3, 130)):
        side_by_side(
            ends((rows, n), lambda s, k=k, n=n: s("MatMul", "x", noise(k, n)), {"x": (rows, k)}),
            batch=5,
        )


def test_half_weights_are_the_rounded_ones(isa: str) -> None:
    """A product with bfloat16 weights is that of the rounded weights, in float32."""
    weights = noise(37, 70)
    rounded = pytest.importorskip("torch").from_numpy(weights).bfloat16().float().numpy()
    parts = Sketch({"x": (3, 20), "y": (3, 17)})
    joined = parts("Concat", "x", "y", axis=2)
    parts.end("out", parts("MatMul", joined, weights), (3, 70))
    exact = Sketch({"x": (3, 20), "y": (3, 17)})
    joined = exact("Concat", "x", "y", axis=2)
    exact.end("out", exact("MatMul", joined, rounded), (3, 70))
    half, whole = NativeBackend(half=True), NativeBackend()
    given = {"x": noise(2, 3, 20), "y": noise(2, 3, 17)}
    got = half.load(parts.bundle(), "step").bind(2).run(given)["out"]
    want = whole.load(exact.bundle(), "step").bind(2).run(given)["out"]
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("rows", [1, 2])
def test_large_weights_are_those_of_fixed24_for_any_number_of_rows(rows: int, isa: str) -> None:
    """Few rows read 24 bits a weight and many read 32: the same numbers, so the same bits."""
    weights = noise(600, 451) * np.exp(noise(1, 451))
    weights[:, 5] = 0.0
    weights[:, 7] *= np.float32(1e-30)
    weights[17, 11] = np.inf
    kept = fixed24(np.ascontiguousarray(weights.T)).T
    bias, given = noise(451), noise(5, rows, 600)

    def product(of: Array) -> Any:
        sketch = Sketch({"x": (rows, 600)})
        sketch.end("out", sketch("Add", sketch("MatMul", "x", of), bias), (rows, 451))
        return NativeBackend().load(sketch.bundle(), "step")

    graph = product(weights)
    many = graph.bind(5).run({"x": given})["out"].copy()
    for index in range(5):
        alone = graph.bind(1).run({"x": given[index : index + 1]})["out"]
        np.testing.assert_array_equal(alone[0], many[index])
    np.testing.assert_array_equal(product(kept).bind(5).run({"x": given})["out"], many)
    assert np.isnan(many[..., 11]).all()
    np.testing.assert_array_equal(many[..., 5], np.broadcast_to(bias[5], (5, rows)))
    sound = np.arange(451) != 11
    want = given.astype(np.float64) @ kept[:, sound] + bias[sound]
    assert close("conv", many[..., sound], want)


@settings(max_examples=40)
@given(
    channels=st.integers(1, 6), kernel=st.integers(1, 5), dilation=st.integers(1, 3),
    stride=st.integers(1, 3), groups=st.integers(1, 3), frames=st.integers(1, 4),
    out=st.integers(1, 20), depthwise=st.booleans(), batch=st.integers(1, 3),
)  # fmt: skip
def test_causal_convolutions(
    channels: int, kernel: int, dilation: int, stride: int, groups: int, frames: int, out: int,
    depthwise: bool, batch: int,
) -> None:  # fmt: skip
    """A history, a convolution of any form, an activation, and what is kept for the next hop."""
    inputs, history, hop = channels * groups, (kernel - 1) * dilation + 1, frames * stride
    history = max(history - stride, 1)
    total = history + hop
    seen = (total - (kernel - 1) * dilation - 1) // stride + 1
    if seen < 1:
        return
    groups, outputs = (inputs, inputs) if depthwise else (groups, out * groups)
    sketch = Sketch({"x": (inputs, hop)}, {"past": (inputs, history)})
    joined = sketch("Concat", "past", "x", axis=2)
    made = sketch(
        "Conv", joined, noise(outputs, inputs // groups, kernel), noise(outputs),
        strides=[stride], dilations=[dilation], group=groups,
    )  # fmt: skip
    made = sketch("LeakyRelu", made, alpha=0.3)
    sketch.end("out", made, (outputs, seen))
    sketch.end("past_next", sketch("Slice", joined, [hop], [total], [2]), (inputs, history))
    side_by_side(sketch.bundle(), batch=batch, steps=3)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 2, 0, 1]])
def test_convolutions_over_two_axes(groups: int, pads: list[int]) -> None:
    weights = noise(6, 6 // groups, 3, 2)
    side_by_side(
        ends(
            (6, (7 + pads[0] + pads[2] - 3) // 2 + 1, 9 + pads[1] + pads[3] - 1),
            lambda s: s("Relu", s("Conv", "x", weights, noise(6), strides=[2, 1], group=groups,
                                  pads=pads)),
            {"x": (6, 7, 9)},
        )
    )  # fmt: skip


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (2, 2), (6, 2), (64, 16)])
@pytest.mark.parametrize("frames", [1, 5])
def test_transposed_convolutions(groups: int, kernel: int, stride: int, frames: int) -> None:
    weights, bias = noise(8, 3, kernel, 1), noise(3 * groups)
    shape = (3 * groups, (frames - 1) * stride + kernel, 1)
    side_by_side(
        ends(
            shape,
            lambda s: s("ConvTranspose", "x", weights, bias, strides=[stride, 1], group=groups),
            {"x": (8, frames, 1)},
        )
    )


def test_taps_gathered_and_summed_are_one_filter() -> None:
    index = (np.arange(3)[:, None] + 2 * np.arange(5)).reshape(-1)
    sketch = Sketch({"x": (3, 24)}, {"past": (8, 24)})
    joined = sketch("Concat", "past", "x", axis=1)
    near = sketch("Reshape", sketch("Gather", joined, index, axis=1), np.array([-1, 3, 5, 24]))
    total = sketch("ReduceSum", sketch("Mul", near, noise(5, 24)), np.array([2]), keepdims=0)
    sketch.end("out", sketch("LeakyRelu", total, alpha=0.3), (3, 24))
    sketch.end("past_next", sketch("Slice", joined, [3], [1 << 62], [1], [1]), (8, 24))
    side_by_side(sketch.bundle())


def test_moves_cost_nothing_and_change_nothing() -> None:
    """Slices, splits, gathers, transposes and reshapes, one after the other."""

    def make(s: Sketch) -> str:
        turned = s("Transpose", "x", perm=[0, 2, 1])  # [6, 8]
        first, second = s("Split", turned, np.array([2, 4]), outputs=2, axis=1)
        wide = s("Concat", second, first, axis=1)
        odd = s("Gather", wide, np.array([5, 0, 0, 3]), axis=1)
        even = s("Slice", wide, [1], [6], [1], [2])
        both = s("Concat", odd, even, axis=1)  # [7, 8]
        flat = s("Reshape", both, np.array([-1, 56]))
        pad = s("Pad", s("Unsqueeze", flat, np.array([1])), np.array([0, 0, 3, 0, 1, 2]))
        return s("Squeeze", s("Slice", pad, [0], [1], [1]), np.array([1]))

    side_by_side(ends((61,), make, {"x": (8, 6)}))


def test_the_batch_is_expanded_to() -> None:
    def make(s: Sketch) -> str:
        like = s("Shape", s("Slice", "x", [0], [1], [2]))
        return s("Concat", "x", s("Expand", np.float32(2.0), like), axis=2)

    side_by_side(ends((4, 34), make))


@pytest.mark.parametrize(("groups", "strides", "per_channel"), [
    (1, 1, True), (1, 2, True), (2, 1, True), (1, 1, False), (8, 1, True),
])  # fmt: skip
def test_convolutions_of_bytes_sum_integers(
    groups: int, strides: int, per_channel: bool, isa: str
) -> None:
    """Scales are powers of two, so that the dequantised sums are exact as well."""
    rng = np.random.default_rng(groups + strides)
    scale, zero = np.float32(2**-4), np.uint8(117)
    held = rng.integers(-128, 128, (16, 8 // groups, 3)).astype(np.int8)
    if groups == 8:
        held = rng.integers(-128, 128, (8, 1, 3)).astype(np.int8)
    outputs = len(held)
    exponents = rng.integers(-9, -5, outputs if per_channel else ())
    steps = np.asarray(np.float32(2.0) ** exponents, np.float32)
    zeros = np.zeros_like(steps, np.int8)
    bias = rng.integers(-30_000, 30_000, outputs).astype(np.int32)

    def make(s: Sketch) -> Any:
        x = s("DequantizeLinear", s("QuantizeLinear", "x", scale, zero), scale, zero)
        w = s("DequantizeLinear", held, steps, zeros, **({"axis": 0} if per_channel else {}))
        b = s("DequantizeLinear", bias, np.float32(scale * steps), axis=0) if per_channel else None
        given = (x, w) if b is None else (x, w, b)
        return s("Conv", *given, group=groups, strides=[strides], kernel_shape=[3])

    shape = (outputs, (9 - 3) // strides + 1)
    assert side_by_side(ends(shape, make, {"x": (8, 9)})) == 0.0


def test_dequantised_values_that_others_read_stay_as_they_are() -> None:
    scale, zero = np.float32(0.05), np.uint8(100)
    held = RNG.integers(-127, 127, (8, 8, 1)).astype(np.int8)
    steps = np.full(8, 0.01, np.float32)

    def make(s: Sketch) -> Any:
        x = s("DequantizeLinear", s("QuantizeLinear", "x", scale, zero), scale, zero)
        w = s("DequantizeLinear", held, steps, np.zeros(8, np.int8), axis=0)
        return s("Add", s("Conv", x, w, kernel_shape=[1]), x)

    side_by_side(ends((8, 9), make, {"x": (8, 9)}))


def test_quantised_products_lie_within_one_step_of_integer_sums() -> None:
    scale = np.float32(0.05)
    zero = np.uint8(120)

    def make(s: Sketch) -> str:
        x = s("DequantizeLinear", s("QuantizeLinear", "x", scale, zero), scale, zero)
        held = s("DequantizeLinear", RNG.integers(-127, 127, (8, 6, 1)).astype(np.int8),
                 (np.abs(noise(8)) * np.float32(0.01) + np.float32(0.001)), np.zeros(8, np.int8),
                 axis=0)  # fmt: skip
        y = s("Conv", x, held)
        return s("DequantizeLinear", s("QuantizeLinear", y, scale, zero), scale, zero)

    bundle = ends((8, 5), make, {"x": (6, 5)})
    given = {"x": noise(9, 6, 5)}
    made = [
        b.load(bundle, "step").bind(9).run(given)["out"] for b in (NativeBackend(), OrtBackend())
    ]
    steps = np.abs(made[0] - made[1]) / scale
    assert steps.max() < 1.01
    assert (steps > 0.5).mean() < 0.01


def test_what_is_not_supported_is_named() -> None:
    sketch = Sketch({"x": (4,)})
    sketch.end("out", sketch("Cos", sketch("Erf", "x")), (4,))
    with pytest.raises(BackendError, match=r"Cos, Erf.*backend='ort'"):
        NativeBackend().load(sketch.bundle(), "step")


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Transpose", (), {"perm": [1, 0, 2]}),
        ("Slice", ([0], [1], [0]), {}),
        ("Gather", (np.array([9]),), {"axis": 1}),
        ("Reshape", (np.array([-1, 7, 7]),), {}),
        ("MatMul", (np.zeros((5, 5), np.float32),), {}),
        ("Split", (np.array([1, 1]),), {"axis": 1}),
        ("Squeeze", (np.array([1]),), {}),
        ("Conv", (np.zeros((3, 9, 2), np.float32),), {}),
        ("Conv", (np.zeros((3, 4, 99), np.float32),), {}),
        ("ConvTranspose", (np.zeros((4, 2, 3), np.float32),), {"strides": [2]}),
        ("Pad", (np.array([1, 0, 0, 0, 0, 0]),), {}),
        ("LayerNormalization", (np.zeros(3, np.float32),), {}),
        ("Add", (np.zeros((3, 4, 33), np.float32),), {}),
        ("Cast", (), {"to": 7}),
    ],
)
def test_a_graph_that_cannot_be_is_refused(op: str, inputs: Any, attributes: Any) -> None:
    sketch = Sketch({"x": (4, 33)})
    out = sketch(op, "x", *inputs, **attributes)
    sketch.end("out", out[0] if isinstance(out, list) else out, (4, 33))
    with pytest.raises(BackendError, match=r"sketch\.onnx"):
        NativeBackend().load(sketch.bundle(), "step")
