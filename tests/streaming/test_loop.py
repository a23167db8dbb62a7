"""The server's event loop: gRPC's wake-ups are answered together, and no budget pays for it."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import gc
import selectors
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from streamtoys import ENHANCE, RATE, load_all

from ossicle.runtime.engine import Engine, EngineSettings
from ossicle.runtime.model import Model
from ossicle.streaming.client import connect
from ossicle.streaming.messages import Credit, Response
from ossicle.streaming.server import loop as module
from ossicle.streaming.server.config import Settings
from ossicle.streaming.server.loop import PacedSelector, ServerLoop
from ossicle.streaming.server.run import Server, steady
from ossicle.streaming.session.bridge import EngineBridge
from ossicle.streaming.session.outbox import Outbox


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    return load_all(tmp_path_factory.mktemp("bundles"))


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[PacedSelector, Clock]]:
    """A selector at 2 ms with one socket that can always be read."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    ours, theirs = socket.socketpair()
    theirs.send(b"x")
    with ours, theirs, PacedSelector() as selector:
        selector.register(ours, selectors.EVENT_READ)
        selector.pace_s = 0.002
        yield selector, clock


def test_a_lone_message_is_taken_at_once_and_the_next_after_the_pace(
    paced: tuple[PacedSelector, Clock],
) -> None:
    selector, clock = paced
    assert selector.select(None)
    assert clock.slept == []
    clock.now += 0.0005
    assert selector.select(None)
    assert clock.slept == [pytest.approx(0.0015)]
    clock.now += 0.5
    assert selector.select(None)
    assert len(clock.slept) == 1


def test_a_poll_never_waits_and_a_timer_is_not_overslept(
    paced: tuple[PacedSelector, Clock],
) -> None:
    selector, clock = paced
    selector.select(None)
    assert selector.select(0)
    assert clock.slept == []
    selector.select(0.001)
    assert clock.slept == [pytest.approx(0.001)]
    selector.pace_s = 0.0
    selector.select(None)
    assert len(clock.slept) == 1


class PollerCompletionQueue:
    """As gRPC's: a byte for each event, all events taken for one byte."""

    def __init__(self, socket: socket.socket) -> None:
        self.socket, self.calls = socket, 0

    def _handle_events(self, loop: Any) -> None:
        self.socket.recv(1)
        self.calls += 1


def test_ten_events_are_one_turn_of_the_loop() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    queue = PollerCompletionQueue(ours)
    plain: list[bytes] = []

    async def listen() -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, functools.partial(queue._handle_events, loop))
        theirs.send(b"1" * 10)
        await asyncio.sleep(0.01)
        theirs.send(b"1")
        await asyncio.sleep(0.01)
        loop.remove_reader(ours)
        loop.add_reader(ours, lambda: plain.append(ours.recv(1)))
        theirs.send(b"abc")
        for _ in range(1000):
            if len(plain) == 3:
                break
            await asyncio.sleep(0.001)
        loop.remove_reader(ours)

    with ours, theirs, asyncio.Runner(loop_factory=ServerLoop) as runner:
        runner.run(asyncio.wait_for(listen(), 20))
    assert queue.calls == 2
    assert plain == [b"a", b"b", b"c"]  # any other reader is served as ever


def test_a_tight_budget_ends_the_pace_as_long_as_it_is_open(models: dict[str, Model]) -> None:
    """Nine milliseconds are promised: the loop then looks whenever something comes."""
    seen: dict[str, float] = {}

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ServerLoop)
        pace = loop._paced
        server = Server(Settings(port=0, pace_ms=3.0), EngineBridge(engine))
        async with server, connect(f"127.0.0.1:{server.port}") as client:
            seen["idle"] = pace.pace_s
            easy = client.stream(ENHANCE, rate_hz=RATE)
            await easy.opened()
            seen["easy"] = pace.pace_s
            spec = dataclasses.replace(ENHANCE, deadline_ms=9.0)
            tight = client.stream(spec, rate_hz=RATE)
            await tight.opened()
            seen["tight"] = pace.pace_s
            await tight.close()
            for _ in range(1000):
                if pace.pace_s:
                    break
                await asyncio.sleep(0.01)
            seen["after"] = pace.pace_s
            await easy.close()

    limits = EngineSettings(max_batch=4, calibration_runs=9, max_load=1.0)
    with Engine(models, limits) as engine, asyncio.Runner(loop_factory=ServerLoop) as runner:
        runner.run(serve())
    assert seen == {"idle": 0.003, "easy": 0.003, "tight": 0.0, "after": 0.003}


async def test_a_stream_with_more_to_say_hurries_the_loop() -> None:
    asked: list[int] = []
    outbox = Outbox(1000, droppable=True, hurry=lambda: asked.append(1))
    for _ in range(3):
        outbox.put(Response(Credit(1)))
    outbox.next_nowait()
    outbox.next_nowait()
    assert len(asked) == 2
    outbox.next_nowait()
    assert len(asked) == 2  # nothing waits any more


def test_a_hurried_look_is_not_held_back(paced: tuple[PacedSelector, Clock]) -> None:
    selector, clock = paced
    selector.select(None)
    selector.hurried = True
    assert selector.select(None)
    assert clock.slept == []
    assert selector.select(None)  # once only
    assert len(clock.slept) == 1


def test_a_server_keeps_what_stops_everybody_short() -> None:
    """The interpreter's switches and its collections of young objects."""
    interval, thresholds, frozen = (
        sys.getswitchinterval(),
        gc.get_threshold(),
        gc.get_freeze_count(),
    )
    try:
        steady()
        assert sys.getswitchinterval() <= 0.0005
        assert gc.get_threshold() == (200, *thresholds[1:])
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(interval)
