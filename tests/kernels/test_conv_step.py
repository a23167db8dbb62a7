"""The compiled step by itself: it checks every array before it takes a pointer."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

from ossicle.kernels import conv

pytestmark = pytest.mark.usefixtures("variant")


def floats(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return rng.standard_normal(shape).astype(np.float32)


def every_other(a: Any) -> Any:
    return np.repeat(a, 2, 2)[:, :, ::2]


def for_reading(a: Any) -> Any:
    copy = a.copy()
    copy.flags.writeable = False
    return copy


SPOILT: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "x of another dtype": ("x", lambda a: a.astype(np.float64)),
    "x, bytes turned round": ("x", lambda a: a.astype(">f4")),
    "x, every other": ("x", every_other),
    "x, a dimension less": ("x", lambda a: a[0]),
    "x, a channel less": ("x", lambda a: a[:, :, 1:].copy()),
    "x, no stream": ("x", lambda a: a[:0]),
    "x, no frame": ("x", lambda a: a[:, :0]),
    "x, no multiple of the stride": ("x", lambda a: np.concatenate([a, a[:, :1]], 1)),
    "x, a list": ("x", lambda a: a.tolist()),
    "ring of another dtype": ("ring", lambda a: a.view(np.int32)),
    "ring, a frame less": ("ring", lambda a: a[:, 1:].copy()),
    "ring, a stream less": ("ring", lambda a: a[:1]),
    "ring, a channel less": ("ring", lambda a: a[:, :, 1:].copy()),
    "ring, every other": ("ring", every_other),
    "ring for reading": ("ring", for_reading),
    "position of another dtype": ("position", lambda a: a.astype(np.int32)),
    "position, a stream less": ("position", lambda a: a[:1]),
    "position below zero": ("position", lambda a: np.array([3, -1])),
    "position for reading": ("position", for_reading),
    "stride 0": ("stride", lambda _: 0),
    "stride past the taps": ("stride", lambda _: 4),
    "stride past 64 bits": ("stride", lambda _: 1 << 64),
    "stride in words": ("stride", lambda _: "2"),
    "dilation 0": ("dilation", lambda _: 0),
    "another dilation": ("dilation", lambda _: 2),
    "dilation past the address space": ("dilation", lambda _: 1 << 62),
    "dilation past 64 bits": ("dilation", lambda _: 1 << 64),
    "out of another dtype": ("out", lambda a: a.astype(np.float64)),
    "out, a stream less": ("out", lambda a: a[:1]),
    "out, a frame less": ("out", lambda a: a[:, :1].copy()),
    "out, a channel less": ("out", lambda a: a[:, :, 1:].copy()),
    "out, every other": ("out", every_other),
    "out for reading": ("out", for_reading),
    "no out": ("out", lambda _: None),
}


@pytest.mark.parametrize("what", SPOILT)
def test_nothing_is_taken_that_does_not_fit(what: str, rng: np.random.Generator) -> None:
    packed = conv.pack(floats(rng, 8, 6, 3), stride=2)
    if packed.compiled is None:
        pytest.skip("of the compiled part alone")
    args: dict[str, Any] = {
        "x": floats(rng, 2, 4, 6), "ring": floats(rng, 2, 1, 6), "position": np.array([3, 5]),
        "stride": 2, "dilation": 1, "out": np.zeros((2, 2, 8), np.float32),
    }  # fmt: skip
    ring = args["ring"].copy()
    name, spoil = SPOILT[what]
    with pytest.raises((TypeError, ValueError)):
        packed.compiled.conv_step(*(args | {name: spoil(args[name])}).values())
    assert (args["ring"] == ring).all()
    assert args["position"].tolist() == [3, 5]
    assert not args["out"].any()
    packed.compiled.conv_step(*args.values())  # as they were, they fit
    assert args["position"].tolist() == [7, 9]


def test_arguments_are_counted(rng: np.random.Generator) -> None:
    packed = conv.pack(floats(rng, 8, 6, 3))
    if packed.compiled is None:
        pytest.skip("of the compiled part alone")
    state, x, out = conv.fresh(packed), floats(rng, 1, 1, 6), np.empty((1, 1, 8), np.float32)
    args = (x, state.ring, state.position, 1, 1, out)
    for wrong in ((), args[:5], (*args, None), (*args, *args)):
        with pytest.raises(TypeError):
            packed.compiled.conv_step(*wrong)
    with pytest.raises(TypeError):
        type(packed.compiled).conv_step(x, *args)
    unmade = type(packed.compiled).__new__(type(packed.compiled))
    with pytest.raises((TypeError, ValueError)):
        unmade.conv_step(*args)
    assert state.position.tolist() == [0]


@pytest.mark.parametrize("dtype", list(conv.KINDS))
def test_arrays_that_came_by_pickle_are_taken(dtype: conv.Dtype, rng: np.random.Generator) -> None:
    """Their dtype is equal to NumPy's own without being it."""
    x, w = floats(rng, 2, 5, 6), floats(rng, 7, 6, 3)
    packed = conv.pack(w, dtype=dtype, input_scale=0.03 if dtype == "int8" else None)
    ours, theirs = conv.fresh(packed, 2), pickle.loads(pickle.dumps(conv.fresh(packed, 2)))
    out, other = (np.full((2, 5, 7), np.nan, np.float32) for _ in range(2))
    conv.step(packed, ours, x, out=out)
    conv.step(packed, theirs, pickle.loads(pickle.dumps(x)), out=other)
    assert (out == other).all()
    assert (ours.ring == theirs.ring).all()
    assert theirs.position.tolist() == [5, 5]
