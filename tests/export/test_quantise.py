from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from ossicle.export.graph import StepWriter
from ossicle.export.onnxfile import kinds_of
from ossicle.export.quantise import quantise_bundle, record
from ossicle.export.tensorrt import static_check
from ossicle.runtime.bundle import Bundle, write_bundle
from ossicle.runtime.errors import ExportError
from ossicle.runtime.manifest import Manifest, Op, Program, ProgramInput, ProgramOutput
from ossicle.runtime.model import Model

HOP, WIDTH = 16, 24


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    rng = np.random.default_rng(0)
    g = StepWriter("net")
    past = g.state("past", (1, 2))
    line = g.concat(past, g.input("x", (1, HOP)), axis=2)
    g.keep(past, g.slice(line, HOP, HOP + 2, 2))
    # Channels of very different sizes, which a single scale would lose.
    first = (rng.standard_normal((WIDTH, 1, 3)) * np.logspace(-2, 0, WIDTH)[:, None, None]) / 3
    hidden = g.node("Conv", line, g.weight(first.astype(np.float32)), kernel_shape=[3])
    last = (rng.standard_normal((1, WIDTH, 1)) / WIDTH).astype(np.float32)
    made = g.node("Conv", g.node("Relu", hidden), g.weight(last), kernel_shape=[1])
    g.output("y", made, (1, HOP))
    manifest = Manifest(
        schema=1, name="net", version="1", task="enhance", license="MIT",
        license_class="permissive", source="a test", sample_rate_hz=16000, hop=HOP, latency=HOP,
        graphs={"net": g.entry("net.onnx")},
        programs={"step": Program(
            (ProgramInput("audio", "audio", (1, HOP)),), (ProgramOutput("out", "audio", (1, HOP)),),
            (Op("graph", ("audio",), ("out",), "net"),),
        )},
    )  # fmt: skip
    place = tmp_path_factory.mktemp("net") / "net"
    return write_bundle(place, manifest, {"net.onnx": g.bytes()})


def hops(seed: int, count: int = 40) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"audio": rng.standard_normal((1, 1, HOP)).astype(np.float32)} for _ in range(count)]


def output(model: Model, given: list[dict[str, np.ndarray]]) -> np.ndarray:
    state = model.open(1)
    return np.concatenate([model.step(state, hop)["out"].reshape(-1) for hop in given])


@pytest.fixture(scope="module")
def snr(bundle: Bundle) -> object:
    wanted = output(Model.load(bundle), hops(2))

    def quality(model: Model) -> float:
        rest = output(model, hops(2)) - wanted
        return float(min(100.0, 10 * np.log10((wanted @ wanted) / max(rest @ rest, 1e-20))))

    return quality


@pytest.mark.parametrize(
    ("kind", "least_db", "operator", "precision"),
    [
        ("int8", 28, "QuantizeLinear", "int8"),
        ("int8-trt", 28, "QuantizeLinear", "int8"),
        ("fp16", 50, "Cast", "fp16"),
    ],
)
def test_quality_and_speed_stand_in_the_manifest(
    bundle: Bundle, snr: object, tmp_path: Path, kind: str, least_db: float, operator: str,
    precision: str,
) -> None:  # fmt: skip
    made = quantise_bundle(
        bundle, tmp_path / kind, kind=kind, calibration=hops(1), quality=snr,
        bound=100 - least_db, quality_name="snr",
    )  # fmt: skip
    figures = {m.name: m.value for m in made.manifest.metrics}
    assert figures["snr before"] == 100
    assert figures["snr after"] >= least_db
    assert figures["step before"] > 0
    assert figures["step after"] > 0
    data = made.read("net.onnx")
    assert operator in kinds_of(onnx.load_from_string(data))
    assert made.manifest.graphs["net"].precision == precision
    assert made.manifest.name == f"net-{kind}"
    assert made.manifest.golden


def test_weights_are_per_channel_and_activations_as_the_target_wants(
    bundle: Bundle, snr: object, tmp_path: Path
) -> None:
    for kind, dtype in (("int8", np.uint8), ("int8-trt", np.int8)):
        made = quantise_bundle(
            bundle, tmp_path / kind, kind=kind, calibration=hops(1), quality=snr, bound=100
        )
        model = onnx.load_from_string(made.read("net.onnx"))
        values = {w.name: onnx.numpy_helper.to_array(w) for w in model.graph.initializer}
        zeros = [values[n.input[2]] for n in model.graph.node if n.op_type == "QuantizeLinear"]
        assert zeros
        assert all(z.dtype == dtype for z in zeros)
        scales = [
            values[n.input[1]].size for n in model.graph.node if n.op_type == "DequantizeLinear"
        ]
        assert WIDTH in scales
    assert static_check(made.read("net.onnx"))["10.15"] == []  # signed and symmetric


def test_loss_past_the_bound_ships_nothing(bundle: Bundle, snr: object, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="at most 1 is allowed, so nothing was written"):
        quantise_bundle(
            bundle, tmp_path / "out", kind="int8", calibration=hops(1), quality=snr, bound=1
        )
    assert not (tmp_path / "out").exists()


def test_nan_quality_ships_nothing(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="nothing was written"):
        quantise_bundle(
            bundle, tmp_path / "out", kind="fp16", calibration=[], bound=1,
            quality=lambda model: float("nan"),
        )  # fmt: skip


def test_calibration_and_kind_are_checked(bundle: Bundle, snr: object, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="calibration never ran"):
        quantise_bundle(bundle, tmp_path / "o", kind="int8", calibration=[], quality=snr, bound=9)
    with pytest.raises(ExportError, match="int4"):
        quantise_bundle(bundle, tmp_path / "o", kind="int4", calibration=[], quality=snr, bound=9)


def test_recording_sees_states_as_they_went_in(bundle: Bundle) -> None:
    given = hops(5, 3)
    feeds = record(bundle, given)["net"]
    assert [set(f) for f in feeds] == [{"x", "past"}] * 3
    np.testing.assert_array_equal(feeds[0]["past"], 0)
    np.testing.assert_array_equal(feeds[2]["past"], given[1]["audio"][:, :, -2:])
