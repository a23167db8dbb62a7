import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossicle.runtime.errors import AudioError
from ossicle.runtime.scene import everyday, mix, speechlike
from ossicle.runtime.scene.labels import LABELS
from ossicle.runtime.scene.sound import Sound, noise

RATE = 16_000


def click(at: int = 0, n: int = 800) -> Sound:
    x = np.zeros(n, np.float32)
    x[at:] = 0.5
    return Sound("click", x, ((at, n),))


@pytest.mark.parametrize("label", [*everyday.KNOWN, *everyday.UNKNOWN])
def test_everyday_sounds_are_sounds(label: str) -> None:
    for seed in range(3):
        sound = everyday.synthesise(label, np.random.default_rng(seed), 2.0)
        assert sound.samples.shape == (2 * RATE,)
        assert np.isfinite(sound.samples).all()
        assert float(np.abs(sound.samples).max()) == pytest.approx(0.9, abs=1e-3)
        assert all(0 <= a < b <= 2 * RATE for a, b in sound.bursts)
    again = everyday.synthesise(label, np.random.default_rng(2), 2.0)
    np.testing.assert_array_equal(sound.samples, again.samples)


def test_known_sounds_have_labels_and_unknown_have_none() -> None:
    assert set(everyday.KNOWN) <= set(LABELS)
    assert not set(everyday.UNKNOWN) & set(LABELS)
    with pytest.raises(AudioError, match="dog_bark"):
        everyday.synthesise("unicorn", np.random.default_rng(0))


@pytest.mark.parametrize("pitch", [100.0, 220.0])
def test_babble_has_the_pitch_it_was_given_and_pauses(pitch: float) -> None:
    sound = speechlike.babble(np.random.default_rng(1), 6.0, pitch_hz=pitch)
    a, b = sound.bursts[0]
    x = sound.samples[a:b].astype(np.float64)
    power = np.abs(np.fft.rfft(x, 1 << 18)) ** 2
    low = int(RATE / (1.4 * pitch))
    lags = np.fft.irfft(power)[: int(RATE / (0.7 * pitch))]
    best = low + int(np.argmax(lags[low:]))
    assert RATE / best == pytest.approx(pitch, rel=0.25)
    assert sum(d - c for c, d in sound.bursts) < 6.0 * RATE


def test_a_scene_is_the_sum_of_its_parts() -> None:
    _, scene = mix.demo_scene(3)
    total = np.sum(scene.stems, axis=0) + scene.bed
    np.testing.assert_allclose(scene.samples, np.clip(total, -1, 1), atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 500), st.floats(-5, 25), st.floats(-50, -10))
def test_levels_are_as_asked(at: int, snr_db: float, level_dbfs: float) -> None:
    bed = 0.01 * noise(np.random.default_rng(0), 4000)
    scene = mix.mix([mix.Placement(click(), at, snr_db)], bed, level_dbfs)
    event = scene.events[0]
    assert (event.onset, event.offset) == (at, at + 800)
    heard = mix.loudness(scene.stems[0], event.bursts)
    under = float(np.sqrt(np.mean(np.square(scene.bed, dtype=np.float64))))
    assert 20 * np.log10(heard / under) == pytest.approx(snr_db, abs=0.1)
    if np.abs(scene.samples).max() < 1:
        rms = float(np.sqrt(np.mean(np.square(scene.samples, dtype=np.float64))))
        assert 20 * np.log10(rms) == pytest.approx(level_dbfs, abs=0.1)


def test_events_come_in_order_and_end_with_the_scene() -> None:
    placed = [mix.Placement(click(100), 3500, 10), mix.Placement(click(), 200, 10)]
    scene = mix.mix(placed, np.zeros(4000))
    assert [(e.onset, e.offset) for e in scene.events] == [(200, 1000), (3600, 4000)]


def test_a_room_keeps_the_direct_sound_in_place() -> None:
    rng = np.random.default_rng(1)
    late = np.concatenate([np.zeros(400), mix.synthetic_room(rng, 0.3)])
    x = np.zeros(8000)
    x[1000] = 1.0
    y = mix.reverberate(x, late)
    assert y.shape == x.shape
    assert int(np.argmax(np.abs(y))) == 1000
    assert np.abs(y[:999]).max() < 1e-9


@pytest.mark.parametrize("rt60", [0.2, 0.6])
def test_a_synthetic_room_decays_as_asked(rt60: float) -> None:
    room = mix.synthetic_room(np.random.default_rng(2), rt60)[400:]
    left = 10 * np.log10(np.cumsum(room[::-1] ** 2)[::-1] + 1e-20)
    first = int(np.argmax(left < left[0] - 5))
    last = int(np.argmax(left < left[0] - 35))
    assert (last - first) / RATE * 2 == pytest.approx(rt60, rel=0.15)


def test_the_demo_is_the_same_for_a_seed_and_tells_its_truth() -> None:
    one, scene = mix.demo_scene(7)
    two, _ = mix.demo_scene(7)
    np.testing.assert_array_equal(one, two)
    assert 20 <= len(one) / RATE <= 25
    assert np.abs(one).max() < 1
    assert {e.label for e in scene.events} <= set(LABELS)
    assert "smoke_alarm" in {e.label for e in scene.events}
    assert "speech" in {e.label for e in scene.events}


def test_trimming_keeps_truth_aligned() -> None:
    part = mix.trim(click(100, 800), 50, 300)
    assert part.bursts == ((50, 250),)
    assert len(part.samples) == 250


def test_what_cannot_be_mixed_is_refused() -> None:
    with pytest.raises(AudioError, match="start inside"):
        mix.mix([mix.Placement(click(), 4000, 0)], np.zeros(4000))
    with pytest.raises(AudioError, match="finite"):
        mix.mix([mix.Placement(click(), 0, float("nan"))], np.zeros(4000))
    with pytest.raises(AudioError, match="silence"):
        mix.reverberate(np.ones(10), np.zeros(5))
