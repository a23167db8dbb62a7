"""What goes wrong in one stream stays in that stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from enginetoys import MONO, Listener, alone, noise, turns_kind  # noqa: F401 - a fixture
from toys import write_fir, write_masked

from ossicle.runtime.audio import Chunk
from ossicle.runtime.audiotask import AudioTask
from ossicle.runtime.budget import Budget
from ossicle.runtime.engine import Engine, EngineSettings
from ossicle.runtime.errors import AudioError, BackendError
from ossicle.runtime.model import Model
from ossicle.runtime.task import NoticeEvent


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    return {"fir": Model.load(write_fir(tmp_path_factory.mktemp("bundles") / "fir"))}


class Faulty:
    """A model with a graph that does something bad after it ran."""

    def __init__(self, model: Model, fault: Any) -> None:
        self._model, self._fault = model, fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def step(self, state: Any, inputs: Any) -> Any:
        outputs = self._model.step(state, inputs)
        try:
            return self._fault(outputs, inputs)
        except Exception:
            state.undo()
            raise


def test_a_model_that_raises_ends_its_stream_and_no_other(models: dict[str, Model]) -> None:
    def fault(outputs: Any, inputs: Any) -> Any:
        if (inputs["audio"] > 0.9).any():
            raise RuntimeError("the device is on fire")
        return outputs

    engine = Engine({"fir": Faulty(models["fir"], fault)})  # type: ignore[dict-item]
    good, bad = Listener(), Listener()
    task = AudioTask(models["fir"].manifest)
    one = engine.open(task, Budget(), good.on_events, good.on_end, live=False)
    two = engine.open(task, Budget(), bad.on_events, bad.on_end, live=False)
    signal = noise(5, 640)
    one.push(Chunk(signal, 0, MONO))
    two.push(Chunk(np.ones((1, 640), np.float32), 0, MONO))
    one.flush()
    while engine.run_once():
        pass
    assert isinstance(bad.error, BackendError)
    assert "on fire" in str(bad.error)
    assert good.error is None
    np.testing.assert_allclose(good.samples(), alone(models["fir"], signal), atol=1e-6)


def test_values_that_are_not_finite_never_reach_the_listener(models: dict[str, Model]) -> None:
    def fault(outputs: Any, inputs: Any) -> Any:
        outputs["out"][np.abs(inputs["audio"]).max(axis=(1, 2)) > 0.9] = np.nan
        return outputs

    engine = Engine({"fir": Faulty(models["fir"], fault)})  # type: ignore[dict-item]
    good, bad = Listener(), Listener()
    task = AudioTask(models["fir"].manifest)
    signal = noise(6, 640)
    spoiled = signal.copy()
    spoiled[:, 70] = 1.0
    for heard, samples in ((good, signal), (bad, spoiled)):
        lease = engine.open(task, Budget(), heard.on_events, heard.on_end, live=False)
        lease.push(Chunk(samples, 0, MONO))
        lease.flush()
    while engine.run_once():
        pass
    assert np.isfinite(bad.samples()).all()
    assert (bad.samples()[:, 64:128] == 0).all()
    assert any(isinstance(e, NoticeEvent) and e.kind == "model-fault" for e in bad.events)
    np.testing.assert_allclose(good.samples(), alone(models["fir"], signal), atol=1e-6)


@pytest.mark.parametrize("method", ["push", "take", "flush", "end", "update"])
def test_a_task_that_raises_ends_its_stream_and_no_other(
    models: dict[str, Model], method: str
) -> None:
    def fail(*given: Any) -> Any:
        raise ZeroDivisionError("a mistake in the task")

    engine = Engine(models)
    good, bad = Listener(), Listener()
    faulty = AudioTask(models["fir"].manifest)
    setattr(faulty, method, fail)
    signal = noise(9, 640)
    for task, heard in ((faulty, bad), (AudioTask(models["fir"].manifest), good)):
        lease = engine.open(task, Budget(), heard.on_events, heard.on_end, live=False)
        lease.push(Chunk(signal, 0, MONO))
        lease.update({})
        lease.flush()
    while engine.run_once():
        pass
    assert isinstance(bad.error, BackendError)
    assert "a mistake in the task" in str(bad.error)
    assert good.error is None
    np.testing.assert_allclose(good.samples(), alone(models["fir"], signal), atol=1e-6)


@pytest.mark.parametrize(
    "item",
    [
        b"packet",
        Chunk(None, 0, MONO),  # type: ignore[arg-type]
        Chunk([[0.0]], 0, MONO),  # type: ignore[arg-type]
        Chunk(np.array([["a"]]), 0, MONO),
        Chunk(np.float32(1), 0, MONO),  # type: ignore[arg-type]
        Chunk(np.zeros((2, 640), np.float32), 0, MONO),
    ],
)
@pytest.mark.parametrize("live", [True, False])
def test_what_is_no_audio_ends_its_stream_and_no_other(
    models: dict[str, Model], item: Any, live: bool
) -> None:
    engine = Engine(models, EngineSettings(inbox_ms=40))
    good, bad = Listener(), Listener()
    signal = noise(4, 640)
    for chunk, heard in ((item, bad), (Chunk(signal, 0, MONO), good)):
        task = AudioTask(models["fir"].manifest)
        lease = engine.open(task, Budget(), heard.on_events, heard.on_end, live=live)
        assert lease.push(chunk)
        lease.push(chunk)  # a full inbox must bear it as well
        if heard is good:
            lease.flush()
    while engine.run_once():
        pass
    assert isinstance(bad.error, AudioError)
    assert good.error is None
    assert good.samples().shape[1] in (640, 1280)


def test_a_condition_that_nobody_gave_is_missing_in_a_batch_as_well(tmp_path: Path) -> None:
    model = Model.load(write_masked(tmp_path / "masked"))
    engine = Engine({"masked": model})
    signal = noise(7, 512)
    good, bad = Listener(), Listener()
    for heard in (good, bad):  # the second one's row holds nothing, or what a neighbour gave
        task = AudioTask(model.manifest)
        lease = engine.open(task, Budget(), heard.on_events, heard.on_end, live=False)
        if heard is good:
            lease.update({"mask": np.ones((1, 257), np.float32)})
        lease.push(Chunk(signal, 0, MONO))
        lease.flush()
    while engine.run_once():
        pass
    assert good.error is None
    np.testing.assert_allclose(good.samples(), signal, atol=1e-5)
    assert isinstance(bad.error, AudioError)
    assert "input 'mask' is missing" in str(bad.error)
    assert not bad.events
