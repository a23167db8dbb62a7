from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from separationtoys import FORMAT, chunk, tones, track

from ossicle.runtime import snapshot
from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.budget import Budget
from ossicle.runtime.engine import Engine
from ossicle.runtime.errors import AudioError, ManifestError, QueryError
from ossicle.runtime.model import Model
from ossicle.runtime.task import AudioEvent, Event, InlineRun, NoticeEvent
from ossicle.streaming.separation.tasks import EnhanceTask, SeparateTask

Task = SeparateTask | EnhanceTask


def whole(model: Model, task: Task, x: NDArray[np.float32], cuts: list[int] = []) -> list[Event]:  # noqa: B006
    run = InlineRun(task, model)
    events: list[Event] = []
    edges = [0, *sorted(cuts), len(x)]
    for a, b in pairwise(edges):
        events += run.feed(chunk(x[a:b], a))
    return events + run.finish()


@settings(max_examples=12)
@given(st.lists(st.integers(0, 3000), max_size=20))
def test_output_does_not_depend_on_how_the_input_was_cut(separator: Model, cuts: list[int]) -> None:
    x = tones()[:3000]
    for task in (SeparateTask(separator, "a dog"), EnhanceTask(separator)):
        np.testing.assert_array_equal(
            track(whole(separator, task, x, cuts)), track(whole(separator, task, x))
        )


@pytest.mark.parametrize("length", [1, 127, 128, 129, 160, 1000, 4096])
def test_as_many_samples_come_out_as_went_in_and_in_place(separator: Model, length: int) -> None:
    x = tones(1.0)[:length]
    events = whole(separator, SeparateTask(separator, "speech", depth=0.0), x)
    chunks = [e.chunk for e in events if isinstance(e, AudioEvent)]
    assert chunks[0].start == 0
    assert all(a.stop == b.start for a, b in pairwise(chunks))
    y = track(events)
    assert y.shape == x.shape
    np.testing.assert_allclose(y, x, atol=1e-5)  # depth 0 is the input itself, aligned


def test_everything_but_and_what_was_asked_for_add_up(separator: Model) -> None:
    x = tones(0.6)
    a = track(whole(separator, SeparateTask(separator, "speech"), x))
    b = track(whole(separator, SeparateTask(separator, "not speech"), x))
    np.testing.assert_allclose(a + b, x, atol=1e-4)


def test_several_queries_in_one_pass_are_the_single_ones(separator: Model) -> None:
    x = tones(0.6)
    queries = ["speech", "not the rain", "music"]
    events = whole(separator, SeparateTask(separator, queries), x)
    for query in queries:
        alone = track(whole(separator, SeparateTask(separator, query), x))
        np.testing.assert_allclose(track(events, query), alone, atol=1e-5)


def test_a_query_changes_mid_stream_and_the_memory_stays(separator: Model) -> None:
    x = tones(1.5)
    half = 8_064
    run = InlineRun(SeparateTask(separator, "speech"), separator)
    events = run.feed(chunk(x[:half]))
    told = run.update({"query": "not speech"})
    assert isinstance(told[0], NoticeEvent)
    events += run.feed(chunk(x[half:], half)) + run.finish()
    assert {e.track for e in events if isinstance(e, AudioEvent)} == {"speech", "not speech"}
    y = track(events)
    before = track(whole(separator, SeparateTask(separator, "speech"), x))
    after = track(whole(separator, SeparateTask(separator, "not speech"), x))
    assert y.shape == x.shape
    np.testing.assert_array_equal(y[: half - 200], before[: half - 200])
    # what is asked for and what is left over see the same memory: equal at once
    np.testing.assert_allclose(y[half + 200 :], after[half + 200 :], atol=1e-5)
    step = np.abs(np.diff(y[half - 200 : half + 200])).max()
    assert step < 3 * np.abs(np.diff(x)).max()


