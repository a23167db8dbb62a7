"""What all tests share: where real audio lies, if it does, and how Hypothesis searches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from poison import poisoned

# One thread a test process: several of them on few cores would else wait for each other's threads
# at every small product, and a test of two seconds takes minutes. Set before torch is imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

settings.register_profile(
    "default",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),  # the same examples for everyone; nightly searches on
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    database=None if os.environ.get("CI") else settings.default.database,
)
settings.load_profile("default")

ROOT = Path(__file__).resolve().parents[1]


def data_folder() -> Path | None:
    """Return the folder of real audio and weights, or None: ``OSSICLE_DATA``, or a neighbour."""
    named = os.environ.get("OSSICLE_DATA")
    for place in (Path(named) if named else None, ROOT.parent / "shared" / "data"):
        if place is not None and (place / "README.md").is_file():
            return place
    return None


@pytest.fixture(scope="session", autouse=True)
def unwritten_memory_is_nan() -> Iterator[None]:
    """Poison memory that nobody wrote, in every test."""
    with poisoned():
        yield


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real audio and weights; the test is skipped where there is none."""
    place = data_folder()
    if place is None:
        pytest.skip("no real audio here; set OSSICLE_DATA to a folder that has it")
    return place


@pytest.fixture(scope="session")
def weights(data: Path) -> Path:
    """The folder of public weights."""
    return data / "weights"
