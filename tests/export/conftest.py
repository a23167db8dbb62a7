from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def speech(data: Path) -> np.ndarray:
    """About ten seconds of speech at 16 kHz."""
    soundfile = pytest.importorskip("soundfile")
    files = sorted((data / "train" / "speech_picovoice_sti").rglob("*.flac"))[:3]
    if not files:
        pytest.skip("no speech in the data folder")
    return np.concatenate([soundfile.read(f, dtype="float32")[0] for f in files])


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OSSICLE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
