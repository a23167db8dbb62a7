from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossicle.runtime.errors import AudioError
from ossicle.runtime.scene import alarms
from ossicle.runtime.scene.labels import ALERTS, LABELS, NOTABLE
from ossicle.runtime.scene.sound import bridge, cadence, envelope, harmonics, square_weights

KINDS = [(label, kind) for label, kinds in alarms.VARIANTS.items() for kind in kinds]
RATE = 16_000


def peak_hz(x: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(x * np.hanning(len(x))))
    return float(np.argmax(spectrum)) * RATE / len(x)


@pytest.mark.parametrize(("label", "kind"), KINDS)
@pytest.mark.parametrize("seconds", [0.3, 6.0])
def test_every_kind_is_a_sound_with_truth(label: str, kind: str, seconds: float) -> None:
    for seed in range(4):
        sound = alarms.synthesise(label, np.random.default_rng(seed), seconds, variant=kind)
        n = round(seconds * RATE)
        assert sound.samples.shape == (n,)
        assert sound.samples.dtype == np.float32
        assert np.isfinite(sound.samples).all()
        assert 0.5 < float(np.abs(sound.samples).max()) <= 0.9001
        assert sound.bursts
        assert all(0 <= a < b <= n for a, b in sound.bursts)
        assert all(b <= c for (_, b), (c, _) in pairwise(sound.bursts))
        assert sound.recipe["variant"] == kind


@pytest.mark.parametrize(("label", "kind"), KINDS)
def test_most_energy_lies_in_the_bursts(label: str, kind: str) -> None:
    sound = alarms.synthesise(label, np.random.default_rng(3), 8.0, variant=kind)
    mask = np.zeros(len(sound.samples), bool)
    for a, b in sound.bursts:
        mask[a:b] = True
    power = np.square(sound.samples, dtype=np.float64)
    assert power[mask].sum() > 0.95 * power.sum()


@pytest.mark.parametrize("label", alarms.ALARMS)
def test_a_seed_is_a_sound_and_another_seed_another(label: str) -> None:
    one, same, other = (
        alarms.synthesise(label, np.random.default_rng(seed), 2.0) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.samples, same.samples)
    assert not np.array_equal(one.samples, other.samples)


def test_smoke_alarm_keeps_temporal_three() -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        sound = alarms.synthesise("smoke_alarm", rng, 12.0, variant="t3_piezo")
        starts = np.array([a for a, _ in sound.bursts]) / RATE
        on = np.array([b - a for a, b in sound.bursts[:3]]) / RATE
        gaps = np.diff(starts)
        assert np.all(np.abs(on - 0.5) <= 0.051)
        assert np.all(np.abs(gaps[:2] - 1.0) <= 0.13)
        assert 1.7 < gaps[2] < 2.3
        a, b = sound.bursts[0]
        assert 2800 < peak_hz(sound.samples[a:b]) < 3600


def test_low_smoke_alarm_is_a_520_hz_square() -> None:
    rng = np.random.default_rng(5)
    sound = alarms.synthesise("smoke_alarm", rng, 4.0, variant="t3_520")
    a, b = sound.bursts[0]
    assert abs(peak_hz(sound.samples[a:b]) - 520) <= 58


def test_carbon_monoxide_alarm_keeps_temporal_four() -> None:
    sound = alarms.synthesise("co_alarm", np.random.default_rng(0), 14.0)
    starts = np.array([a for a, _ in sound.bursts]) / RATE
    gaps = np.diff(starts)
    assert np.all(gaps[:3] < 0.26)
    assert 4.4 < gaps[3] < 5.6
    assert np.all(gaps[4:7] < 0.26)


def test_a_wail_moves_and_a_hi_lo_has_two_pitches() -> None:
    def track(kind: str) -> np.ndarray:
        x = alarms.synthesise("siren", np.random.default_rng(4), 6.0, variant=kind).samples
        return np.array([peak_hz(x[i : i + 2048]) for i in range(0, len(x) - 2048, 2048)])

    assert len(np.unique(np.round(track("wail"), -1))) > 8
    two = track("hi_lo")
    low, high = np.min(two), np.max(two)
    assert np.mean(np.minimum(np.abs(two % low), np.abs(two % high)) < 60) > 0.5


def test_labels_hold_the_alarms_and_priorities_name_labels() -> None:
    assert len(LABELS) == len(set(LABELS)) == 20
    assert set(alarms.ALARMS) <= set(LABELS)
    assert set(LABELS) >= ALERTS | NOTABLE
    assert not ALERTS & NOTABLE


@pytest.mark.parametrize(
    ("label", "seconds", "variant", "says"),
    [
        ("foghorn", 1.0, None, "smoke_alarm"),
        ("siren", 1.0, "t3", "wail"),
        ("siren", 0.0, None, "at most 3600"),
        ("siren", float("nan"), None, "nan"),
    ],
)
def test_what_cannot_be_made_is_named(
    label: str, seconds: float, variant: str | None, says: str
) -> None:
    with pytest.raises(AudioError, match=says):
        alarms.synthesise(label, np.random.default_rng(0), seconds, variant=variant)


intervals = st.lists(
    st.tuples(st.integers(0, 200), st.integers(1, 20)).map(lambda p: (p[0], p[0] + p[1])),
    max_size=12,
)


@given(intervals, st.integers(0, 30))
def test_bridging_covers_and_leaves_only_long_gaps(bursts: list[tuple[int, int]], gap: int) -> None:
    out = bridge(bursts, gap)
    covered = {i for a, b in out for i in range(a, b)}
    assert covered >= {i for a, b in bursts for i in range(a, b)}
    assert all(c - b > gap for (_, b), (c, _) in pairwise(out))
    assert bridge(out, gap) == out


@given(
    st.lists(st.tuples(st.floats(0.01, 0.5), st.floats(0, 0.5)), min_size=1, max_size=4),
    st.integers(1, 4000),
)
def test_cadence_stays_inside(pattern: list[tuple[float, float]], n: int) -> None:
    bursts = cadence(pattern, n, 1000)
    assert all(0 <= a < b <= n for a, b in bursts)
    assert bursts == sorted(bursts)


def test_an_endless_cadence_of_nothing_is_refused() -> None:
    with pytest.raises(AudioError, match="longer than 0"):
        cadence([(0.0, 0.0)], 100, 1000)


def test_harmonics_above_the_band_are_muted() -> None:
    x = harmonics(np.full(16_000, 3000.0), square_weights(9), RATE)
    spectrum = np.abs(np.fft.rfft(x)) / 8000
    assert spectrum[3000] == pytest.approx(1, abs=1e-3)
    spectrum[2990:3010] = 0
    assert spectrum.max() < 1e-3


def test_envelope_is_one_inside_and_nothing_outside() -> None:
    gain = envelope(100, [(20, 60)], 0.005, 0.005, 1000)
    assert not gain[:20].any()
    assert not gain[60:].any()
    assert gain[30:50].min() == 1.0
    assert np.all(np.diff(gain[19:26]) >= 0)
