"""The cubin launcher against a driver that writes down its calls: order, arguments, failures."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ossicle.kernels import paths

CORE: Any = paths.core()
COMPILER = shutil.which("cc") or shutil.which("gcc")
pytestmark = pytest.mark.skipif(
    CORE is None or COMPILER is None, reason="needs the compiled part and a C compiler"
)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    library, log = tmp_path / "libfake.so", tmp_path / "calls"
    source = Path(__file__).with_name("fake_cuda.c")
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-o", library, source], check=True)
    monkeypatch.setenv("FAKE_CUDA_LOG", str(log))
    return str(library), log


@pytest.fixture
def cubin(tmp_path: Path) -> str:
    path = tmp_path / "k.cubin"
    path.write_bytes(b"\x7fELF" + bytes(60))
    return str(path)


OPENED = ["cuInit", "cuDeviceGet", "retain", "current", "load"]


def test_calls_come_in_order(driver: tuple[str, Path], cubin: str) -> None:
    library, log = driver
    launcher = CORE.CubinLauncher(cubin, library)
    for _ in range(2):
        launcher.launch("step", (5, 6, 7), 4, 100 * 1024, [0xABC, 0xDEF], [-3], 9)
    del launcher
    launch = "launch 5,6,7 x 128,1,1 shared 102400 stream 9: abc def -3 0 0"
    assert log.read_text().splitlines() == [
        *OPENED, "find step", "attribute 8 102400", launch, launch, "unload", "release",
    ]  # fmt: skip


def test_little_shared_memory_needs_no_permission(driver: tuple[str, Path], cubin: str) -> None:
    library, log = driver
    CORE.CubinLauncher(cubin, library).launch("k", (1, 1, 1), 1, 1024, [1, 2], [3])
    assert not any(line.startswith("attribute") for line in log.read_text().splitlines())


def test_a_failing_call_is_named_and_cleaned_up_after(
    driver: tuple[str, Path], cubin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, log = driver
    monkeypatch.setenv("FAKE_CUDA_FAIL", "load")
    with pytest.raises(RuntimeError, match="cuModuleLoadData failed with CUDA error 218"):
        CORE.CubinLauncher(cubin, library)
    assert log.read_text().splitlines() == [*OPENED, "release"]
    monkeypatch.setenv("FAKE_CUDA_FAIL", "launch")
    launcher = CORE.CubinLauncher(cubin, library)
    with pytest.raises(RuntimeError, match="cuLaunchKernel failed with CUDA error 218"):
        launcher.launch("k", (1, 1, 1), 1, 0, [1, 2], [3])


def test_bad_files_drivers_and_grids_are_named(
    driver: tuple[str, Path], cubin: str, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("no elf")
    for bad in (str(tmp_path / "text"), str(tmp_path / "absent")):
        with pytest.raises(RuntimeError, match="is missing or not a cubin"):
            CORE.CubinLauncher(bad, driver[0])
    with pytest.raises(RuntimeError, match="cannot be opened: is the CUDA driver installed"):
        CORE.CubinLauncher(cubin, "libcuda-of-nobody.so")
    with pytest.raises(ValueError, match="grid must not be empty"):
        CORE.CubinLauncher(cubin, driver[0]).launch("k", (0, 1, 1), 1, 0, [], [])
