"""Stages: cutting the input differently changes nothing, and nothing is shared between streams."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import write_fir

from ossicle.runtime.audio import AudioFormat, Chunk, scrub
from ossicle.runtime.errors import AudioError
from ossicle.runtime.framer import Framer
from ossicle.runtime.model import Model
from ossicle.runtime.modelstage import ModelStage
from ossicle.runtime.resample import Resampler
from ossicle.runtime.snapshot import dump, load
from ossicle.runtime.stage import Pipeline

MONO = AudioFormat(16_000)


def cut(signal: np.ndarray, sizes: list[int], format: AudioFormat, start: int = 0) -> list[Chunk]:
    edges = np.clip(np.cumsum([0, *sizes, signal.shape[-1]]), 0, signal.shape[-1])
    return [Chunk(signal[:, a:b], start + int(a), format) for a, b in pairwise(edges)]


def run(stage: Any, chunks: list[Chunk], snap_every: int = 0) -> list[Chunk]:
    state = stage.open()
    made: list[Chunk] = []
    for number, chunk in enumerate(chunks):
        made += stage.step(state, chunk)
        if snap_every and number % snap_every == 0:
            state = load(dump(state))
    made += stage.flush(state)
    assert stage.flush(state) == []
    return made


def joined(chunks: list[Chunk], channels: int = 1) -> np.ndarray:
    return np.concatenate(
        [np.zeros((channels, 0), np.float32), *(c.samples for c in chunks)], axis=1
    )


def noise(seed: int, length: int, channels: int = 1) -> np.ndarray:
    made = 0.1 * np.random.default_rng(seed).standard_normal((channels, length))
    return made.astype(np.float32)


sizes_of_cuts = st.lists(st.integers(0, 9000), max_size=12)


@given(length=st.integers(0, 500), hop=st.integers(1, 64), sizes=st.lists(st.integers(0, 99)))
def test_frames_do_not_depend_on_the_cut(length: int, hop: int, sizes: list[int]) -> None:
    signal = noise(length, length)
    pipeline = Pipeline([Framer(MONO, hop), Framer(MONO, hop)])
    frames = run(pipeline, cut(signal, sizes, MONO))
    assert [frame.start for frame in frames] == list(range(0, length, hop))
    np.testing.assert_array_equal(joined(frames), np.pad(signal, ((0, 0), (0, -length % hop))))


def test_a_gap_drops_the_frame_it_interrupts_and_is_passed_on() -> None:
    framer = Framer(MONO, hop=4)
    state = framer.open()
    assert framer.step(state, Chunk(np.ones((1, 3), np.float32), 0, MONO)) == []
    frames = framer.step(state, Chunk(np.ones((1, 8), np.float32), 10, MONO, discont=True))
    assert [(f.start, f.discont) for f in frames] == [(10, True), (14, False)]


@given(
    seed=st.integers(0, 99),
    rates=st.sampled_from([(48_000, 16_000), (44_100, 16_000), (8_000, 16_000), (16_000, 48_000)]),
    length=st.integers(0, 150_000),
    sizes=sizes_of_cuts,
    snap_every=st.integers(0, 3),
    start=st.sampled_from([0, 2**31 - 100, 2**53 + 441]),
)
@settings(max_examples=20)
def test_resampling_is_soxr_whole_however_cut_and_wherever_snapshotted(
    seed: int, rates: tuple[int, int], length: int, sizes: list[int], snap_every: int, start: int
) -> None:
    source, target = (AudioFormat(rate) for rate in rates)
    stage = Resampler(source, target)
    signal = noise(seed, length)
    whole = run(stage, cut(signal, [], source, start))
    parts = run(stage, cut(signal, sizes, source, start), snap_every)
    np.testing.assert_array_equal(joined(parts), joined(whole))
    assert parts or length < source.rate_hz // target.rate_hz + 1
    if parts:
        assert parts[0].start == start * target.rate_hz // source.rate_hz
        expected = soxr.resample(signal[0], *rates)
        shared = min(len(expected), joined(whole).shape[1])
        assert abs(len(expected) - joined(whole).shape[1]) <= 1
        np.testing.assert_allclose(joined(whole)[0, :shared], expected[:shared], atol=1e-6)


def test_stereo_is_mixed_down_by_its_mean_and_mono_is_copied_up() -> None:
    signal = noise(1, 1000, channels=2)
    down = Resampler(AudioFormat(16_000, 2), MONO)
    made = joined(run(down, cut(signal, [100], AudioFormat(16_000, 2))))
    np.testing.assert_allclose(made, signal.mean(axis=0, keepdims=True), atol=1e-7)
    up = Resampler(MONO, AudioFormat(16_000, 2))
    both = joined(run(up, cut(made, [], MONO)), 2)
    np.testing.assert_array_equal(both[0], both[1])
    with pytest.raises(AudioError, match="only to or from one channel"):
        Resampler(AudioFormat(16_000, 2), AudioFormat(16_000, 3))


def test_the_declared_latency_of_a_resampler_is_met() -> None:
    stage = Resampler(AudioFormat(48_000), MONO)
    state = stage.open()
    fed = made = 0
    for _ in range(400):
        out = stage.step(state, Chunk(noise(fed, 10), fed, AudioFormat(48_000)))
        fed += 10
        made += sum(c.length for c in out)
        assert fed - 3 * made <= stage.latency + 16


@pytest.fixture(scope="module")
def fir_stage(tmp_path_factory: pytest.TempPathFactory) -> ModelStage:
    return ModelStage(Model.load(write_fir(tmp_path_factory.mktemp("b") / "fir")))


@given(seed=st.integers(0, 99), length=st.integers(0, 3000), sizes=sizes_of_cuts)
@settings(max_examples=30)
def test_a_model_stage_gives_as_much_as_it_took(
    fir_stage: ModelStage, seed: int, length: int, sizes: list[int]
) -> None:
    signal = noise(seed, length)
    made = joined(run(fir_stage, cut(signal, sizes, MONO)))
    taps = np.array([0.5, 0.25, -0.125, 0.0625, 0.3], np.float32)
    expected = np.convolve(signal[0], taps)[:length] if length else signal[0]
    np.testing.assert_allclose(made[0], expected, atol=1e-6)


def test_a_model_stage_continues_from_a_snapshot(fir_stage: ModelStage) -> None:
    signal = noise(7, 1000)
    whole = joined(run(fir_stage, cut(signal, [], MONO)))
    state = fir_stage.open()
    made = fir_stage.step(state, Chunk(signal[:, :333], 0, MONO))
    state = fir_stage.restore(load(dump(fir_stage.export(state))))
    made += fir_stage.step(state, Chunk(signal[:, 333:], 333, MONO)) + fir_stage.flush(state)
    np.testing.assert_array_equal(joined(made), whole)


def test_a_gap_resets_the_model(fir_stage: ModelStage) -> None:
    signal = noise(8, 640)
    state = fir_stage.open()
    fir_stage.step(state, Chunk(np.ones((1, 100), np.float32), 0, MONO))
    made = fir_stage.step(state, Chunk(signal, 5000, MONO, discont=True))
    made += fir_stage.flush(state)
    assert (made[0].start, made[0].discont) == (5000, True)
    np.testing.assert_array_equal(joined(made), joined(run(fir_stage, cut(signal, [], MONO))))


def test_a_pipeline_whose_formats_do_not_meet_is_refused() -> None:
    with pytest.raises(AudioError, match="put a Resampler between"):
        Pipeline([Framer(AudioFormat(8_000), 5), Framer(MONO, 5)])
    with pytest.raises(AudioError, match="no stages"):
        Pipeline([])


def test_latencies_add_up_at_the_first_rate() -> None:
    resampler = Resampler(AudioFormat(48_000), MONO)
    pipeline = Pipeline([resampler, Framer(MONO, 320)])
    assert pipeline.latency == resampler.latency + 3 * 319


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        (Chunk(np.zeros((1, 4), np.float32), 0, AudioFormat(8_000)), "put a Resampler before it"),
        (Chunk(np.zeros((1, 4)), 0, MONO), "float64; float32"),  # type: ignore[arg-type]
        (Chunk(np.zeros((2, 4), np.float32), 0, MONO), r"\(2, 4\); \[C, T\] with C = 1"),
        (Chunk(np.zeros(4, np.float32), 0, MONO), r"\[C, T\] with C = 1"),
        (Chunk(np.zeros((1, 4), np.float32), -1, MONO), "starts at sample -1"),
        (Chunk([[0.0]], 0, MONO), "fed list; a Chunk of a float32 array"),  # type: ignore[arg-type]
        (b"ab", "fed bytes; a Chunk of a float32 array"),
    ],
)
def test_bad_chunks_are_named(fir_stage: ModelStage, chunk: Chunk, words: str) -> None:
    for stage in (Framer(MONO, 4), fir_stage, Resampler(MONO, AudioFormat(8_000))):
        with pytest.raises(AudioError, match=words):
            stage.step(stage.open(), chunk)


@pytest.mark.parametrize(("rate", "channels"), [(0, 1), (10**9, 1), (16_000, 0), (16_000, 999)])
def test_formats_are_bounded(rate: int, channels: int) -> None:
    with pytest.raises(AudioError):
        AudioFormat(rate, channels)


def test_ten_minutes_in_one_chunk_and_none_at_all(tmp_path: Path) -> None:
    fir_stage = ModelStage(Model.load(write_fir(tmp_path / "fir", hop=4000)))
    signal = noise(3, 600 * 16_000)
    made = joined(run(fir_stage, cut(signal, [], MONO)))
    assert made.shape == signal.shape
    assert run(fir_stage, [Chunk(np.zeros((1, 0), np.float32), 0, MONO)]) == []


def test_scrub_silences_only_what_is_bad() -> None:
    samples = np.array([[0.5, np.nan, np.inf, -np.inf, 3e38]], np.float32)
    clean, bad = scrub(samples)
    assert bad == 3
    np.testing.assert_array_equal(clean, np.array([[0.5, 0, 0, 0, 3e38]], np.float32))
    assert scrub(clean)[0] is clean
