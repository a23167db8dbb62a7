"""The fuzz targets themselves, for a short and bounded time."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def test_damaged_input_is_refused_and_nothing_else() -> None:
    spec = importlib.util.spec_from_file_location("fuzz_service", HERE / "fuzz_service.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for seed in module.seeds():
        module.target(seed)
    assert module.at_random(3.0) > 100


@pytest.mark.slow
def test_guided_fuzzing_finds_nothing() -> None:
    pytest.importorskip("atheris")
    command = [sys.executable, str(HERE / "fuzz_service.py"), "-max_total_time=60", "-verbosity=0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
