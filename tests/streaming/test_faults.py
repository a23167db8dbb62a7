"""What goes wrong for one stream stays with that stream."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
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
    ServerProcess,
    audio_of,
    config,
    given,
    load_all,
    pieces,
    tones,
    whole,
)

from ossicle.runtime.engine import Engine, EngineSettings
from ossicle.runtime.errors import BackendError, OssicleError
from ossicle.runtime.model import Model, ModelState
from ossicle.streaming import messages as m
from ossicle.streaming.client import ServerError, Sound, Stream, connect
from ossicle.streaming.client.aio import concatenate
from ossicle.streaming.proto import ossicle_pb2 as pb
from ossicle.streaming.proto import ossicle_pb2_grpc
from ossicle.streaming.server.caller import Caller
from ossicle.streaming.server.config import Settings
from ossicle.streaming.server.run import Server
from ossicle.streaming.server.service import Service
from ossicle.streaming.session.bridge import EngineBridge
from ossicle.streaming.session.inline import InlineEngine


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    return load_all(tmp_path_factory.mktemp("bundles"))


async def serving(models: dict[str, Model], **settings: Any) -> AsyncIterator[Server]:
    with Engine(models, EngineSettings(max_batch=4, calibration_runs=3)) as engine:
        async with Server(Settings(port=0, **settings), EngineBridge(engine)) as server:
            yield server


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def settled(server: Server, seconds: float = 15.0) -> None:
    """Wait until the server has let go of every stream."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        slots = sum(server.service.engine.figures().slots_used.values())
        if not server.service.sessions and not server.service.admission.total and not slots:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"still open: {server.service.sessions}, {slots} slots")


class Vandal:
    """Connects, and leaves in one of the ways that clients leave."""

    WAYS = ("ends", "cancelled", "no end", "reset", "silent", "half a frame")

    def __init__(self, port: int) -> None:
        self.port = port
        self.held: list[socket.socket] = []

    async def visit(self, way: str) -> None:
        """Come and go."""
        if way in ("reset", "silent", "half a frame"):
            await asyncio.to_thread(self._raw, way)
            return
        options = [("grpc.use_local_subchannel_pool", 1)]
        address = f"127.0.0.1:{self.port}"
        async with grpc.aio.insecure_channel(address, options) as channel:
            call = ossicle_pb2_grpc.OssicleStub(channel).Stream()
            task = pb.Task(model="fir", enhance={})
            await call.write(
                pb.StreamRequest(
                    config=pb.Config(sample_rate_hz=RATE, encoding=pb.PCM_S16, tasks=[task])
                )
            )
            await call.read()
            await call.write(pb.StreamRequest(audio=pb.Audio(data=bytes(700))))
            if way == "cancelled":
                call.cancel()
            elif way == "ends":
                await call.write(pb.StreamRequest(end=pb.End()))
                await call.done_writing()
                while await call.read() is not grpc.aio.EOF:
                    pass

    def _raw(self, way: str) -> None:
        made = socket.create_connection(("127.0.0.1", self.port))
        if way == "half a frame":
            made.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 6, 4, 0, 0, 0]))
        if way == "reset":
            made.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            made.close()
            return
        self.held.append(made)

    def leave(self) -> None:
        """Close what was left half open."""
        while self.held:
            self.held.pop().close()


async def visits_to(server: Server, count: int) -> None:
    vandal = Vandal(server.port)
    ways = [vandal.WAYS[i % len(vandal.WAYS)] for i in range(count)]
    for at in range(0, count, 20):
        await asyncio.gather(*(vandal.visit(way) for way in ways[at : at + 20]))
    vandal.leave()
    await settled(server)


async def vandalise(models: dict[str, Model], visits: int, grow_mb: float) -> None:
    async for server in serving(models, first_message_s=1.0):
        await visits_to(server, 60)  # what is made once and kept
        gc.collect()
        await asyncio.sleep(0.3)
        before = (threading.active_count(), open_files(), len(asyncio.all_tasks()))
        memory = resident_mb()
        await visits_to(server, visits)
        gc.collect()
        for _ in range(100):
            after = (threading.active_count(), open_files(), len(asyncio.all_tasks()))
            if all(now <= then + 3 for now, then in zip(after, before, strict=True)):
                break
            await asyncio.sleep(0.1)
        assert all(now <= then + 3 for now, then in zip(after, before, strict=True)), (
            before,
            after,
        )
        assert resident_mb() - memory < grow_mb
        async with connect(f"127.0.0.1:{server.port}") as client:
            found = [s async for s in client.enhance(tones(0.2), model="fir", rate_hz=RATE)]
            assert concatenate(found).shape == (1, 3_200)


