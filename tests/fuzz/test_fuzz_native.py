"""The fuzz target of the native backend, for a short and bounded time."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from ossicle.kernels.paths import core

PLACE = Path(__file__).with_name("fuzz_native.py")
if core() is None:
    pytest.skip("no compiled part", allow_module_level=True)


def test_damaged_graphs_are_refused_and_nothing_else() -> None:
    spec = importlib.util.spec_from_file_location("fuzz_native", PLACE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.run_random(3.0) > 20


@pytest.mark.slow
def test_guided_fuzzing_finds_nothing() -> None:
    pytest.importorskip("atheris")
    command = [sys.executable, str(PLACE), "-max_total_time=60", "-verbosity=0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
