"""Loss, drift, rate and wire: the figures are what they are said to be."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossicle.runtime import snapshot
from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.errors import AudioError, PacketError
from ossicle.streaming.codec.drift import DriftEstimator, DriftResampler
from ossicle.streaming.codec.layout import CodeLayout
from ossicle.streaming.codec.loss import BadLink
from ossicle.streaming.codec.onwire import frames_per_message, wire
from ossicle.streaming.codec.packet import HEADER_BYTES, Packet, write
from ossicle.streaming.codec.rate import Plan, RateControl

LAYOUT = CodeLayout((1024,) * 12, 320, 16_000)
LYRA = CodeLayout((16,) * 46, 320, 16_000)
MONO = AudioFormat(16_000)


def test_losses_come_as_often_and_in_bursts_as_long_as_asked() -> None:
    lost = BadLink(0.1, 2.0, seed=3).losses(200_000)
    starts = np.flatnonzero(lost & ~np.roll(lost, 1)).size
    assert lost.mean() == pytest.approx(0.1, abs=0.005)
    assert lost.sum() / starts == pytest.approx(2.0, abs=0.05)


def test_a_link_is_a_function_of_its_seed() -> None:
    packets = [bytes([i]) for i in range(100)]
    bad = BadLink(0.1, 1.5, jitter_ms=30, duplicate=0.1, seed=1)
    assert bad.carry(packets, 20) == bad.carry(packets, 20)
    arrived = bad.carry(packets, 20)
    order = [a.index for a in arrived]
    assert order != sorted(order)
    assert len(order) > len(set(order))
    assert all(a.packet == packets[a.index] for a in arrived)
    clean = BadLink(delay_ms=20).carry(packets, 20)
    assert [(a.ns, a.index) for a in clean] == [(20_000_000 * (i + 1), i) for i in range(100)]


def test_a_link_that_cannot_be_is_refused() -> None:
    with pytest.raises(PacketError, match=r"loss 1\.0"):
        BadLink(1.0)


@pytest.mark.parametrize("ppm", [-300.0, -20.0, 0.0, 80.0, 500.0])
def test_drift_is_found_through_jitter(ppm: float) -> None:
    estimator = DriftEstimator(16_000)
    state = estimator.open()
    rng = np.random.default_rng(7)
    for i in range(6000):  # two minutes
        sent_ns = i * 20e6 / (1 + ppm * 1e-6)  # a fast clock sends early
        if rng.random() < 0.1:
            continue
        estimator.push(state, i * 320, round(sent_ns + 30e6 + rng.exponential(10e6)))
        if i == 3000:
            state = snapshot.load(snapshot.dump(state))
    got = estimator.ppm(state)
    assert got is not None
    assert got == pytest.approx(ppm, abs=8.0)


def test_drift_is_unknown_at_first() -> None:
    estimator = DriftEstimator(16_000)
    state = estimator.open()
    for i in range(400):
        estimator.push(state, i * 320, i * 20_000_000)
    assert estimator.ppm(state) is None


def resample(signal: np.ndarray, ppm: float, sizes: list[int]) -> np.ndarray:
    stage = DriftResampler(MONO)
    state = stage.open()
    state.ppm = ppm
    out, at = [], 0
    for size in [*sizes, signal.shape[1]]:
        part = signal[:, at : at + size]
        if part.shape[1]:
            out += stage.step(state, Chunk(part, at, MONO))
        at += part.shape[1]
        state = snapshot.load(snapshot.dump(state))
    out += stage.flush(state)
    assert stage.flush(state) == []
    starts = np.cumsum([0] + [c.length for c in out])
    assert [c.start for c in out] == starts[:-1].tolist()
    return np.concatenate([np.empty((1, 0), np.float32), *(c.samples for c in out)], axis=1)


@given(st.integers(1, 2000), st.sampled_from([0.0, -250.0, 1000.0]), st.lists(st.integers(0, 300)))
def test_drift_resampling_does_not_depend_on_the_cut(
    length: int, ppm: float, sizes: list[int]
) -> None:
    signal = np.random.default_rng(length).standard_normal((1, length)).astype(np.float32)
    np.testing.assert_array_equal(resample(signal, ppm, sizes), resample(signal, ppm, []))


@pytest.mark.parametrize("ppm", [-500.0, 0.0, 200.0])
def test_drift_resampling_keeps_a_tone_and_moves_its_end(ppm: float) -> None:
    time = np.arange(160_000) / 16_000
    out = resample(np.sin(2 * np.pi * 1000 * time)[None].astype(np.float32), ppm, [])
    assert out.shape[1] == pytest.approx(160_000 / (1 + ppm * 1e-6), abs=2)
    stretched = np.arange(out.shape[1]) * (1 + ppm * 1e-6) / 16_000
    wanted = np.sin(2 * np.pi * 1000 * stretched)
    assert np.abs(out[0] - wanted)[100:-100].max() < 3e-3


def test_a_drift_no_crystal_has_is_refused() -> None:
    stage = DriftResampler(MONO)
    state = stage.open()
    state.ppm = 5000.0
    with pytest.raises(AudioError, match="5000"):
        stage.step(state, Chunk(np.zeros((1, 10), np.float32), 0, MONO))


@given(
    st.sampled_from([LAYOUT, LYRA]),
    st.floats(0.2, 20),
    st.integers(1, 8),
    st.lists(st.floats(0, 0.5), max_size=12),
)
def test_a_plan_keeps_to_its_rate(
    layout: CodeLayout, kbps: float, frames: int, losses: list[float]
) -> None:
    control = RateControl(layout)
    state = control.open(kbps, frames)
    for loss in losses:
        control.report(state, loss)
    plan = control.plan(state)
    spent = plan.bits(layout) * layout.frame_rate / frames / 1000
    assert spent <= kbps + 1e-6 or plan == Plan(1, frames)


def test_redundancy_comes_with_loss_and_goes_without() -> None:
    control = RateControl(LAYOUT)
    state = control.open(6.0)
    assert control.plan(state) == Plan(12)
    seen = []
    for loss in [0.0, 0.1, 0.1, *[0.0] * 60]:
        control.report(state, loss)
        seen.append(control.plan(state).redundant_layers)
    assert seen[:3] == [0, 2, 2]
    assert seen[-1] == 0
    assert seen == seen[:3] + sorted(seen[3:], reverse=True)  # no flapping


def test_protection_stays_until_loss_is_well_below_what_brought_it() -> None:
    control = RateControl(LAYOUT)
    state = control.open(6.0)
    for loss, guard in ((0.0999, 2), (0.03, 2), (0.0, 1), (0.0, 0), (0.008, 0), (0.03, 1)):
        state.loss = loss  # as if reported for long
        control.report(state, loss)
        assert state.guard == guard or (loss == 0.0 and state.guard <= guard)


def test_few_bits_are_not_shared() -> None:
    """Below 80 bits a frame redundancy was measured to lose more than it saves."""
    control = RateControl(LAYOUT)
    state = control.open(3.0)
    control.report(state, 0.3)
    assert control.plan(state) == Plan(6)
    state.kbps = 4.0
    assert control.plan(state) == Plan(6, 1, 1, 2, far=True)


def test_on_wire_kbps_counts_every_header() -> None:
    link = wire("rtp")
    packet = write(Packet(0, np.zeros((6, 1), np.int32)), LAYOUT)
    assert link.kbps(len(packet), 50) == pytest.approx(8 * 50 * (8 + HEADER_BYTES + 40) / 1000)
    control = RateControl(LAYOUT, link)
    for frames in (1, 4, 16):
        plan = control.plan(control.open(19.0, frames))
        size = HEADER_BYTES + -(-plan.bits(LAYOUT) // 8)
        assert link.kbps(size, 50 / frames) <= 19.0
    with pytest.raises(PacketError, match="one of bare"):
        wire("pigeon")


def test_frames_per_message_follow_from_the_budget() -> None:
    assert frames_per_message(40, 20, 0) == 2
    assert frames_per_message(40, 20, 60) == 1
    assert frames_per_message(5000, 20, 60) == 16


@pytest.mark.parametrize("bad", [{"kbps": 0.0}, {"kbps": -1.0}, {"kbps": float("nan")}])
def test_rates_that_cannot_be_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(PacketError, match="positive"):
        RateControl(LAYOUT).open(**bad)
    with pytest.raises(PacketError, match="share"):
        RateControl(LAYOUT).report(RateControl(LAYOUT).open(3.0), 2.0)


@pytest.mark.parametrize("name", ["bits", "jitter", "layout", "onwire"])
def test_examples_in_the_docs_hold(name: str) -> None:
    module = importlib.import_module(f"ossicle.streaming.codec.{name}")
    done = doctest.testmod(module)
    assert done.attempted > 0
    assert done.failed == 0
