"""The ring: whatever the network did, frames leave once, in order, and named for what they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossicle.runtime import snapshot
from ossicle.runtime.errors import PacketError
from ossicle.streaming.codec.jitter import MAX_GAP, SILENCE_HOLD, Frame, JitterRing
from ossicle.streaming.codec.layout import CodeLayout
from ossicle.streaming.codec.loss import BadLink
from ossicle.streaming.codec.packet import Noise, Packet
from ossicle.streaming.codec.packetreader import read
from ossicle.streaming.codec.rate import Plan
from ossicle.streaming.codec.sender import Sender

LAYOUT = CodeLayout((1024,) * 6, 320, 16_000)


def code(index: int) -> np.ndarray:
    """The codes of frame ``index``: its number, in every layer."""
    return np.full((6, 1), index % 1024, np.int32)


def send(count: int, plan: Plan, first: int = 0) -> list[bytes]:
    sender = Sender(LAYOUT)
    state = sender.open()
    state.next = first
    sent = [p for i in range(first, first + count) for p in sender.push(state, code(i), plan)]
    return [p.data for p in sent + sender.flush(state, plan)]


def receive(ring: JitterRing, packets: list[bytes], first: int = 0) -> tuple[list[Frame], dict]:
    state = ring.open(first)
    frames = [f for data in packets for f in ring.push(state, read(data, LAYOUT))]
    frames += ring.drain(state)
    assert not state.waiting
    return frames, {name: getattr(state.counts, name) for name in ("lost", "recovered", "late",
                    "duplicate", "coded", "silence", "jumped")}  # fmt: skip


def check_order(frames: list[Frame], first: int = 0) -> None:
    at = first
    for frame in frames:
        assert frame.index == at
        at = frame.stop if frame.kind == "jump" else at + 1
        if frame.codes is not None:
            assert (frame.codes == frame.index % 1024).all()


@given(
    count=st.integers(1, 120),
    frames=st.integers(1, 4),
    loss=st.sampled_from([0.0, 0.1, 0.3]),
    jitter_ms=st.sampled_from([0.0, 10.0, 40.0]),
    duplicate=st.sampled_from([0.0, 0.2]),
    delay=st.integers(0, 8),
    depth=st.integers(0, 2),
    far=st.booleans(),
    first=st.sampled_from([0, 65_500, 2**31 - 50, 2**40]),
    seed=st.integers(0, 1000),
)
def test_frames_leave_once_and_in_order(
    count: int, frames: int, loss: float, jitter_ms: float, duplicate: float, delay: int,
    depth: int, far: bool, first: int, seed: int,
) -> None:  # fmt: skip
    packets = send(count, Plan(6, frames, 2 if depth else 0, depth, far and depth == 2), first)
    link = BadLink(loss, 1.5, jitter_ms=jitter_ms, duplicate=duplicate, seed=seed)
    arrived = [a.packet for a in link.carry(packets, 20.0 * frames)]
    got, counts = receive(JitterRing(delay), arrived, first)
    check_order(got, first)
    assert counts["coded"] + counts["lost"] + counts["jumped"] == sum(
        f.stop - f.index if f.kind == "jump" else 1 for f in got
    )


@given(st.permutations(range(6)), st.integers(0, 5))
def test_reordering_within_the_delay_loses_nothing(order: list[int], extra: int) -> None:
    packets = send(6, Plan(6))
    got, counts = receive(JitterRing(6 + extra), [packets[i] for i in order])
    assert [f.kind for f in got] == ["coded"] * 6
    assert counts["lost"] == counts["late"] == 0
    check_order(got)


def test_a_frames_own_packet_beats_its_redundancy() -> None:
    packets = send(8, Plan(6, 1, 2, 1))
    packets[3], packets[4] = packets[4], packets[3]
    got, counts = receive(JitterRing(3), packets)
    assert [f.codes.shape[0] for f in got if f.codes is not None] == [6] * 8
    assert counts["recovered"] == counts["lost"] == 0


def test_a_full_ring_lets_the_oldest_go() -> None:
    got, counts = receive(JitterRing(127), send(400, Plan(6, 16)))
    assert counts["lost"] == 0
    check_order(got)


def test_frames_before_a_silence_are_not_sent_again_after_it() -> None:
    sender, plan = Sender(LAYOUT), Plan(6, 1, 2, 2)
    state = sender.open()
    for i in range(5):
        sender.push(state, code(i), plan)
    sender.silence(state, Noise(60), plan)
    after = [p.data for i in range(6, 9) for p in sender.push(state, code(i), plan)]
    past = [read(data, LAYOUT).past for data in after]
    assert past[0] is None
    assert [p.tolist() for p in past[1:] if p is not None] == [[[6], [6]], [[6, 7], [6, 7]]]


def test_a_duplicate_changes_nothing_but_its_count() -> None:
    packets = send(10, Plan(6))
    once, _ = receive(JitterRing(3), packets)
    twice, counts = receive(JitterRing(3), [p for p in packets for _ in range(2)])
    assert [(f.index, f.kind) for f in once] == [(f.index, f.kind) for f in twice]
    assert counts["duplicate"] + counts["late"] == 10


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("depth", [1, 2])
def test_redundancy_mends_what_it_reaches(depth: int, frames: int) -> None:
    packets = send(60, Plan(6, frames, 2, depth))
    lost = packets[:4] + packets[4 + depth :]
    got, counts = receive(JitterRing(depth * frames + frames), lost)
    assert (counts["lost"], counts["recovered"]) == (0, depth * frames)
    mended = [f for f in got if f.redundant]
    assert [f.index for f in mended] == list(range(4 * frames, (4 + depth) * frames))
    assert all(f.codes is not None and f.codes.shape[0] == 2 for f in mended)
    check_order(got)


@pytest.mark.parametrize("frames", [1, 3])
def test_far_redundancy_mends_one_packet_or_both_of_a_burst(frames: int) -> None:
    packets = send(60, Plan(6, frames, 2, 2, far=True))
    for lost in ([4], [4, 5], [4, 7]):
        got, counts = receive(
            JitterRing(3 * frames), [p for i, p in enumerate(packets) if i not in lost]
        )
        assert (counts["lost"], counts["recovered"]) == (0, len(lost) * frames)
        check_order(got)
    _, counts = receive(JitterRing(3 * frames), packets[:4] + packets[5:6] + packets[7:])
    assert counts["lost"] == frames  # the packet that carried it was lost too


@pytest.mark.parametrize(("delay", "kind"), [(0, "lost"), (1, "coded")])
def test_a_clock_hears_redundancy_only_within_the_delay(delay: int, kind: str) -> None:
    packets = send(20, Plan(6, 1, 2, 2))
    ring = JitterRing(64)
    state = ring.open()
    kinds = []
    for i in range(20):  # a packet every tick; frame i is played `delay` ticks after its own
        if i != 5:
            assert ring.push(state, read(packets[i], LAYOUT)) == []
        if i >= delay:
            kinds.append(ring.pull(state).kind)
    assert kinds[5] == kind
    assert kinds.count("lost") == (kind == "lost")


def test_silence_speaks_for_the_frames_after_it_but_not_for_ever() -> None:
    sender, plan = Sender(LAYOUT), Plan(6)
    state = sender.open()
    sent = sender.push(state, code(0), plan)
    for _ in range(45):
        sent += sender.silence(state, Noise(60), plan)
    sent += sender.push(state, code(46), plan)
    assert len(sent) == 1 + 3 + 1  # one descriptor every 20 frames
    got, counts = receive(JitterRing(2), [p.data for p in sent])
    assert (counts["silence"], counts["lost"], counts["coded"]) == (45, 0, 2)
    assert got[-1].index == 46

    ring = JitterRing(0)
    held = ring.open()
    ring.push(held, Packet(0, np.empty((0, 1), np.int32), noise=Noise(60)))
    kinds = [ring.pull(held).kind for _ in range(60)]
    assert kinds == ["silence"] * (SILENCE_HOLD - 1) + ["lost"] * (61 - SILENCE_HOLD)


def test_a_long_hole_is_jumped_and_a_restart_is_followed() -> None:
    packets = send(200, Plan(6))
    got, counts = receive(JitterRing(1), packets[:10] + packets[20 + MAX_GAP :])
    jumps = [f for f in got if f.kind == "jump"]
    assert [(f.index, f.stop) for f in jumps] == [(10, 20 + MAX_GAP)]
    assert counts["jumped"] == 10 + MAX_GAP
    check_order(got)

    again, counts = receive(JitterRing(1), packets + packets[:30])
    assert len(again) == 230
    assert [f.index for f in again if f.reset] == [0, 200]
    assert counts["lost"] == counts["jumped"] == 0


@given(st.lists(st.tuples(st.integers(0, 65_535), st.booleans(), st.booleans()), max_size=30))
def test_no_packet_makes_much_work(cases: list[tuple[int, bool, bool]]) -> None:
    ring = JitterRing(4)
    state = ring.open()
    for sequence, silent, reset in cases:
        noise = Noise(50) if silent else None
        codes = np.zeros((0 if silent else 6, 16), np.int32)
        frames = ring.push(state, Packet(sequence, codes, noise=noise, reset=reset))
        assert len(frames) <= MAX_GAP + 4 + 32
        assert len(state.waiting) <= ring.capacity


def test_a_ring_travels() -> None:
    packets = send(40, Plan(6, 2, 2, 2))
    del packets[7]
    packets[11], packets[12] = packets[12], packets[11]
    ring = JitterRing(5)
    whole, _ = receive(ring, packets)
    state, frames = ring.open(), []
    for data in packets:
        state = snapshot.load(snapshot.dump(state))
        frames += ring.push(state, read(data, LAYOUT))
    frames += ring.drain(state)
    assert [(f.index, f.kind, f.redundant) for f in frames] == [
        (f.index, f.kind, f.redundant) for f in whole
    ]


def test_a_ring_without_room_is_refused() -> None:
    with pytest.raises(PacketError, match="delay 128"):
        JitterRing(128)
