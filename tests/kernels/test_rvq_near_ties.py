"""Vectors between two rows of a book, where a first pass must own up to all that it may be off by.

The search decides exactly among the rows that its first pass cannot tell apart. In the books here
the error of the first pass is as large as its bound allows, and of the two rows that tie it takes
the wrong one: a bound that is too small by a few in a hundred gives a wrong code.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from ossicle.kernels import rvq
from ossicle.kernels.rvq import reference

pytestmark = pytest.mark.usefixtures("variant")
F32, F64 = NDArray[np.float32], NDArray[np.float64]
NUDGES = np.array([-3e-3, -3e-4, -3e-5, -3e-6, 0.0, 3e-6, 3e-5, 3e-4, 3e-3])


def check(book: F64, x: F64, *, cosine: bool = False) -> None:
    """Every code of ``x`` ``[T, D]`` in one book ``[N, D]`` is that of the reference."""
    rows, given = book.astype(np.float32), x.astype(np.float32)
    want = reference.scores(given.astype(np.float64), rows.astype(np.float64), cosine).argmin(-1)
    packed = rvq.pack(rows[None], "cosine" if cosine else "l2")
    assert (rvq.encode(given, packed)[0] == want).all()
    alone = [int(rvq.encode(given[t : t + 1], packed)[0, 0]) for t in range(len(given))]
    assert alone == want.tolist()  # one vector is searched another way than many


@pytest.mark.parametrize("scale", [1e-22, 1.0, 3e4])
def test_bytes_of_the_vector(scale: float) -> None:
    """Two rows, one of them oftener than the other, which bytes hold exactly.

    The vector's first element only makes its bytes coarse: the second is ``part`` of a step.
    """
    for N, ones in ((64, 33), (64, 40), (64, 48), (192, 128)):
        book = np.zeros((N, 2))
        book[:, 1] = np.where(np.arange(N) < ones, 1.0, -1.0)
        tie = -book[:, 1].mean()  # of the vector less the mean
        for part in (0.45, 0.49, 0.51, 0.55, 1.49, 1.51):
            step = abs(tie) / part
            v = np.concatenate([NUDGES * step, 1e-6 * NUDGES])
            x = np.stack([np.full_like(v, 127 * step), v], -1)
            for sign in (1, -1):
                check(sign * scale * book, sign * scale * x)


def test_bytes_of_the_vector_for_cosines() -> None:
    book = np.tile([[0.0, 0.6, 0.8], [0.0, 0.8, -0.6]], (32, 1))
    for part in (0.45, 0.49, 0.51, 1.49):
        x = np.tile([127.0, 7 * part, part], (len(NUDGES), 1))
        x[:, 2] *= 1 + NUDGES
        for order in (book, book[::-1]):
            check(order, x, cosine=True)


@pytest.mark.parametrize("scale", [1e-3, 3e4])
def test_bytes_of_the_rows(scale: float) -> None:
    """Of two rows one is rounded up and one down, by as much, along the vector that bytes hold."""
    step = 1.0 / 127
    for part, whole, reach in itertools.product((0.45, 0.49, 0.499), (1, 5), (0.1, 1.0, 5.0)):
        up, down = (whole + 1 - part) * step, (whole + part) * step
        # They tie where the longer lies further along.
        other = np.sqrt(1 + 2 * reach * (up - down) + down**2 - up**2)
        pair = np.array([[up * other, other], [down, -1.0]])
        book = np.concatenate([np.tile(np.concatenate([pair, -pair]), (16, 1)), [[0, 1], [0, -1]]])
        x = np.zeros((len(NUDGES), 2))
        x[:, 0] = (pair[0] @ pair[0] - pair[1] @ pair[1]) / 2 / (pair[0, 0] - pair[1, 0])
        x *= 1 + NUDGES[:, None]
        for order in (book, book[::-1]):
            check(scale * order, scale * x)


def test_two_bytes_of_the_second_parts() -> None:
    """A book of sums whose first parts are nothing, and second parts off in their second byte."""
    step = 0.49 / 127**2  # of the second byte: the middle element leaves 0.49 of the first's
    for part, whole, reach in itertools.product((0.45, 0.47), (1, 5), (1.0, 5.0)):
        up, down, rest = (whole + 1 - part) * step, (whole + part) * step, 0.49 / 127
        other = np.sqrt((1 + rest**2 + down**2 + 2 * reach * (up - down)) / (1 + rest**2 + up**2))
        pair = np.array([[up, rest, 1.0], [down, rest, -1.0]]) * [[other], [1.0]]
        pair = pair.astype(np.float32).astype(np.float64)
        x = np.zeros((len(NUDGES), 3))
        x[:, 0] = (pair[0] @ pair[0] - pair[1] @ pair[1]) / 2 / (pair[0, 0] - pair[1, 0])
        x *= 1 + NUDGES[:, None]
        for order in ([0, 1, 2, 3], [1, 0, 3, 2]):
            check(np.repeat(np.concatenate([pair, -pair])[order], 64, 0), x)


@pytest.mark.parametrize("copies", [2, 8])  # 16 rows are searched another way than 64
def test_sixteen_bits_of_the_lengths(copies: int) -> None:
    """Of two rows the square of one is rounded up and that of the other down, by as much."""
    far = 10.0
    step = (far**2 - 1) / 65535  # of the squares of the lengths
    for part, along in itertools.product((0.45, 0.49, 0.499), (0.5, 0.8)):
        a, b = 1 + part * step, 1 + (1 - part) * step
        tilt = (b - a) / (0.7 * step)  # so that a short vector makes up for the lengths
        pair = [[np.sqrt(square - p**2), p] for square, p in ((a, along), (b, along + tilt))]
        some = np.array([*pair, [1.0, 0.0], [far, 0.0]])
        book = np.tile(np.concatenate([some, -some]), (copies, 1))
        x = np.zeros((len(NUDGES), 2))
        x[:, 1] = (book[1] @ book[1] - book[0] @ book[0]) / 2 / (book[1, 1] - book[0, 1])
        x *= 1 + 10 * NUDGES[:, None]
        for order in (book, book[::-1]):
            check(order, x)
            check(3e4 * order, 3e4 * x)


def between(rng: np.random.Generator, book: F64, T: int, size: float) -> F64:
    """Vectors ``[T, D]`` that lie between the two rows next to them, to fp32's last bits."""
    x = rng.standard_normal((T, book.shape[1])) * size
    a, b = np.argsort(reference.scores(x, book, False), -1)[:, :2].T
    gap = book[b] - book[a]
    middle = (((book[a] + book[b]) / 2 - x) * gap).sum(-1) / np.maximum((gap**2).sum(-1), 1e-300)
    return np.asarray(x + middle[:, None] * gap)


