"""Toy models of every kind for the service's tests, and ways to talk to the service's core."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from toys import write_fir

from ossicle.runtime.bundle import write_bundle
from ossicle.runtime.engine import Engine, EngineSettings
from ossicle.runtime.model import Model
from ossicle.streaming import messages as m
from ossicle.streaming.encodings import encode
from ossicle.streaming.server.config import Settings
from ossicle.streaming.server.run import Server
from ossicle.streaming.session.bridge import EngineBridge

HERE = Path(__file__).parent
RATE = 16_000
ENHANCE = m.TaskSpec("enhance", model="fir", options={"drop_alarms": True})
CAPTION = m.TaskSpec("caption", model="tones")
ENCODE = m.TaskSpec("encode", model="toy-codec", options={"kbps": 2.0})
DECODE = m.TaskSpec("decode", model="toy-codec")


@cache
def _sibling(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.replace("/", "_"), HERE / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_all(home: Path) -> list[Path]:
    """Write the filter, the tone tagger and the cosine codec; return their folders."""
    captions, codec = (
        _sibling("streaming/captions/conftest.py"),
        _sibling("streaming/codec/conftest.py"),
    )
    write_fir(home / "fir")
    files = {"step.onnx": captions._tone_graph()}
    write_bundle(home / "tones", captions.tone_manifest(), files)
    codec.toy_codec(home / "toy-codec")
    return [home / name for name in ("fir", "tones", "toy-codec")]


def load_all(home: Path) -> dict[str, Model]:
    """Write and load the toy models."""
    models = [Model.load(place) for place in write_all(home)]
    return {model.name: model for model in models}


def tones(seconds: float = 3.0) -> NDArray[np.float32]:
    """Samples `[1, T]` with two sounds that the tagger knows."""
    plan = [("dog_bark", 0.5, 1.2), ("doorbell", 1.8, 2.6), ("rain", 3.2, 4.4)]
    found: NDArray[np.float32] = _sibling("streaming/captions/conftest.py").tones(plan, seconds)
    noise = np.random.default_rng(5).standard_normal(found.shape).astype(np.float32)
    return found + 0.002 * noise


def config(*tasks: m.TaskSpec, **changes: Any) -> m.Config:
    """Return a config for 16 kHz mono floats, answered in floats, at a file's pace."""
    fields: dict[str, Any] = {
        "sample_rate_hz": RATE,
        "tasks": tasks or (ENHANCE,),
        "encoding": "pcm_f32",
        "output_encoding": "pcm_f32",
        "pace": "file",
    }
    return m.Config(**{**fields, **changes})


async def given(requests: Iterable[m.Request]) -> AsyncIterator[m.Request]:
    """Yield ``requests`` as a client would send them."""
    for request in requests:
        yield request


def pieces(samples: NDArray[np.float32], size: int, encoding: str = "pcm_f32") -> list[m.Request]:
    """Return ``samples`` as audio messages of ``size`` samples."""
    return [
        m.AudioIn(encode(samples[:, at : at + size], encoding))
        for at in range(0, samples.shape[1], size)
    ]


def whole(config: m.Config, samples: NDArray[np.float32], size: int = 1600) -> list[m.Request]:
    """Return every request of a stream from config to end."""
    return [config, *pieces(samples, size, config.encoding), m.End()]


def audio_of(answers: Iterable[m.Response], task: str = "enhance") -> NDArray[np.float32]:
    """Return the float samples of one task's answers, checked to be seamless."""
    parts, at = [], 0
    for response in answers:
        if isinstance(response.body, m.AudioOut) and response.task == task:
            assert response.body.start_sample == at
            at += response.body.samples
            parts.append(np.frombuffer(response.body.data, np.float32))
    return np.concatenate([np.zeros(0, np.float32), *parts])


async def serving(models: dict[str, Model], **settings: Any) -> AsyncIterator[Server]:
    """Yield a running server over its own engine."""
    with Engine(models, EngineSettings(max_batch=4, calibration_runs=9)) as engine:
        async with Server(Settings(port=0, **settings), EngineBridge(engine)) as server:
            yield server


SERVE = """
import msgspec, sys
from ossicle.streaming.server.config import Settings
from ossicle.streaming.server.logs import configure
from ossicle.streaming.server.run import run
settings = msgspec.json.decode(sys.argv[1], type=Settings)
configure(settings.log_level)
run(settings, lambda server: print(server.port, flush=True))
"""


class ServerProcess:
    """A server in a process of its own, to be killed and started again on the same port."""

    def __init__(self, models: dict[str, Model] | list[str], **settings: Any) -> None:
        """Serve loaded models' bundles, or bundles by name."""
        places = (
            tuple(str(model.bundle.root) for model in models.values())
            if isinstance(models, dict)
            else tuple(models)
        )
        self.settings: dict[str, Any] = {"port": 0, "models": places, **settings}
        self.process: subprocess.Popen[str] | None = None
        self.log = ""

    def start(self) -> int:
        """Start it and return its port once it is ready."""
        given = json.dumps(self.settings)
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, given],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate()[1])
        self.settings["port"] = int(line)
        return int(line)

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        assert self.process is not None
        self.process.kill()
        self.log += self.process.communicate()[1]

    def stop(self) -> int:
        """SIGTERM; return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            self.log += self.process.communicate(timeout=30)[1]
        return self.process.returncode
