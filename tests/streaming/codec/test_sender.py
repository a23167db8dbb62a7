"""The sender: its short way for one frame a packet sends and keeps what the long way would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossicle.runtime import snapshot
from ossicle.runtime.errors import SnapshotError
from ossicle.streaming.codec.encodestate import Pending
from ossicle.streaming.codec.layout import CodeLayout
from ossicle.streaming.codec.packet import Noise
from ossicle.streaming.codec.rate import Plan
from ossicle.streaming.codec.sender import Sender, SenderState, Sent

LAYOUT = CodeLayout((1024,) * 6 + (1000, 3), 320, 16_000)
plans = st.sampled_from(
    [Plan(8), Plan(3), Plan(6, 1, 2, 1), Plan(6, 1, 2, 2), Plan(6, 1, 2, 2, far=True), Plan(4, 2),
     Plan(5, 3, 2, 1)],
)  # fmt: skip
steps = st.lists(st.tuples(plans, st.sampled_from(["push"] * 6 + ["silence", "skip"])), max_size=40)


class Long(Sender):
    """Sends every frame the long way."""

    def push(self, state: SenderState, codes: Any, plan: Plan) -> list[Sent]:
        state.quiet = -1
        state.held.append(codes)
        state.next += 1
        return self.flush(state, plan) if len(state.held) >= plan.frames else []


@given(steps, st.integers(0, 2**32 - 1))
def test_the_short_way_sends_what_the_long_way_sends(
    script: list[tuple[Plan, str]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    senders = Sender(LAYOUT), Long(LAYOUT)
    states = [sender.open() for sender in senders]
    for state in states:
        state.next = 65_530  # the sequence wraps
    plan = Plan(8)
    for plan, what in script:
        layers = int(rng.integers(1, 9))
        codes = rng.integers(0, 3, (layers, 1)).astype(np.int32)
        got = []
        for sender, state in zip(senders, states, strict=True):
            if what == "push":
                got.append(sender.push(state, codes, plan))
            elif what == "silence":
                got.append(sender.silence(state, Noise(60), plan))
            else:
                got.append(sender.skip(state, state.next + 5, plan))
        assert got[0] == got[1]
        assert snapshot.dump(states[0]) == snapshot.dump(states[1])
    assert senders[0].flush(states[0], plan) == senders[1].flush(states[1], plan)


def test_a_frame_alone_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sender, "flush", None)  # the long way
    sender = Sender(LAYOUT)
    state = sender.open()
    codes = np.ones((8, 1), np.int32)
    first, second = (sender.push(state, codes, Plan(8))[0] for _ in range(2))
    assert (first.first, first.frames, first.payload_bits) == (0, 1, LAYOUT.bits(8))
    assert (second.first, len(state.history)) == (1, 2)


def test_a_snapshot_from_before_hops_knew_their_layers_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fields = {**snapshot._fields, Pending: ("frames", "skip_to", "noise_level", "noise_bands")}
    with monkeypatch.context() as before:
        before.setattr(snapshot, "_fields", fields)
        old = snapshot.dump(Pending())
    with pytest.raises(SnapshotError, match=r"codec\.Pending.*layers"):
        snapshot.load(old)
    assert snapshot.load(snapshot.dump(Pending(layers=3))) == Pending(layers=3)
