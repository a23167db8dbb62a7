"""Torch modules whose steps are recorded and replayed: the laws, on a stand-in and on a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import fir_manifest, fir_onnx

from ossicle.runtime.backend.torch import RecordedBound, TorchBackend
from ossicle.runtime.bundle import Bundle, write_bundle
from ossicle.runtime.errors import BackendError
from ossicle.runtime.manifest import Graph, Port, State
from ossicle.runtime.model import Model, ModelState

torch = pytest.importorskip("torch")
from recording import Tape  # noqa: E402 - needs torch

HOP, TAPS = 8, np.array([0.5, 0.25, -0.125, 0.0625, 0.3], np.float32)


class Fir(torch.nn.Module):
    """The filter of the toy bundle; counts how often Python ran it."""

    def __init__(self) -> None:
        super().__init__()
        self.taps = torch.nn.Parameter(torch.from_numpy(TAPS[::-1].copy()).reshape(1, 1, -1))
        self.calls = 0

    def forward(self, audio: Any, history: Any) -> Any:
        self.calls += 1
        line = torch.cat([history, audio], 2)
        return torch.nn.functional.conv1d(line, self.taps), line[:, :, -history.shape[2] :]


class Peeking(Fir):
    """Does as many things as there are loud samples, which no graph can hold."""

    def forward(self, audio: Any, history: Any) -> Any:
        if len(torch.nonzero(audio.abs() > 1e9)):
            return audio, history
        return super().forward(audio, history)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    manifest = fir_manifest("fir", HOP, len(TAPS) - 1, batch=(1, 4))
    return write_bundle(tmp_path / "fir", manifest, {"main.onnx": fir_onnx(HOP, TAPS)})


class Recorded:
    """A model whose steps are recorded on tapes, all of which are kept."""

    def __init__(self, bundle: Bundle, module: Any) -> None:
        self.tapes: list[Tape] = []
        self.backend = TorchBackend({"main": module}, recorder=self._tape)
        self.model = Model.load(bundle, self.backend)

    def _tape(self) -> Tape:
        self.tapes.append(Tape())
        return self.tapes[-1]

    def open(self, batch: int) -> ModelState:
        state = self.model.open(batch)
        step = bound(state).step
        self.tapes[-1].lasting = lambda: [
            *step.inputs.values(), *step.outputs.values(),
            *step.sides[0].values(), *step.sides[1].values(),
        ]  # fmt: skip
        return state


def bound(state: ModelState) -> RecordedBound:
    part = state.parts[0]
    assert isinstance(part, RecordedBound)
    return part


def hops(rows: int, count: int = 6) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(rows)
    return [{"audio": rng.standard_normal((rows, 1, HOP)).astype(np.float32)} for _ in range(count)]


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_replays_equal_plain_steps(bundle: Bundle, rows: int) -> None:
    plain = Model.load(bundle, TorchBackend({"main": Fir()}))
    recorded, expected = Recorded(bundle, Fir()), plain.open(rows)
    state = recorded.open(rows)
    for given in hops(rows):
        want = plain.step(expected, given)["out"]
        np.testing.assert_array_equal(recorded.model.step(state, given)["out"], want)


def test_a_step_is_warmed_up_recorded_both_ways_and_then_only_replayed(bundle: Bundle) -> None:
    module = Fir()
    recorded = Recorded(bundle, module)
    state = recorded.open(3)
    for index, given in enumerate(hops(3)):
        recorded.model.step(state, given)
        if index == 0:
            calls = module.calls
    assert recorded.tapes[-1].events == ["warm"] * 3 + ["record"] * 2 + ["replay"] * 6
    assert module.calls == calls == 5, "a replay runs no Python of the module"
    assert not recorded.backend.reasons


def test_addresses_stay_for_good(bundle: Bundle) -> None:
    recorded = Recorded(bundle, Fir())
    state = recorded.open(2)
    step, tape = bound(state).step, recorded.tapes[-1]

    def places() -> list[int]:
        return [t.data_ptr() for t in tape.lasting()]

    before, made = places(), []
    for given in hops(2):
        made.append(step.outputs["out"].data_ptr())
        recorded.model.step(state, given)
        memory = recorded.model.export_row(state, 0)
        recorded.model.import_row(state, 1, memory)
        recorded.model.reset(state, 0)
    assert places() == before
    assert len(set(made)) == 1


def test_rows_leave_come_back_and_are_reset(bundle: Bundle) -> None:
    recorded = Recorded(bundle, Fir())
    model, state = recorded.model, recorded.open(4)
    given = hops(4, 3)
    model.step(state, given[0])
    memory = model.export_row(state, 2)
    straight = model.step(state, given[1])["out"][2]
    other = recorded.open(1)
    model.import_row(other, 0, memory)
    moved = model.step(other, {"audio": given[1]["audio"][2:3]})["out"][0]
    np.testing.assert_array_equal(moved, straight)
    model.reset(state, 2)
    fresh = recorded.open(4)
    after, first = (model.step(s, given[2])["out"][2] for s in (state, fresh))
    np.testing.assert_array_equal(after, first)


def test_a_step_can_be_taken_back(bundle: Bundle) -> None:
    recorded = Recorded(bundle, Fir())
    model, state = recorded.model, recorded.open(2)
    first, second = hops(2, 2)
    model.step(state, first)
    want = model.step(state, second)["out"]
    state.undo_row(1)
    again = model.step(state, second)["out"]
    np.testing.assert_array_equal(again[1], want[1])
    assert np.abs(again[0] - want[0]).max() > 0.01, "row 0 went on"


def test_one_row_leaves_others_alone_when_it_is_poisoned(bundle: Bundle) -> None:
    recorded, clean = Recorded(bundle, Fir()), Recorded(bundle, Fir())
    one, two = recorded.open(3), clean.open(3)
    for index, given in enumerate(hops(3)):
        spoilt = {"audio": given["audio"].copy()}
        if index == 1:
            spoilt["audio"][0] = np.nan
        got = recorded.model.step(one, spoilt)["out"]
        want = clean.model.step(two, given)["out"]
        np.testing.assert_array_equal(got[1:], want[1:])
    np.testing.assert_array_equal(got[0], want[0])  # the filter's memory is shorter than a hop


def test_what_cannot_be_recorded_runs_eagerly_and_says_why(bundle: Bundle) -> None:
    plain = Model.load(bundle, TorchBackend({"main": Fir()}))
    recorded, expected = Recorded(bundle, Peeking()), plain.open(2)
    state = recorded.open(2)
    for given in hops(2):
        want = plain.step(expected, given)["out"]
        np.testing.assert_array_equal(recorded.model.step(state, given)["out"], want)
    why = recorded.backend.reasons["main"]
    assert why == "main.onnx runs eagerly: operation not permitted when stream is capturing"
    assert recorded.tapes[-1].events == ["warm"] * 3 + ["record"]


class Broken(Fir):
    """Fails when it is told to."""

    broken = False

    def forward(self, audio: Any, history: Any) -> Any:
        if self.broken:
            raise RuntimeError("device-side assert")
        return super().forward(audio, history)


def test_a_failed_step_leaves_the_memory_as_it_was(bundle: Bundle) -> None:
    module = Broken()
    module.broken = True
    recorded = Recorded(bundle, module)
    state, fresh = recorded.open(1), Recorded(bundle, Fir())
    (given,) = hops(1, 1)
    with pytest.raises(BackendError, match=r"main\.onnx: the step failed: device-side assert"):
        recorded.model.step(state, given)
    module.broken = False
    want = fresh.model.step(fresh.open(1), given)["out"]
    np.testing.assert_array_equal(recorded.model.step(state, given)["out"], want)


class Wide(Fir):
    """Makes a state of one column, which a copy would spread over all of them."""

    def forward(self, audio: Any, history: Any) -> Any:
        out, _ = super().forward(audio, history)
        return out, history[:, :, :1]


class Double(Fir):
    """Makes 64-bit floats, which a copy would narrow."""

    def forward(self, audio: Any, history: Any) -> Any:
        out, after = super().forward(audio, history)
        return out.double(), after


class Short(Fir):
    """Forgets its state."""

    def forward(self, audio: Any, history: Any) -> Any:
        return super().forward(audio, history)[:1]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Wide, r"makes 'history_next' torch\.float32 \(1, 1, 1\); torch\.float32 \(1, 1, 4\)"),
        (Double, r"makes 'out' torch\.float64 \(1, 1, 8\); torch\.float32 \(1, 1, 8\)"),
        (Short, "returns 1 tensors; 2 expected"),
    ],
)
def test_a_module_that_breaks_its_manifest_is_refused(
    bundle: Bundle, module: Any, message: str
) -> None:
    recorded = Recorded(bundle, module())
    with pytest.raises(BackendError, match=message):
        recorded.model.step(recorded.open(1), hops(1, 1)[0])


@pytest.mark.parametrize("array", [np.zeros((1, 1, HOP)), np.zeros((1, 1, 1), np.float32)])
def test_inputs_of_another_type_or_shape_are_refused(bundle: Bundle, array: np.ndarray) -> None:
    part = bound(Recorded(bundle, Fir()).open(1))
    with pytest.raises(BackendError, match=r"input 'audio' is .* float32 \(1, 1, 8\) expected"):
        part.run({"audio": array})


def test_batches_beyond_the_largest_bucket_are_refused(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match="batch 5; the largest bucket is 4"):
        Recorded(bundle, Fir()).model.open(5)


def test_shapes_known_only_at_run_time_are_refused(tmp_path: Path) -> None:
    graph = Graph(
        "main.onnx", (Port("audio", (1, -1)),), (Port("out", (1, HOP)),),
        (State("history", "history_next", (1, 4)),),
    )  # fmt: skip
    manifest = fir_manifest("fir", HOP, 4, graphs={"main": graph}, batch=(1,))
    place = write_bundle(tmp_path / "loose", manifest, {"main.onnx": fir_onnx(HOP, TAPS)})
    with pytest.raises(BackendError, match=r"'audio' is \(1, -1\): a recorded step has fixed"):
        Recorded(place, Fir()).model.open(1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(BackendError, match="finds no CUDA device"):
        TorchBackend({}, device="cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [1, 3])
def test_a_real_graph_equals_plain_steps(bundle: Bundle, rows: int) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    plain = Model.load(bundle, TorchBackend({"main": Fir()}))
    module = Fir()
    backend = TorchBackend({"main": module}, device="cuda")
    model = Model.load(bundle, backend)
    state, expected = model.open(rows), plain.open(rows)
    for index, given in enumerate(hops(rows, 8)):
        want = plain.step(expected, given)["out"]
        np.testing.assert_allclose(model.step(state, given)["out"], want, atol=1e-6)
        if index == 3:
            model.import_row(state, 0, plain.export_row(expected, 0))
    assert not backend.reasons
    assert module.calls == 5, "warm-up and recordings alone run the module"


@pytest.mark.gpu
def test_a_real_graph_that_cannot_be_recorded_falls_back(bundle: Bundle) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    backend = TorchBackend({"main": Peeking()}, device="cuda")
    model = Model.load(bundle, backend)
    (given,) = hops(1, 1)
    assert np.isfinite(model.step(model.open(1), given)["out"]).all()
    assert "runs eagerly" in backend.reasons["main"]
