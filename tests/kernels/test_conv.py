from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ossicle.kernels import conv
from ossicle.kernels.conv import cpu, reference
from ossicle.kernels.errors import DtypeError, LayoutError, RangeError, ShapeError
from ossicle.kernels.tolerance import close

pytestmark = pytest.mark.usefixtures("variant")
Floats = NDArray[np.float32]


def floats(rng: np.random.Generator, *shape: int) -> Floats:
    return rng.standard_normal(shape).astype(np.float32)


def stream(
    packed: conv.PackedConv, x: Floats, cuts: list[int], state: conv.ConvState | None = None
) -> Floats:
    """All outputs, the input cut into runs of these lengths, each into poisoned memory."""
    state = state or conv.fresh(packed, len(x))
    parts, at = [], 0
    for n in cuts:
        shape = (len(x), n * packed.up // packed.stride, packed.outputs)
        out = np.full(shape, np.nan, np.float32)
        conv.step(packed, state, np.ascontiguousarray(x[:, at : at + n]), out=out)
        parts.append(out)
        at += n
    assert at == x.shape[1]
    return np.concatenate(parts, 1)


@pytest.mark.parametrize(
    ("C_in", "C_out", "k", "stride", "dilation"),
    [
        (48, 80, 3, 1, 1),
        (5, 7, 7, 1, 3),
        (16, 33, 8, 4, 1),
        (33, 16, 1, 1, 1),
        (1, 1, 2, 2, 1),
        (3, 130, 5, 2, 2),
    ],
)
@pytest.mark.parametrize("dtype", list(conv.KINDS))
def test_a_stream_equals_the_whole_signal(
    C_in: int,
    C_out: int,
    k: int,
    stride: int,
    dilation: int,
    dtype: conv.Dtype,
    rng: np.random.Generator,
) -> None:
    x = np.clip(floats(rng, 2, 12 * stride, C_in), -3, 3)
    w, b = floats(rng, C_out, C_in, k), floats(rng, C_out)
    scale = 3.0 / 127 if dtype == "int8" else None
    packed = conv.pack(w, b, stride=stride, dilation=dilation, dtype=dtype, input_scale=scale)
    got = stream(packed, x, [stride, 3 * stride, 7 * stride, stride])
    assert close("conv", got, reference.causal(x, w, b, stride=stride, dilation=dilation), dtype)


@pytest.mark.parametrize(("k", "stride"), [(8, 4), (4, 4), (7, 3), (2, 5), (1, 1)])
def test_transposed_streams_equal_the_whole_signal(
    k: int, stride: int, rng: np.random.Generator
) -> None:
    x, w, b = floats(rng, 3, 9, 20), floats(rng, 20, 11, k), floats(rng, 11)
    packed = conv.pack(w, b, stride=stride, transposed=True)
    want = reference.transposed(x, w, b, stride=stride)
    assert close("conv", stream(packed, x, [1, 2, 5, 1]), want)


def test_int8_equals_its_own_integers(rng: np.random.Generator) -> None:
    """With inputs and weights that int8 holds exactly, nothing is lost."""
    w = rng.integers(-127, 128, (24, 10, 3)).astype(np.float32)
    w[:, 0, 0] = 127
    x = rng.integers(-127, 128, (2, 8, 10)).astype(np.float32)
    packed = conv.pack(w, dtype="int8", input_scale=1.0)
    assert close("conv", stream(packed, x, [3, 5]), reference.causal(x, w))


def test_bf16_rounds_halves_to_even() -> None:
    step = 2.0**-7  # of numbers from 1 to 2
    values = {1 + step / 2: 1.0, 1 + 1.5 * step: 1 + 2 * step, 1 + 0.51 * step: 1 + step,
              -1 - step / 2: -1.0, 3.4e38: np.inf, -np.inf: -np.inf, 0.0: 0.0}  # fmt: skip
    given = np.array(list(values), np.float32)
    got = cpu.from_bf16(cpu.to_bf16(given))
    np.testing.assert_array_equal(got, np.array(list(values.values()), np.float32))
    assert np.isnan(cpu.from_bf16(cpu.to_bf16(np.array([np.nan], np.float32))))
    packed = conv.pack(given[:4].reshape(4, 1, 1).copy(), dtype="bfloat16")
    out = conv.step(packed, conv.fresh(packed), np.ones((1, 1, 1), np.float32))
    np.testing.assert_array_equal(out[0, 0], got[:4])


@pytest.mark.parametrize("C", [1, 40])
def test_bf16_inputs_are_rounded_as_weights_are(C: int) -> None:
    step = 2.0**-7
    packed = conv.pack(np.eye(C, dtype=np.float32)[:, :, None].copy(), dtype="bfloat16")
    some = [1 + step / 2, 1 + 1.5 * step, -1 - step / 2, -1 - 1.5 * step, 1 + 0.51 * step, 0.0]
    x = np.resize(np.array(some, np.float32), (1, 6, C))
    np.testing.assert_array_equal(
        conv.step(packed, conv.fresh(packed), x), cpu.from_bf16(cpu.to_bf16(x))
    )
    # A NaN may have its only bits below those kept, or all of them, which rounding carries over.
    x[:, :3, -1] = np.array([0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF], np.uint32).view(np.float32)
    got = conv.step(packed, conv.fresh(packed), x)
    assert np.isnan(got[0, :3, -1]).all()
    assert np.isfinite(got[0, 3:]).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_nothing_is_left_of_inputs_that_came_before(
    dtype: conv.Dtype, rng: np.random.Generator
) -> None:
    """Inputs are gathered in memory that is kept: past a narrower one lie those of a wider."""
    scale = 0.03 if dtype == "int8" else None
    wide, narrow = (
        conv.pack(floats(rng, 20, C, 3), dtype=dtype, input_scale=scale) for C in (200, 6)
    )
    x = floats(rng, 1, 9, 6)
    want = stream(narrow, x, [9])
    stream(wide, np.full((1, 40, 200), np.nan, np.float32), [40])
    np.testing.assert_array_equal(stream(narrow, x, [9]), want)


def kept_of(rows: Floats) -> Floats:
    """What fixed24 keeps of the weights ``[M, K]``: the outputs of one input of 1 at a time."""
    packed = conv.pack(np.ascontiguousarray(rows[:, :, None]), dtype="fixed24")
    one_at_a_time = np.eye(rows.shape[1], dtype=np.float32)[None]
    return np.ascontiguousarray(conv.step(packed, conv.fresh(packed), one_at_a_time)[0].T)


def test_fixed24_rounds_halves_to_even_in_the_unit_of_its_row() -> None:
    unit = 2.0**-23  # of a row whose largest lies from a half to 1
    row = {0.75: 0.75, unit / 2: 0.0, 1.5 * unit: 2 * unit, -0.51 * unit: -unit,
           2.5 * unit: 2 * unit, 1 - 2.0**-24: 1 - unit, -1 + 2.0**-24: -1.0, 0.0: 0.0}  # fmt: skip
    given, want = (np.array([list(side)], np.float32) for side in (row, row.values()))
    np.testing.assert_array_equal(cpu.fixed24(given), want)
    np.testing.assert_array_equal(kept_of(given), want)
    for size in (2.0**-90, 2.0**60):  # the same in any unit
        scaled = (given * np.float32(size)).astype(np.float32)
        np.testing.assert_array_equal(kept_of(scaled), want * np.float32(size))


def test_fixed24_of_nothing_and_of_what_is_not_finite() -> None:
    given = np.array([[0, 0], [np.nan, 1], [1, np.inf], [2.0**-140, -1e-45], [1, -2]], np.float32)
    for kept in (cpu.fixed24(given), kept_of(given)):
        assert np.isnan(kept[[1, 2]]).all()
        np.testing.assert_array_equal(kept[[0, 3, 4]], [[0, 0], [0, 0], [1, -2]])


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.integers(-100, 120), min_size=1, max_size=20), K=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_fixed24_keeps_the_nearest_in_its_row(
    variant: str, rows: list[int], K: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    size = np.ldexp(1.0, np.array(rows))[:, None] * np.exp2(-30 * rng.random((len(rows), K)))
    weights = (rng.choice([-1.0, 1.0], size.shape) * size).astype(np.float32)
    got = kept_of(weights).astype(np.float64)
    peak = np.abs(weights).max(1, keepdims=True).astype(np.float64)
    assert (np.abs(got - weights) <= np.maximum(peak * 2.0**-23, 2.0**-118)).all()
    np.testing.assert_array_equal(got.astype(np.float32), cpu.fixed24(weights))


@settings(max_examples=25, deadline=None)
@given(
    M=st.integers(1, 70), C=st.integers(1, 40), k=st.integers(1, 4),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_fixed24_is_float32_over_rounded_weights(
    variant: str, M: int, C: int, k: int, cuts: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    w, b, x = floats(rng, M, C, k), floats(rng, M), floats(rng, 2, sum(cuts), C)
    kept = cpu.fixed24(w.reshape(M, -1)).reshape(w.shape)
    packed, wide = conv.pack(w, b, dtype="fixed24"), conv.pack(kept, b)
    got = stream(packed, x, cuts)
    assert close("conv", got, reference.causal(x, kept, b))
    if C * k >= 48:
        assert close("conv", got, reference.causal(x, w, b), "fixed24")
    if variant != "numpy":
        assert (got == stream(wide, x, cuts)).all()  # one order of additions for both
    impulses = np.zeros((C, k, C), np.float32)
    impulses[np.arange(C), 0, np.arange(C)] = 1.0
    plain = conv.pack(w, dtype="fixed24")
    assert (stream(plain, impulses, [k]) == kept.transpose(1, 2, 0)[:, ::-1]).all()


def test_saturation_and_nan_in_int8() -> None:
    packed = conv.pack(np.ones((1, 1, 1), np.float32), dtype="int8", input_scale=1.0)
    x = np.array([[[1e9], [-1e9], [np.nan], [np.inf], [2.5], [3.5]]], np.float32)
    got = conv.step(packed, conv.fresh(packed), x)[0, :, 0]
    assert got == pytest.approx([127, -127, 0, 127, 2, 4], rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    k=st.integers(1, 5), dilation=st.integers(1, 4),
    cuts=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    dtype=st.sampled_from(list(conv.KINDS)), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_output_does_not_depend_on_the_cut(
    variant: str, k: int, dilation: int, cuts: list[int], dtype: conv.Dtype, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, w = floats(rng, 2, sum(cuts), 6), floats(rng, 17, 6, k)
    scale = 0.03 if dtype == "int8" else None
    packed = conv.pack(w, dilation=dilation, dtype=dtype, input_scale=scale)
    a, b = stream(packed, x, cuts), stream(packed, x, [1] * sum(cuts))
    if variant == "numpy" and dtype != "int8":  # BLAS adds in another order for other sizes
        assert close("conv", a, b)
    else:
        assert (a == b).all()


@pytest.mark.parametrize("dtype", list(conv.KINDS))
@pytest.mark.parametrize(("C", "M", "T"), [(6, 17, 75), (33, 70, 16), (64, 64, 17), (50, 150, 33)])
def test_many_frames_at_once_equal_one_by_one(
    variant: str, dtype: conv.Dtype, C: int, M: int, T: int, rng: np.random.Generator
) -> None:
    x = np.clip(floats(rng, 2, T, C), -3.8, 3.8)  # what int8 can hold at this scale
    w = floats(rng, M, C, 3) / np.float32(np.sqrt(3 * C))
    packed = conv.pack(w, dtype=dtype, input_scale=0.03 if dtype == "int8" else None)
    a, b = stream(packed, x, [T]), stream(packed, x, [1] * T)
    assert close("conv", a, reference.causal(x, w), dtype)
    if variant == "numpy" and dtype != "int8":  # BLAS adds in another order for other sizes
        assert close("conv", a, b)
    else:
        assert (a == b).all()


def test_streams_do_not_see_each_other(variant: str, rng: np.random.Generator) -> None:
    x, w = floats(rng, 5, 6, 20), floats(rng, 40, 20, 3)
    x[2, 3] = np.nan
    packed = conv.pack(w)
    together = stream(packed, x, [2, 2, 2])
    for b in (0, 1, 3, 4):
        alone = stream(packed, np.ascontiguousarray(x[b : b + 1]), [2, 2, 2])
        assert close("conv", together[b : b + 1], alone)
        if variant != "numpy":
            assert (together[b : b + 1] == alone).all()
    assert np.isfinite(together[2, :3]).all()


@pytest.mark.parametrize("dtype", list(conv.KINDS))
@pytest.mark.parametrize("C_out", [5, 16, 100, 530])
def test_every_pass_over_the_weights_gives_the_same_bits(
    dtype: conv.Dtype, C_out: int, rng: np.random.Generator
) -> None:
    """Weights may be read from either end: the way must not show, whatever is left over."""
    w = floats(rng, C_out, 20, 3)
    packed = conv.pack(w, dtype=dtype, input_scale=4 / 127 if dtype == "int8" else None)
    for T in (1, 2, 3, 8, 9, 17):
        x = np.clip(floats(rng, 1, T, 20), -4, 4)
        first, second, third = (stream(packed, x, [T]) for _ in range(3))
        assert (first == second).all()
        assert (first == third).all()
        if dtype != "int8":  # so few and so large, they are held to their integers elsewhere
            assert close("conv", first, reference.causal(x, w), dtype)


def test_positions_go_on_past_two_to_the_31(rng: np.random.Generator) -> None:
    x, w = floats(rng, 1, 40, 4), floats(rng, 4, 4, 3)
    packed = conv.pack(w, dilation=3)
    late = conv.fresh(packed)
    late.position[:] = 2**31 - 13
    assert close("conv", stream(packed, x, [7, 13, 20], late), reference.causal(x, w, dilation=3))
    assert late.position[0] == 2**31 + 27


def test_a_copied_state_goes_on_bit_for_bit(rng: np.random.Generator) -> None:
    x, w = floats(rng, 1, 9, 8), floats(rng, 8, 8, 4)
    packed = conv.pack(w)
    state = conv.fresh(packed)
    conv.step(packed, state, x)
    copy = conv.ConvState(state.ring.copy(), state.position.copy())
    assert (conv.step(packed, state, x) == conv.step(packed, copy, x)).all()


def test_bad_input_is_named(rng: np.random.Generator) -> None:
    w = floats(rng, 8, 6, 3)
    packed = conv.pack(w, stride=2)
    state, x = conv.fresh(packed, 2), floats(rng, 2, 4, 6)
    with pytest.raises(ShapeError, match="T = 3 frames; it must be a multiple of the stride 2"):
        conv.step(packed, state, np.ascontiguousarray(x[:, :3]))
    with pytest.raises(ShapeError, match=r"state.ring has shape \[2, 1, 6\]"):
        conv.step(packed, state, floats(rng, 3, 4, 6))
    with pytest.raises(ShapeError, match=r"x has shape \[2, 4, 5\]"):
        conv.step(packed, state, floats(rng, 2, 4, 5))
    with pytest.raises(LayoutError, match="x of shape"):
        conv.step(packed, state, floats(rng, 2, 6, 4).transpose(0, 2, 1))
    with pytest.raises(DtypeError, match="x is float16"):
        conv.step(packed, state, x.astype(np.float16))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="x has shape"):
        conv.step(packed, state, x[:, :0])
    with pytest.raises(ShapeError, match="does not span the stride 4"):
        conv.pack(w, stride=4)
    with pytest.raises(RangeError, match="input_scale is None"):
        conv.pack(w, dtype="int8")
    with pytest.raises(RangeError, match="dilation is 2; a transposed"):
        conv.pack(w, dilation=2, transposed=True)
    with pytest.raises(ShapeError, match="bias"):
        conv.pack(w, np.zeros(7, np.float32))
    with pytest.raises(RangeError, match="batch is 0"):
        conv.fresh(packed, 0)
