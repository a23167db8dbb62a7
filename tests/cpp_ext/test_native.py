"""The C++ tests, plain and under the sanitizers, and what the linker must not merge."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    not (shutil.which("cmake") and (shutil.which("c++") or shutil.which("g++"))),
    reason="needs cmake and a C++ compiler",
)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["none", "address,undefined", "thread"])
def test_cpp_tests_pass(kind: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", ROOT / "cpp_ext/sanitize.sh", kind, tmp_path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert "100% tests passed" in done.stdout
    if kind == "none":
        for path in sorted(tmp_path.rglob("*.o")):
            if "/isa_" in str(path) or "/exact_" in str(path):
                shared = subprocess.run(
                    ["nm", "--defined-only", path], capture_output=True, text=True, check=True
                ).stdout
                weak = [
                    line
                    for line in shared.splitlines()
                    # Pointers to the language's own unwinder hold no code of ours.
                    if line.split()[-2] in "WVu" and "DW.ref.__gxx_personality" not in line
                ]
                # A weak symbol built for a newer processor could be the one all others get.
                assert not weak, f"{path.name}: {weak[:3]}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-g++") and shutil.which("qemu-aarch64-static")),
    reason="needs g++-aarch64-linux-gnu and qemu-user-static",
)
def test_cpp_tests_pass_on_arm(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", ROOT / "cpp_ext/arm.sh", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    for processor in ("cortex-a57", "max"):
        for name in ("search", "layers", "native", "rows", "allocation"):
            assert f"{processor}: test_{name} passed" in done.stdout
