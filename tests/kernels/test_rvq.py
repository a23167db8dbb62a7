from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ossicle.kernels import rvq
from ossicle.kernels.errors import DtypeError, LayoutError, RangeError, ShapeError
from ossicle.kernels.rvq import reference
from ossicle.kernels.tolerance import close

pytestmark = pytest.mark.usefixtures("variant")


def made(rng: np.random.Generator, K: int, N: int, D: int) -> NDArray[np.float32]:
    scale = 0.8 ** np.arange(K)[:, None, None]
    return (rng.standard_normal((K, N, D)) * scale).astype(np.float32)


def poisoned(layers: int, T: int) -> NDArray[np.int32]:
    return np.full((layers, T), -123456, np.int32)


def right(x: NDArray[np.float32], books: NDArray[np.float32], cosine: bool = False) -> bool:
    """Whether all codes equal the reference, of all vectors at once and of one after the other.

    A vector that comes alone is searched with finer first sums than many are.
    """
    packed = rvq.pack(books, "cosine" if cosine else "l2")
    want = reference.encode(x, books, cosine=cosine)
    alone = [rvq.encode(np.ascontiguousarray(v[None]), packed) for v in x]
    return bool((rvq.encode(x, packed) == want).all() and (np.concatenate(alone, 1) == want).all())


@pytest.mark.parametrize(
    ("K", "N", "D", "T"),
    [
        (8, 256, 64, 5),
        (3, 64, 128, 17),
        (6, 16, 64, 3),
        (2, 17, 7, 33),
        (2, 100, 33, 2),
        (1, 1, 1, 1),
        *[(2, 130, D, T) for D, T in ((16, 4), (40, 15), (64, 16), (65, 31), (112, 33), (128, 70))],
    ],
)
def test_codes_equal_the_reference(
    K: int, N: int, D: int, T: int, rng: np.random.Generator
) -> None:
    books, x = made(rng, K, N, D), rng.standard_normal((T, D)).astype(np.float32)
    out = poisoned(K, T)
    assert rvq.encode(x, rvq.pack(books), out=out) is out
    assert (out == reference.encode(x, books)).all()


def sums(rng: np.random.Generator, K: int, inner: int, outer: int, D: int) -> NDArray[np.float32]:
    """Books whose row ``j inner + i`` is ``a_i + b_j``, rounded to fp16 as bundles keep them."""
    a, b = made(rng, K, inner, D)[:, None], made(rng, K, outer, D)[:, :, None]
    return (a + b).reshape(K, outer * inner, D).astype(np.float16).astype(np.float32)


