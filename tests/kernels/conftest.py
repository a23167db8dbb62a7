"""Every test of an operator runs on every CPU path and instruction set that this machine offers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ossicle.kernels import paths

CORE = paths.core()
VARIANTS = [f"core-{isa}" for isa in (CORE.offered() if CORE else [])] + [
    path for path in paths.installed() if path != "core"
]


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    name: str = request.param
    path, _, isa = name.partition("-")
    if CORE is None or not isa:
        with paths.use("numba" if path == "numba" else "numpy"):
            yield name
        return
    before = CORE.isa()
    CORE.choose(isa)
    try:
        with paths.use("core"):
            yield name
    finally:
        CORE.choose(before)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()  # fresh inputs each run; pytest prints them on failure
