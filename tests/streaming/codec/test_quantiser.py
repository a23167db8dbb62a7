"""Three families of quantisers behind one face, held to a brute-force search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossicle.runtime.errors import PacketError
from ossicle.streaming.codec.quantiser import (
    Quantiser,
    ResidualQuantiser,
    SingleQuantiser,
    fit_residual,
    make_quantiser,
)

SHAPES = {"wide books": (6, 1024, 24), "many small books": (46, 16, 64), "one large": (8192, 48)}


def family(name: str) -> Quantiser:
    books = np.random.default_rng(1).standard_normal(SHAPES[name]).astype(np.float32)
    if books.ndim == 3:
        books *= (0.8 ** np.arange(len(books)))[:, None, None].astype(np.float32)
    return make_quantiser(books)


def brute(books: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    left = vectors.astype(np.float64)
    codes = []
    for book in books.astype(np.float64):
        codes.append(((left[:, None] - book) ** 2).sum(-1).argmin(1))
        left = left - book[codes[-1]]
    return np.array(codes)


@pytest.mark.parametrize("name", SHAPES)
def test_codes_are_the_nearest(name: str) -> None:
    quantiser = family(name)
    vectors = np.random.default_rng(2).standard_normal((7, quantiser.width)).astype(np.float32)
    books = (
        quantiser.vectors if isinstance(quantiser, ResidualQuantiser) else quantiser.centroids[None]  # type: ignore[attr-defined]
    )
    codes = quantiser.encode(vectors)
    np.testing.assert_array_equal(codes, brute(books, vectors))
    assert codes.dtype == np.int32


@pytest.mark.parametrize(
    ("name", "books", "bits"),
    [("wide books", (1024,) * 6, 60), ("many small books", (16,) * 46, 184),
     ("one large", (8192,), 13)],
)  # fmt: skip
def test_what_a_frame_costs(name: str, books: tuple[int, ...], bits: int) -> None:
    assert family(name).books == books
    assert family(name).bits_per_frame() == bits
    assert family(name).bits_per_frame(1) == (books[0] - 1).bit_length()


@given(st.integers(1, 46), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=30)
def test_fewer_layers_are_a_prefix_and_decode_alike(layers: int, count: int, seed: int) -> None:
    quantiser = family("many small books")
    vectors = np.random.default_rng(seed).standard_normal((count, 64)).astype(np.float32)
    full, few = quantiser.encode(vectors), quantiser.encode(vectors, layers)
    np.testing.assert_array_equal(full[:layers], few)
    absent = full.copy()
    absent[layers:] = -1
    one, two = quantiser.decode(full, layers), quantiser.decode(few)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, quantiser.decode(absent))


def test_absent_centroids_are_zero() -> None:
    quantiser = family("one large")
    assert isinstance(quantiser, SingleQuantiser)
    got = quantiser.decode(np.array([[5, -1]], np.int32))
    np.testing.assert_array_equal(got[0], quantiser.centroids[5])
    assert not got[1].any()


def test_fitted_books_get_finer() -> None:
    vectors = np.random.default_rng(4).standard_normal((2000, 8)).astype(np.float32)
    quantiser = fit_residual(vectors, layers=4, codes=32)
    codes = quantiser.encode(vectors)
    errors = [np.mean((vectors - quantiser.decode(codes, k)) ** 2) for k in range(1, 5)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.4 * errors[0]


@pytest.mark.parametrize("name", SHAPES)
def test_what_does_not_fit_is_refused(name: str) -> None:
    quantiser = family(name)
    with pytest.raises(PacketError, match="layers asked for"):
        quantiser.encode(np.zeros((1, quantiser.width), np.float32), 47)
    with pytest.raises(PacketError, match="vectors float32"):
        quantiser.encode(np.zeros((1, 3), np.float32))
    with pytest.raises(PacketError, match="vectors float64"):
        quantiser.encode(np.zeros((1, quantiser.width)))  # type: ignore[arg-type]
    with pytest.raises(PacketError, match="codes from 9999"):
        quantiser.decode(np.full((1, 1), 9999, np.int32))
    with pytest.raises(PacketError, match=r"shape \(60, 1\)"):
        quantiser.decode(np.zeros((60, 1), np.int32))
    with pytest.raises(PacketError, match="N >= 2"):
        make_quantiser(np.zeros((2, 1, 3)))
