"""Short signals for the separator's tests, and a reader of its events."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.task import AudioEvent, Event

FORMAT = AudioFormat(16_000)


def chunk(samples: NDArray[np.float32], start: int = 0, discont: bool = False) -> Chunk:
    return Chunk(np.asarray(samples, np.float32)[None], start, FORMAT, discont)


def track(events: list[Event], name: str | None = None) -> NDArray[np.float32]:
    parts = [
        e.chunk.samples[0] for e in events if isinstance(e, AudioEvent) and name in (None, e.track)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def tones(seconds: float = 0.5, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * 16_000)) / 16_000
    buzz = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 20))
    gate = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * t)
    return (0.05 * buzz * gate + 0.02 * rng.standard_normal(len(t))).astype(np.float32)
