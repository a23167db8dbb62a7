"""A live caption is calm: what was shown stays; what did not is counted as others count it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.model import Model
from ossicle.runtime.task import CueEvent, InlineRun
from ossicle.streaming.captions.cue import Cue, Op, Priority
from ossicle.streaming.captions.task import CaptionTask

RATE = 16_000
Plan = list[tuple[str, float, float]]
Tones = Callable[[Plan, float], NDArray[np.float32]]
labels = st.sampled_from(["dog_bark", "rain", "speech", "doorbell", "smoke_alarm"])
plans = st.lists(
    st.builds(lambda n, at, long: (n, at, at + long), labels, st.floats(0, 12), st.floats(0.1, 5)),
    min_size=1, max_size=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tone_bundle: Bundle) -> Model:
    return Model.load(tone_bundle)


def captioned(model: Model, samples: NDArray[np.float32], live: bool = True) -> (
    tuple[list[Cue], float]
):  # fmt: skip
    """Return the feed and the erasure that the task counted."""
    run = InlineRun(CaptionTask(model.manifest, {"live": live}), model)
    events = run.feed(Chunk(samples, 0, AudioFormat(RATE))) + run.finish()
    cues = [e.cue for e in events if isinstance(e, CueEvent) and not e.cue.is_heartbeat]
    return cues, run.state.stabiliser.counts.erasure


def by_simulstream(cues: list[Cue], place: Path, unit: str) -> float:
    """Return normalised erasure as simulstream reads it from a log, each cue a stream."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stats = pytest.importorskip("simulstream.metrics.stats", reason="simulstream is missing")
    lines, shown = list[dict[str, object]](), dict[int, list[str]]()
    for cue in cues:
        if cue.op is Op.OPEN:
            lines.append({"id": cue.cue_id, "metadata": {"wav_name": f"{cue.cue_id}.wav"}})
        text = "" if cue.op is Op.RETRACT else cue.text
        before, after = shown.get(cue.cue_id, []), list(text) if unit == "char" else text.split()
        kept = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b),
                    min(len(before), len(after)))  # fmt: skip
        lines.append({
            "id": cue.cue_id, "deleted_tokens": before[kept:], "generated_tokens": after[kept:],
            "total_audio_processed": cue.audio_seen_sample / RATE, "computation_time": 0.0,
        })  # fmt: skip
        shown[cue.cue_id] = after
    log = place / "log.jsonl"
    log.write_text("\n".join(map(json.dumps, lines)))
    config = SimpleNamespace(detokenizer_type="simuleval", latency_unit=unit)
    reader = stats.LogReader(config, str(log), latency_unit=unit)
    return float(stats.NormalizedErasure().compute(reader))


@given(plan=plans, live=st.booleans())
@settings(max_examples=15, deadline=None)
def test_erasure_is_counted_as_simulstream_counts_it(
    model: Model,
    make_tones: Tones,
    plan: Plan,
    live: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    cues, counted = captioned(model, make_tones(plan, 16.0), live)
    if cues:
        place = tmp_path_factory.mktemp("log")
        assert counted == pytest.approx(by_simulstream(cues, place, "char"))


@given(plan=plans)
@settings(max_examples=20, deadline=None)
def test_a_live_text_changes_once_at_most_and_never_as_it_ends(
    model: Model, make_tones: Tones, plan: Plan
) -> None:
    texts: dict[int, list[str]] = {}
    for cue in captioned(model, make_tones(plan, 18.0))[0]:
        seen = texts.setdefault(cue.cue_id, [])
        if cue.op is Op.CLOSE and seen:
            assert cue.text == seen[-1]
        if not seen or cue.text != seen[-1]:
            seen.append(cue.text)
        if cue.priority is Priority.ALERT:
            assert len(seen) == 1
    assert all(len(seen) <= 2 for seen in texts.values())


def test_only_a_brief_sound_that_goes_on_is_reworded_live(
    model: Model, make_tones: Tones, tmp_path: Path
) -> None:
    plan: Plan = [("dog_bark", 1, 1.4), ("dog_bark", 5, 8), ("rain", 11, 12), ("rain", 24, 27)]
    samples = make_tones(plan, 30.0)
    live, counted = captioned(model, samples)
    finals = [c.text for c in live if c.op is Op.CLOSE]
    assert finals == ["[dog barks]", "[dog barking]", "[rain falling]", "[rain falling]"]
    assert 0 < counted <= 0.1
    assert by_simulstream(live, tmp_path, "word") <= 0.13  # one word of eight
    whole, _ = captioned(model, samples, live=False)
    assert [c.text for c in whole if c.op is Op.CLOSE] == [
        "[dog barks]", "[dog barking]", "[rain falls]", "[rain falling]"
    ]  # fmt: skip
