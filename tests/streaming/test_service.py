"""The service's core, with no socket: what goes in as requests comes out as answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import numpy as np
import pytest
from streamtoys import (
    CAPTION,
    DECODE,
    ENCODE,
    ENHANCE,
    audio_of,
    config,
    given,
    load_all,
    pieces,
    tones,
    whole,
)

from ossicle.runtime.budget import LatencyClass
from ossicle.runtime.engine import Engine, EngineSettings
from ossicle.runtime.errors import (
    BudgetError,
    CapacityError,
    OssicleError,
    PacketError,
    WireError,
)
from ossicle.runtime.model import Model
from ossicle.streaming import messages as m
from ossicle.streaming.captions.cue import Cue
from ossicle.streaming.failures import Closing, Denied
from ossicle.streaming.server.caller import Caller
from ossicle.streaming.server.config import Settings
from ossicle.streaming.server.security import Grant
from ossicle.streaming.server.service import Service
from ossicle.streaming.session.bridge import EngineBridge
from ossicle.streaming.session.inline import InlineEngine
from ossicle.streaming.session.seam import StreamEngine


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    return load_all(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(params=["inline", "engine"])
async def engine(request: Any, models: dict[str, Model]) -> AsyncIterator[StreamEngine]:
    if request.param == "inline":
        yield InlineEngine(loaded=models)
        return
    settings = EngineSettings(max_batch=4, calibration_runs=9, max_streams=8)
    with Engine(models, settings) as running:
        yield EngineBridge(running)


async def ask(
    engine: StreamEngine,
    requests: Iterable[m.Request],
    caller: Caller | None = None,
    **settings: Any,
) -> list[m.Response]:
    service = Service(engine, Settings(**settings))
    answers = service.stream(given(requests), caller or Caller())
    found = [response async for response in answers]
    assert not service.sessions
    assert service.admission.total == 0
    return found


def bodies(answers: Iterable[m.Response], kind: type) -> list[Any]:
    return [r.body for r in answers if isinstance(r.body, kind)]


async def test_audio_comes_back_filtered_and_whole(engine: StreamEngine) -> None:
    x = tones(1.0)
    answers = await ask(engine, whole(config(), x))
    taps = np.array([0.5, 0.25, -0.125, 0.0625, 0.3], np.float32)
    np.testing.assert_allclose(audio_of(answers), np.convolve(x[0], taps)[: x.shape[1]], atol=1e-6)
    started, ended = answers[0].body, answers[-1].body
    assert isinstance(started, m.Started)
    assert started.tasks[0].hop_samples == 64
    assert isinstance(ended, m.Ended)
    assert (ended.samples, ended.reason, ended.lost_samples) == (16_000, "END", 0)
    assert ended.tasks[0].hops > 0


@pytest.mark.parametrize("size", [1, 37, 1600, 16_000])
async def test_answers_do_not_depend_on_how_the_upload_was_cut(
    engine: StreamEngine, size: int
) -> None:
    x = tones(0.2 if size == 1 else 3.0)
    tasks = (ENHANCE, CAPTION, ENCODE)
    told = await ask(engine, whole(config(*tasks), x, size))
    again = await ask(engine, whole(config(*tasks), x, 999))
    np.testing.assert_array_equal(audio_of(told), audio_of(again))
    assert bodies(told, Cue) == bodies(again, Cue)
    assert packets_of(told) == packets_of(again)


def packets_of(answers: Iterable[m.Response]) -> list[m.WirePacket]:
    return [packet for body in bodies(answers, m.PacketsOut) for packet in body.packets]


async def test_several_tasks_share_one_upload(engine: StreamEngine) -> None:
    x = tones(3.0)
    answers = await ask(engine, whole(config(ENHANCE, CAPTION, ENCODE), x))
    texts = [c.text for c in bodies(answers, Cue) if c.is_final]
    assert any("dog" in text for text in texts)
    assert len(audio_of(answers)) == x.shape[1]
    decoded = await ask(
        engine,
        [config(DECODE), m.PacketsIn(tuple(packets_of(answers))), m.End()],
    )
    back = audio_of(decoded, "decode")
    assert len(back) >= x.shape[1]
    assert np.corrcoef(back[: x.shape[1]], x[0])[0, 1] > 0.5
    for response in answers:
        if response.ledger is not None:
            assert response.ledger.total_us >= 0
    for task in ("enhance", "caption", "encode"):
        seqs = [r.seq for r in answers if r.task == task]
        assert seqs == list(range(1, len(seqs) + 1))


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
@pytest.mark.parametrize("encoding", ["pcm_s16", "pcm_f32", "mu_law", "a_law"])
async def test_any_rate_and_encoding_gives_as_many_samples_as_it_got(
    engine: StreamEngine, rate: int, encoding: str
) -> None:
    t = np.arange(rate // 2) / rate
    x = np.stack([0.4 * np.sin(2 * np.pi * 440 * t)] * 2).astype(np.float32)
    asked = config(sample_rate_hz=rate, channels=2, encoding=encoding)
    answers = await ask(engine, whole(asked, x, 777))
    y = audio_of(answers)
    assert len(y) == x.shape[1]
    taps = np.array([0.5, 0.25, -0.125, 0.0625, 0.3])
    gain = abs(np.sum(taps * np.exp(-2j * np.pi * 440 / 16_000 * np.arange(5))))
    middle = y[rate // 8 : -rate // 8]
    assert 0.9 < np.sqrt(2) * middle.std() / (0.4 * gain) < 1.1


@pytest.mark.parametrize(("encoding", "format", "subtype"), [
    ("flac", "FLAC", "PCM_16"), ("ogg_opus", "OGG", "OPUS"),
])  # fmt: skip
@pytest.mark.parametrize("size", [101, 5_000, 10**7])
async def test_coded_audio_is_decoded_while_it_comes(
    engine: StreamEngine, encoding: str, format: str, subtype: str, size: int
) -> None:
    import io

    soundfile = pytest.importorskip("soundfile")
    x = (0.3 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)).astype(np.float32)
    held = io.BytesIO()
    soundfile.write(held, x, 48_000, format=format, subtype=subtype)
    data = held.getvalue()
    decoded, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    asked = config(sample_rate_hz=48_000, encoding=encoding)
    requests = [m.AudioIn(data[i : i + size]) for i in range(0, len(data), size)]
    got = await ask(engine, [asked, *requests, m.End()])
    want = await ask(engine, whole(config(sample_rate_hz=48_000), decoded[None], 4800))
    np.testing.assert_array_equal(audio_of(got), audio_of(want))


async def test_a_marker_comes_back_after_what_was_before_it(engine: StreamEngine) -> None:
    x = tones(1.0)
    first, second = pieces(x, 8_000)
    requests = [config(), first, m.Marker(7, client_ns=42), second, m.Marker(8), m.End()]
    answers = await ask(engine, requests)
    kinds = [r.body for r in answers if isinstance(r.body, m.Marker | m.AudioOut)]
    at = kinds.index(m.Marker(7, 42, 8_000))
    before = [b for b in kinds[:at] if isinstance(b, m.AudioOut)]
    assert before[-1].start_sample + before[-1].samples == 8_000
    assert m.Marker(8, 0, 16_000) in kinds[at:]


async def test_a_lost_client_is_not_flushed(engine: StreamEngine) -> None:
    x = tones(1.0)[:, :100]
    with pytest.raises(WireError, match="without `end`") as caught:
        await ask(engine, [config(), *pieces(x, 50)])
    assert caught.value.reason == "NO_END"


async def test_a_gap_at_the_client_is_said_and_kept_in_time(engine: StreamEngine) -> None:
    x = tones(1.0)
    data = [p.data for p in pieces(x, 4_000)]
    requests = [config(), m.AudioIn(data[0]), m.AudioIn(data[2], start_sample=8_000), m.End()]
    answers = await ask(engine, requests)
    assert bodies(answers, m.Gap) == [m.Gap(4_000, 8_000, "CLIENT")]
    spans = [(b.start_sample, b.start_sample + b.samples) for b in bodies(answers, m.AudioOut)]
    assert spans[-1][1] == 12_000
    assert not any(start < 8_000 < stop or 4_000 < start < 8_000 for start, stop in spans)


BAD = [
    ([], "config", WireError),
    ([m.End()], "config comes first", WireError),
    ([config(), config()], "second config", WireError),
    ([config(sample_rate_hz=7_999)], "sample_rate_hz is 7999", WireError),
    ([config(sample_rate_hz=2**31)], "sample_rate_hz", WireError),
    ([config(channels=3)], "channels is 3", WireError),
    ([config(encoding="")], "encoding is not given", WireError),
    ([config(output_encoding="flac")], "output_encoding", WireError),
    ([config(tasks=())], "tasks is empty", WireError),
    ([config(ENHANCE, ENHANCE)], "two tasks of one name", WireError),
    ([config(m.TaskSpec("enhance", model="nothing"))], "nothing", OssicleError),
    ([config(m.TaskSpec("caption", model="fir"))], "does enhance", WireError),
    ([config(m.TaskSpec("separate", model="fir"))], "does enhance", WireError),
    ([config(), m.Query("dog")], "0 separate tasks", WireError),
    ([config(), m.PacketsIn((m.WirePacket(b"x"),))], "0 decode tasks", WireError),
    ([config(), m.AudioIn(b"abc"), m.End()], "into a sample", WireError),
    ([config(), m.AudioIn(bytes(8)), m.AudioIn(bytes(8), start_sample=1)], "once, in order",
     WireError),
    ([config(), m.AudioIn(bytes(8), start_sample=2**63)], "past any clock", WireError),
    ([config(resume_token=b"x" * 40)], "keeps no snapshots", WireError),
    ([config(encoding="flac", sample_rate_hz=48_000), m.AudioIn(b"junk" * 99), m.End()],
     "not flac", WireError),
    ([config(m.TaskSpec("enhance", model="fir", ladder=(m.Rung("smaller_model"),)))], "ladder",
     WireError),
]  # fmt: skip


@pytest.mark.parametrize(("requests", "match", "kind"), BAD)
async def test_what_breaks_the_protocol_is_refused_and_says_why(
    engine: StreamEngine, requests: list[m.Request], match: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=match):
        await ask(engine, requests)


async def test_a_budget_gives_the_frames_and_a_wire_counts_its_headers(
    engine: StreamEngine,
) -> None:
    async def packets(**options: Any) -> list[m.WirePacket]:
        spec = m.TaskSpec("encode", model="toy-codec", options=options)
        answers = await ask(engine, whole(config(spec), tones(1.0), 320))
        return [p for r in answers if isinstance(r.body, m.PacketsOut) for p in r.body.packets]

    plain, waiting = await packets(kbps=2.0), await packets(kbps=2.0, budget_ms=300)
    assert waiting[0].samples > plain[0].samples
    bare, rtp = await packets(kbps=20.0, wire="bare"), await packets(kbps=20.0, wire="rtp")
    assert sum(len(p.data) for p in rtp) < sum(len(p.data) for p in bare)
    with pytest.raises(PacketError, match="rtp, grpc, grpc-tls"):
        await packets(wire="pigeon")


async def test_a_class_that_the_bundle_can_never_meet_is_refused(engine: StreamEngine) -> None:
    spec = m.TaskSpec("caption", model="tones", latency_class=LatencyClass.HEARING)
    with pytest.raises(BudgetError, match="allows 10 ms"):
        await ask(engine, [config(spec)])


async def test_scopes_of_a_token_hold_for_models(engine: StreamEngine) -> None:
    caller = Caller(Grant("studio", models=("tones",)))
    with pytest.raises(Denied, match="does not allow model fir"):
        await ask(engine, [config()], caller)


async def test_streams_of_one_client_are_counted(models: dict[str, Model]) -> None:
    service = Service(InlineEngine(loaded=models), Settings(max_streams_per_client=1))
    waiting: asyncio.Queue[m.Request] = asyncio.Queue()

    async def slow() -> AsyncIterator[m.Request]:
        yield config()
        while True:
            yield await waiting.get()

    first = service.stream(slow(), Caller())
    assert isinstance((await anext(first)).body, m.Started)
    with pytest.raises(CapacityError, match="as many as it may have"):
        await anext(service.stream(given([config()]), Caller()))
    await first.aclose()
    assert service.admission.total == 0
    assert isinstance((await anext(service.stream(given([config()]), Caller()))).body, m.Started)


async def test_a_client_that_says_nothing_is_let_go(models: dict[str, Model]) -> None:
    service = Service(InlineEngine(loaded=models), Settings(first_message_s=0.05, idle_s=0.3))
    service.start()

    async def silent(*before: m.Request) -> AsyncIterator[m.Request]:
        for request in before:
            yield request
        await asyncio.sleep(30)

    with pytest.raises(Closing, match="no config within"):
        await anext(service.stream(silent(), Caller()))
    with pytest.raises(Closing, match="nothing came"):
        [r async for r in service.stream(silent(config()), Caller())]
    await service.stop()


async def test_a_draining_server_takes_nobody(models: dict[str, Model]) -> None:
    service = Service(InlineEngine(loaded=models), Settings(drain_s=0.1))
    await service.drain()
    with pytest.raises(Closing, match="draining"):
        await anext(service.stream(given([config()]), Caller()))


async def test_a_live_stream_that_is_not_read_gets_gaps_and_keeps_its_captions(
    models: dict[str, Model],
) -> None:
    service = Service(InlineEngine(loaded=models), Settings(output_ms=200))
    x = tones(3.0)
    answers = service.stream(given(whole(config(ENHANCE, CAPTION, pace="live"), x)), Caller())
    assert isinstance((await anext(answers)).body, m.Started)
    first = await anext(answers)
    await asyncio.sleep(0.5)  # the whole upload is worked through meanwhile
    rest = [first, *[r async for r in answers]]
    gaps = bodies(rest, m.Gap)
    audio = bodies(rest, m.AudioOut)
    assert [g.reason for g in gaps] == ["SLOW_READER"]
    assert gaps[0].stop_sample == min(a.start_sample for a in audio if a.start_sample > 6_400)
    assert sum(a.samples for a in audio) + gaps[0].stop_sample - gaps[0].start_sample == 48_000
    assert any(c.is_final for c in bodies(rest, Cue))
    assert rest[-1].body.lost_samples == gaps[0].stop_sample - gaps[0].start_sample


async def test_answers_wait_for_credit(models: dict[str, Model]) -> None:
    service = Service(InlineEngine(loaded=models), Settings())
    queue: asyncio.Queue[m.Request] = asyncio.Queue()
    for request in whole(config(credit_ms=100), tones(1.0)):
        queue.put_nowait(request)

    async def fed() -> AsyncIterator[m.Request]:
        while True:
            yield await queue.get()

    answers = service.stream(fed(), Caller())
    reached = 0
    with pytest.raises(TimeoutError):  # noqa: PT012  (the wait is the point)
        async with asyncio.timeout(0.3):
            async for response in answers:
                if isinstance(response.body, m.AudioOut):
                    reached = response.body.start_sample + response.body.samples
    assert reached == 1_600


async def test_nan_samples_are_silenced_and_said(engine: StreamEngine) -> None:
    x = tones(0.2)
    x[0, 100:200] = np.nan
    answers = await ask(engine, whole(config(), x))
    assert np.isfinite(audio_of(answers)).all()
    assert [n.kind for n in bodies(answers, m.Notice)] == ["BAD_SAMPLES"]


async def test_too_many_bytes_a_second_end_a_live_stream(engine: StreamEngine) -> None:
    with pytest.raises(Closing, match="bytes a second"):
        await ask(engine, whole(config(pace="live"), tones(3.0)), bytes_per_second=10_000)
    answers = await ask(engine, whole(config(), tones(3.0)), bytes_per_second=10_000)
    assert isinstance(answers[-1].body, m.Ended)


async def test_bad_packets_end_only_their_stream(engine: StreamEngine) -> None:
    requests = [config(DECODE), m.PacketsIn((m.WirePacket(b"\xff" * 9),) * 5), m.End()]
    try:
        answers = await ask(engine, requests)
        assert isinstance(answers[-1].body, m.Ended)
    except PacketError:
        pass
    assert len(audio_of(await ask(engine, whole(config(), tones(0.1))))) == 1_600
