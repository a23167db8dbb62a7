"""Playing by a clock that is not the sender's: the delay stays where it was promised."""

from __future__ import annotations

import numpy as np
import pytest

from ossicle.runtime import snapshot
from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.errors import PacketError
from ossicle.runtime.model import Model
from ossicle.runtime.task import AudioEvent, InlineRun, PacketEvent
from ossicle.streaming.codec.loss import BadLink
from ossicle.streaming.codec.playout import Playout, PlayoutReport
from ossicle.streaming.codec.tasks import DecodeTask, EncodeTask

HOP = 320


def packets_of(model: Model, frames: int) -> list[bytes]:
    time = np.arange(frames * HOP) / 16_000
    tone = (0.2 * np.sin(2 * np.pi * 440 * time))[None].astype(np.float32)
    run = InlineRun(EncodeTask(model.bundle), model)
    events = run.feed(Chunk(tone, 0, AudioFormat(16_000))) + run.finish()
    return [e.packet for e in events if isinstance(e, PacketEvent)]


def play(
    model: Model, frames: int, ppm: float, link: BadLink, delay: int = 4, move: bool = False
) -> tuple[np.ndarray, list[PlayoutReport]]:
    """Send on a clock that is ``ppm`` fast, play on ours in chunks of 10 ms."""
    player = Playout(model, delay)
    state, memory = player.open()
    arrivals = link.carry(packets_of(model, frames), 20.0 / (1 + ppm * 1e-6))
    heard, reports, at = [], [], 0
    for tick in range(2 * frames - 20):
        now = tick * 10_000_000
        while at < len(arrivals) and arrivals[at].ns <= now:
            player.push(state, memory, arrivals[at].packet, arrivals[at].ns)
            at += 1
        heard.append(player.pull(state, memory, 160))
        if tick % 200 == 0:
            reports.append(player.report(state))
            if move:
                state = snapshot.load(snapshot.dump(state))
    return np.concatenate(heard, axis=1), reports


@pytest.mark.parametrize("ppm", [-400.0, 400.0])
def test_drift_is_measured_and_resampled_away(toy_model: Model, ppm: float) -> None:
    link = BadLink(0.02, jitter_ms=6, seed=2)
    _, reports = play(toy_model, 2500, ppm, link)
    last = reports[-1]
    assert last.ppm == pytest.approx(ppm, abs=30)
    assert last.applied_ppm == pytest.approx(ppm, abs=150)
    assert (last.stalled, last.dropped) == (0, 0)
    settled = [r.waiting_frames for r in reports[10:]]
    assert abs(np.mean(settled) - 4) < 1


def test_a_tone_on_a_clean_link_is_heard_without_a_seam(toy_model: Model) -> None:
    heard, reports = play(toy_model, 400, 0.0, BadLink())
    run = InlineRun(DecodeTask(toy_model.bundle), toy_model)
    events = [e for p in packets_of(toy_model, 400) for e in run.feed(p)]
    straight = np.concatenate([e.chunk.samples[0] for e in events if isinstance(e, AudioEvent)])
    steps = np.abs(np.diff(heard[0, 3200:-3200]))
    assert steps.max() < 1.1 * np.abs(np.diff(straight[3200:])).max()
    assert steps.max() > 0.1 * 0.2
    assert (reports[-1].stalled, reports[-1].dropped) == (0, 0)


def test_nothing_is_heard_before_the_delay_is_filled(toy_model: Model) -> None:
    heard, _ = play(toy_model, 100, 0.0, BadLink(delay_ms=0), delay=10)
    first = int(np.flatnonzero(np.abs(heard[0]) > 1e-3)[0])
    assert 10 * HOP <= first <= 13 * HOP


def test_a_stall_is_waited_for_and_a_flood_is_caught_up_with(toy_model: Model) -> None:
    player = Playout(toy_model, 3)
    state, memory = player.open()
    packets = packets_of(toy_model, 300)
    for i in range(10):
        player.push(state, memory, packets[i], i * 20_000_000)
        player.pull(state, memory, HOP)
    for _ in range(20):
        player.pull(state, memory, HOP)
    report = player.report(state)
    assert 15 <= report.stalled <= 20
    assert state.task.ring.counts.late == 0
    for i in range(10, 60):
        player.push(state, memory, packets[i], 600_000_000)
    player.pull(state, memory, HOP)
    report = player.report(state)
    assert report.waiting_frames <= 13
    assert report.dropped > 30
    assert state.task.ring.counts.late == 0


def test_playing_goes_on_from_a_snapshot(toy_model: Model) -> None:
    link = BadLink(0.1, 1.5, jitter_ms=10, seed=4)
    straight, _ = play(toy_model, 500, 50.0, link)
    moved, _ = play(toy_model, 500, 50.0, link, move=True)
    np.testing.assert_array_equal(straight, moved)


def test_a_delay_of_nothing_is_refused(toy_model: Model) -> None:
    with pytest.raises(PacketError, match="0 frames"):
        Playout(toy_model, 0)