@pytest.mark.parametrize(
    ("inner", "outer", "D", "rounding"),
    [(64, 4, 2, 1e-3), (128, 4, 1, 1e-3), (512, 16, 2, 0.0), (4200, 1, 2, 0.0), (16, 1, 3, 0.0)],
)
def test_vectors_between_two_rows(inner: int, outer: int, D: int, rounding: float) -> None:
    """Also in books of sums whose rows are off, and with more rows than are looked at at once."""
    rng = np.random.default_rng(inner + D)
    a, b = rng.standard_normal((inner, D)), 3 * rng.standard_normal((outer, 1, D))
    off = rounding * rng.uniform(-1, 1, (outer, inner, D))
    off[-1, -1] = 0.0
    book = (a + b + off).reshape(-1, D)
    book = book.astype(np.float32).astype(np.float64)
    rows = book.astype(np.float32)
    packed = rvq.pack(rows[None])
    if packed.compiled is not None and outer > 1:
        assert packed.compiled.outer(0) == outer
    for size in (0.3, 1.0, 3.0) if len(book) < 1000 else (1.0,):
        x = between(rng, book, 600 if len(book) < 1000 else 60, size).astype(np.float32)
        want = reference.scores(x.astype(np.float64), book, False).argmin(-1)
        assert (rvq.encode(x, packed)[0] == want).all()