async def test_two_thousand_clients_that_leave_badly_leave_nothing(
    models: dict[str, Model],
) -> None:
    await vandalise(models, 2_000, 40.0)


async def forever(call: Any, request: Any) -> None:
    while True:
        await call.write(request)


async def test_a_reader_that_stalls_loses_its_stream_and_nobody_elses(
    models: dict[str, Model],
) -> None:
    settings = {"stall_s": 0.5, "output_ms": 200, "bytes_per_second": 0}
    async for server in serving(models, **settings):
        address = f"127.0.0.1:{server.port}"
        small = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024)]
        async with (
            grpc.aio.insecure_channel(address, small) as channel,
            connect(address) as client,
        ):
            call = ossicle_pb2_grpc.OssicleStub(channel).Stream()
            task = pb.Task(model="fir", enhance={})
            asked = pb.Config(sample_rate_hz=RATE, encoding=pb.PCM_S16, tasks=[task],
                              output_encoding=pb.PCM_F32)  # fmt: skip
            await call.write(pb.StreamRequest(config=asked))
            audio = pb.StreamRequest(audio=pb.Audio(data=bytes(6_400)))
            writer = asyncio.create_task(forever(call, audio))  # and never reads
            await asyncio.sleep(0.3)
            x = tones(0.5)
            good = [s async for s in client.enhance(x, model="fir", rate_hz=RATE)]
            assert concatenate(good).shape == x.shape
            await settled(server)
            with pytest.raises(grpc.aio.AioRpcError) as caught:  # noqa: PT012
                while True:
                    await call.read()
            # a write that fails first is INTERNAL to gRPC's own client
            assert caught.value.code().name in ("RESOURCE_EXHAUSTED", "INTERNAL")
            assert b'ossicle_refused_total{reason="STALLED"} 1.0' in server.metrics.text()
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)


async def test_ten_times_real_time_is_answered_or_told_as_gaps(models: dict[str, Model]) -> None:
    async for server in serving(models, bytes_per_second=0):
        async with connect(f"127.0.0.1:{server.port}") as client:
            stream = client.stream(ENHANCE, rate_hz=RATE, live=True, resume=False)
            x = tones(4.0)

            async def send(stream: Any = stream, x: Any = x) -> None:
                for at in range(0, x.shape[1], 320):
                    await stream.send(x[:, at : at + 320])
                    await asyncio.sleep(0.002)
                await stream.end()

            sender = asyncio.create_task(send())
            answers = [r async for r in stream]
            await sender
            sounds = sum(r.body.samples.shape[1] for r in answers if isinstance(r.body, Sound))
            gaps = sum(
                r.body.stop_sample - r.body.start_sample
                for r in answers
                if isinstance(r.body, m.Gap)
            )
            assert x.shape[1] - 64 <= sounds + gaps <= x.shape[1] + 640


