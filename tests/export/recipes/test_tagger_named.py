from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from ossicle.export.recipes import tagger_data as data
from ossicle.export.recipes import tagger_named as named
from ossicle.export.recipes.tagger_data import Library, recorded
from ossicle.runtime.scene.sound import Samples1D, Sound, shape_spectrum

RATE = 16_000


def crackle(seed: int, seconds: float) -> Samples1D:
    """Noise whose level jumps from one tenth of a second to the next."""
    rng = np.random.default_rng(seed)
    size = int(seconds * RATE)
    level = np.repeat(rng.uniform(0.02, 0.5, size // 1600 + 1), 1600)[:size]
    return np.asarray(0.3 * level * rng.standard_normal(size), np.float32)


@settings(deadline=None, max_examples=6)
@given(st.integers(0, 999), st.integers(0, 4 * RATE), st.floats(0.3, 1.0))
def test_a_part_of_a_recording_is_known_again(seed: int, at: int, gain: float) -> None:
    """At another place, level and colour, with something faint on top."""
    clip = crackle(seed, 3.0)
    other = crackle(seed + 1000, 8.0)
    probe = named.probe_of(named.heard_alike(clip))
    coloured = shape_spectrum(clip.astype(np.float64), [(60.0, 0.0), (1000.0, 3.0)], RATE)
    holds = 0.005 * other.astype(np.float64)
    holds[at : at + len(clip)] += gain * coloured
    assert named.likeness(named.heard_alike(holds.astype(np.float32)), probe) > named.SAME
    assert named.one_recording(named.views_of(holds.astype(np.float32)), named.heard_alike(clip))
    assert named.likeness(named.heard_alike(other), probe) < named.SAME


def test_less_than_a_second_holds_no_recording() -> None:
    probe = named.probe_of(named.heard_alike(crackle(0, 3.0)))
    assert named.likeness(named.heard_alike(crackle(0, 0.6)), probe) == 0.0


@settings(deadline=None, max_examples=6)
@given(st.integers(0, 999), st.integers(1600, 3 * RATE), st.floats(0.3, 1.0))
def test_a_bark_is_known_again_in_what_is_measured_on(seed: int, at: int, gain: float) -> None:
    bark, silence = crackle(seed, 0.5), np.zeros(2000, np.float32)
    clip = 0.005 * crackle(seed + 1000, 4.0)
    clip[at : at + len(bark)] += gain * bark
    short = named.views_of(np.concatenate([silence, bark, silence]))
    assert named.one_recording(short, named.heard_alike(clip))
    other = named.views_of(np.concatenate([silence, crackle(seed + 2000, 0.5), silence]))
    assert not named.one_recording(other, named.heard_alike(clip))


def test_clips_that_were_trained_on_under_another_name_are_measured_with_no_more(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "train" / "env_esc10_f1-4" / "006 - Sneezing"
    folder.mkdir(parents=True)
    for name in ("4-185619-A", "4-185620-A", "3-1-A", "4-185619-B"):
        soundfile.write(folder / f"{name}.flac", crackle(5, 0.5), RATE)
    assert len(data.load_library(tmp_path, [3, 4]).clips["sneeze"]) == 2
    assert len(data.load_library(tmp_path, [4]).clips["sneeze"]) == 1


def test_a_click_is_like_nothing() -> None:
    click = named.views_of(crackle(3, 0.1))
    assert not named.one_recording(click, named.heard_alike(crackle(3, 3.0)))


@pytest.mark.parametrize("samples", [1, 100, 399, 2400])
def test_what_is_shorter_than_a_window_is_compared_with_nothing(samples: int) -> None:
    """A single tick of a clock may be a recording of its own."""
    tick = named.views_of(crackle(3, 1.0)[:samples])
    assert tick == []
    assert not named.one_recording(tick, named.heard_alike(crackle(3, 2.0)))


def test_parts_without_a_sound_are_left_out() -> None:
    x = np.concatenate([crackle(1, 9.0), np.zeros(9 * RATE, np.float32), crackle(2, 9.0)])
    sound = Sound("rain", x, ((0, 9 * RATE), (18 * RATE, 27 * RATE)))
    parts = named.parts_of(sound)
    assert [len(p.samples) for p in parts] == [9 * RATE, 9 * RATE]
    np.testing.assert_array_equal(parts[1].samples, x[18 * RATE :])


def test_items_come_from_likely_parts_alone(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.concatenate([crackle(3, 9.0), crackle(4, 9.0)]), RATE)
    sound = recorded("rain", tmp_path / "a.flac")
    rng, loud = np.random.default_rng(0), [np.abs(p.samples).max() for p in named.parts_of(sound)]
    asked: list[float] = []

    def likely(part: Sound) -> bool:
        asked.append(float(np.abs(part.samples).max()))
        return asked[-1] == loud[1]

    made = named.items_of(rng, Library(), sound, likely, 3)
    assert sorted(asked) == sorted(map(float, loud))
    assert [i.label for i in made] == ["rain"] * 3  # a part comes again, never the same twice
    assert len({i.mel.tobytes() for i in made}) == 3
    assert named.items_of(rng, Library(), sound, lambda part: False, 3) == []
