"""What goes wrong for one stream stays with that stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamtoys import (
    CAPTION,
    ENHANCE,
    RATE,
    ServerProcess,
    load_all,
    serving,
    tones,
)

from ossicle.runtime.engine import Engine, EngineSettings
from ossicle.runtime.errors import BackendError
from ossicle.runtime.model import Model, ModelState
from ossicle.streaming import messages as m
from ossicle.streaming.client import ServerError, Sound, Stream, connect
from ossicle.streaming.client.aio import concatenate
from ossicle.streaming.server.config import Settings
from ossicle.streaming.server.run import Server
from ossicle.streaming.session.bridge import EngineBridge


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    return load_all(tmp_path_factory.mktemp("bundles"))


class Faulty(Model):
    """A model that breaks after so many steps."""

    def __init__(self, good: Model, fault: str, after: int = 40) -> None:
        self.__dict__.update(good.__dict__)
        self.fault, self.after, self.steps = fault, after, 0

    def step(self, state: ModelState, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.steps += 1
        made = super().step(state, inputs)
        if self.steps > self.after:
            if self.fault == "raises":
                raise BackendError("the graph failed: out of memory")
            if self.fault == "crashes":
                raise ZeroDivisionError("not ours")
            if self.fault == "slow":
                time.sleep(0.05)
            if self.fault == "nan":
                made = {k: np.full_like(v, np.nan) for k, v in made.items()}
        return made


@pytest.mark.parametrize("fault", ["raises", "crashes", "nan", "slow"])
async def test_a_model_that_fails_takes_down_its_own_streams_only(
    models: dict[str, Model], fault: str
) -> None:
    x = tones(2.0)
    broken = {**models, "fir": Faulty(models["fir"], fault)}
    if fault == "slow":
        broken["fir"].after = 200  # type: ignore[attr-defined]
    # One measured run would be one stall away from a refusal.
    limits = EngineSettings(max_batch=1, calibration_runs=9, inbox_ms=300.0)
    with Engine(broken, limits) as engine:
        async with (
            Server(Settings(port=0, ring_ms=300), EngineBridge(engine)) as server,
            connect(f"127.0.0.1:{server.port}") as client,
        ):
            engine.calibrate()
            broken["fir"].steps = 0  # type: ignore[attr-defined]

            async def listen(spec: m.TaskSpec, live: bool = False) -> list[m.Response]:
                made = client.run(x, spec, rate_hz=RATE, realtime=live, resume=False)
                return [r async for r in made]

            bad, good = await asyncio.gather(
                listen(ENHANCE, fault == "slow"), listen(CAPTION), return_exceptions=True
            )
            assert isinstance(good, list)
            assert isinstance(good[-1].body, m.Ended)
            if fault in ("raises", "crashes"):
                assert isinstance(bad, ServerError)
                assert (bad.failure.code, bad.failure.reason) == ("INTERNAL", "MODEL_FAILED")
            else:
                assert isinstance(bad, list)
                sounds = [r.body for r in bad if isinstance(r.body, Sound)]
                assert all(np.isfinite(s.samples).all() for s in sounds)
            if fault == "slow":
                ended = bad[-1].body
                assert isinstance(ended, m.Ended)
                gaps = [r.body for r in bad if isinstance(r.body, m.Gap)]
                assert gaps
            assert isinstance((await listen(CAPTION))[-1].body, m.Ended)


def test_sigterm_lets_open_streams_end(models: dict[str, Model]) -> None:
    process = ServerProcess(models, drain_s=20.0)
    port = process.start()
    x = tones(2.0)

    async def run() -> tuple[list[list[m.Response]], str]:
        async with connect(f"127.0.0.1:{port}") as client:
            streams = [client.stream(ENHANCE, rate_hz=RATE, live=False) for _ in range(8)]
            for stream in streams:
                await stream.opened()
                await stream.send(x[:, :8_000])
            assert process.process is not None
            process.process.terminate()
            refused = ""
            for _ in range(100):
                try:
                    late = client.stream(ENHANCE, rate_hz=RATE)
                    await late.opened()
                    await late.close()
                except ServerError as error:
                    refused = error.failure.reason
                    break
                await asyncio.sleep(0.05)

            async def rest(stream: Stream) -> list[m.Response]:
                await stream.send(x[:, 8_000:])
                await stream.end()
                return [r async for r in stream]

            return list(await asyncio.gather(*(rest(s) for s in streams))), refused

    told, refused = asyncio.run(run())
    assert refused == "DRAINING"
    for answers in told:
        kinds = [r.body.kind for r in answers if isinstance(r.body, m.Notice)]
        assert kinds == ["GOING_AWAY"]
        assert isinstance(answers[-1].body, m.Ended)
        sound = concatenate([r.body for r in answers if isinstance(r.body, Sound)])
        assert sound.shape == x.shape
    assert process.process is not None
    assert process.process.wait(30) == 0
    process.process.communicate()


async def test_an_old_connection_is_announced_and_replaced(
    models: dict[str, Model], tmp_path: Path
) -> None:
    settings = {"max_duration_s": 1.5, "going_away_s": 1.0, "state_dir": str(tmp_path),
                "checkpoint_s": 0.2, "checkpoint_share": 1.0}  # fmt: skip
    x = tones(4.0)
    async for server in serving(models, **settings):
        async with connect(f"127.0.0.1:{server.port}") as client:
            stream = client.stream(ENHANCE, rate_hz=RATE, live=False)

            async def send(stream: Any = stream) -> None:
                for at in range(0, x.shape[1], 1_600):
                    await stream.send(x[:, at : at + 1_600])
                    await asyncio.sleep(0.08)
                await stream.end()

            sender = asyncio.create_task(send())
            answers = [r async for r in stream]
            await sender
        kinds = {r.body.kind for r in answers if isinstance(r.body, m.Notice)}
        assert "GOING_AWAY" in kinds
        assert stream.reconnects >= 1
        sound = concatenate([r.body for r in answers if isinstance(r.body, Sound)])
        assert sound.shape == x.shape
