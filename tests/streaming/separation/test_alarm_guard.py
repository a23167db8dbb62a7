from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ossicle.runtime import snapshot
from ossicle.runtime.scene.alarms import VARIANTS, synthesise
from ossicle.streaming.separation.alarm_guard import AlarmGuard, AlarmGuardState

KINDS = [(label, kind) for label, kinds in VARIANTS.items() for kind in kinds]
Signal = NDArray[np.float32]


def behind(dry: Signal, wet: Signal, hop: int = 128, delay: int = 32) -> Signal:
    """What the guard makes of an enhancer's aligned output ``wet``."""
    guard = AlarmGuard(delay=delay)
    state = guard.open()
    late, lag = np.pad(dry, (delay, 0)), np.pad(wet, (delay, 0))
    parts = [
        guard.step(state, dry[at : at + hop], late[at : at + hop], lag[at : at + hop])
        for at in range(0, len(dry), hop)
    ]
    return np.concatenate(parts)


def level_db(x: Signal) -> float:
    return float(10 * np.log10(np.mean(np.square(x.astype(np.float64))) + 1e-15))


@pytest.mark.parametrize(("label", "kind"), KINDS)
def test_an_alarm_survives_an_enhancer_that_deletes_everything(label: str, kind: str) -> None:
    rng = np.random.default_rng(7)
    for _ in range(3):
        x = synthesise(label, rng, 4.096, variant=kind).samples * 0.1
        x = (x + 1e-4 * rng.standard_normal(len(x))).astype(np.float32)
        y = behind(x, np.zeros_like(x))
        assert level_db(y) - level_db(x) > -6.0


@pytest.mark.parametrize("pitch_hz", [520.0, 3150.0])
def test_pure_beeps_are_given_back_in_noise(pitch_hz: float) -> None:
    rng = np.random.default_rng(1)
    t = np.arange(65_536) / 16_000
    beep = 0.1 * np.sin(2 * np.pi * pitch_hz * t) * ((t % 1.0) < 0.5)
    noise = 0.02 * rng.standard_normal(len(t))
    y = behind((beep + noise).astype(np.float32), np.zeros(len(t), np.float32))
    late = np.pad(beep, (32, 0))[: len(y)]
    kept = float(np.dot(y, late) / np.dot(late, late))
    assert 20 * np.log10(kept) > -6.0


def test_noise_is_not_given_back() -> None:
    rng = np.random.default_rng(2)
    for slope in (0.0, 1.0):
        spectrum = np.fft.rfft(rng.standard_normal(64_000))
        spectrum[1:] /= np.arange(1, len(spectrum)) ** (slope / 2)
        x = np.fft.irfft(spectrum)
        x = (0.05 * x / x.std()).astype(np.float32)
        assert level_db(behind(x, np.zeros_like(x))) - level_db(x) < -15.0


def test_what_the_enhancer_kept_is_left_alone() -> None:
    t = np.arange(16_384) / 16_000
    x = (0.1 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)
    np.testing.assert_allclose(behind(x, x)[32:], x[:-32], atol=1e-6)


def test_hops_of_any_multiple_give_the_same() -> None:
    rng = np.random.default_rng(3)
    x = synthesise("siren", rng, 1.024).samples * 0.1
    np.testing.assert_allclose(behind(x, 0 * x, hop=128), behind(x, 0 * x, hop=512), atol=1e-6)


def test_silence_gives_silence_and_forgets() -> None:
    guard = AlarmGuard()
    state = guard.open()
    t = np.arange(4096) / 16_000
    tone = (0.1 * np.sin(2 * np.pi * 2000 * t)).astype(np.float32)
    nothing = np.zeros(4096, np.float32)
    guard.step(state, tone, tone, nothing)
    assert state.age.max() > 3
    for _ in range(3):
        out = guard.step(state, nothing, nothing, nothing)
    assert np.abs(out).max() < 1e-6
    assert not state.turn.any()


def test_the_state_travels() -> None:
    rng = np.random.default_rng(4)
    x = synthesise("phone_ring", rng, 1.024).samples * 0.1
    guard, half = AlarmGuard(), 8192
    state = guard.open()
    guard.step(state, x[:half], x[:half], 0 * x[:half])
    copy = snapshot.load(snapshot.dump(state))
    assert isinstance(copy, AlarmGuardState)
    a = guard.step(state, x[half:], x[half:], 0 * x[half:])
    b = guard.step(copy, x[half:], x[half:], 0 * x[half:])
    np.testing.assert_array_equal(a, b)