class Faulty(Model):
    """A model that breaks after so many steps."""

    def __init__(self, good: Model, fault: str, after: int = 40) -> None:
        self.__dict__.update(good.__dict__)
        self.fault, self.after, self.steps = fault, after, 0

    def step(self, state: ModelState, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.steps += 1
        made = super().step(state, inputs)
        if self.steps > self.after:
            if self.fault == "raises":
                raise BackendError("the graph failed: out of memory")
            if self.fault == "crashes":
                raise ZeroDivisionError("not ours")
            if self.fault == "slow":
                time.sleep(0.05)
            if self.fault == "nan":
                made = {k: np.full_like(v, np.nan) for k, v in made.items()}
        return made


@pytest.mark.parametrize("fault", ["raises", "crashes", "nan", "slow"])
async def test_a_model_that_fails_takes_down_its_own_streams_only(
    models: dict[str, Model], fault: str
) -> None:
    x = tones(2.0)
    broken = {**models, "fir": Faulty(models["fir"], fault)}
    if fault == "slow":
        broken["fir"].after = 200  # type: ignore[attr-defined]
    limits = EngineSettings(max_batch=1, calibration_runs=1, inbox_ms=300.0)
    with Engine(broken, limits) as engine:
        async with (
            Server(Settings(port=0, ring_ms=300), EngineBridge(engine)) as server,
            connect(f"127.0.0.1:{server.port}") as client,
        ):
            engine.calibrate()
            broken["fir"].steps = 0  # type: ignore[attr-defined]

            async def listen(spec: m.TaskSpec, live: bool = False) -> list[m.Response]:
                made = client.run(x, spec, rate_hz=RATE, realtime=live, resume=False)
                return [r async for r in made]

            bad, good = await asyncio.gather(
                listen(ENHANCE, fault == "slow"), listen(CAPTION), return_exceptions=True
            )
            assert isinstance(good, list)
            assert isinstance(good[-1].body, m.Ended)
            if fault in ("raises", "crashes"):
                assert isinstance(bad, ServerError)
                assert (bad.failure.code, bad.failure.reason) == ("INTERNAL", "MODEL_FAILED")
            else:
                assert isinstance(bad, list)
                sounds = [r.body for r in bad if isinstance(r.body, Sound)]
                assert all(np.isfinite(s.samples).all() for s in sounds)
            if fault == "slow":
                ended = bad[-1].body
                assert isinstance(ended, m.Ended)
                gaps = [r.body for r in bad if isinstance(r.body, m.Gap)]
                assert gaps
            assert isinstance((await listen(CAPTION))[-1].body, m.Ended)


def test_sigterm_lets_open_streams_end(models: dict[str, Model]) -> None:
    process = ServerProcess(models, drain_s=20.0)
    port = process.start()
    x = tones(2.0)

    async def run() -> tuple[list[list[m.Response]], str]:
        async with connect(f"127.0.0.1:{port}") as client:
            streams = [client.stream(ENHANCE, rate_hz=RATE, live=False) for _ in range(8)]
            for stream in streams:
                await stream.opened()
                await stream.send(x[:, :8_000])
            assert process.process is not None
            process.process.terminate()
            refused = ""
            for _ in range(100):
                try:
                    late = client.stream(ENHANCE, rate_hz=RATE)
                    await late.opened()
                    await late.close()
                except ServerError as error:
                    refused = error.failure.reason
                    break
                await asyncio.sleep(0.05)

            async def rest(stream: Stream) -> list[m.Response]:
                await stream.send(x[:, 8_000:])
                await stream.end()
                return [r async for r in stream]

            return list(await asyncio.gather(*(rest(s) for s in streams))), refused

    told, refused = asyncio.run(run())
    assert refused == "DRAINING"
    for answers in told:
        kinds = [r.body.kind for r in answers if isinstance(r.body, m.Notice)]
        assert kinds == ["GOING_AWAY"]
        assert isinstance(answers[-1].body, m.Ended)
        sound = concatenate([r.body for r in answers if isinstance(r.body, Sound)])
        assert sound.shape == x.shape
    assert process.process is not None
    assert process.process.wait(30) == 0
    process.process.communicate()


async def test_an_old_connection_is_announced_and_replaced(
    models: dict[str, Model], tmp_path: Path
) -> None:
    settings = {"max_duration_s": 1.5, "going_away_s": 1.0, "state_dir": str(tmp_path),
                "checkpoint_s": 0.2, "checkpoint_share": 1.0}  # fmt: skip
    x = tones(4.0)
    async for server in serving(models, **settings):
        async with connect(f"127.0.0.1:{server.port}") as client:
            stream = client.stream(ENHANCE, rate_hz=RATE, live=False)

            async def send(stream: Any = stream) -> None:
                for at in range(0, x.shape[1], 1_600):
                    await stream.send(x[:, at : at + 1_600])
                    await asyncio.sleep(0.08)
                await stream.end()

            sender = asyncio.create_task(send())
            answers = [r async for r in stream]
            await sender
        kinds = {r.body.kind for r in answers if isinstance(r.body, m.Notice)}
        assert "GOING_AWAY" in kinds
        assert stream.reconnects >= 1
        sound = concatenate([r.body for r in answers if isinstance(r.body, Sound)])
        assert sound.shape == x.shape


# -- random sequences ---------------------------------------------------------------------------

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
                    answers.append(response)  # noqa: PERF401
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
