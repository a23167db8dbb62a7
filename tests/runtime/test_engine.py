"""Many streams as one batch give each stream what it would have had alone."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from enginetoys import MONO, Listener, alone, noise, turns_kind  # noqa: F401 - a fixture
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import RATE, write_fir, write_stft

from ossicle.runtime.audio import Chunk
from ossicle.runtime.audiotask import AudioTask
from ossicle.runtime.budget import Budget, LatencyClass
from ossicle.runtime.engine import Engine, EngineSettings
from ossicle.runtime.errors import (
    BudgetError,
    CapacityError,
)
from ossicle.runtime.model import Model
from ossicle.runtime.snapshot import dump, load
from ossicle.runtime.task import AudioEvent, GapEvent, InlineRun, NoticeEvent


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    home: Path = tmp_path_factory.mktemp("bundles")
    return {b.manifest.name: Model.load(b) for b in (write_fir(home / "fir"),
                                                     write_stft(home / "stft"))}  # fmt: skip


@given(
    seed=st.integers(0, 999),
    plan=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 700)), min_size=1, max_size=40),
    batching=st.sampled_from(["compact", "masked"]),
)
@settings(max_examples=25, deadline=None)
def test_a_stream_gets_what_it_would_have_had_alone(
    models: dict[str, Model], seed: int, plan: list[tuple[int, int]], batching: str
) -> None:
    engine = Engine(models, EngineSettings(batching=batching, calibration_runs=5))
    names = ["fir", "fir", "fir", "stft", "fir", "stft"]
    streams = []
    for index, name in enumerate(names):
        heard = Listener()
        task = AudioTask(models[name].manifest)
        lease = engine.open(task, Budget(), heard.on_events, heard.on_end, live=False)
        streams.append((lease, heard, noise(seed + index, 5000), name))
    fed: defaultdict[int, int] = defaultdict(int)
    for which, size in plan:
        lease, _, signal, _ = streams[which]
        chunk = Chunk(signal[:, fed[which] : fed[which] + size], fed[which], MONO)
        fed[which] += chunk.length
        assert lease.push(chunk)
        engine.run_once()
    for lease, _, _, _ in streams:
        lease.flush()
    while engine.run_once():
        pass
    for which, (_, heard, signal, name) in enumerate(streams):
        assert heard.ended.is_set()
        assert heard.error is None
        expected = alone(models[name], signal[:, : fed[which]])
        np.testing.assert_allclose(heard.samples(), expected, atol=2e-6)
        assert heard.samples().shape[1] == fed[which]


def test_the_thread_serves_streams_and_each_result_has_a_ledger(models: dict[str, Model]) -> None:
    heard = Listener()
    signal = noise(1, 16_000)
    with Engine(models) as engine:
        engine.calibrate()
        task = AudioTask(models["fir"].manifest)
        lease = engine.open(task, Budget(LatencyClass.TALK), heard.on_events, heard.on_end)
        for start in range(0, 16_000, 320):
            lease.push(Chunk(signal[:, start : start + 320], start, MONO))
        lease.flush()
        assert heard.ended.wait(10)
    np.testing.assert_array_equal(heard.samples(), alone(models["fir"], signal))
    ledger = heard.ledgers[0]
    assert ledger.compute_us >= 0
    assert ledger.total_us >= ledger.compute_us
    assert ledger.algorithmic_samples == 64


def test_a_snapshot_goes_on_bit_for_bit_in_another_engine(models: dict[str, Model]) -> None:
    signal = noise(2, 4000)
    whole, halves = Listener(), Listener()
    for heard, cut in ((whole, None), (halves, 1777)):
        engine = Engine(models)
        task = AudioTask(models["stft"].manifest)
        lease = engine.open(task, Budget(), heard.on_events, heard.on_end, live=False)
        at = 0
        if cut is not None:
            lease.push(Chunk(signal[:, :cut], 0, MONO))
            tree = load(dump(lease.export()))
            while engine.run_once():
                pass
            heard.events.clear()  # what the first engine made after the snapshot is lost
            engine = Engine(models)
            lease = engine.open(
                task, Budget(), heard.on_events, heard.on_end, live=False, restore=tree
            )
            at = cut
        lease.push(Chunk(signal[:, at:], at, MONO))
        lease.flush()
        while engine.run_once():
            pass
    np.testing.assert_array_equal(whole.samples(), halves.samples())


def test_a_full_inbox_drops_the_oldest_and_says_so(models: dict[str, Model]) -> None:
    engine = Engine(models, EngineSettings(inbox_ms=100))
    heard = Listener()
    lease = engine.open(AudioTask(models["fir"].manifest), Budget(), heard.on_events)
    signal = noise(3, 6400)
    for start in range(0, 6400, 640):
        assert lease.push(Chunk(signal[:, start : start + 640], start, MONO))
    while engine.run_once():
        pass
    gaps = [e for e in heard.events if isinstance(e, GapEvent)]
    assert [(g.start, g.stop, g.reason) for g in gaps] == [(0, 5120, "backlog")]
    first = next(e.chunk for e in heard.events if isinstance(e, AudioEvent))
    assert (first.start, first.discont) == (5120, True)
    np.testing.assert_allclose(heard.samples(), alone(models["fir"], signal[:, 5120:]), atol=1e-6)


def test_a_file_loses_nothing_when_the_inbox_is_full(models: dict[str, Model]) -> None:
    engine = Engine(models, EngineSettings(inbox_ms=100))
    lease = engine.open(AudioTask(models["fir"].manifest), Budget(), lambda e: None, live=False)
    accepted = [lease.push(Chunk(noise(0, 640), at * 640, MONO)) for at in range(4)]
    assert accepted == [True, True, False, False]
    assert lease.dropped == 0


def test_a_bundle_slower_than_the_class_is_refused_with_both_numbers(
    models: dict[str, Model],
) -> None:
    engine = Engine(models)
    with pytest.raises(BudgetError, match=r"stft needs 32 ms .* hearing allows 10 ms") as caught:
        engine.open(AudioTask(models["stft"].manifest), Budget(LatencyClass.HEARING), print)
    assert (caught.value.asked_ms, caught.value.needed_ms) == (10.0, 32.0)


def test_admission_stops_before_a_promise_breaks(models: dict[str, Model]) -> None:
    engine = Engine(models, EngineSettings(max_streams=4))
    task = AudioTask(models["fir"].manifest)
    budget = Budget(LatencyClass.TALK, deadline_ms=0.02)
    with pytest.raises(CapacityError, match="are promised") as caught:
        engine.open(task, budget, print)
    assert caught.value.reason == "deadline"
    leases = [engine.open(task, Budget(), print) for _ in range(4)]
    with pytest.raises(CapacityError, match="all 4 slots") as caught:
        engine.open(task, Budget(), print)
    assert caught.value.retry_after_ms > 0
    leases[1].close()
    leases[1].close()
    again = engine.open(task, Budget(), print)
    assert again.generation == 5
    with pytest.raises(CapacityError, match="closed"):
        leases[1].push(Chunk(noise(0, 10), 0, MONO))


def test_the_ladder_goes_down_under_load_and_up_again_later(models: dict[str, Model]) -> None:
    options = EngineSettings(ladder_window_ms=1, ladder_up_windows=2, ladder_down_windows=3)
    engine = Engine(models, options)
    now = [0]
    engine.clock = lambda: now[0]
    heard = Listener()
    engine.open(
        AudioTask(models["fir"].manifest), Budget(), heard.on_events, ladder=({"x": np.ones(1)},)
    )
    for window in range(1, 12):
        now[0] = window * 2_000_000
        engine._rounds.busy_ns += 2_000_000 if window < 5 else 0
        engine.run_once()
    kinds = [(e.kind, e.fields["rung"]) for e in heard.events if isinstance(e, NoticeEvent)]
    assert kinds == [("ladder", 1), ("ladder", 0)]


def test_what_surrounds_a_hop_counts_in_admission(models: dict[str, Model]) -> None:
    def streams(around_us: float) -> int:
        engine = Engine(models, EngineSettings(max_streams=512, around_us=around_us))
        engine.costs.calibrate(models["fir"], "step")
        for opened in range(512):
            try:
                engine.open(AudioTask(models["fir"].manifest), Budget(), lambda made: None)
            except CapacityError:
                return opened
        return 512

    period_us = 1e6 * models["fir"].manifest.hop / RATE
    around_us = period_us / 10  # ten such hops fill the thread; three quarters may be promised
    assert streams(around_us) <= 7 < streams(0.0)


@pytest.mark.parametrize("deadline_ms", [5.0, 500.0])
def test_a_near_deadline_is_not_kept_waiting_for_company(
    models: dict[str, Model], monkeypatch: pytest.MonkeyPatch, deadline_ms: float
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("ossicle.runtime.engine.loop.time.sleep", pauses.append)
    engine = Engine(models, EngineSettings(gather_ms=2.0))
    engine.open(AudioTask(models["fir"].manifest), Budget(deadline_ms=deadline_ms), lambda e: None)
    engine._gather()
    assert pauses == ([] if deadline_ms < 20 else [0.002])


def test_streams_that_bring_conditions_share_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model.load("separate-16k")
    ports = [p for p in model.manifest.programs["step"].inputs if p.kind == "condition"]
    asked = [{p.name: np.full(p.shape, at / 2, p.dtype) for p in ports} for at in range(3)]
    assert ports
    engine = Engine({model.name: model})
    monkeypatch.setattr(engine.costs, "run_us", lambda *given: 0.0)  # however busy the machine is
    signal, heard = noise(0, 2 * model.manifest.hop), [Listener() for _ in asked]
    for conditions, listener in zip(asked, heard, strict=True):
        lease = engine.open(AudioTask(model.manifest), Budget(), listener.on_events)
        lease.update(conditions)
        lease.push(Chunk(signal, 0, MONO))
    while engine.run_once():
        pass
    assert (engine.steps, engine.rows) == (2, 6)  # a batch that fails is run stream by stream
    for conditions, listener in zip(asked, heard, strict=True):
        run = InlineRun(AudioTask(model.manifest), model)
        run.task.update(run.state, conditions)
        alone = [e.chunk.samples for e in run.feed(Chunk(signal, 0, MONO))]
        np.testing.assert_allclose(listener.samples(), np.concatenate(alone, axis=1), atol=1e-5)
