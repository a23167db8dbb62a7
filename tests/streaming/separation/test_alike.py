"""`ossicle separate` and `ossicle enhance` here and at a server: the same files, the same words."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from separationtoys import tones
from streamtoys import ServerProcess
from typer.testing import CliRunner

from ossicle.streaming.cli.app import app

COMPILED = importlib.util.find_spec("ossicle._core") is not None
PARITY = 0.0 if COMPILED else 1e-4
"""Bits from our own step executor; ONNX Runtime's depend on how many channels step together, and
there it is what the graphs of both bundles say of themselves."""


@pytest.fixture(scope="module")
def there() -> Iterator[list[str]]:
    process = ServerProcess(["separate-16k", "separate-16k-talk"])
    yield ["--server", f"127.0.0.1:{process.start()}"]
    process.stop()


@pytest.fixture
def stereo(tmp_path: Path) -> Path:
    x = tones(1.2)
    place = tmp_path / "in.wav"
    sf.write(place, np.stack([x, 0.3 * x[::-1]], axis=1), 16_000, subtype="FLOAT")
    return place


def told(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(
    "asked",
    [
        ["separate", "--query", "speech", "--query", "not the alarms"],
        ["separate", "--query", "baby crying", "--depth", "0.5"],
        ["enhance"],
    ],
)
def test_here_and_there_alike(asked: list[str], there: list[str], stereo: Path) -> None:
    count = max(1, asked.count("--query"))
    said, files = [], []
    for name, more in (("a", []), ("b", there)):
        outs = [stereo.with_name(f"{name}{i}.wav") for i in range(count)]
        places = [part for out in outs for part in ("-o", str(out))]
        command, *options = asked
        said.append(json.loads(told(command, str(stereo), *places, *options, "--json", *more)))
        files.append([sf.read(out, dtype="float32") for out in outs])
    assert said[0] == said[1]
    assert set(said[0]) == {"model", "tracks", "seconds", "rate_hz", "channels", "level_db"}
    assert said[0]["channels"] == 2
    assert len(said[0]["level_db"]) == count
    for (here, rate), (far, same) in zip(*files, strict=True):
        assert rate == same == 16_000
        np.testing.assert_allclose(here, far, rtol=0, atol=PARITY)


def test_people_are_told_how_much_of_the_input_is_left(stereo: Path) -> None:
    out = stereo.with_name("o.wav")
    line = told("separate", str(stereo), "--query", "speech", "--depth", "0", "-o", str(out))
    assert " ".join(line.split()) == "o.wav: speech, 1.2 s, +0.0 dB against the input"
