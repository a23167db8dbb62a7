"""Rows of a batch: the compiled part and the plain one agree, and nothing lands beside its row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ossicle.runtime import rows
from ossicle.runtime.audio import AudioFormat, Chunk, scrub, scrubbed
from ossicle.runtime.errors import AudioError

DTYPES = st.sampled_from(["float32", "int32", "int64", "uint8", "float64"])
VALUES = st.sampled_from([0.0, -0.0, 1.5, -3e38, 1e-45, np.nan, np.inf, -np.inf])


@pytest.fixture(params=["compiled", "plain"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        monkeypatch.setattr(rows, "_core", None)
    elif rows._core is None:
        pytest.skip("this install has no compiled part")
    return str(request.param)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Any, list[Any], list[int]]:
    shape = draw(array_shapes(min_dims=0, max_dims=3, max_side=5))
    size = draw(st.integers(1, 6))
    places = draw(st.lists(st.integers(0, size - 1), unique=True, max_size=size))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    dtype = draw(DTYPES)
    values = [(9 * rng.standard_normal(shape)).astype(dtype) for _ in places]
    if draw(st.booleans()):  # rows that lie otherwise in memory
        values = [v.T.copy().T for v in values]
    target = np.ones((size, *shape), dtype, order=draw(st.sampled_from("CF")))
    return target, values, places


@given(batch=batches())
def test_rows_are_written_as_the_reference_writes_them(
    batch: tuple[Any, list[Any], list[int]],
) -> None:
    target, values, places = batch
    expected = target.copy(order="K")
    rows.reference_write_rows(expected, values, places)
    rows.write_rows(target, values, places)
    np.testing.assert_array_equal(target, expected)


@given(signals=st.lists(arrays(np.float32, st.tuples(st.integers(1, 2), st.integers(0, 70)),
                               elements=VALUES.map(np.float32)), max_size=4))  # fmt: skip
def test_what_is_not_finite_is_seen_as_the_reference_sees_it(signals: list[Any]) -> None:
    assert rows.all_finite(signals) == rows.reference_all_finite(signals)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((1, 7), "f4"), np.zeros((2, 4), "f4"), np.zeros((1, 8), "f8"), np.zeros(8, "f4")],
)
def test_a_row_of_another_shape_or_dtype_is_refused(path: str, wrong: Any) -> None:
    target = np.zeros((3, 1, 8), np.float32)
    good = np.ones((1, 8), np.float32)
    with pytest.raises(AudioError, match=r"a hop brings .* float32 \(1, 8\) expected"):
        rows.write_rows(target, [good, wrong, good], [2, 0, 1])
    assert (target[0] == 0).all()


def test_what_is_no_audio_is_looked_at_closer(path: str) -> None:
    fine = np.zeros((1, 4), np.float32)
    assert rows.all_finite([fine, fine])
    for other in (fine.astype("f8"), fine.astype(np.int16), "words", None):
        assert not rows.all_finite([fine, other])  # type: ignore[list-item]


def test_bad_samples_are_silenced_and_counted(path: str) -> None:
    samples = np.array([[1.0, np.nan, -np.inf, 2.0]], np.float32)
    clean, bad = scrub(samples)
    np.testing.assert_array_equal(clean, [[1.0, 0.0, 0.0, 2.0]])
    assert bad == 2
    good = np.ones((1, 4), np.float32)
    assert scrub(good)[0] is good
    mono = AudioFormat(16_000)
    made = scrubbed(Chunk(samples, 7, mono, True))
    np.testing.assert_array_equal(made.samples, clean)
    assert (made.start, made.discont) == (7, True)
    strange = Chunk(np.array([["a"]]), 0, mono)  # type: ignore[arg-type]
    assert scrubbed(strange) is strange


def test_a_place_outside_the_batch_writes_nothing() -> None:
    core = pytest.importorskip("ossicle._core")
    target = np.zeros((2, 4), np.float32)
    for place in (2, -1, 1 << 40):
        with pytest.raises((ValueError, OverflowError)):
            core.write_rows(target, [np.ones(4, np.float32)], [place])
    with pytest.raises(ValueError, match="as many places"):
        core.write_rows(target, [np.ones(4, np.float32)], [])
    with pytest.raises(ValueError, match="writeable"):
        core.write_rows(np.broadcast_to(np.float32(0), (2, 4)), [], [])
    assert not target.any()


@given(data=st.data())
def test_rows_are_read_by_name(data: st.DataObject) -> None:
    size, outputs = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    made = {f"out{i}": np.arange(size * 3).reshape(size, 3) + 100 * i for i in range(outputs)}
    places = data.draw(st.lists(st.integers(0, size - 1)))
    for place, row in zip(places, rows.read_rows(made, places), strict=True):
        assert row.keys() == made.keys()
        for name, value in row.items():
            np.testing.assert_array_equal(value, made[name][place])
