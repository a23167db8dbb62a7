from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from ossicle.export.bundle import METADATA_KEY, TorchStep, export_bundle, export_step  # noqa: E402
from ossicle.export.distance import distance  # noqa: E402
from ossicle.export.parity import open_session, report  # noqa: E402
from ossicle.export.profiles import PROFILES  # noqa: E402
from ossicle.runtime.conformance import verify  # noqa: E402
from ossicle.runtime.errors import ExportError  # noqa: E402
from ossicle.runtime.manifest import (  # noqa: E402
    Manifest,
    Op,
    Port,
    Program,
    ProgramInput,
    ProgramOutput,
    State,
)

HOP = 8


class Causal(nn.Module):
    """A causal convolution with its past as a state."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv1d(1, 1, 3, bias=False)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        line = torch.cat([past, x], -1)
        return torch.tanh(self.conv(line)), line[..., -2:]

    def whole(self, x: Tensor) -> tuple[Tensor, ...]:
        line = x.permute(1, 2, 0, 3).flatten(2)  # [B, 1, N * hop]
        y = torch.tanh(self.conv(nn.functional.pad(line, (2, 0))))
        return (y.unflatten(2, (x.shape[0], HOP)).permute(2, 0, 1, 3),)


class Remembers(Causal):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("memory", torch.zeros(1))

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        self.memory.add_(1)
        return super().forward(x, past)


class Branches(Causal):
    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        if x.sum() > 0:
            x = -x
        return super().forward(x, past)


class Grows(Causal):
    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x, past)[0], torch.cat([past, x], -1)


class Transforms(Causal):
    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        return torch.fft.rfft(x).abs()[..., :1].expand(-1, -1, HOP).clone(), x[..., -2:]


def step_of(module: nn.Module, **changes: object) -> TorchStep:
    step = TorchStep(
        module,
        (Port("x", (1, HOP)),),
        (Port("y", (1, HOP)),),
        (State("past", "past_next", (1, 2)),),
    )
    return dataclasses.replace(step, **changes)


def manifest() -> Manifest:
    return Manifest(
        schema=1, name="toy", version="1", task="enhance", license="MIT",
        license_class="permissive", source="a test", sample_rate_hz=16000, hop=HOP, latency=HOP,
        latency_class="hearing", graphs={},
        programs={"step": Program(
            (ProgramInput("audio", "audio", (1, HOP)),),
            (ProgramOutput("audio_out", "audio", (1, HOP)),),
            (Op("graph", ("audio",), ("audio_out",), "net"),),
        )},
    )  # fmt: skip


def test_bundle_is_whole_verified_and_the_same_twice(tmp_path: Path) -> None:
    module = Causal()
    step = step_of(module, whole=module.whole)
    first = export_bundle(tmp_path / "a", manifest(), {"net": step})
    second = export_bundle(tmp_path / "b", manifest(), {"net": step})
    assert first.manifest == second.manifest  # hashes of every file included
    report = verify(first)
    assert report.ok, report
    figures = json.loads(first.read("parity.json"))["graphs"]["net"]
    assert set(figures["ort_vs_torch"]) == {"1", "2", "7"}
    assert figures["stream_vs_whole"] <= 1e-6
    assert set(figures["whole_by_hops"]) == {"1", "3", "8", "25"}
    assert figures["drift"]["hops"] >= 100
    assert figures["silence"] <= 1e-6
    sweep = json.loads(first.read("parity.json"))["chunk_sweep"]["step"]
    assert set(sweep) == {"1", "2", "7", "9", "20"}
    assert set(sweep.values()) == {0.0}
    assert {"cpu", "jetson6", "modern"} == set(figures["profiles_covered"])


def test_graph_holds_nothing_of_this_machine(tmp_path: Path) -> None:
    bundle = export_bundle(tmp_path / "a", manifest(), {"net": step_of(Causal())})
    data = bundle.read("net.onnx")
    assert str(Path(__file__).parent).encode() not in data
    assert b"site-packages" not in data
    model = onnx.load_from_string(data)
    assert [p.key for p in model.metadata_props] == [METADATA_KEY]
    assert not any(n.metadata_props or n.doc_string for n in model.graph.node)
    assert [v.name for v in model.graph.input] == ["x", "past"]
    assert [v.name for v in model.graph.output] == ["y", "past_next"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "B"


def test_exported_file_verifies_alone(tmp_path: Path) -> None:
    bundle = export_bundle(tmp_path / "a", manifest(), {"net": step_of(Causal())})
    alone = tmp_path / "net.onnx"
    alone.write_bytes(bundle.read("net.onnx"))
    assert verify(alone).ok


@pytest.mark.parametrize(
    ("name", "opsets"), [("cpu", (20,)), ("jetson6", (17, 18)), ("modern", (23,))]
)
def test_profiles_get_the_opset_they_ask_for(name: str, opsets: tuple[int, ...]) -> None:
    model = onnx.load_from_string(export_step(step_of(Causal()), "net", PROFILES[name]))
    assert model.opset_import[0].version in opsets


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (Remembers(), "writes memory"),
        (Branches(), "depends on data"),
        (Grows(), "may never change its shape"),
        (Transforms(), "DFT"),
    ],
    ids=["buffer", "branch", "shape", "operator"],
)
def test_refusals_say_what_to_change(module: nn.Module, says: str) -> None:
    with pytest.raises(ExportError, match=says):
        export_step(step_of(module), "net", PROFILES["cpu"])


def test_control_flow_is_refused() -> None:
    from ossicle.export.profiles import check_operators

    with pytest.raises(ExportError, match="If"):
        check_operators(["Add", "If"], PROFILES["cpu"], "a graph")
    with pytest.raises(ExportError, match="ScatterND"):
        check_operators(["ScatterND"], PROFILES["jetson6"], "a graph")


def test_lost_parity_writes_nothing(tmp_path: Path) -> None:
    def wrong(x: Tensor) -> tuple[Tensor, ...]:
        return (module.whole(x)[0] + 0.01,)

    module = Causal()
    with pytest.raises(ExportError, match="stream_vs_whole"):
        export_bundle(tmp_path / "a", manifest(), {"net": step_of(module, whole=wrong)})
    assert not (tmp_path / "a").exists()


def test_report_sees_another_module() -> None:
    data = export_step(step_of(Causal()), "net", PROFILES["cpu"])
    other = Causal()
    with torch.no_grad():
        other.conv.weight.add_(0.1)
    with pytest.raises(ExportError, match="parity lost"):
        report(step_of(other), data)


def test_distance_is_infinite_for_nan() -> None:
    assert distance(np.array([np.nan]), np.array([0.0])) == float("inf")


class Floors(Causal):
    """Constants so small, or so close to one, that an optimiser may take them for nothing."""

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        level = torch.log(x * x + 1e-9) * 1.000005 - 1e-9
        return torch.sqrt(level * level + 1e-12) / 0.999995, x[..., -2:]


@pytest.mark.parametrize("profile", PROFILES)
def test_small_constants_survive_the_exporter(profile: str) -> None:
    module = Floors()
    data = export_step(step_of(module), "net", PROFILES[profile])
    kinds = [node.op_type for node in onnx.load_from_string(data).graph.node]
    counts = {kind: kinds.count(kind) for kind in ("Add", "Sub", "Mul", "Div")}
    assert counts == {"Add": 2, "Sub": 1, "Mul": 3, "Div": 1}
    silence = torch.zeros(1, 1, HOP)
    wanted = module(silence, torch.zeros(1, 1, 2))[0].numpy()
    fed = {"x": silence.numpy(), "past": np.zeros((1, 1, 2), np.float32)}
    got = open_session(data).run(["y"], fed)[0]
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_silence_is_part_of_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the optimiser left alone the floor goes, and the bundle is refused."""
    monkeypatch.setattr("ossicle.export.step.shield_small_constants", lambda model: 0)
    step = step_of(Floors(), tolerance=0.5)  # only silence differs by more
    data = export_step(step, "net", PROFILES["cpu"])
    with pytest.raises(ExportError, match="silence"):
        report(step, data)


def test_audio_cut_otherwise_gives_the_same_or_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ossicle.export import sweep

    class Forgetful(sweep.Framer):
        """Loses the sample that does not fill a hop."""

        def step(self, state: object, chunk: object) -> list[object]:
            made = super().step(state, chunk)
            state.held[:, : state.count] *= 0.5
            return made

    monkeypatch.setattr(sweep, "Framer", Forgetful)
    with pytest.raises(ExportError, match="samples at a time"):
        export_bundle(tmp_path / "a", manifest(), {"net": step_of(Causal())})
    assert not (tmp_path / "a").exists()
