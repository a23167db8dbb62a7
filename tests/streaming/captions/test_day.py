"""A day of captions in sample time: nothing drifts, nothing grows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks import captions_day
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.model import Model
from ossicle.streaming.captions import tracker
from ossicle.streaming.captions.task import CaptionTask


def task() -> CaptionTask:
    return CaptionTask(Bundle.open("sounds-16k").manifest)


def check(day: dict[str, Any]) -> None:
    assert day["told"] == day["sounds"] > 0
    assert day["opened"] == day["sounds"]  # each once
    assert day["worst_onset_error_samples"] == day["worst_offset_error_samples"] == 0
    assert day["state_bytes_at_the_end"] <= day["state_bytes_after_an_hour"] + 64


def test_an_hour_across_the_end_of_32_bits() -> None:
    check(captions_day.clock(task(), 1.0))


@pytest.mark.slow
def test_a_day() -> None:
    check(captions_day.clock(task(), 24.0))


def test_a_clock_that_slips_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = tracker.Tracker.step

    def slipping(self: Any, state: Any, scores: Any, start: int, stop: int) -> Any:
        edges = honest(self, state, scores, start, stop)
        return [replace(e, sound=replace(e.sound, onset=int(np.float32(e.sound.onset))))
                for e in edges]  # fmt: skip

    monkeypatch.setattr(tracker.Tracker, "step", slipping)
    assert captions_day.clock(task(), 0.2)["worst_onset_error_samples"] > 0


@pytest.mark.slow
def test_an_hour_of_audio_is_captioned_alike_every_minute() -> None:
    model = Model.load("sounds-16k")
    day = captions_day.model_day(CaptionTask(model.manifest), model, 1.0)
    assert day["minutes"] == 59
    assert day["minutes_that_differ"] == 0
    assert day["cue_lines_a_minute"] > 0


def test_two_minutes_of_audio_are_captioned_alike() -> None:
    model = Model.load("sounds-16k-tiny")
    day = captions_day.model_day(CaptionTask(model.manifest), model, 3 / 60)
    assert (day["minutes"], day["minutes_that_differ"]) == (2, 0)
    assert day["cue_lines_a_minute"] > 0


@pytest.mark.parametrize("name", ["sounds-16k", "sounds-16k-tiny"])
def test_silence_is_like_no_sound(name: str) -> None:
    """In int8 too: ranges calibrated without silence made the small tier hear music in it."""
    model = Model.load(name)
    state = model.open(batch=1)
    nothing = np.zeros((1, 1, model.manifest.hop), np.float32)
    scores = [model.step(state, {"audio": nothing})["scores"].max() for _ in range(60)]
    assert max(scores[25:]) < 0.3
