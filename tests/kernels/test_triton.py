"""The GPU kernels without a GPU: run by Triton's interpreter, compiled for each architecture."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or importlib.util.find_spec("torch") is None,
    reason="triton and torch are not installed",
)

CASES = [
    "rvq.encode", "rvq.ties", "rvq.decode", "kmeans.assign", "conv.f32", "conv.f32.strided",
    "conv.f16", "attention.f32", "attention.f32.rotary", "attention.f16.rotary", "gru.f32",
    "gru.f16", "snake.f32", "snake.f16", "logmel.power1", "logmel.power2",
    "sampler.unipc.f32", "sampler.heun.f32", "sampler.dpmpp_2m.f16",
]  # fmt: skip


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
    )


@cache
def interpreted() -> dict[str, Any]:
    done = python("tests/kernels/triton_cases.py", TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {row["case"]: row for row in rows}


@pytest.mark.parametrize("case", CASES)
def test_the_interpreter_agrees_with_the_reference(case: str) -> None:
    row = interpreted()[case]
    assert row["error"] <= row["allowed"]


def test_every_case_is_listed() -> None:
    assert sorted(interpreted()) == sorted(CASES)


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_reference() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    done = python("tests/kernels/triton_cases.py", "cuda")
    assert done.returncode == 0, done.stderr[-3000:]
    for line in done.stdout.splitlines():
        row = json.loads(line)
        assert row["error"] <= row["allowed"], row


@pytest.mark.parametrize(
    "arch",
    [87, 90, pytest.param(80, marks=pytest.mark.slow), pytest.param(110, marks=pytest.mark.slow)],
)
def test_cubins_build_without_a_gpu(arch: int, tmp_path: Path) -> None:
    from ossicle.kernels.aot import BUILDS
    from ossicle.kernels.tune import ARCHITECTURES

    done = python("-m", "ossicle.kernels.aot", "--arch", str(arch), "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["arch"] == f"sm_{arch}"
    assert [row["name"] for row in manifest["kernels"]] == [build.name for build in BUILDS]
    for row in manifest["kernels"]:
        assert (row["stack_bytes"], row["local_bytes"]) == (0, 0), row["name"]
        assert 0 < row["registers"] <= 255
        assert row["shared_bytes"] <= ARCHITECTURES[arch].shared_bytes
        assert (tmp_path / f"{row['name']}.cubin").read_bytes()[:4] == b"\x7fELF"


def test_a_kernel_that_does_not_fit_is_refused() -> None:
    from ossicle.kernels.aot import judge
    from ossicle.kernels.errors import KernelError
    from ossicle.kernels.tune import ARCHITECTURES

    row = {"name": "k", "stack_bytes": 32, "local_bytes": 0, "shared_bytes": 0}
    with pytest.raises(KernelError, match="k spills 32 bytes to the stack"):
        judge(row, ARCHITECTURES[90])
    row = {"name": "k", "stack_bytes": 0, "local_bytes": 0, "shared_bytes": 200 * 1024}
    judge(row, ARCHITECTURES[90])
    with pytest.raises(KernelError, match="k takes 204800 shared bytes; Jetson Orin has 166912"):
        judge(row, ARCHITECTURES[87])


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    done = python("-m", "ossicle.kernels.aot", "--arch", "75", "--out", str(tmp_path))
    assert done.returncode == 1
    assert "arch is 75; it must be one of 80, 87, 90, 110" in done.stderr
