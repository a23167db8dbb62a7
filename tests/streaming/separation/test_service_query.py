"""A query changed mid-stream, asked by the real client of a real server on a loopback port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.engine import Engine, EngineSettings
from ossicle.runtime.errors import OssicleError
from ossicle.runtime.model import Model
from ossicle.runtime.task import AudioEvent, InlineRun
from ossicle.streaming import messages as m
from ossicle.streaming.client import AsyncClient, Sound, connect
from ossicle.streaming.client.aio import concatenate
from ossicle.streaming.separation.tasks import SeparateTask
from ossicle.streaming.server.config import Settings
from ossicle.streaming.server.run import Server
from ossicle.streaming.session.bridge import EngineBridge

RATE, CHANGE = 16_000, 16_384
SETTLED_S = 0.6  # twice the median in the model card, nearly
Signal = NDArray[np.float32]


@pytest.fixture
async def client(separator: Model) -> AsyncIterator[AsyncClient]:
    settings = EngineSettings(max_batch=4, calibration_runs=9)
    with Engine({separator.name: separator}, settings) as engine:
        async with (
            Server(Settings(port=0, drain_s=1.0), EngineBridge(engine)) as server,
            connect(f"127.0.0.1:{server.port}") as made,
        ):
            yield made


def scene(seconds: float = 2.56) -> Signal:
    """A buzzing voice over rain and a beep."""
    rng = np.random.default_rng(0)
    t = np.arange(round(seconds * RATE)) / RATE
    voice = sum((np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 12)), np.zeros(len(t)))
    voice *= 0.5 + 0.5 * np.sin(2 * np.pi * 3 * t)
    beep = np.sin(2 * np.pi * 3150 * t) * ((t % 0.5) < 0.25)
    x = 0.08 * voice + 0.02 * rng.standard_normal(len(t)) + 0.05 * beep
    return x.astype(np.float32)


async def over_the_wire(
    client: AsyncClient, x: Signal, first: str, then: str = "", **options: Any
) -> list[m.Response]:
    spec = m.TaskSpec("separate", options={"query": first, **options})
    stream = client.stream(spec, rate_hz=RATE, live=False)
    answers: list[m.Response] = []
    async with stream:
        await stream.send(x[:CHANGE])
        if then:
            await stream.query(then)
        await stream.send(x[CHANGE:])
        await stream.end()
        answers += [response async for response in stream]
    return answers


def sound(answers: list[m.Response]) -> Signal:
    return np.asarray(concatenate([r.body for r in answers if isinstance(r.body, Sound)])[0])


def in_process(
    model: Model, x: Signal, first: str, change: Mapping[str, Any] | None = None, **options: Any
) -> Signal:
    run = InlineRun(SeparateTask(model, first, **options), model)
    events = run.feed(Chunk(x[None, :CHANGE], 0, AudioFormat(RATE)))
    if change:
        run.update(change)
    events += run.feed(Chunk(x[None, CHANGE:], CHANGE, AudioFormat(RATE))) + run.finish()
    return np.concatenate([e.chunk.samples[0] for e in events if isinstance(e, AudioEvent)])


def error_db(y: Signal, truth: Signal) -> float:
    return float(10 * np.log10(np.square(y - truth).sum() / np.square(truth).sum() + 1e-9))


@pytest.mark.parametrize(
    ("first", "then"),
    [("rain", "speech"), ("speech", "not speech"), ("not the alarms", "alarms")],
)
async def test_the_query_changes_where_it_was_asked_and_nothing_is_lost(
    client: AsyncClient, separator: Model, first: str, then: str
) -> None:
    x = scene()
    got = sound(await over_the_wire(client, x, first, then))
    assert got.shape == x.shape
    # the same change at the same sample in this process: the model's memory went on
    np.testing.assert_allclose(got, in_process(separator, x, first, {"query": then}), atol=2e-5)
    before, after = (in_process(separator, x, query) for query in (first, then))
    edge = CHANGE - separator.manifest.delay
    np.testing.assert_allclose(got[:edge], before[:edge], atol=2e-5)
    settled = slice(CHANGE + round(SETTLED_S * RATE), None)
    assert error_db(got[settled], after[settled]) < -15.0
    assert error_db(got[settled], before[settled]) > -10.0


async def test_depth_is_kept_through_a_change(client: AsyncClient, separator: Model) -> None:
    x = scene(1.6)
    got = sound(await over_the_wire(client, x, "rain", "speech", depth=0.5))
    own = in_process(separator, x, "rain", {"query": "speech"}, depth=0.5)
    np.testing.assert_allclose(got, own, atol=2e-5)
    full = in_process(separator, x, "rain", {"query": "speech"})
    np.testing.assert_allclose(own, 0.5 * (x + full), atol=1e-4)


async def test_a_change_to_something_unknown_is_refused_by_name(client: AsyncClient) -> None:
    with pytest.raises(OssicleError, match=r"elephants.*nearest"):
        await over_the_wire(client, scene(1.6), "speech", "elephants")


async def test_a_live_listener_is_told_and_hears_on(client: AsyncClient) -> None:
    spec = m.TaskSpec("separate", options={"query": "speech"})
    async with client.stream(spec, rate_hz=RATE, live=True) as stream:
        await stream.query("elephants")
        await stream.query("rain")
        await stream.end()
        answers = [response.body async for response in stream]
    notices = [body for body in answers if isinstance(body, m.Notice)]
    assert [n.kind for n in notices] == ["QUERY-REFUSED", "QUERY"]
    assert "elephants" in notices[0].text
    assert "nearest" in notices[0].text
    assert notices[1].text == "rain"
    assert isinstance(answers[-1], m.Ended)


async def test_several_queries_are_one_task_and_one_pass(
    client: AsyncClient, separator: Model
) -> None:
    x, asked = scene(1.6), ("speech", "not speech", "speech")
    spec = m.TaskSpec("separate", options={"queries": asked})
    async with client.stream(spec, rate_hz=RATE, live=False) as stream:
        await stream.send(x[:CHANGE])
        await stream.query(["rain", "speech", "alarms"])
        await stream.send(x[CHANGE:])
        await stream.end()
        answers = [response async for response in stream]
    (hops,) = hops_of(answers)
    assert hops * separator.manifest.hop < 1.1 * len(x)
    then = ("rain", "speech", "alarms")
    for slot, (first, second) in enumerate(zip(asked, then, strict=True)):
        got = track_of(answers, f"query{slot}")
        own = in_process(separator, x, first, {"query": second})
        np.testing.assert_allclose(got, own, atol=2e-5)


def hops_of(answers: list[m.Response]) -> list[int]:
    """The hops that each task of a stream was stepped for."""
    ended = next(r.body for r in answers if isinstance(r.body, m.Ended))
    return [totals.hops for totals in ended.tasks]


def track_of(answers: list[m.Response], name: str) -> Signal:
    """One track's samples in a row, each beginning where the one before ended."""
    sounds = [r.body for r in answers if isinstance(r.body, Sound) and r.body.track == name]
    for a, b in pairwise(sounds):
        assert a.stop_sample == b.start_sample
    return np.concatenate([s.samples[0] for s in sounds])