def test_a_bad_change_leaves_the_stream_as_it_was(separator: Model) -> None:
    x = tones(0.4)
    run = InlineRun(SeparateTask(separator, "speech"), separator)
    events = run.feed(chunk(x[:3000]))
    for options in ({"query": "elephants"}, {"depth": 2.0}, {"volume": 1}, {"query": []},
                    {"query": ["speech", "rain"]}, {"query": [3]}):  # fmt: skip
        with pytest.raises(QueryError):
            run.update(options)
    events += run.feed(chunk(x[3000:], 3000)) + run.finish()
    expected = track(whole(separator, SeparateTask(separator, "speech"), x))
    np.testing.assert_array_equal(track(events), expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_bad_samples_in_finite_samples_out(separator: Model, bad: float) -> None:
    x = tones(1.6)
    y = x.copy()
    y[5000] = bad
    for task in (SeparateTask(separator, "speech"), EnhanceTask(separator)):
        clean, got = (track(whole(separator, task, z)) for z in (x, y))
        assert np.isfinite(got).all()
        np.testing.assert_array_equal(got[:4000], clean[:4000])


@pytest.mark.parametrize("kind", ["silence", "dc", "clipped", "eight bits", "denormal"])
def test_odd_inputs_give_defined_outputs(separator: Model, kind: str) -> None:
    x = {
        "silence": np.zeros(8000, np.float32),
        "dc": np.full(8000, 0.7, np.float32),
        "clipped": np.sign(tones()).astype(np.float32),
        "eight bits": (np.round(tones() * 128) / 128).astype(np.float32),
        "denormal": np.full(8000, 1e-40, np.float32),
    }[kind]
    events = whole(separator, EnhanceTask(separator), x)
    y = track(events)
    assert not [e for e in events if isinstance(e, NoticeEvent)]  # the model itself coped
    assert y.shape == x.shape
    assert np.isfinite(y).all()
    assert np.abs(y).max() <= 3 * max(np.abs(x).max(), 1e-6)


def test_a_gap_resets_out_of_earshot(separator: Model) -> None:
    x = tones(1.6)
    task = SeparateTask(separator, "rain")
    run = InlineRun(task, separator)
    events = run.feed(chunk(x[:6400]))
    fresh = run.feed(chunk(x[6400:], 100_000, discont=True)) + run.finish()
    chunks = [e.chunk for e in fresh if isinstance(e, AudioEvent)]
    assert chunks[0].start == 100_000
    assert chunks[0].discont
    y = track(fresh)
    assert len(y) == len(x) - 6400
    warm = 6000
    np.testing.assert_allclose(y[200:warm], x[6400 + 200 : 6400 + warm], atol=1e-6)
    assert np.abs(y[-4000:] - x[-4000:]).max() > 1e-3
    assert len(track(events)) < 6400 + 1


def test_hops_that_wait_through_a_gap_are_heard_as_they_were(separator: Model) -> None:
    x = tones(1.6)
    before, after = chunk(x[:6400]), chunk(x[6400:], 100_000, discont=True)
    run = InlineRun(SeparateTask(separator, "rain"), separator)
    at_once = [*run.feed(before), *run.feed(after), *run.finish()]
    engine, heard = Engine({separator.name: separator}), []
    lease = engine.open(
        SeparateTask(separator, "rain"), Budget(), lambda made: heard.extend(e for e, _ in made)
    )
    lease.push(before)  # both wait in the engine before its first hop has come out
    lease.push(after)
    lease.flush()
    while engine.run_once():
        pass
    np.testing.assert_array_equal(track(heard), track(at_once))


class Poisoned:
    """A model whose output is not finite for one hop."""

    def __init__(self, model: Model, at: int) -> None:
        self.model, self.at, self.count = model, at, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def step(self, state: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        out = self.model.step(state, inputs)
        self.count += 1
        if self.count == self.at:
            out = {key: np.full_like(value, np.nan) for key, value in out.items()}
        return out


def test_a_model_that_fails_is_reset_and_the_dry_signal_heard(separator: Model) -> None:
    x = tones(1.6)
    task = SeparateTask(separator, "rain")
    run = InlineRun(task, Poisoned(separator, 40))  # type: ignore[arg-type]
    events = run.feed(chunk(x)) + run.finish()
    notices = [e for e in events if isinstance(e, NoticeEvent)]
    assert [n.kind for n in notices] == ["model-reset"]
    y = track(events)
    assert np.isfinite(y).all()
    at = 40 * 128
    np.testing.assert_allclose(y[at : at + 6000], x[at : at + 6000], atol=1e-6)


def test_a_stream_goes_on_from_its_snapshot(separator: Model) -> None:
    x = tones(0.8)
    for task in (EnhanceTask(separator), SeparateTask(separator, ["speech", "rain"])):
        run = InlineRun(task, separator)
        run.feed(chunk(x[:5000]))
        held = snapshot.load(snapshot.dump(run.state))
        memory = separator.export_row(run.memory, 0)
        expected = run.feed(chunk(x[5000:], 5000)) + run.finish()
        again = InlineRun(task, separator)
        again.state = held
        separator.import_row(again.memory, 0, memory)
        got = again.feed(chunk(x[5000:], 5000)) + again.finish()
        np.testing.assert_array_equal(track(got), track(expected))


def test_what_cannot_be_is_refused(separator: Model) -> None:
    with pytest.raises(QueryError, match="1 to 4"):
        SeparateTask(separator, ["speech"] * 5)
    with pytest.raises(QueryError, match="depth"):
        EnhanceTask(separator, depth=1.5)
    run = InlineRun(SeparateTask(separator), separator)
    with pytest.raises(AudioError, match="Chunk"):
        run.feed(b"samples")
    with pytest.raises(AudioError, match="8000"):
        run.feed(Chunk(np.zeros((1, 80), np.float32), 0, AudioFormat(8000)))
    assert SeparateTask(separator).input_format == FORMAT


def test_level_does_not_matter(separator: Model) -> None:
    x = tones(0.6)
    task = SeparateTask(separator, "speech")
    loud = track(whole(separator, task, x))
    for gain_db in (-30, -10, 10):
        gain = np.float32(10 ** (gain_db / 20))
        soft = track(whole(separator, task, x * gain)) / gain
        ratio = np.square(soft - loud).sum() / np.square(loud).sum()
        assert 10 * np.log10(ratio + 1e-12) < -25


@pytest.mark.parametrize("family", ["gtcrn", "dtln"])
def test_imported_enhancers_serve_too(weights: Path, tmp_path: Path, family: str) -> None:
    importers = pytest.importorskip("ossicle.export.importers")
    model = Model.load(importers.import_model(family, weights / family, tmp_path / family))
    task = EnhanceTask(model, keep_alarms=False)
    x = tones(1.0)
    y = track(whole(model, task, x))
    assert y.shape == x.shape
    assert np.isfinite(y).all()
    dry = track(whole(model, EnhanceTask(model, depth=0.0, keep_alarms=False), x))
    np.testing.assert_allclose(dry, x, atol=1e-6)
    t = np.arange(32_000) / 16_000
    beep = (0.1 * np.sin(2 * np.pi * 3150 * t) * ((t % 1) < 0.5)).astype(np.float32)
    kept = track(whole(model, EnhanceTask(model), beep))
    assert np.square(kept).sum() > 0.25 * np.square(beep).sum()
    with pytest.raises(ManifestError, match="query"):
        SeparateTask(model, "speech")
