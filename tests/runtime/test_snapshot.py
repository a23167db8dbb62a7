"""What goes into a snapshot comes out of it, and damaged bytes never become a state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.errors import SnapshotError
from ossicle.runtime.snapshot import dump, load, record

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary() | st.integers(2**53, 2**80)
)  # fmt: skip
arrays = hnp.arrays(
    st.sampled_from([np.float32, np.int64, np.uint8, np.bool_, np.complex64]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
)
trees = st.recursive(
    scalars | arrays,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, list | tuple):
        return (
            type(a) is type(b) and len(a) == len(b)
            and all(same(x, y) for x, y in zip(a, b, strict=True))
        )  # fmt: skip
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b


@given(tree=trees)
def test_what_goes_in_comes_out(tree: Any) -> None:
    assert same(tree, load(dump(tree)))


@record("tests.Memory")
@dataclass
class Memory:
    samples: Any
    count: int = 0
    live: Any = field(default=None, init=False)


def test_records_come_back_as_themselves() -> None:
    memory = Memory(np.arange(5, dtype=np.float32), 2**70)
    memory.live = open  # not part of the memory
    chunk = Chunk(np.ones((1, 3), np.float32), 2**53 + 1, AudioFormat(16_000), True)
    made = load(dump({"m": memory, "c": chunk}))
    assert (made["m"].count, made["m"].live) == (2**70, None)
    assert (made["c"].start, made["c"].discont, made["c"].format.rate_hz) == (
        2**53 + 1, True, 16_000,
    )  # fmt: skip


@given(seed=st.integers(0, 2**32), cut=st.integers(0, 200))
def test_damage_is_always_noticed(seed: int, cut: int) -> None:
    data = bytearray(dump({"a": np.arange(20.0), "b": [1, "two", None]}))
    rng = np.random.default_rng(seed)
    data[rng.integers(0, len(data))] ^= int(rng.integers(1, 256))
    with pytest.raises(SnapshotError):
        load(bytes(data[: len(data) - cut]))


@given(data=st.binary(max_size=200))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(SnapshotError):
        load(data)
    with pytest.raises(SnapshotError):
        load(b"OSNP" + data)


def test_sizes_are_bounded_both_ways() -> None:
    with pytest.raises(SnapshotError, match="over 1000 bytes"):
        dump(np.zeros(5000), max_bytes=1000)
    with pytest.raises(SnapshotError, match="1000 allowed"):
        load(dump(np.zeros(5000)), max_bytes=1000)


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array(["a"]), lambda: None])
def test_what_cannot_travel_is_named(value: Any) -> None:
    with pytest.raises(SnapshotError, match="cannot travel"):
        dump({"x": value})


def test_a_cycle_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(SnapshotError, match="cyclic"):
        dump(loop)


def test_an_unknown_record_says_what_to_do() -> None:
    @record("tests.Fleeting")
    @dataclass
    class Fleeting:
        x: int

    data = dump(Fleeting(1))
    from ossicle.runtime import snapshot

    del snapshot._records["tests.Fleeting"]
    with pytest.raises(SnapshotError, match=r"Fleeting.*import its module"):
        load(data)
