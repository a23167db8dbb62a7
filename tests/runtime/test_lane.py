"""A stream's lane and the engine's turns: the compiled part and its twin do the same."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from enginetoys import MONO, Listener, noise, turns_kind  # noqa: F401 - a fixture
from hypothesis import example, given
from hypothesis import strategies as st
from toys import write_fir

from ossicle.runtime.audio import Chunk
from ossicle.runtime.audiotask import AudioTask
from ossicle.runtime.budget import Budget
from ossicle.runtime.engine import Engine, EngineSettings
from ossicle.runtime.engine.admission import Costs
from ossicle.runtime.engine.rounds import Rounds
from ossicle.runtime.engine.slot import Slot
from ossicle.runtime.engine.words import FLUSH, Note, Update
from ossicle.runtime.errors import AudioError, CapacityError
from ossicle.runtime.model import Model
from ossicle.runtime.rows import compiled_part
from ossicle.runtime.task import AudioEvent, GapEvent, Hop

FAR = (1 << 53) + 1  # beside what a double can tell apart


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(write_fir(tmp_path_factory.mktemp("bundles") / "fir"))


class Said:
    """One lane of either kind in a round of its own, and all that was said to it and by it."""

    kind, name = "said", "toy"

    def __init__(self, compiled: bool, live: bool, deadline_ns: int) -> None:
        self.log: list[Any] = []
        self.clock = iter(range(0, 1 << 40, 700))
        settings = EngineSettings(compiled=compiled)
        self.rounds = Rounds(
            settings, Costs(settings), self._vacate, lambda: self.log.append("wake"),
            lambda: next(self.clock),
        )  # fmt: skip
        self.turns = self.rounds.turns
        assert (type(self.turns).__name__ == "CompiledTurns") is compiled
        lane = self.lane = self.turns.slot.__new__(self.turns.slot)
        lane.attach(self.turns, self.push, self.take, self._hear, 100, live)
        lane.deadline_ns, lane.period_ns, lane.latency = deadline_ns, 5_000_000, 7
        lane.state, lane.home, lane.on_end = "memory", None, self._end
        lane.task = lane.model = self  # type: ignore[assignment]

    def update(self, state: str, options: Any) -> Any:
        self.log.append(("update", options))
        return [f"updated {options}"]

    def flush(self, state: str) -> Any:
        self.log.append("flush")
        return [Hop({}, 1, 2, True)] * (len(self.log) % 2)

    def end(self, state: str) -> Any:
        return ["the end"]

    def _vacate(self, slot: Slot) -> bool:
        was, slot.closed = slot.closed, True
        return not was

    def _end(self, error: Exception | None) -> None:
        self.log.append(("end", str(error)))

    def push(self, state: str, item: Any) -> Any:
        assert state == "memory"
        if not isinstance(item, Chunk):
            self.log.append(("push", item))
            raise ValueError(item)
        self.log.append(("push", item.start, item.samples.tolist(), item.discont))
        hops = range(item.length // 20)
        return [Hop({"x": item.samples[:, :20]}, item.start + n, item.stop) for n in hops]

    def take(self, state: str, hop: Hop, outputs: Any) -> Any:
        row = {name: np.asarray(value).tolist() for name, value in outputs.items()}
        self.log.append(("take", hop.start, row))
        if row["y"][0] == 3:
            raise KeyError("take")
        return [hop.start, hop.stop][: int(row["y"][0])]

    def _hear(self, items: Any) -> None:
        self.log.append(("hear", items))

    def seen(self) -> tuple[Any, ...]:
        """What can be asked of the lane."""
        lane = self.lane
        return (
            lane.held, lane.dropped, lane.ready, [hop.start for hop in lane.waiting_hops()],
            lane.hops, lane.misses, lane.recorded(), self.turns.awake,
        )  # fmt: skip


WORDS = [FLUSH, Update({"x": 1})]
STEPS = st.one_of(
    st.tuples(st.just("chunk"), st.integers(0, 130) | st.integers(20, 45), st.booleans()),
    st.tuples(st.just("packet"), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("word"), st.sampled_from(WORDS), st.booleans()),
    st.tuples(st.just("take in"), st.integers(0, 1), st.booleans()),
    st.tuples(st.just("deliver"), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("mark"), st.sampled_from(["closed", "awake", "note"]),
              st.booleans()),
)  # fmt: skip


def _do(said: Said, step: tuple[str, Any, bool], at: int, place: int) -> Any:
    kind, value, odd = step
    lane, turns = said.lane, said.turns
    if kind == "chunk":
        samples = np.full((1, value), at, np.float32)
        samples[:, value // 2 : value // 2 + odd] = np.nan
        return lane.push(Chunk(samples, place, MONO), at if odd else None)
    if kind == "packet":
        return lane.push(bytes(value), arrival_ns=at)
    if kind == "word":
        return lane.put(value, at)
    if kind == "take in":
        return turns.take_in([lane], bool(value))
    if kind == "deliver":
        if not lane.ready:
            return None
        made = {"y": np.full((3, 2), value, np.float32), "n": np.arange(3)}
        made["y"][0, 1] = np.inf if odd and value else 0
        return turns.deliver(turns.choose([lane]), made, [1], 9_000_000, 3, 4)
    if value == "note":
        return lane.put(Note(lambda: said.log.append(("note", at))), at)
    setattr(turns if value == "awake" else lane, value, odd)
    return None


@pytest.mark.skipif(compiled_part("Lane") is None, reason="this install has no compiled part")
@given(
    steps=st.lists(STEPS, max_size=40), live=st.booleans(), origin=st.sampled_from([0, FAR]),
    deadline_ns=st.sampled_from([0, 1400, 2100, 1 << 50]),
)  # fmt: skip
@example(steps=[("chunk", 40, True)] * 3 + [("take in", 0, True)], live=True, origin=FAR,
         deadline_ns=0)  # fmt: skip
@example(steps=[("chunk", 20, True), ("take in", 0, True), ("deliver", 1, False)], live=True,
         origin=0, deadline_ns=700)  # fmt: skip
def test_the_compiled_part_does_what_its_twin_does(
    turns_kind: str,  # noqa: F811
    steps: list[Any],
    live: bool,
    origin: int,
    deadline_ns: int,
) -> None:
    if turns_kind == "plain":
        return  # both are the twin
    both = [Said(compiled, live, deadline_ns) for compiled in (True, False)]
    place = origin
    for at, step in enumerate(steps):
        answers = [_do(said, step, at, place) for said in both]
        assert answers[0] == answers[1]
        if step[0] == "chunk" and answers[0]:
            place += step[1]
        assert both[0].seen() == both[1].seen()
        assert both[0].log == both[1].log


def test_a_full_live_lane_says_exactly_what_was_lost(model: Model) -> None:
    engine = Engine({"fir": model}, EngineSettings(inbox_ms=10))
    heard = Listener()
    lease = engine.open(AudioTask(model.manifest), Budget(), heard.on_events)
    for at in range(4):
        assert lease.push(Chunk(noise(at, 128), FAR + 128 * at, MONO))
    assert (lease.backlog, lease.dropped) == (128, 384)
    while engine.run_once():
        pass
    gaps = [e for e in heard.events if isinstance(e, GapEvent)]
    assert [(g.start, g.stop) for g in gaps] == [(FAR, FAR + 384)]
    chunks = [e.chunk for e in heard.events if isinstance(e, AudioEvent)]
    assert (chunks[0].start, chunks[0].discont) == (FAR + 384, True)
    assert lease.statistics()["gaps"] == 1


def test_many_threads_push_and_nothing_is_lost(model: Model) -> None:
    heard = Listener()
    with Engine({"fir": model}) as engine:
        lease = engine.open(
            AudioTask(model.manifest), Budget(), heard.on_events, heard.on_end, live=False
        )
        at, turn = [0], threading.Lock()

        def feed(count: int) -> None:
            for _ in range(count):
                with turn:  # of a stream's own order its holder takes care
                    while not lease.push(Chunk(np.zeros((1, 100), np.float32), at[0], MONO)):
                        pass
                    at[0] += 100

        threads = [threading.Thread(target=feed, args=(200,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lease.flush()
        assert heard.ended.wait(30)
    assert heard.error is None
    assert heard.samples().shape[1] == at[0] == 80_000
    assert lease.dropped == 0


def test_a_stream_that_ended_is_not_kept(model: Model) -> None:
    engine = Engine({"fir": model})
    heard = Listener()
    lease = engine.open(AudioTask(model.manifest), Budget(), heard.on_events)
    heard.held = lease  # type: ignore[attr-defined] # what leads back to itself
    for at in range(3):
        lease.push(Chunk(noise(at, 150), 150 * at, MONO))
    engine.run_once()
    lease.push(Chunk(noise(9, 100), 450, MONO))  # something waits when it ends,
    lease.push([lease])  # and that leads back as well
    slot, samples = weakref.ref(lease._slot), weakref.ref(heard.events[-1].chunk.samples)
    lease.close()
    with pytest.raises(CapacityError, match="closed"):
        lease.push(Chunk(noise(0, 10), 0, MONO))
    del lease, heard
    gc.collect()
    assert slot() is None
    assert samples() is None


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((1, 63), "f4"), np.zeros((2, 64), "f4"), np.zeros((1, 64), "f8"), np.zeros(64, "f4")],
)
def test_a_wrong_hop_ends_its_stream_and_no_other(model: Model, wrong: Any) -> None:
    class Wrong(AudioTask):
        def push(self, state: Any, item: Chunk) -> list[Hop]:
            return [Hop({"audio": wrong}, item.start, item.stop)]

    engine = Engine({"fir": model})
    heard = [Listener(), Listener(), Listener()]
    signal = noise(1, 64)
    for kind, listener in zip((AudioTask, Wrong, AudioTask), heard, strict=True):
        task = kind(model.manifest)
        engine.open(task, Budget(), listener.on_events, listener.on_end).push(
            Chunk(signal, 0, MONO)
        )
    while engine.run_once():
        pass
    assert isinstance(heard[1].error, AudioError)
    np.testing.assert_array_equal(heard[0].samples(), heard[2].samples())
    assert heard[0].samples().shape == (1, 64)


def test_a_hop_that_lies_otherwise_in_memory_is_brought_as_well(model: Model) -> None:
    class Backwards(AudioTask):
        def push(self, state: Any, item: Chunk) -> list[Hop]:
            hops = super().push(state, item)
            turned = [{"audio": h.inputs["audio"][:, ::-1].copy()[:, ::-1]} for h in hops]
            return [Hop(t, h.start, h.stop) for t, h in zip(turned, hops, strict=True)]

    engine = Engine({"fir": model})
    heard = [Listener(), Listener()]
    for kind, listener in zip((AudioTask, Backwards), heard, strict=True):
        task = kind(model.manifest)
        engine.open(task, Budget(), listener.on_events).push(Chunk(noise(1, 64), 0, MONO))
    while engine.run_once():
        pass
    np.testing.assert_array_equal(heard[0].samples(), heard[1].samples())
    assert engine.steps == 1


def test_what_is_no_lane_is_refused(turns_kind: str) -> None:  # noqa: F811
    core = compiled_part("Lane")
    if core is None or turns_kind == "plain":
        pytest.skip("of the compiled part")
    said = Said(True, True, 0)
    with pytest.raises(TypeError, match="a lane is expected"):
        said.turns.choose([object()])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="push"):
        said.lane.push()  # type: ignore[call-arg]
    with pytest.raises(IndexError, match="no hop"):
        said.lane.pop()
    with pytest.raises(RuntimeError, match="no engine"):
        core.Lane().push(b"")
    with pytest.raises(TypeError):
        core.Turns(None)
