"""A quantiser inside a native graph's step gives what it gives beside one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ossicle.runtime.backend import joined
from ossicle.runtime.errors import ManifestError
from ossicle.runtime.host.quantise import RvqEncode
from ossicle.runtime.model import Model

pytest.importorskip("ossicle._core")
HOP, LAYERS = 320, 12


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.fixture
def inside() -> Model:
    return Model.load("codec-16k", "native")


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Model:
    """The same graphs, the quantiser a host transform between them."""
    with monkeypatch.context() as patch:
        patch.setattr("ossicle.runtime.program.Joinable", joined.Joined)  # which no graph is
        model = Model.load("codec-16k", "native")
    assert any(ready.host is not None for ready in model._ready["encode"])
    return model


def audio(rng: np.random.Generator, batch: int, hops: int) -> NDArray[np.float32]:
    loud = rng.uniform(0.01, 0.3, (hops, batch, 1, 1))
    return (loud * rng.standard_normal((hops, batch, 1, HOP))).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 5])
def test_codes_and_audio_are_the_same_inside_a_step_and_beside_it(
    inside: Model, beside: Model, batch: int, rng: np.random.Generator
) -> None:
    assert all(ready.host is None for line in inside._ready.values() for ready in line)
    runs = [(m, m.open(batch, "encode"), m.open(batch, "decode")) for m in (inside, beside)]
    for hop in audio(rng, batch, 20):
        codes = [m.step(encoder, {"audio": hop})["codes"] for m, encoder, _ in runs]
        np.testing.assert_array_equal(*codes)
        codes[0][0, 4:] = -1  # layers that did not arrive
        heard = [m.step(decoder, {"codes": codes[0]})["audio"] for m, _, decoder in runs]
        np.testing.assert_array_equal(*heard)
    for index in (1, 2):  # states are called the same: snapshots move
        assert list(runs[0][index].arrays()) == list(runs[1][index].arrays())


def test_each_stream_has_as_many_layers_as_it_asked_for(
    inside: Model, beside: Model, rng: np.random.Generator
) -> None:
    counts = np.array([[3], [0], [12], [1], [99]], np.int32)
    whole, some, other = (
        inside.open(5, "encode"),
        inside.open(5, "encode"),
        beside.open(5, "encode"),
    )
    for i, hop in enumerate(audio(rng, 5, 6)):
        every = inside.step(whole, {"audio": hop})["codes"]
        given = {"audio": hop, "layers": counts} if i == 0 else {"audio": hop}  # it holds
        found = inside.step(some, given)["codes"]
        np.testing.assert_array_equal(found, beside.step(other, given)["codes"])
        for row, want in enumerate((3, LAYERS, LAYERS, 1, LAYERS)):
            np.testing.assert_array_equal(found[row, :want], every[row, :want])
            assert (found[row, want:] == -1).all()
            assert (every[row] >= 0).all()


def test_a_code_that_no_book_has_is_refused_and_nothing_moves(inside: Model) -> None:
    state = inside.open(2, "decode")
    inside.step(state, {"codes": np.full((2, LAYERS, 1), 7, np.int32)})
    before = {name: array.copy() for name, array in state.arrays().items()}
    for bad in (-2, 1024):
        codes = np.full((2, LAYERS, 1), 7, np.int32)
        codes[1, 3] = bad
        with pytest.raises(ManifestError, match=f"{bad}.*-1 to 1023 expected"):
            inside.step(state, {"codes": codes})
    for name, array in state.arrays().items():
        np.testing.assert_array_equal(array, before[name])


def test_equal_books_are_packed_once(rng: np.random.Generator) -> None:
    books = rng.standard_normal((2, 64, 16)).astype(np.float32)
    assert RvqEncode(books).packed is RvqEncode(books.copy()).packed
    assert RvqEncode(books).packed is not RvqEncode(books[:1]).packed
