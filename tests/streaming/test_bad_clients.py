"""Clients that leave badly, stall, or send too much: nothing of them stays."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from streamtoys import (
    ENHANCE,
    RATE,
    load_all,
    serving,
    tones,
)

from ossicle.runtime.model import Model
from ossicle.streaming import messages as m
from ossicle.streaming.client import Sound, connect
from ossicle.streaming.client.aio import concatenate
from ossicle.streaming.proto import ossicle_pb2 as pb
from ossicle.streaming.proto import ossicle_pb2_grpc
from ossicle.streaming.server.run import Server


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    return load_all(tmp_path_factory.mktemp("bundles"))


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  (no paths: counted)


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
            with pytest.raises(grpc.aio.AioRpcError) as caught:  # noqa: PT012  (read until it ends)
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
