"""The feed keeps its promises for any sounds, any options and any cutting of the audio."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ossicle.runtime import snapshot
from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import AudioError, CaptionError, ManifestError
from ossicle.runtime.manifest import Manifest, ProgramInput
from ossicle.runtime.model import Model
from ossicle.runtime.task import CueEvent, Event, GapEvent, InlineRun, NoticeEvent
from ossicle.streaming.captions.cue import Cue, Kind, Op, Priority, RelationKind, check_feed
from ossicle.streaming.captions.layout import LINE_COLUMNS, LINES, MOST_MS, columns, reading_ms
from ossicle.streaming.captions.task import STYLES, CaptionOptions, CaptionTask, changed

RATE, HOP = 16_000, 640
MONO = AudioFormat(RATE)
Tones = Callable[[list[tuple[str, float, float]], float], NDArray[np.float32]]
PLAN = [("dog_bark", 0.1, 0.4), ("rain", 1.5, 4.0), ("dog_bark", 2.0, 2.4), ("dog_bark", 3.0, 3.9),
        ("smoke_alarm", 5.0, 5.5), ("speech", 5.2, 7.0), ("smoke_alarm", 6.0, 6.5)]  # fmt: skip


@pytest.fixture(scope="module")
def model(tone_bundle: Bundle) -> Model:
    return Model.load(tone_bundle)


def cues_of(events: list[Event]) -> list[Cue]:
    return [e.cue for e in events if isinstance(e, CueEvent)]


def run(model: Model, samples: NDArray[np.float32], cuts: list[int], start: int = 0,
        **options: Any) -> list[Event]:  # fmt: skip
    inline = InlineRun(CaptionTask(model.manifest, options), model)
    events, at = list[Event](), 0
    for cut in [*cuts, samples.shape[1]]:
        end = min(at + cut, samples.shape[1])
        events += inline.feed(Chunk(samples[:, at:end], start + at, MONO))
        at = end
    return events + inline.finish()


@given(cuts=st.lists(st.integers(0, 2 * RATE), max_size=30))
@settings(max_examples=25, deadline=None)
def test_events_do_not_depend_on_how_the_audio_was_cut(
    model: Model, make_tones: Tones, cuts: list[int]
) -> None:
    samples = make_tones(PLAN, 8.0)
    assert run(model, samples, cuts) == run(model, samples, [])


def test_one_sample_at_a_time_is_the_same(model: Model, make_tones: Tones) -> None:
    samples = make_tones([("dog_bark", 0.1, 0.5)], 1.2)
    assert run(model, samples, [1] * samples.shape[1]) == run(model, samples, [])


@pytest.mark.parametrize("start", [2**31 - 100, 2**40])
def test_a_late_clock_moves_the_times_and_nothing_else(
    model: Model, make_tones: Tones, start: int
) -> None:
    samples = make_tones(PLAN, 8.0)
    here, there = (
        [c for c in cues_of(run(model, samples, [], s)) if not c.is_heartbeat] for s in (0, start)
    )
    assert [(c.op, c.text, c.start_sample + start, c.end_sample + start) for c in here] == [
        (c.op, c.text, c.start_sample, c.end_sample) for c in there
    ]


@given(cut=st.integers(0, 200), style=st.sampled_from(STYLES))
@settings(max_examples=20, deadline=None)
def test_a_snapshot_goes_on_bit_for_bit(
    model: Model, make_tones: Tones, cut: int, style: str
) -> None:
    samples = make_tones(PLAN, 8.0)
    task = CaptionTask(model.manifest, {"style": style})
    inline = InlineRun(task, model)
    at = min(cut * HOP + 17, samples.shape[1])
    inline.feed(Chunk(samples[:, :at], 0, MONO))
    other = InlineRun(task, model)
    other.state = snapshot.load(snapshot.dump(inline.state))
    model.import_row(other.memory, 0, model.export_row(inline.memory, 0))
    rest = Chunk(samples[:, at:], at, MONO)
    whole = inline.feed(rest) + inline.finish()
    assert other.feed(rest) + other.finish() == whole


def test_onsets_and_offsets_are_those_of_the_sound(model: Model, make_tones: Tones) -> None:
    finals = [c for c in cues_of(run(model, make_tones(PLAN, 8.0), [])) if c.op is Op.CLOSE]
    found = {(x.name, x.onset_sample, x.offset_sample) for c in finals for x in c.labels}
    for label, start, end in PLAN:
        best = min(
            abs(on - start * RATE) + abs((off or 0) - end * RATE)
            for name, on, off in found if name == label
        )  # fmt: skip
        assert best <= 4 * 320, (label, start, best / RATE)


def test_relations_say_what_came_when(model: Model, make_tones: Tones) -> None:
    cues = [c for c in cues_of(run(model, make_tones(PLAN, 8.0), [])) if c.op is Op.OPEN]
    names = {c.cue_id: c.labels[0].name for c in cues}
    said = [(c.labels[0].name, [(r.kind, names[r.cue_id]) for r in c.relations]) for c in cues]
    assert said == [
        ("dog_bark", []),
        ("rain", [(RelationKind.THEN, "dog_bark")]),
        ("dog_bark", [(RelationKind.WHILE, "rain")]),
        ("smoke_alarm", [(RelationKind.THEN, "rain")]),
        ("speech", [(RelationKind.WHILE, "smoke_alarm")]),
    ]


def test_wording_follows_the_duration(model: Model, make_tones: Tones) -> None:
    plan = [("dog_bark", 1, 1.4), ("rain", 5, 25), ("smoke_alarm", 40, 68)]
    finals = [c for c in cues_of(run(model, make_tones(plan, 75.0), [])) if c.op is Op.CLOSE]
    assert [c.text for c in finals] == [
        "[dog barks]", "[rain falling]", "[rain stops]", "[smoke alarm beeping]",
        "[smoke alarm continues]", "[smoke alarm continues]", "[smoke alarm stops]",
    ]  # fmt: skip
    assert finals[1].end_open
    assert finals[1].labels[0].offset_sample is None
    assert abs((finals[2].labels[0].offset_sample or 0) - 25 * RATE) < 640


def test_an_alarm_with_pauses_is_one_chain_of_cues(model: Model, make_tones: Tones) -> None:
    plan = [("smoke_alarm", t + 4 * k, t + 0.5 + 4 * k) for k in range(6) for t in (1, 2, 3)]
    opened = [c for c in cues_of(run(model, make_tones(plan, 30.0), [])) if c.op is Op.OPEN]
    assert [c.relations[0].kind.value if c.relations else "" for c in opened] == [
        "", "continues", "continues", "stops"
    ]  # fmt: skip
    starts = [c.start_sample for c in opened[:3]]
    assert all(10 * RATE <= b - a < 13 * RATE for a, b in pairwise(starts))


def test_what_has_a_cadence_goes_on_after_a_stroke_that_was_missed(
    model: Model, make_tones: Tones
) -> None:
    """A dog that barks again barks again; a bell soon after its last stroke is no second bell."""
    plan = [("dog_bark", 1, 1.4), ("dog_bark", 6, 6.4), ("doorbell", 20, 20.4),
            ("doorbell", 25, 25.4), ("doorbell", 40, 40.4)]  # fmt: skip
    opened = [c for c in cues_of(run(model, make_tones(plan, 45.0), [])) if c.op is Op.OPEN]
    said = [(c.labels[0].name, [r.kind.value for r in c.relations]) for c in opened]
    assert said == [
        ("dog_bark", []), ("dog_bark", []),
        ("doorbell", []), ("doorbell", ["continues"]), ("doorbell", []),
    ]  # fmt: skip


class Scripted:
    """A task fed with scores instead of audio."""

    def __init__(self, manifest: Manifest, **options: Any) -> None:
        self.task = CaptionTask(manifest, options)
        self.state = self.task.open()
        self.at = 0
        self.events: list[Event] = []

    def frame(self, scores: NDArray[np.float32]) -> None:
        silence = Chunk(np.zeros((1, HOP), np.float32), self.at, MONO)
        (hop,) = self.task.push(self.state, silence)
        self.events += self.task.take(self.state, hop, {"scores": scores})
        self.at += HOP

    def finish(self) -> list[Cue]:
        self.events += self.task.end(self.state)
        return cues_of(self.events)


bursts = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 400), st.integers(1, 200), st.floats(0, 1)),
    max_size=14,
)


def scripted(manifest: Manifest, plan: list[tuple[int, int, int, float]], frames: int,
             **options: Any) -> tuple[list[Cue], Scripted]:  # fmt: skip
    scores = np.zeros((frames, 6), np.float32)
    for index, start, length, score in plan:
        scores[start : start + length, index] = score
    script = Scripted(manifest, **options)
    for a, b in zip(scores[::2], scores[1::2], strict=True):
        script.frame(np.stack([a, b]))
    return script.finish(), script


@given(plan=bursts, style=st.sampled_from(["brackets", "sentence", "clauses"]), live=st.booleans(),
       lang=st.sampled_from(["en", "de", "fr", "zh"]))  # fmt: skip
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_promise_holds_for_any_sounds(
    manifest: Manifest, plan: list[tuple[int, int, int, float]], style: str, live: bool, lang: str
) -> None:
    cues, script = scripted(manifest, plan, 600, style=style, live=live, lang=lang)
    check_feed(cues)
    opened = [c.cue_id for c in cues if c.op is Op.OPEN]
    finals = [c for c in cues if c.is_final]
    assert sorted(opened) == sorted(c.cue_id for c in finals)
    assert len(set(opened)) == len(opened)
    beats = [c.audio_seen_sample for c in cues if c.is_heartbeat]
    assert len(beats) == script.at // RATE
    for cue in finals:
        assert cue.stable_chars == len(cue.text) or cue.op is Op.RETRACT
        assert len(cue.text.split("\n")) <= LINES
        assert all(columns(line) <= LINE_COLUMNS for line in cue.text.split("\n"))
        length = cue.display_end_ms - cue.display_start_ms
        assert length >= reading_ms(cue.text)
        seen_ms = cue.audio_seen_sample * 1000 // RATE
        if live:
            assert cue.display_end_ms > seen_ms
        else:
            assert length <= MOST_MS
            assert cue.display_start_ms == cue.start_sample * 1000 // RATE


@given(plan=bursts)
@settings(max_examples=40, deadline=None)
def test_no_sound_is_captioned_twice(
    manifest: Manifest, plan: list[tuple[int, int, int, float]]
) -> None:
    cues, _ = scripted(manifest, plan, 600)
    fresh = [c for c in cues if c.op is Op.OPEN
             and not any(r.kind in ("continues", "stops") for r in c.relations)]  # fmt: skip
    onsets = [(c.labels[0].class_id, c.labels[0].onset_sample) for c in fresh]
    assert len(set(onsets)) == len(onsets)
    last: dict[int, int] = {}
    for cue in cues:
        if cue.op is Op.CLOSE:
            class_id = cue.labels[0].class_id
            assert cue.start_sample >= last.get(class_id, 0)
            last[class_id] = cue.end_sample


def test_alerts_open_at_once_and_others_after_a_second_look(manifest: Manifest) -> None:
    cues, _ = scripted(manifest, [(0, 10, 40, 1.0), (5, 10, 40, 1.0)], 200)
    opened = {c.labels[0].name: c for c in cues if c.op is Op.OPEN}
    alert, dog = opened["smoke_alarm"], opened["dog_bark"]
    assert alert.priority is Priority.ALERT
    assert alert.stable_chars == len(alert.text)
    assert dog.audio_seen_sample - alert.audio_seen_sample == 80 * 16
    assert dog.stable_chars == len("[dog bark")


def test_silence_gives_heartbeats_only(model: Model) -> None:
    cues = cues_of(run(model, np.zeros((1, 10 * RATE), np.float32), []))
    assert [c.op for c in cues] == [Op.HEARTBEAT] * 10
    assert [c.seq for c in cues] == list(range(10))


def test_lost_samples_are_declared_and_the_feed_goes_on(model: Model, make_tones: Tones) -> None:
    samples = make_tones([("rain", 0.5, 2.9), ("dog_bark", 4.0, 4.5)], 6.0)
    inline = InlineRun(CaptionTask(model.manifest), model)
    events = inline.feed(Chunk(samples[:, : RATE + 99], 0, MONO))
    events += inline.feed(Chunk(samples[:, 2 * RATE :], 2 * RATE, MONO))
    events += inline.finish()
    gaps = [e for e in events if isinstance(e, GapEvent)]
    assert [(g.start, g.stop) for g in gaps] == [(RATE, 2 * RATE)]
    check_feed(cues_of(events))
    assert [c.text for c in cues_of(events) if c.op is Op.CLOSE] == [
        "[rain falling]", "[dog barks]"
    ]  # fmt: skip


def test_samples_that_come_twice_are_refused(model: Model) -> None:
    inline = InlineRun(CaptionTask(model.manifest), model)
    inline.feed(Chunk(np.zeros((1, 1000), np.float32), 0, MONO))
    with pytest.raises(AudioError, match="999"):
        inline.feed(Chunk(np.zeros((1, 10), np.float32), 999, MONO))


@pytest.mark.parametrize("bad", ["nan", "inf", "dc", "clipped"])
def test_bad_audio_neither_stops_nor_invents(model: Model, make_tones: Tones, bad: str) -> None:
    samples = make_tones([("dog_bark", 2.0, 2.4)], 4.0)
    if bad == "clipped":
        samples = np.clip(samples * 50, -1, 1).astype(np.float32)
    elif bad == "dc":
        samples = samples + np.float32(0.3)
    else:
        samples[:, 100:9000:7] = {"nan": np.nan, "inf": np.inf}[bad]
    events = run(model, samples, [])
    check_feed(cues_of(events))
    finals = [c for c in cues_of(events) if c.op is Op.CLOSE]
    assert ("dog_bark", Op.CLOSE) in {(c.labels[0].name, c.op) for c in finals}
    notices = [e for e in events if isinstance(e, NoticeEvent)]
    assert bool(notices) == (bad in ("nan", "inf"))


def test_scores_of_nan_are_silence(manifest: Manifest) -> None:
    script = Scripted(manifest)
    for _ in range(50):
        script.frame(np.full((2, 6), np.nan, np.float32))
    assert {c.op for c in script.finish()} == {Op.HEARTBEAT}
    assert script.state.tracker.bad_scores == 600


def test_options_choose_what_is_captioned(model: Model, make_tones: Tones) -> None:
    samples = make_tones(PLAN, 8.0)

    def heard(**options: Any) -> set[str]:
        return {c.labels[0].name for c in cues_of(run(model, samples, [], **options)) if c.labels}

    assert heard() == {"dog_bark", "rain", "smoke_alarm", "speech"}
    assert heard(alerts_only=True) == {"smoke_alarm"}
    assert heard(labels=["rain", "dog"]) == {"rain", "dog_bark"}
    assert all(not c.text for c in cues_of(run(model, samples, [], style="off")))


def test_min_score_is_a_floor_under_every_threshold(manifest: Manifest) -> None:
    plan = [(0, 10, 40, 0.6), (1, 10, 40, 0.9)]
    cues, _ = scripted(manifest, plan, 200, min_score=0.8)
    assert {c.labels[0].name for c in cues if c.labels} == {"rain"}


def test_options_change_mid_stream_without_losing_the_clock(
    model: Model, make_tones: Tones
) -> None:
    samples = make_tones([("rain", 0.5, 8.0), ("smoke_alarm", 6.0, 7.0)], 9.0)
    inline = InlineRun(CaptionTask(model.manifest), model)
    events = inline.feed(Chunk(samples[:, : 3 * RATE], 0, MONO))
    events += inline.update({"alerts_only": True, "lang": "de"})
    events += inline.feed(Chunk(samples[:, 3 * RATE :], 3 * RATE, MONO)) + inline.finish()
    cues = cues_of(events)
    check_feed(cues)
    opened = [c for c in cues if c.op is Op.OPEN]
    assert [c.text for c in opened] == ["[rain falling]", "[Rauchmelder piept andauernd]"]
    rain = next(c for c in cues if c.op is Op.CLOSE)
    assert rain.end_sample <= 3 * RATE + HOP


@pytest.mark.parametrize("options", [
    {"style": "haiku"}, {"min_score": 2}, {"labels": ["dragon"]}, {"lang": "xx"}, {"colour": 1},
])  # fmt: skip
def test_options_that_cannot_be_met_are_refused(
    manifest: Manifest, options: dict[str, Any]
) -> None:
    with pytest.raises(CaptionError):
        CaptionTask(manifest, options)
    state = CaptionTask(manifest).open()
    with pytest.raises(CaptionError):
        CaptionTask(manifest).update(state, options)
    assert state.options == CaptionOptions()


def test_a_bundle_that_is_no_tagger_is_refused(manifest: Manifest) -> None:
    import msgspec

    with pytest.raises(ManifestError, match="labels"):
        CaptionTask(msgspec.structs.replace(manifest, labels=None))
    bad = {"thresholds": {"rain": {"onn": 1}}}
    with pytest.raises(CaptionError, match="thresholds"):
        CaptionTask(msgspec.structs.replace(manifest, extra=bad))


def test_a_tagger_of_audioset_is_captioned_through_the_map(manifest: Manifest) -> None:
    import msgspec

    from ossicle.streaming.captions.sounds import class_map

    labels = tuple(class_map("yamnet"))
    task = CaptionTask(msgspec.structs.replace(manifest, labels=labels, extra={}))
    state = task.open()
    scores = np.zeros((1, 521), np.float32)
    scores[0, [labels.index("Bark"), labels.index("Silence"), labels.index("Violin, fiddle")]] = 0.8
    events: list[Event] = []
    for i in range(60):
        (hop,) = task.push(state, Chunk(np.zeros((1, HOP), np.float32), i * HOP, MONO))
        events += task.take(state, hop, {"scores": scores if i < 25 else scores * 0})
    events += task.end(state)
    finals = {c.text: c for c in cues_of(events) if c.op is Op.CLOSE}
    assert set(finals) == {"[dog barks]", "[music playing]"}
    assert finals["[music playing]"].kind is Kind.MUSIC


def test_an_empty_stream_is_an_empty_feed(model: Model) -> None:
    assert InlineRun(CaptionTask(model.manifest), model).finish() == []


def test_changed_keeps_what_is_not_named() -> None:
    first = changed(CaptionOptions(), {"lang": "fr", "labels": ["rain"]})
    assert changed(first, {"style": "off"}) == CaptionOptions(
        lang="fr", labels=("rain",), style="off"
    )


@pytest.mark.slow
def test_a_day_runs_without_drift_or_growth(manifest: Manifest) -> None:
    """24 hours, a frame a second and a sound a minute: times stay exact, the state small."""
    import msgspec

    program = msgspec.structs.replace(
        manifest.programs["step"], inputs=(ProgramInput("audio", "audio", (1, RATE)),)
    )
    task = CaptionTask(
        msgspec.structs.replace(manifest, hop=RATE, latency=RATE, programs={"step": program})
    )
    state, day, starts = task.open(), 24 * 3600, []
    quiet, loud = np.zeros((1, 6), np.float32), np.float32([[0, 0.9, 0, 0, 0, 0]])
    silence = np.zeros((1, RATE), np.float32)
    for second in range(day):
        (hop,) = task.push(state, Chunk(silence, second * RATE, MONO))
        events = task.take(state, hop, {"scores": loud if second % 60 < 2 else quiet})
        starts += [c.start_sample for c in cues_of(events) if c.op is Op.OPEN]
    assert starts == [minute * 60 * RATE for minute in range(day // 60)]
    assert len(snapshot.dump(state)) < 80_000
