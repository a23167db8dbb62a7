from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from ossicle.export.recipes.separator_data import LABELS, Pool, Pools, pool_of
from ossicle.export.recipes.separator_scenes import Scenes, Shelf
from ossicle.export.recipes.separator_spoken import Spoken, add_further, clean
from ossicle.runtime.scene.alarms import ALARMS

LENGTH = 8_000
SPEECH = LABELS.index("speech")


def voice(seconds: float, floor: float = 0.0) -> np.ndarray:
    """Noise in bursts with pauses of level ``floor`` between."""
    rng = np.random.default_rng(1)
    t = np.arange(round(seconds * 16_000)) / 16_000
    return (rng.standard_normal(len(t)) * np.maximum(0.1 * (t % 0.5 < 0.3), floor)).astype("f4")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, x in {
        "speech/clean": voice(1.0),
        "speech/noisy": voice(1.0, 0.01),
        "unknown/thing": 0.1 * np.ones(16_000) * np.cos(np.arange(16_000)),
        "other/never": voice(1.0),
    }.items():
        place = tmp_path / f"{name}.flac"
        place.parent.mkdir(exist_ok=True)
        sf.write(place, x, 16_000)
    return tmp_path


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pools:
    """Every label a tone of its own, so that a mixture tells what is in it."""
    monkeypatch.setattr("ossicle.export.recipes.separator_data._cached", lambda place: tones())
    return Pools(tmp_path, length=LENGTH, cache=tmp_path)


def tones() -> dict[str, Pool]:
    t, rng = np.arange(4 * LENGTH) / 16_000, np.random.default_rng(0)
    made = {}
    for place, label in enumerate(LABELS):
        tone = 0.1 * np.sin(2 * np.pi * (200 + 40 * place) * t)
        made[label] = pool_of([tone.astype(np.float32)], rng, LENGTH)
    return made


def test_only_clean_speech_is_a_target() -> None:
    assert clean(voice(1.0))
    assert not clean(voice(1.0, 0.01))
    assert not clean(voice(0.1))


def test_further_audio_has_names_of_its_own(pools: Pools, folder: Path) -> None:
    add_further(pools, folder, (1.0,))
    assert set(pools.by_label) - set(LABELS) == {"+speech", "+sound"}  # nothing was musical


def test_speech_alone_is_asked_for_and_what_has_no_name_is_never_given(
    pools: Pools, folder: Path
) -> None:
    add_further(pools, folder, (1.0,))
    scenes = Spoken(Shelf(pools, room_share=0.0, colour_share=0.0), further=0.5)
    rng = np.random.default_rng(2)
    casts = [scenes._cast(rng) for _ in range(200)]
    assert any("+sound" in cast for cast in casts)
    assert not any("+music" in cast for cast in casts)
    assert sum("speech" in cast for cast in casts) > 180
    batch = scenes.batch(rng, 64)
    assert batch.query.shape == (64, 1, len(LABELS))
    assert bool((batch.query[:, 0, SPEECH] == 1).all())
    asked = batch.query[:, 0].sum(-1)
    assert set(asked.tolist()) <= {1.0, 1.0 + len(ALARMS)}
    alone = asked == 1
    rest = (batch.mixture - batch.target[:, 0])[alone]
    assert bool((rest.square().mean(-1) > 1e-9).all())  # there is always something else
    assert not torch.equal(batch.target[alone, 0], batch.mixture[alone])


def test_without_further_audio_nothing_is_drawn_anew(pools: Pools) -> None:
    plain, same = (
        Scenes(Shelf(pools), further=0.0).batch(np.random.default_rng(3), 4) for _ in range(2)
    )
    torch.testing.assert_close(plain.target, same.target)
    assert all("+" not in label for label in pools.by_label)
