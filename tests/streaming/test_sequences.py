"""Any sequence of requests, and streams beside each other."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given as hypothesis_given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from streamtoys import (
    CAPTION,
    DECODE,
    ENCODE,
    ENHANCE,
    RATE,
    audio_of,
    config,
    given,
    load_all,
    pieces,
    serving,
    tones,
    whole,
)

from ossicle.runtime.errors import OssicleError
from ossicle.runtime.model import Model
from ossicle.streaming import messages as m
from ossicle.streaming.client import Sound, connect
from ossicle.streaming.client.aio import concatenate
from ossicle.streaming.server.caller import Caller
from ossicle.streaming.server.config import Settings
from ossicle.streaming.server.service import Service
from ossicle.streaming.session.inline import InlineEngine


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    return load_all(tmp_path_factory.mktemp("bundles"))


audio = st.one_of(
    st.binary(max_size=300).map(m.AudioIn),
    st.integers(0, 400).map(lambda n: m.AudioIn(bytes(4 * n))),
    st.builds(m.AudioIn, st.just(bytes(8)), st.integers(0, 2**63 - 1)),
    st.sampled_from([np.nan, np.inf, 1e30, 3.0]).map(
        lambda v: m.AudioIn(np.full(64, v, np.float32).tobytes())
    ),
)
anything = st.one_of(
    audio,
    audio,
    audio,
    st.builds(m.Marker, st.integers(0, 99)),
    st.builds(m.Credit, st.integers(0, 2**63 - 1)),
    st.builds(m.Query, st.text(max_size=9), st.sampled_from(["", "enhance", "x"])),
    st.builds(
        m.PacketsIn, st.lists(st.binary(max_size=30).map(m.WirePacket), max_size=3).map(tuple)
    ),
    st.builds(m.LossReport, st.floats(), st.floats(), st.just("")),
    st.builds(m.Acknowledge, st.integers(0, 2**63 - 1)),
    st.just(m.End()),
)
first = st.one_of(
    st.builds(
        config,
        st.sampled_from([ENHANCE, CAPTION, ENCODE, DECODE]),
        sample_rate_hz=st.sampled_from([8_000, 16_000, 44_100, 48_000]),
        channels=st.integers(1, 2),
        pace=st.sampled_from(m.PACES),
        encoding=st.sampled_from(["pcm_f32", "pcm_s16", "mu_law"]),
        credit_ms=st.sampled_from([0, 0, 1, 100]),
    ),
    anything,
)


@hypothesis_settings(max_examples=60)
@hypothesis_given(first, st.lists(anything, max_size=12))
def test_any_sequence_of_requests_is_answered_or_refused(
    models: dict[str, Model], opening: m.Request, rest: list[m.Request]
) -> None:
    async def run() -> None:
        service = Service(InlineEngine(loaded=models), Settings())
        other = service.stream(given(whole(config(), tones(0.1), 160)), Caller())
        begun = [await anext(other)]
        answers: list[m.Response] = []
        try:
            async with asyncio.timeout(20):
                async for response in service.stream(given([opening, *rest]), Caller()):
                    answers.append(response)  # noqa: PERF401  (kept when it raises)
        except OssicleError:
            pass
        except TimeoutError:  # waits for credit that never comes
            assert isinstance(opening, m.Config)
            assert opening.credit_ms
        seqs: dict[str, int] = {}
        for response in answers:
            if response.task:
                assert response.seq == seqs.get(response.task, 0) + 1
                seqs[response.task] = response.seq
        np.testing.assert_array_equal(audio_of([*begun, *[r async for r in other]]), undisturbed)
        assert not service.sessions

    undisturbed = audio_of(asyncio.run(alone(models)))
    asyncio.run(run())


async def alone(models: dict[str, Model]) -> list[m.Response]:
    service = Service(InlineEngine(loaded=models), Settings())
    requests = whole(config(), tones(0.1), 160)
    return [r async for r in service.stream(given(requests), Caller())]


async def test_streams_side_by_side_give_what_each_gives_alone(models: dict[str, Model]) -> None:
    async for server in serving(models):
        async with connect(f"127.0.0.1:{server.port}") as client:
            signals = [tones(0.5) * (0.2 + 0.1 * i) for i in range(6)]

            async def one(x: Any, client: Any = client) -> Any:
                found = [
                    r.body
                    async for r in client.run(x, ENHANCE, rate_hz=RATE)
                    if isinstance(r.body, Sound)
                ]
                return concatenate(found)

            together = await asyncio.gather(*(one(x) for x in signals))
            for x, y in zip(signals, together, strict=True):
                np.testing.assert_array_equal(y, await one(x))
    assert pieces(tones(0.1), 800)
