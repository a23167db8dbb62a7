"""What is taken where the compiled part is missing, and that the benchmark script runs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from ossicle.kernels import paths
from ossicle.kernels.errors import MissingError

ROOT = Path(__file__).parents[2]

WITHOUT = """
import sys
sys.modules["ossicle._core"] = None  # importing it now fails, as in a pure wheel
for name in sys.argv[1:]:
    sys.modules[name] = None
import numpy as np
from ossicle.kernels import attention, bits, conv, framing, gru, kmeans, logmel, paths
from ossicle.kernels import ring, rvq, sampler, snake
assert paths.core() is None
rng = np.random.default_rng(0)
books, x = (rng.standard_normal(s).astype("f4") for s in ((2, 20, 8), (3, 8)))
codes = rvq.encode(x, books)
assert (codes == rvq.reference.encode(x, books)).all()
assert rvq.pack(books).path == paths.installed()[0] != "core"
weight = rng.standard_normal((4, 8, 3)).astype("f4")
packed = conv.pack(weight)
assert np.isfinite(conv.step(packed, conv.fresh(packed), x[None])).all()
print(paths.installed()[0])
"""


def python(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin", "HOME": "/tmp"} | more
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True, text=True, check=False, cwd=ROOT, env=environment,
    )  # fmt: skip


@pytest.mark.parametrize("missing", [[], ["numba"]])
def test_kernels_work_without_the_compiled_part(missing: list[str]) -> None:
    done = python("-c", WITHOUT, *missing)
    assert done.returncode == 0, done.stderr[-2000:]
    have_numba = importlib.util.find_spec("numba") is not None and not missing
    assert done.stdout.strip() == ("numba" if have_numba else "numpy")
    assert done.stderr.count("ossicle came without its compiled part") == 1
    assert f"kernels run on {'numba' if have_numba else 'NumPy'}" in done.stderr


def test_the_compiled_part_can_be_left_aside() -> None:
    program = "from ossicle.kernels import paths; print(paths.core(), *paths.installed())"
    done = python("-c", program, OSSICLE_CORE="0")
    assert done.stdout.split()[0] == "None"
    assert "core" not in done.stdout.split()
    assert not done.stderr  # asked for, so nothing to complain of


def test_an_unknown_path_is_an_error() -> None:
    with pytest.raises(MissingError, match="kernel path 'gpu' cannot run here; installed"):
        paths.choose("gpu")  # type: ignore[arg-type]


def test_use_ends_with_its_block() -> None:
    before = paths.choose()
    with paths.use("numpy"):
        assert paths.choose() == "numpy"
    assert paths.choose() == before


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or importlib.util.find_spec("torch") is None,
    reason="triton and torch are not installed",
)
def test_the_gpu_benchmark_checks_every_kernel_on_the_interpreter(tmp_path: Path) -> None:
    done = python("-m", "benchmarks.gpu", "--dry-run", "--json", str(tmp_path / "gpu.json"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count(" equal ") == 13
    assert (tmp_path / "gpu.json").exists()