async def test_depth_alone_can_be_changed(client: AsyncClient, separator: Model) -> None:
    x = scene(1.6)
    spec = m.TaskSpec("separate", options={"query": "rain"})
    async with client.stream(spec, rate_hz=RATE, live=False) as stream:
        await stream.send(x[:CHANGE])
        await stream.query(depth=0.25)
        await stream.send(x[CHANGE:])
        await stream.end()
        got = sound([response async for response in stream])
    np.testing.assert_allclose(got, in_process(separator, x, "rain", {"depth": 0.25}), atol=2e-5)
    after = CHANGE + separator.manifest.hop
    assert error_db(got[after:], x[after:]) < -2.0


@pytest.mark.parametrize("change", [{"depth": 1.5}, {"depth": float("nan")}, {"text": ""}])
async def test_a_change_out_of_range_is_refused(
    client: AsyncClient, change: dict[str, Any]
) -> None:
    spec = m.TaskSpec("separate", options={"query": "rain"})

    async def changed() -> None:
        async with client.stream(spec, rate_hz=RATE, live=False) as stream:
            await stream.query(**change)
            await stream.send(scene(0.5))
            await stream.end()
            async for _ in stream:
                pass

    with pytest.raises(OssicleError, match=r"depth is|is empty"):
        await changed()


async def test_a_change_at_another_rate_stays_in_line(client: AsyncClient) -> None:
    """The track keeps its name, and with it the state of the way back to the client's rate."""
    rate = 48_000
    x = np.repeat(scene(1.6), 3)
    spec = m.TaskSpec("separate", options={"query": "not rain", "depth": 0.0})
    async with client.stream(spec, rate_hz=rate, live=False) as stream:
        await stream.send(x[:rate])
        await stream.query("speech")
        await stream.send(x[rate:])
        await stream.end()
        got = track_of([response async for response in stream], "query0")
    assert got.shape == x.shape  # at depth 0 the input comes back, whatever is asked
    low = np.fft.rfft(got - x)[: len(x) // 2 * 6000 // (rate // 2)]
    assert np.abs(low).max() < 0.02 * np.abs(np.fft.rfft(x)).max()


async def test_a_query_and_a_list_of_them_are_not_both_taken(client: AsyncClient) -> None:
    spec = m.TaskSpec("separate", options={"query": "rain", "queries": ("speech",)})
    stream = client.stream(spec, rate_hz=RATE, live=False)
    try:
        with pytest.raises(OssicleError, match="or else a list"):
            await stream.opened()
    finally:
        await stream.close()
