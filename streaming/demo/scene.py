"""What the demo plays: a given file, or a scene made on the spot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ossicle.runtime.audio import Samples
from ossicle.streaming.client.sources import FileSource

SEED = 3  # of the scene: one whose five sounds the built-in tagger all names


@dataclass(frozen=True, slots=True)
class Played:
    """The samples `[1, T]`, and what is truly in them where that is known."""

    samples: Samples
    rate_hz: int
    title: str
    truth: tuple[tuple[str, float, float], ...] = ()  # label, from, to, in seconds


def choose(file: str | None, seconds: float) -> Played:
    """Return the scene, at most ``seconds`` of it.

    Raises:
        AudioError: a file that cannot be read.
    """
    if file is not None:
        return _from_file(file, seconds)
    from ossicle.runtime.scene.mix import demo_scene

    samples, scene = demo_scene(SEED)
    rate = scene.rate_hz
    truth = tuple((e.label, e.onset / rate, e.offset / rate) for e in scene.events)
    kept = np.asarray(samples, np.float32)[None, : round(seconds * rate)]
    title = "a scene made on the spot: " + ", ".join(label.replace("_", " ") for label, *_ in truth)
    return Played(kept, rate, title, truth)


def _from_file(file: str, seconds: float) -> Played:
    import soundfile

    source = FileSource(file)
    with soundfile.SoundFile(file) as opened:
        data = opened.read(round(seconds * opened.samplerate), dtype="float32", always_2d=True)
    mono = data.mean(axis=1, dtype=np.float32)[None]
    rate = source.rate_hz
    if rate > 48_000:
        from ossicle.runtime.audio import AudioFormat, Chunk
        from ossicle.runtime.resample import Resampler

        stage = Resampler(AudioFormat(rate), AudioFormat(48_000))
        state = stage.open()
        made = stage.step(state, Chunk(mono, 0, stage.input)) + stage.flush(state)
        mono, rate = np.concatenate([c.samples for c in made], axis=1), 48_000
    return Played(mono, rate, Path(file).name)
