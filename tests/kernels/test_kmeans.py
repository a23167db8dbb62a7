from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ossicle.kernels import kmeans
from ossicle.kernels.errors import DtypeError, RangeError, ShapeError
from ossicle.kernels.kmeans import reference
from ossicle.kernels.tolerance import close

pytestmark = pytest.mark.usefixtures("variant")


def blobs(rng: np.random.Generator, n: int, D: int, rows: int) -> tuple[NDArray[np.float32], ...]:
    centres = rng.standard_normal((n, D)).astype(np.float32) * 20
    x = centres[rng.integers(n, size=rows)] + rng.standard_normal((rows, D)).astype(np.float32)
    return centres, x.astype(np.float32)


@pytest.mark.parametrize(("N", "D", "T"), [(300, 96, 8), (1000, 20, 33), (2, 3, 1), (65, 768, 2)])
def test_assign_equals_the_reference(N: int, D: int, T: int, rng: np.random.Generator) -> None:
    c, x = (rng.standard_normal((n, D)).astype(np.float32) for n in (N, T))
    out = np.full(T, -99, np.int64)
    assert kmeans.assign(x, kmeans.pack(c), out=out) is out
    assert (out == reference.assign(x, c)).all()


def test_one_lloyd_pass_is_the_mean_of_each_centroids_rows(rng: np.random.Generator) -> None:
    x = rng.standard_normal((500, 12)).astype(np.float32)
    start = x[:20].copy()
    fit = kmeans.fit(x, 20, passes=1, start=start, rows_at_once=64)
    want = reference.update(x, reference.assign(x, start), start)
    assert close("kmeans.fit", fit.centroids, want)
    assert fit.counts.sum() == 500


@pytest.mark.parametrize("mini_batch", [None, 100])
def test_fit_finds_well_separated_blobs(mini_batch: int | None, rng: np.random.Generator) -> None:
    centres, x = blobs(rng, 8, 16, 2000)
    fits = [kmeans.fit(x, 8, mini_batch=mini_batch, seed=seed) for seed in range(12)]
    fit = min(fits, key=lambda one: one.inertia)  # one seed alone may leave two blobs to one centre
    found = np.sqrt(((fit.centroids[:, None] - centres[None]) ** 2).sum(-1)).min(1)
    assert found.max() < 1.0
    assert fit.inertia < 200


def test_memory_map_generator_and_array_agree(tmp_path: Path, rng: np.random.Generator) -> None:
    _, x = blobs(rng, 5, 8, 700)
    mapped = np.memmap(tmp_path / "rows", np.float32, "w+", shape=x.shape)
    mapped[:] = x

    def runs() -> Iterator[NDArray[np.float32]]:
        yield from np.array_split(x, 3)

    whole = kmeans.fit(x, 5, seed=1)
    for source in (mapped, runs):
        fit = kmeans.fit(source, 5, seed=1, rows_at_once=96, start=whole.centroids, passes=1)
        assert close(
            "kmeans.fit", fit.centroids, kmeans.fit(x, 5, start=whole.centroids, passes=1).centroids
        )


def test_a_centroid_without_rows_moves_to_the_worst_fitted_row() -> None:
    x = np.array([[0.0], [0.1], [10.0], [30.0]], np.float32)
    start = np.array([[0.0], [-500.0]], np.float32)
    assert kmeans.fit(x, 2, start=start, passes=1).centroids[1, 0] == 30.0


def test_the_same_seed_gives_the_same_fit(rng: np.random.Generator) -> None:
    _, x = blobs(rng, 4, 6, 300)
    a, b = (kmeans.fit(x, 6, seed=9) for _ in range(2))
    assert (a.centroids == b.centroids).all()
    assert a.inertia == b.inertia


def test_bad_input_is_named() -> None:
    x = np.zeros((5, 3), np.float32)
    with pytest.raises(RangeError, match="x has 5 rows for n = 6"):
        kmeans.fit(x, 6)
    with pytest.raises(RangeError, match="n is 0"):
        kmeans.fit(x, 0)
    with pytest.raises(DtypeError, match="x is float64"):
        kmeans.fit(x.astype(np.float64), 2)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"start has shape \[2, 4\]"):
        kmeans.fit(x, 3, start=np.zeros((2, 4), np.float32))
    with pytest.raises(ShapeError, match=r"x has shape \[5, 4\]"):
        kmeans.assign(np.zeros((5, 4), np.float32), x)
    with pytest.raises(ShapeError, match="centroids"):
        kmeans.assign(x, x[:0])
