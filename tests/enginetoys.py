"""What tests of the engine share: two small models, a listener, and what a stream gets alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from toys import RATE

from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.audiotask import AudioTask
from ossicle.runtime.engine.turns import Turns, make_turns
from ossicle.runtime.errors import OssicleError
from ossicle.runtime.model import Model
from ossicle.runtime.rows import compiled_part
from ossicle.runtime.task import AudioEvent, InlineRun

MONO = AudioFormat(RATE)


class Listener:
    """Collects what a stream gets."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.ledgers: list[Any] = []
        self.ended = threading.Event()
        self.error: OssicleError | None = None

    def on_events(self, items: list[Any]) -> None:
        self.events += [event for event, _ in items]
        self.ledgers += [ledger for event, ledger in items if isinstance(event, AudioEvent)]

    def on_end(self, error: OssicleError | None) -> None:
        self.error = error
        self.ended.set()

    def samples(self) -> np.ndarray:
        parts = [e.chunk.samples for e in self.events if isinstance(e, AudioEvent)]
        return np.concatenate([np.zeros((1, 0), np.float32), *parts], axis=1)


def alone(model: Model, signal: np.ndarray) -> np.ndarray:
    run = InlineRun(AudioTask(model.manifest), model)
    events = run.feed(Chunk(signal, 0, MONO)) + run.finish()
    heard = Listener()
    heard.events += events
    return heard.samples()


def noise(seed: int, length: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal((1, length))).astype(np.float32)


@pytest.fixture(scope="module", params=["compiled", "plain"], autouse=True)
def turns_kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """Engines take their turns in the compiled part, and then all again in its twin."""
    if request.param == "compiled" and compiled_part("Turns") is None:
        pytest.skip("this install has no compiled part")

    def made(clock: Any, calls: Any, compiled: bool) -> Turns:
        return make_turns(clock, calls, compiled and request.param == "compiled")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ossicle.runtime.engine.rounds.make_turns", made)
        yield request.param
