"""The built-in codec as shipped: shapes, layers, silence, bad samples, and what it claims."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from ossicle.runtime.bundle import Bundle
from ossicle.runtime.model import Model

HOP, LAYERS = 320, 12


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load("codec-16k")


def coded(model: Model, audio: np.ndarray, layers: int = LAYERS) -> np.ndarray:
    up, down = model.open(1, "encode"), model.open(1, "decode")
    out = []
    for hop in audio.reshape(-1, HOP):
        codes = model.step(up, {"audio": hop[None, None]})["codes"].copy()
        assert codes.shape == (1, LAYERS, 1)
        codes[:, layers:] = -1
        out.append(model.step(down, {"codes": codes})["audio"][0, 0].copy())
    return np.concatenate(out)


def voice(seconds: float = 2.0) -> np.ndarray:
    """A gliding harmonic tone with a syllable's rise and fall: near enough to speech."""
    t = np.arange(int(seconds * 16000) // HOP * HOP) / 16000
    phase = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 0.7 * t)) / 16000
    tone = sum(np.sin(k * phase) / k for k in range(1, 12))
    return (0.08 * tone * (0.55 - 0.45 * np.cos(2 * np.pi * 3 * t))).astype(np.float32)


def si_sdr(x: np.ndarray, y: np.ndarray) -> float:
    part = x * (np.dot(x, y) / np.dot(x, x))
    return float(10 * np.log10(np.dot(part, part) / np.sum((y - part) ** 2)))


def test_more_layers_come_closer(model: Model) -> None:
    x = voice()
    marks = [si_sdr(x, coded(model, x, k)) for k in (1, 3, 12)]
    assert marks == sorted(marks)
    assert marks[-1] > 0


def test_output_is_aligned_with_input(model: Model) -> None:
    x = voice()
    y = coded(model, x)
    shifts = range(-40, 41, 4)
    best = max(shifts, key=lambda s: float(np.dot(x[1600:-1600], y[1600 + s : len(y) - 1600 + s])))
    assert abs(best) <= 4


def test_silence_stays_quiet_and_bad_levels_stay_finite(model: Model) -> None:
    assert float(np.abs(coded(model, np.zeros(50 * HOP, np.float32))).max()) < 0.02
    for gain in (1e-5, 1.0, 30.0):
        y = coded(model, np.clip(voice(0.5) * gain, -1, 1))
        assert np.isfinite(y).all()
        assert float(np.abs(y).max()) < 4


def test_manifest_says_what_it_costs_and_who_is_thanked() -> None:
    bundle = Bundle.open("codec-16k")
    manifest = bundle.manifest
    assert (manifest.hop, manifest.latency, manifest.lookahead) == (HOP, HOP, 0)
    assert manifest.license_class == "permissive"
    assert bundle.array("books.npy").shape == (LAYERS, 1024, 64)
    assert sum(f.size for f in manifest.files.values()) < 9e6
    rows = bundle.array("books.npy")[1:].astype(np.float32).reshape(LAYERS - 1, 8, 128, 64)
    sums = (
        rows.mean(1, keepdims=True) + rows.mean(2, keepdims=True) - rows.mean((1, 2), keepdims=True)
    )
    assert float(np.abs(rows - sums).max()) < 2e-3  # fp16: what makes their search fast
    card = bundle.read("README.md").decode()
    for name in ("Lyra", "ESC-10", "Slakh", "Picovoice", "Sonic Pi", "MycroftAI", "Azure"):
        assert name in card
    assert {m.name for m in manifest.metrics} >= {"pesq_3kbps_commands", "stoi_6kbps_commands"}
