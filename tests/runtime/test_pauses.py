"""The engine leaves the interpreter's lock to other threads: between two streams, after a while."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from enginetoys import MONO, Listener, alone, noise, turns_kind  # noqa: F401 - a fixture
from toys import write_fir

from ossicle.runtime.audio import Chunk
from ossicle.runtime.audiotask import AudioTask
from ossicle.runtime.budget import Budget
from ossicle.runtime.engine import Engine, EngineSettings, Lease
from ossicle.runtime.errors import BudgetError
from ossicle.runtime.model import Model

STREAMS = 7
MS = 1_000_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(write_fir(tmp_path_factory.mktemp("bundles") / "fir"))


@pytest.fixture
def rests() -> list[str]:
    return []


class Told(AudioTask):
    """Says when it is asked."""

    def __init__(self, manifest: Any, log: list[str]) -> None:
        super().__init__(manifest)
        self.log = log

    def push(self, state: Any, item: Chunk) -> Any:
        self.log.append("push")
        return super().push(state, item)

    def take(self, state: Any, hop: Any, outputs: Any) -> Any:
        self.log.append("take")
        return super().take(state, hop, outputs)


def opened(
    model: Model, log: list[str], hold_ns: int, heard: list[Listener]
) -> tuple[Engine, list[Lease]]:
    """An engine that was not started, and pauses as one that was."""
    engine = Engine({"fir": model}, EngineSettings(max_load=1.0))
    engine._turns.hold_ns = hold_ns
    engine._rounds.rest = lambda seconds: log.append("rest")
    leases = []
    for _ in range(STREAMS):
        heard.append(Listener())
        task = Told(model.manifest, log)
        leases.append(engine.open(task, Budget(), heard[-1].on_events, heard[-1].on_end))
    return engine, leases


def run(engine: Engine, leases: list[Lease], signals: list[np.ndarray]) -> None:
    for start in range(0, 256, 64):
        for lease, signal in zip(leases, signals, strict=True):
            lease.push(Chunk(signal[:, start : start + 64], start, MONO))
        engine.run_once()
    for lease in leases:
        lease.flush()
    while engine.run_once():
        pass


def ticking(step_ns: int) -> Callable[[], int]:
    """A clock that goes on by as much whenever it is read."""
    times: Iterator[int] = iter(range(0, 1 << 60, step_ns))
    return lambda: next(times)


def test_with_no_time_at_all_it_rests_after_every_stream(model: Model, rests: list[str]) -> None:
    heard: list[Listener] = []
    engine, leases = opened(model, rests, 0, heard)
    for lease in leases:
        lease.push(Chunk(noise(0, 64), 0, MONO))
    engine.run_once()
    around = [what for what in rests if what != "rest"]
    assert around == ["push"] * STREAMS + ["take"] * STREAMS
    places = [i for i, what in enumerate(rests) if what != "rest"]
    assert all(rests[i + 1] == "rest" for i in places)


def test_rests_change_nothing_that_is_heard(model: Model, rests: list[str]) -> None:
    heard: list[Listener] = []
    engine, leases = opened(model, rests, 0, heard)
    signals = [noise(i, 256) for i in range(STREAMS)]
    run(engine, leases, signals)
    assert "rest" in rests
    for listener, signal in zip(heard, signals, strict=True):
        np.testing.assert_array_equal(listener.samples(), alone(model, signal))
        assert listener.ended.is_set()


def test_one_that_was_not_started_never_rests(model: Model, rests: list[str]) -> None:
    heard: list[Listener] = []
    engine, leases = opened(model, rests, Engine({"fir": model})._turns.hold_ns, heard)
    run(engine, leases, [noise(i, 256) for i in range(STREAMS)])
    assert "take" in rests
    assert "rest" not in rests


def test_it_goes_on_until_it_has_held_the_lock_for_long_enough(
    model: Model, rests: list[str]
) -> None:
    heard: list[Listener] = []
    engine, leases = opened(model, rests, 100 * MS, heard)
    engine.clock = ticking(MS)
    turns = engine._turns
    turns.since = engine.clock()
    made = [turns.pause() for _ in range(250)]
    assert made.count(True) == rests.count("rest") == 2
    assert made.index(True) == 99
    rests.clear()
    turns.hold_ns = 8 * MS
    run(engine, leases, [noise(i, 256) for i in range(STREAMS)])
    assert 0 < rests.count("rest") < len(rests) / 3  # not after every stream


def test_what_was_posted_leaves_the_streams_their_turn(model: Model, rests: list[str]) -> None:
    heard: list[Listener] = []
    engine, leases = opened(model, rests, 0, heard)
    engine._posted.extend([lambda: rests.append("first"), lambda: rests.append("second")])
    leases[0].push(Chunk(noise(0, 64), 0, MONO))
    assert engine.run_once()
    assert [what for what in rests if what != "rest"] == ["first", "push", "take"]
    assert engine.run_once()
    assert rests.count("second") == 1
    assert not engine.run_once()
    engine._turns.hold_ns = -1
    engine._posted.extend([lambda: rests.append("third"), lambda: rests.append("fourth")])
    assert engine.run_once()
    assert rests[-2:] == ["third", "fourth"]


def test_whoever_asked_for_a_snapshot_has_the_lock_from_a_rest_on(
    model: Model, rests: list[str]
) -> None:
    engine, leases = opened(model, rests, 1000 * MS, [])
    future: Future[dict[str, Any]] = Future()
    future.add_done_callback(lambda f: rests.append("written"))
    engine._turns.since = engine.clock()
    engine.export_slot(leases[0]._slot, future)
    assert rests == ["rest", "written"]
    engine._turns.hold_ns = -1
    engine.export_slot(leases[0]._slot, Future())
    assert rests == ["rest", "written"]


def test_streams_that_change_rows_let_others_in_between(model: Model, rests: list[str]) -> None:
    engine, leases = opened(model, rests, 0, [])
    between = []
    for tick, count in enumerate((STREAMS, STREAMS, 5, STREAMS, 5)):
        for lease in leases[:count]:
            lease.push(Chunk(noise(0, 64), 64 * tick, MONO))
        rests.clear()
        engine.run_once()
        last = len(rests) - rests[::-1].index("push")
        between.append(rests[last : rests.index("take")].count("rest"))
    new = 2  # a number of streams that is new may make a memory
    stay = between[1]
    assert between[0] == stay + new + STREAMS  # all of them came
    assert between[2] == stay + new + 2  # two went home
    assert between[3] == stay + 2  # and came again
    assert between[4] == stay + 2


def test_the_thread_rests_by_its_settings_and_no_longer_than_it_runs(
    model: Model, rests: list[str]
) -> None:
    engine = Engine({"fir": model}, EngineSettings(max_load=1.0, hold_ms=0.0))
    engine._rounds.rest = lambda seconds: rests.append(threading.current_thread().name)
    listener, signal = Listener(), noise(3, 640)
    with engine:
        assert engine._turns.hold_ns == 0
        lease = engine.open(
            AudioTask(model.manifest), Budget(), listener.on_events, listener.on_end
        )
        lease.push(Chunk(signal, 0, MONO))
        lease.flush()
        assert listener.ended.wait(10)
    assert engine._turns.hold_ns == -1
    assert set(rests) == {"ossicle-engine"}
    np.testing.assert_array_equal(listener.samples(), alone(model, signal))
    assert Engine({"fir": model})._turns.hold_ns == -1
    for wrong in (-1.0, 1001.0, float("nan")):
        with pytest.raises(BudgetError, match="hold_ms"):
            EngineSettings(hold_ms=wrong)


def test_a_rest_lets_a_thread_in_that_waits_for_the_lock(model: Model) -> None:
    """Nobody else would: the interpreter is told not to take the lock away."""
    engine = Engine({"fir": model})
    came: list[int] = []
    interval = sys.getswitchinterval()
    waiting = threading.Thread(target=lambda: came.append(1))
    sys.setswitchinterval(1000)
    try:
        waiting.start()
        for _ in range(100_000):
            if came:
                break
            engine._rounds.breathe()
    finally:
        sys.setswitchinterval(interval)
    waiting.join()
    assert came


def test_what_was_posted_is_done_when_it_stops(model: Model) -> None:
    engine, done = Engine({"fir": model}, EngineSettings(max_load=1.0, hold_ms=0)), list[int]()
    entered, gate = threading.Event(), threading.Event()

    def first() -> None:
        entered.set()
        gate.wait()

    engine.start()
    engine.post(first)
    assert entered.wait(10)
    for number in range(5):
        engine.post(lambda number=number: done.append(number))  # type: ignore[misc]
    engine._stopping = True  # as `stop` says, while the thread is in its last round
    gate.set()
    engine.stop()
    assert done == [0, 1, 2, 3, 4]
