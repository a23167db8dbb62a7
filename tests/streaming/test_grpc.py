"""A real server on a loopback port, and the real client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from streamtoys import CAPTION, DECODE, ENCODE, ENHANCE, RATE, load_all, tones

from ossicle.runtime.engine import Engine, EngineSettings
from ossicle.runtime.errors import WireError
from ossicle.runtime.model import Model
from ossicle.streaming import messages as m
from ossicle.streaming.captions.cue import Cue
from ossicle.streaming.client import AsyncClient, ServerError, Sound, connect
from ossicle.streaming.client.aio import concatenate
from ossicle.streaming.proto import ossicle_pb2 as pb
from ossicle.streaming.proto import ossicle_pb2_grpc
from ossicle.streaming.server.config import Settings
from ossicle.streaming.server.run import Server
from ossicle.streaming.session.bridge import EngineBridge
from ossicle.streaming.wire.failure import from_trailer


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    return load_all(tmp_path_factory.mktemp("bundles"))


@pytest.fixture
async def server(models: dict[str, Model]) -> AsyncIterator[Server]:
    with Engine(models, EngineSettings(max_batch=4, calibration_runs=9)) as engine:
        settings = Settings(port=0, drain_s=1.0)
        async with Server(settings, EngineBridge(engine)) as running:
            yield running


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    async with connect(f"127.0.0.1:{server.port}") as made:
        yield made


@pytest.fixture
async def stub(server: Server) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield ossicle_pb2_grpc.OssicleStub(channel)


async def test_one_upload_is_captioned_encoded_and_enhanced(client: AsyncClient) -> None:
    x = tones(3.0)
    answers = [r async for r in client.run(x, ENHANCE, CAPTION, ENCODE, rate_hz=RATE)]
    sound = concatenate([r.body for r in answers if isinstance(r.body, Sound)])
    taps = np.array([0.5, 0.25, -0.125, 0.0625, 0.3], np.float32)
    np.testing.assert_allclose(sound[0], np.convolve(x[0], taps)[: x.shape[1]], atol=1e-6)
    finals = [r.body.text for r in answers if isinstance(r.body, Cue) and r.body.is_final]
    assert any("dog" in text for text in finals)
    packets = [p for r in answers if isinstance(r.body, m.PacketsOut) for p in r.body.packets]
    ended = answers[-1].body
    assert isinstance(ended, m.Ended)
    assert ended.wire_kbps_out > ended.tasks[2].packet_kbps > 0
    assert ended.bytes_in == 4 * x.shape[1]
    decoded = [s async for s in client.decode(packets, model="toy-codec")]
    assert concatenate(decoded).shape[1] >= x.shape[1]


async def test_a_server_that_gives_a_stream_up_is_heard_over_the_client_s_own_writing(
    client: AsyncClient,
) -> None:
    """A write loses the race with the server's end: what is told is the server's reason."""

    async def flood() -> AsyncIterator[m.Request]:
        yield m.Config(RATE, (ENHANCE,), encoding="pcm_s16")
        for at in range(5_000):
            yield m.AudioIn(bytes(6_400), 0 if at == 20 else None)  # 0: it came already
            await asyncio.sleep(0)

    for _ in range(25):
        with pytest.raises(ServerError) as caught:
            async for _ in client.transport.stream(flood()):
                pass
        failure = caught.value.failure
        assert (failure.code, failure.field) == ("INVALID_ARGUMENT", "audio.start_sample")


async def test_what_the_requests_come_from_may_fail(client: AsyncClient) -> None:
    async def broken() -> AsyncIterator[m.Request]:
        yield m.Config(RATE, (ENHANCE,), encoding="pcm_s16")
        raise ZeroDivisionError("a source of the caller's own")

    with pytest.raises(ZeroDivisionError, match="of the caller's own"):
        async for _ in client.transport.stream(broken()):
            pass


async def test_server_and_own_process_give_the_same(client: AsyncClient, server: Server) -> None:
    from ossicle.streaming.client.transport import LocalTransport
    from ossicle.streaming.server.service import Service
    from ossicle.streaming.session.inline import InlineEngine

    x = tones(2.0)
    local = LocalTransport()
    engine = InlineEngine(loaded={m.name: m for m in server.service.engine.models()})
    local._service = Service(engine, Settings())
    here = AsyncClient(local)
    for rate in (RATE, 44_100):
        told = [r async for r in client.run(x, ENHANCE, CAPTION, ENCODE, rate_hz=rate)]
        own = [r async for r in here.run(x, ENHANCE, CAPTION, ENCODE, rate_hz=rate)]
        for kind in (Cue, m.PacketsOut):
            assert bodies(told, kind) == bodies(own, kind)
        np.testing.assert_array_equal(
            concatenate(bodies(told, Sound)), concatenate(bodies(own, Sound))
        )


def bodies(answers: list[m.Response], kind: type) -> list[Any]:
    return [r.body for r in answers if isinstance(r.body, kind)]


async def test_models_and_status(client: AsyncClient) -> None:
    found = await client.models()
    assert {i.name for i in found} == {"fir", "tones", "toy-codec"}
    assert [i.name for i in await client.models("tag")] == ["tones"]
    status = await client.status()
    assert (status.state, status.streams) == ("READY", 0)
    assert {s.name for s in status.models} == {"fir", "tones", "toy-codec"}


async def test_health_is_ready_and_says_so_when_it_is_not(server: Server) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        for name in ("", "ossicle.v1.Ossicle"):
            answer = await check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        await server._serving(False)
        answer = await check(health_pb2.HealthCheckRequest(service=""))
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_reflection_gives_the_protos(server: Server) -> None:
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    async def ask() -> AsyncIterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(file_containing_symbol="ossicle.v1.Ossicle")

    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(ask())
        answer = await anext(aiter(call))
    assert answer.file_descriptor_response.file_descriptor_proto


async def test_unary_twins_caption_and_process_a_file(stub: Any) -> None:
    x = tones(3.0)
    config = pb.Config(sample_rate_hz=RATE, encoding=pb.PCM_F32, output_encoding=pb.PCM_F32)
    task = config.tasks.add(model="tones")
    task.caption.finals_only = True
    answer = await stub.Recognize(pb.RecognizeRequest(config=config, audio=x.tobytes()))
    assert answer.samples == x.shape[1]
    assert any("dog" in cue.text for cue in answer.cues)
    task = config.tasks.add(model="fir")
    task.enhance.SetInParent()
    task = config.tasks.add(model="toy-codec")
    task.encode.kbps = 2
    both = await stub.Process(pb.ProcessRequest(config=config, audio=x.tobytes()))
    assert [t.samples for t in both.tracks] == [x.shape[1]]
    assert both.packets
    assert both.started.tasks[2].kind == "encode"


REFUSED = [
    (pb.StreamRequest(), "INVALID_ARGUMENT", "BAD_REQUEST", "request"),
    (pb.StreamRequest(end=pb.End()), "INVALID_ARGUMENT", "BAD_REQUEST", "config"),
    (pb.StreamRequest(config=pb.Config(sample_rate_hz=9, encoding=1)), "INVALID_ARGUMENT",
     "BAD_REQUEST", "config.sample_rate_hz"),
    (pb.StreamRequest(config=pb.Config(sample_rate_hz=16000, encoding=1,
                                       tasks=[pb.Task(model="nope", enhance={})])),
     "NOT_FOUND", "MODEL", "config.tasks.model"),
    (pb.StreamRequest(config=pb.Config(sample_rate_hz=16000, encoding=1,
                                       tasks=[pb.Task(name="x" * 65, enhance={})])),
     "INVALID_ARGUMENT", "BAD_REQUEST", "config.tasks[0].name"),
    (pb.StreamRequest(config=pb.Config(sample_rate_hz=16000, encoding=99)), "INVALID_ARGUMENT",
     "BAD_REQUEST", "config.encoding"),
    (pb.StreamRequest(config=pb.Config(sample_rate_hz=16000, encoding=1, tasks=[
        pb.Task(model="tones", latency_class=1, caption={})])), "FAILED_PRECONDITION", "BUDGET",
     ""),
]  # fmt: skip


async def test_a_file_may_be_larger_than_a_message_and_both_have_their_limit(
    models: dict[str, Model],
) -> None:
    limits = Settings(port=0, max_message_bytes=10_000, max_file_bytes=150_000)
    with Engine(models, EngineSettings(calibration_runs=9)) as engine:
        async with Server(limits, EngineBridge(engine)) as server:
            address = f"127.0.0.1:{server.port}"
            async with grpc.aio.insecure_channel(address) as channel, connect(address) as client:
                stub = ossicle_pb2_grpc.OssicleStub(channel)
                task = pb.Task(model="fir", enhance={})
                asked = pb.Config(sample_rate_hz=RATE, encoding=pb.PCM_S16, tasks=[task])

                async def process(size: int) -> Any:
                    return await stub.Process(pb.ProcessRequest(config=asked, audio=bytes(size)))

                assert (await process(100_000)).tracks[0].samples == 50_000
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await process(160_000)
                told = from_trailer("", "", caught.value.trailing_metadata())
                assert (told.reason, told.field) == ("TOO_LARGE", "audio")
                stream = client.stream(ENHANCE, rate_hz=RATE, live=False, encoding="pcm_s16")
                await stream.send_bytes(bytes(12_000))
                with pytest.raises(ServerError, match="at most 10000 allowed") as refused:
                    [r async for r in stream]
                assert refused.value.failure.reason == "TOO_LARGE"


@pytest.mark.parametrize(("request_", "code", "reason", "field"), REFUSED)
async def test_a_refusal_has_a_code_a_reason_and_a_field(
    stub: Any, request_: Any, code: str, reason: str, field: str
) -> None:
    call = stub.Stream(iter([request_]))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    error = caught.value
    failure = from_trailer(error.code().name, error.details(), error.trailing_metadata())
    assert (failure.code, failure.reason, failure.field) == (code, reason, field)
    assert len(failure.message) > 10


async def test_a_full_server_says_when_to_come_back(models: dict[str, Model]) -> None:
    with Engine(models, EngineSettings(max_streams=1, max_batch=2, calibration_runs=9)) as engine:
        async with (
            Server(Settings(port=0), EngineBridge(engine)) as server,
            connect(f"127.0.0.1:{server.port}") as client,
        ):
            async with client.stream(ENHANCE, rate_hz=RATE):
                with pytest.raises(ServerError) as caught:
                    await client.stream(ENHANCE, rate_hz=RATE).opened()
            failure = caught.value.failure
            assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", "SLOTS")
            assert failure.retry_after_ms > 0
            assert failure.metadata == {"used": "1", "total": "1"}
            async with client.stream(ENHANCE, rate_hz=RATE):  # the slot came back
                pass


async def test_slots_come_back_when_clients_vanish(client: AsyncClient, server: Server) -> None:
    for _ in range(20):
        stream = client.stream(ENHANCE, CAPTION, rate_hz=RATE)
        await stream.opened()
        await stream.send(tones(0.1))
        await stream.close()
    for _ in range(100):
        if not server.service.sessions and not server.service.admission.total:
            break
        await asyncio.sleep(0.02)
    assert not server.service.sessions
    assert sum(server.service.engine.figures().slots_used.values()) == 0


async def test_a_wrong_address_says_what_to_do() -> None:
    async with connect("127.0.0.1:1") as client:
        with pytest.raises(ServerError, match="ossicle serve"):
            await client.stream(ENHANCE, rate_hz=RATE).opened()


def test_the_sync_client_does_the_same(models: dict[str, Model]) -> None:
    import subprocess
    import sys

    script = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from ossicle.streaming.server.config import Settings
from ossicle.streaming.server.run import serve
settings = Settings(port=0, models={tuple(str(m.bundle.root) for m in models.values())!r})
asyncio.run(serve(settings, lambda s: print(s.port, flush=True)))
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        x = tones(2.0)
        with connect(f"127.0.0.1:{port}") as client:
            cues = list(client.caption(x, rate_hz=RATE, model="tones"))
            assert any("dog" in cue.text for cue in cues)
            sounds = list(client.enhance(x, rate_hz=RATE, model="fir"))
            assert concatenate(sounds).shape == x.shape
            packets = list(client.encode(x, 2.0, rate_hz=RATE, model="toy-codec"))
            assert concatenate(list(client.decode(packets, model="toy-codec"))).shape[1] > 30_000
            assert client.status().streams_total == 4
    finally:
        process.terminate()
        assert process.wait(15) == 0
        process.stdout.close()


async def test_a_token_is_never_sent_in_the_clear() -> None:
    with pytest.raises(WireError, match="in the clear"):
        connect("203.0.113.1:8061", token="secret")


def test_decode_tasks_need_no_audio() -> None:
    assert DECODE.kind == "decode"


def test_each_stream_is_a_span_without_its_content(models: dict[str, Model]) -> None:
    """In a process of its own: a tracer provider is set once and for all."""
    import subprocess
    import sys

    pytest.importorskip("opentelemetry.sdk")
    root = str(models["fir"].bundle.root)
    program = f"""
import asyncio, numpy as np
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from ossicle.runtime.model import Model
from ossicle.streaming.client import connect
from ossicle.streaming.server.config import Settings
from ossicle.streaming.server.run import Server
from ossicle.streaming.session.inline import InlineEngine
held = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(held))
trace.set_tracer_provider(provider)
async def main():
    model = Model.load({root!r})
    async with Server(Settings(port=0), InlineEngine(loaded={{model.name: model}})) as server:
        async with connect(f"127.0.0.1:{{server.port}}") as client:
            x = np.zeros((1, 3200), np.float32)
            async for _ in client.enhance(x, model=model.name, rate_hz=16000): pass
asyncio.run(main())
for span in held.get_finished_spans():
    print(span.name, *sorted(span.attributes))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert "ossicle.stream ossicle.client ossicle.peer ossicle.session" in done.stdout.splitlines()