@pytest.mark.parametrize("cosine", [False, True])
def test_sums_that_differ_by_their_order_alone(cosine: bool) -> None:
    """Rows of the same numbers in another order: only what fp64 rounds tells them apart."""
    rng = np.random.default_rng(3)
    for D in (9, 24, 40):
        numbers = np.exp2(-12 * rng.random(D))
        book = np.stack([rng.permutation(numbers) for _ in range(90)])
        check(
            book, np.stack([np.zeros(D), np.ones(D), np.full(D, 1e-3), -np.ones(D)]), cosine=cosine
        )


def test_rows_of_one_direction_and_of_none() -> None:
    """Their cosines are one but for rounding; a row of zeros has cosine 0."""
    rng = np.random.default_rng(4)
    for N in (12, 80):
        times = np.arange(1.0, N + 1)[:, None]
        x = rng.standard_normal((9, 24))
        for direction in (rng.integers(1, 100, 24), np.eye(24)[0]):
            book = times * direction
            x[5:] = -book[0]
            for size in (1e-6, 1e-3, 1.0, 1e3):
                check(book, size * x, cosine=True)
        across = np.zeros((N, 24))
        for nearly in (0.0, -1e-5, 1e-5):
            x[:, 3] = nearly
            across[:, 3] = 1.0
            for zero in (0, N // 2, N - 1):
                across[zero, 3] = 0.0
                check(across, x, cosine=True)
                check(across[::-1], x, cosine=True)


def test_what_is_left_over_is_kept_in_64_bits() -> None:
    """After the first layer 1 - 1e-9 is left, just nearer to the second row of the next."""
    books = np.array([[[1e-9], [100.0]], [[1 + 2**-10], [1 - 2**-10]]], np.float32)
    x = np.ones((1, 1), np.float32)
    assert rvq.encode(x, rvq.pack(books)).tolist() == [[0], [1]]


@pytest.mark.parametrize("N", [9, 70])
@pytest.mark.parametrize("scale", [1e-38, 1e-22, 3e37])
def test_the_last_row_at_extreme_scales(N: int, scale: float) -> None:
    rng = np.random.default_rng(5)
    book = rng.uniform(-1, 1, (N, 20))
    check(scale * book, scale * book[::-1])


@pytest.mark.parametrize(("inner", "outer"), [(96, 8), (40, 16)])
def test_books_of_sums_of_any_number(inner: int, outer: int) -> None:
    rng = np.random.default_rng(6)
    a, b = rng.standard_normal((inner, 8)), rng.standard_normal((outer, 1, 8))
    check((a + b).reshape(-1, 8), rng.standard_normal((40, 8)))


@pytest.mark.parametrize("copies", [4, 16])
def test_scores_rounded_to_fp32(copies: int) -> None:
    """Rows of nearly one length, and vectors so short that little but that tells them apart."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        turn = rng.uniform(0, 2 * np.pi, 2)
        pair = np.stack([np.cos(turn), np.sin(turn)], -1)
        pair[1] *= 1 + 10 ** rng.uniform(-5, -2.5)
        book = np.tile(np.concatenate([pair, -pair]), (copies, 1))
        rows = book[:2].astype(np.float32).astype(np.float64)
        gap = rows[1] - rows[0]
        across = np.array([-gap[1], gap[0]]) / np.sqrt(gap @ gap)
        tie = gap * (rows[1] @ rows[1] - rows[0] @ rows[0]) / 2 / (gap @ gap)
        tie += across * np.sign(across @ rows.sum(0)) * rng.choice([1e-6, 1e-4, 1e-3])
        check(book, tie * (1 + 1e-4 * NUDGES[:, None]))


def test_long_sums_rounded_to_fp32() -> None:
    """Thousands of equal terms: their running sum is rounded the same way again and again."""
    D, rng = 8192, np.random.default_rng(0)
    for size in (1.0, 30.0):
        filled = rng.integers(D // 4, D, 8)[:, None]
        half = np.where(np.arange(D) < filled, rng.uniform(0.99, 1.01, (8, 1)) / filled**0.5, 0.0)
        rows = np.concatenate([half, -half]).astype(np.float32).astype(np.float64)
        i, j = np.tril_indices(8, -1)
        gap, even = rows[i] - rows[j], np.full(D, size / D**0.5)
        across = (((rows[i] + rows[j]) / 2 - even) * gap).sum(-1) / (gap * gap).sum(-1)
        check(rows, even + across[:, None] * gap)
