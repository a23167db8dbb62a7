"""A call: one stream encodes what I say and decodes what the other sends, at the same time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from streamtoys import audio_of, config, given

from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.model import Model
from ossicle.runtime.task import AudioEvent, InlineRun, PacketEvent
from ossicle.streaming import messages as m
from ossicle.streaming.codec.tasks import DecodeTask, EncodeTask
from ossicle.streaming.server.caller import Caller
from ossicle.streaming.server.config import Settings
from ossicle.streaming.server.service import Service
from ossicle.streaming.session.inline import InlineEngine

RATE = 16_000


def voice(pitch_hz: float, seconds: float = 2.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * k * pitch_hz * time) / k for k in range(1, 8))
    return (0.1 * tone * (np.sin(2 * np.pi * time) > -0.5))[None].astype(np.float32)


def sent(model: Model, signal: np.ndarray) -> list[m.WirePacket]:
    run = InlineRun(EncodeTask(model.bundle, kbps=2.0), model)
    events = run.feed(Chunk(signal, 0, AudioFormat(RATE))) + run.finish()
    return [m.WirePacket(e.packet, e.start, e.stop - e.start)
            for e in events if isinstance(e, PacketEvent)]  # fmt: skip


def heard(model: Model, packets: Iterable[m.WirePacket]) -> np.ndarray:
    run = InlineRun(DecodeTask(model.bundle), model)
    events = [e for p in packets for e in run.feed(p.data)] + run.finish()
    return np.concatenate([e.chunk.samples[0] for e in events if isinstance(e, AudioEvent)])


@pytest.mark.parametrize("size", [320, 999])
async def test_both_ways_in_one_stream(toy_model: Model, size: int) -> None:
    mine, theirs = voice(110.0), voice(190.0)
    coming = sent(toy_model, theirs)
    requests: list[m.Request] = [
        config(
            m.TaskSpec("encode", model="toy-codec", options={"kbps": 2.0}),
            m.TaskSpec("decode", model="toy-codec"),
        )
    ]
    for index, at in enumerate(range(0, mine.shape[1], size)):
        requests.append(m.AudioIn(mine[:, at : at + size].tobytes()))
        requests.append(m.PacketsIn(tuple(coming[index * 4 : index * 4 + 4])))
    rest = coming[4 * (index + 1) :]
    requests += [m.PacketsIn(tuple(rest))] if rest else []
    requests.append(m.End())
    service = Service(InlineEngine(loaded={"toy-codec": toy_model}), Settings())
    answers = [r async for r in service.stream(given(requests), Caller())]
    going = [p for r in answers if isinstance(r.body, m.PacketsOut) for p in r.body.packets]
    assert [p.data for p in going] == [p.data for p in sent(toy_model, mine)]
    np.testing.assert_array_equal(audio_of(answers, "decode"), heard(toy_model, coming))
    first = next(i for i, r in enumerate(answers) if isinstance(r.body, m.PacketsOut))
    last = max(i for i, r in enumerate(answers) if isinstance(r.body, m.AudioOut))
    assert first < last - 10  # neither waits for the other to end


async def test_loss_reported_in_a_call_changes_what_is_sent(toy_model: Model) -> None:
    mine = voice(110.0, 4.0)
    requests: list[m.Request] = [
        config(m.TaskSpec("encode", model="toy-codec", options={"kbps": 4.8}))
    ]
    for at in range(0, mine.shape[1], 320):
        requests.append(m.AudioIn(mine[:, at : at + 320].tobytes()))
        if at in (20_160, 20_480, 20_800):
            requests.append(m.LossReport(0.15))
    requests.append(m.End())
    service = Service(InlineEngine(loaded={"toy-codec": toy_model}), Settings())
    answers = [r async for r in service.stream(given(requests), Caller())]
    going = [p for r in answers if isinstance(r.body, m.PacketsOut) for p in r.body.packets]
    redundant = [p.data[0] >> 4 & 1 for p in going]
    assert not any(redundant[:60])
    assert all(redundant[70:])
    assert max(len(p.data) for p in going[70:]) <= max(len(p.data) for p in going[:60]) + 2
