"""The fuzz target on a bounded number of damaged inputs, the same ones every time."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PLACE = Path(__file__).parents[2] / "fuzz" / "fuzz_codec.py"


def test_damaged_packets_and_files_are_only_ever_refused() -> None:
    spec = importlib.util.spec_from_file_location("fuzz_codec", PLACE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.run_random(0.0, least=4000) == 4000