@pytest.mark.parametrize(
    ("inner", "outer", "D", "T"),
    [(128, 8, 64, 1), (128, 8, 64, 40), (64, 16, 33, 6), (512, 2, 20, 3), (64, 4, 5, 9)],
)
def test_codes_in_books_of_sums_equal_the_reference(
    inner: int, outer: int, D: int, T: int, rng: np.random.Generator
) -> None:
    books, x = sums(rng, 4, inner, outer, D), rng.standard_normal((T, D)).astype(np.float32) * 2
    assert right(x, books)
    hostile = books.copy()
    hostile[1] = made(rng, 1, outer * inner, D)[0]  # a plain book among them
    hostile[2, inner // 2] += 1e-3  # off by more than rounding, by less than it would take to tell
    hostile[3, :inner] = hostile[3, inner : 2 * inner]  # ties
    x[0] *= 1e3
    assert right(x, hostile)


def test_books_of_sums_are_seen_and_others_are_not(rng: np.random.Generator) -> None:
    packed = rvq.pack(np.concatenate([sums(rng, 1, 128, 8, 64), made(rng, 1, 1024, 64)]))
    if packed.compiled is None:
        pytest.skip("the path in use searches every book in full")
    assert packed.compiled.outer(0) == 8
    assert packed.compiled.outer(1) == 1


def test_fewer_layers_are_a_prefix(rng: np.random.Generator) -> None:
    books, x = made(rng, 5, 64, 32), rng.standard_normal((4, 32)).astype(np.float32)
    whole = rvq.encode(x, books)
    for layers in (1, 3, 5):
        assert (rvq.encode(x, books, layers) == whole[:layers]).all()


def test_a_vector_does_not_depend_on_its_neighbours(rng: np.random.Generator) -> None:
    books, x = made(rng, 4, 128, 48), rng.standard_normal((37, 48)).astype(np.float32)
    packed = rvq.pack(books)
    one_by_one = np.concatenate([rvq.encode(x[i : i + 1], packed) for i in range(37)], 1)
    assert (one_by_one == rvq.encode(x, packed)).all()


@pytest.mark.parametrize("N", [16, 96])
def test_ties_go_to_the_lower_index(N: int, rng: np.random.Generator) -> None:
    books = made(rng, 2, N, 24)
    books[0, 3] = books[0, 1]
    books[:, N // 2 :] = books[:, : N // 2]  # every row twice
    x = np.concatenate([books[0], books[0, ::-1]])
    codes = rvq.encode(np.ascontiguousarray(x), books)
    assert (codes[0] < N // 2).all()
    assert (codes == reference.encode(x, books)).all()


@pytest.mark.parametrize("N", [12, 80])
def test_zero_vectors_and_opposite_rows_tie_exactly(N: int, rng: np.random.Generator) -> None:
    half = rng.standard_normal((1, N // 2, 16)).astype(np.float32)
    books = np.concatenate([half, -half], 1)
    x = np.zeros((3, 16), np.float32)
    assert (rvq.encode(x, books) == reference.encode(x, books)).all()
    assert (rvq.encode(x, np.zeros_like(books)) == 0).all()


@pytest.mark.parametrize("shift", [1.0, 100.0, 1e4])
@pytest.mark.parametrize("cosine", [False, True])
def test_shifted_means(shift: float, cosine: bool, rng: np.random.Generator) -> None:
    books = (made(rng, 2, 128, 40) + shift).astype(np.float32)
    x = (rng.standard_normal((9, 40)) + shift).astype(np.float32)
    assert right(x, books, cosine)


@pytest.mark.parametrize("scale", [1e-38, 1e-36, 3e-35, 1e-34, 1e-30, 1e-20, 1e18, 3e37])
def test_extreme_scales(scale: float, rng: np.random.Generator) -> None:
    books = (made(rng, 2, 70, 20) * scale).astype(np.float32)
    x = (rng.uniform(-1, 1, (5, 20)) * scale).astype(np.float32)
    assert right(x, books)
    assert right((x * 0 + 1).astype(np.float32), books)
    assert right(x, made(rng, 2, 70, 20))
    assert right(x, (sums(rng, 2, 64, 8, 20) * scale).astype(np.float32))


def test_nearly_equal_rows(rng: np.random.Generator) -> None:
    """Rows that differ in the last bit of fp32: the first pass cannot tell them apart."""
    row = rng.standard_normal((1, 1, 32)).astype(np.float32)
    books = np.repeat(row, 90, 1)
    books = np.nextafter(books, books + rng.choice([-1, 1], books.shape).astype(np.float32))
    x = rng.standard_normal((11, 32)).astype(np.float32)
    assert right(x, books)


def whole(rng: np.random.Generator, N: int, D: int) -> NDArray[np.float32]:
    """Rows that bytes hold exactly, and their mean is 0: only what is searched for is rounded."""
    half = rng.integers(-126, 127, (N // 2, D))
    half[:, 0] = 127
    half *= 2 ** rng.integers(0, 2, (N // 2, 1))
    return np.concatenate([half, -half]).astype(np.float32)


@pytest.mark.parametrize("kind", ["plain", "sums", "cosine", "whole", "whole inner"])
def test_vectors_between_two_rows(kind: str, rng: np.random.Generator) -> None:
    """A little nearer to one of two rows: sums that are off by more than they say miss it."""
    D = 64
    outer = 100 * made(rng, 1, 4, D)[0]
    outer = np.concatenate([outer, -outer])
    books = {
        "plain": made(rng, 1, 200, D), "sums": sums(rng, 1, 64, 8, D),
        "cosine": made(rng, 1, 200, D), "whole": whole(rng, 200, D)[None],
        "whole inner": (outer[:, None] + whole(rng, 64, D)).reshape(1, 512, D),
    }[kind]  # fmt: skip
    if kind == "cosine":
        books /= np.linalg.norm(books, axis=2, keepdims=True)
    first, second = (books[0, rng.integers(0, books.shape[1], 300)] for _ in range(2))
    lean = rng.choice([-1, 1], (300, 1)) * 10 ** rng.uniform(-6, -1.5, (300, 1))
    x = (0.5 * (first + second) + lean * (first - second)).astype(np.float32)
    assert right(x, books, kind == "cosine")


def test_numbers_that_are_none_are_searched_as_zeros(rng: np.random.Generator) -> None:
    books, x = made(rng, 2, 9, 4), made(rng, 1, 3, 4)[0]
    bad, clean = x.copy(), x.copy()
    for place, value in (((0, 1), np.nan), ((1, 0), np.inf), ((2, 3), -np.inf)):
        bad[place], clean[place] = value, 0.0
    want = reference.encode(clean, books)
    assert (reference.encode(bad, books) == want).all()
    assert (rvq.encode(bad, books) == want).all()


def test_nan_and_inf_count_as_zero_and_touch_no_neighbour(rng: np.random.Generator) -> None:
    books, x = made(rng, 3, 64, 16), rng.standard_normal((4, 16)).astype(np.float32)
    bad = x.copy()
    bad[1, 3], bad[2, 0] = np.nan, -np.inf
    codes = rvq.encode(bad, books)
    assert (codes == reference.encode(bad, books)).all()
    assert (codes[:, [0, 3]] == rvq.encode(x, books)[:, [0, 3]]).all()


@settings(max_examples=30, deadline=None)
@given(
    K=st.integers(1, 4),
    N=st.integers(1, 150),
    D=st.integers(1, 70),
    T=st.integers(1, 20),
    cosine=st.booleans(),
    coarse=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_size(K: int, N: int, D: int, T: int, cosine: bool, coarse: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    books, x = made(rng, K, N, D), rng.standard_normal((T, D)).astype(np.float32)
    if coarse:  # many exact ties
        books, x = np.round(books), np.round(x)
    assert right(x, books, cosine)


def test_projected_books_search_in_their_own_width(rng: np.random.Generator) -> None:
    K, N, D, W, T = 4, 96, 8, 40, 6
    books = made(rng, K, N, D)
    inward = rng.standard_normal((K, D, W)).astype(np.float32)
    outward = rng.standard_normal((K, W, D)).astype(np.float32) / W
    x = rng.standard_normal((T, W)).astype(np.float32)
    packed = rvq.pack(books, "cosine", project_in=inward, project_out=outward)
    codes = rvq.encode(x, packed)
    residual = x.astype(np.float64)
    for k in range(K):
        seen = residual @ inward[k].astype(np.float64).T
        assert (
            codes[k] == reference.scores(seen, books[k].astype(np.float64), True).argmin(-1)
        ).all()
        residual -= books[k][codes[k]].astype(np.float64) @ outward[k].astype(np.float64).T
    assert np.allclose(x - rvq.decode(codes, packed), residual, atol=1e-5)


def test_an_absent_layer_adds_nothing_wherever_it_is(rng: np.random.Generator) -> None:
    books = made(rng, 3, 5, 4)
    codes = np.array([[0, -1, 4, -1], [-1, 2, 3, -1], [1, 1, -1, -1]], np.int32)
    want = np.stack([
        sum((books[k, n] for k, n in enumerate(row) if n >= 0), np.zeros(4)) for row in codes.T
    ])  # fmt: skip
    for held in (books, rvq.pack(books)):
        np.testing.assert_allclose(rvq.decode(codes, held), want, atol=1e-6)


@pytest.mark.parametrize("D", [1, 24, 32, 64, 101])
def test_decode_sums_the_layers_present(D: int, rng: np.random.Generator) -> None:
    books = made(rng, 4, 32, D)
    codes = rng.integers(0, 32, (4, 9)).astype(np.int32)
    codes[2, 4] = codes[3, 4:6] = codes[:, 7] = -1
    out = np.full((9, D), np.nan, np.float32)
    rvq.decode(codes, rvq.pack(books), out=out)
    assert close("rvq.decode", out, reference.decode(codes, books))
    assert close("rvq.decode", rvq.decode(codes[:2], books), reference.decode(codes[:2], books))


def test_bad_arrays_are_named(rng: np.random.Generator) -> None:
    books, x = made(rng, 3, 32, 16), rng.standard_normal((4, 16)).astype(np.float32)
    with pytest.raises(DtypeError, match="x is float64; it must be float32"):
        rvq.encode(x.astype(np.float64), books)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"x has shape \[4, 15\]"):
        rvq.encode(np.ascontiguousarray(x[:, :15]), books)
    with pytest.raises(ShapeError, match=r"x has shape \[0, 16\]"):
        rvq.encode(x[:0], books)
    with pytest.raises(LayoutError, match="x of shape"):
        rvq.encode(np.asfortranarray(x), books)
    with pytest.raises(LayoutError, match="books"):
        rvq.pack(books[:, ::2])
    with pytest.raises(DtypeError, match="list"):
        rvq.encode(x.tolist(), books)
    for layers in (0, 4, -1):
        with pytest.raises(RangeError, match=f"layers is {layers}; it must be 1 to 3"):
            rvq.encode(x, books, layers)
    with pytest.raises(ShapeError, match="out has shape"):
        rvq.encode(x, books, out=np.empty((3, 5), np.int32))
    frozen = np.empty((3, 4), np.int32)
    frozen.flags.writeable = False
    with pytest.raises(LayoutError, match="out is read-only"):
        rvq.encode(x, books, out=frozen)
    books[1, 2, 3] = np.inf
    with pytest.raises(RangeError, match="NaN or Inf"):
        rvq.pack(books)


def test_bad_codes_are_named(rng: np.random.Generator) -> None:
    books = made(rng, 2, 32, 16)
    for bad in (-2, 32, 2**31 - 1):
        codes = np.full((2, 3), bad, np.int32)
        with pytest.raises(RangeError, match=f"codes hold {bad}; a code must be 0 to 31"):
            rvq.decode(codes, rvq.pack(books))
        compiled = rvq.pack(books).compiled
        if compiled is not None:  # it looks for itself: a row that no book has is memory of others
            with pytest.raises(ValueError, match="a code is below -1 or not below N"):
                compiled.decode(codes, np.empty((3, 16), np.float32))
    with pytest.raises(RangeError, match="the layers of codes is 3; it must be 1 to 2"):
        rvq.decode(np.zeros((3, 1), np.int32), books)
