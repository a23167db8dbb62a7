"""Sentence style: each change of the scene once, alarms at once, and every promise of the feed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ossicle.runtime import snapshot
from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import ManifestError
from ossicle.runtime.manifest import Manifest
from ossicle.runtime.model import Model
from ossicle.runtime.task import CueEvent, Hop, InlineRun
from ossicle.runtime.timing import INPUTS, WAIT, Outlook, TimingHead, head_of
from ossicle.streaming.captions.commands import caption_events
from ossicle.streaming.captions.cue import Cue, Kind, Op, Priority, RelationKind, check_feed
from ossicle.streaming.captions.options import CaptionOptions
from ossicle.streaming.captions.sentences import Heard, Sentence, SentenceWriter
from ossicle.streaming.captions.task import CaptionTask

RATE = 16_000
MONO = AudioFormat(RATE)
Plan = list[tuple[str, float, float]]
Tones = Callable[[Plan, float], NDArray[np.float32]]
GRAMMAR = CaptionOptions(style="sentence", decoder="none")


def feed(bundle: Bundle, samples: NDArray[np.float32], options: CaptionOptions) -> list[Cue]:
    events = caption_events([Chunk(samples, 0, MONO)], bundle, options)
    cues = [e.cue for e in events if isinstance(e, CueEvent)]
    check_feed(cues)
    return cues


def opened(cues: list[Cue]) -> list[Cue]:
    return [c for c in cues if c.op is Op.OPEN]


def test_a_scene_is_one_sentence_and_says_who_worded_it(
    tone_bundle: Bundle, make_tones: Tones
) -> None:
    plan: Plan = [("rain", 1, 14), ("dog_bark", 4, 4.5), ("dog_bark", 9, 9.4), ("music", 16, 19)]
    samples = make_tones(plan, 25.0)
    plain = opened(feed(tone_bundle, samples, GRAMMAR))
    assert [(c.text, c.kind, c.model) for c in plain] == [
        ("Rain falls", Kind.SCENE, "grammar"),
        ("Rain falls while a dog barks", Kind.SCENE, "grammar"),
        ("The rain stops", Kind.SOUND, "tones"),
        ("Music plays", Kind.SCENE, "grammar"),
    ]
    told = opened(feed(tone_bundle, samples, CaptionOptions(style="sentence")))
    assert [c.kind for c in told] == [c.kind for c in plain]
    assert {c.model for c in told if c.kind is Kind.SCENE} <= {"captioner-16k", "grammar"}
    assert any(c.model == "captioner-16k" for c in told)
    stops = next(c for c in plain if c.kind is Kind.SOUND)
    assert stops.relations[0].kind is RelationKind.STOPS
    assert stops.relations[0].cue_id == plain[0].cue_id


def test_an_alarm_is_told_at_once_and_by_itself(tone_bundle: Bundle, make_tones: Tones) -> None:
    plan: Plan = [("smoke_alarm", 1, 3), ("dog_bark", 1.5, 2.0)]
    cues = opened(feed(tone_bundle, make_tones(plan, 8.0), GRAMMAR))
    assert (cues[0].priority, cues[0].text) == (Priority.ALERT, "A smoke alarm beeps")
    assert cues[0].audio_seen_sample < 1.2 * RATE
    assert [c.text for c in cues[1:]] == ["A smoke alarm beeps while a dog barks"]
    alone = CaptionOptions(style="sentence", decoder="none", alerts_only=True)
    assert [c.text for c in opened(feed(tone_bundle, make_tones(plan, 8.0), alone))] == [
        "A smoke alarm beeps"
    ]


def test_the_decoder_is_told_the_embedding_of_the_moment(
    manifest_with: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Heard] = []

    class Listener(SentenceWriter):
        def write(self, heard: Sequence[Heard], language: str = "en") -> Sentence | None:
            told.extend(heard)
            return super().write(heard, language)

    writer = Listener(None)
    writer.embedding, writer.tagger = 3, "tones"
    monkeypatch.setattr("ossicle.streaming.captions.desk.writer_of", lambda _: writer)
    tones = manifest_with()
    task = CaptionTask(tones, CaptionOptions(style="sentence"))
    state, labels = task.open(), tones.labels or ()
    scores = np.zeros((1, len(labels)), np.float32)
    scores[0, labels.index("rain")] = 0.99
    for k in range(60):
        start = k * tones.hop
        task.push(state, Chunk(np.zeros((1, tones.hop), np.float32), start, MONO))
        view = np.float32([[k + 1, 0, 0]])
        task.take(state, Hop({}, start, start + tones.hop), {"scores": scores, "embedding": view})
    assert [h.key for h in told] == ["rain"]
    np.testing.assert_allclose(told[0].vector, [3**0.5, 0, 0], rtol=1e-2)
    assert snapshot.dump(state)


def test_nothing_is_said_of_silence_nor_twice(tone_bundle: Bundle, make_tones: Tones) -> None:
    assert opened(feed(tone_bundle, make_tones([], 10.0), GRAMMAR)) == []
    barks: Plan = [("dog_bark", t, t + 0.4) for t in (1, 5, 9, 13)]
    texts = [c.text for c in opened(feed(tone_bundle, make_tones(barks, 20.0), GRAMMAR))]
    assert texts == ["A dog barks"]


def test_a_sound_at_the_very_end_is_still_told(tone_bundle: Bundle, make_tones: Tones) -> None:
    cues = feed(tone_bundle, make_tones([("dog_bark", 2.5, 2.9)], 3.0), GRAMMAR)
    assert [(c.op, c.text) for c in cues if not c.is_heartbeat] == [
        (Op.OPEN, "A dog barks"), (Op.CLOSE, "A dog barks"),
    ]  # fmt: skip


names = st.sampled_from(["dog_bark", "rain", "speech", "music", "doorbell", "smoke_alarm"])
sounds = st.tuples(names, st.floats(0, 9), st.floats(0.1, 5)).map(
    lambda s: (s[0], s[1], s[1] + s[2])
)


@given(plan=st.lists(sounds, max_size=8), live=st.booleans(), cut=st.integers(1, RATE))
@settings(max_examples=25, deadline=None)
def test_sentences_keep_the_promises_of_the_feed(
    tone_bundle: Bundle, make_tones: Tones, plan: Plan, live: bool, cut: int
) -> None:
    options = CaptionOptions(style="sentence", live=live)
    samples = make_tones(plan, 10.0)
    whole = feed(tone_bundle, samples, options)
    parts = [Chunk(samples[:, a : a + cut], a, MONO) for a in range(0, samples.shape[1], cut)]
    again = [e.cue for e in caption_events(parts, tone_bundle, options) if isinstance(e, CueEvent)]
    assert again == whole
    ended = sorted(c.cue_id for c in whole if c.is_final)
    assert sorted(c.cue_id for c in opened(whole)) == ended
    scenes = [c for c in opened(whole) if c.kind is Kind.SCENE]
    assert all(a.text != b.text for a, b in pairwise(scenes))
    assert all(c.stable_chars == len(c.text) for c in scenes)
    single = [c for c in opened(whole) if c.kind is not Kind.SCENE]
    same = (RelationKind.CONTINUES, RelationKind.STOPS)
    assert all(
        c.priority is Priority.ALERT or any(r.kind in same for r in c.relations) for c in single
    )


def test_the_style_may_change_mid_stream(tone_bundle: Bundle, make_tones: Tones) -> None:
    plan: Plan = [("rain", 1, 5), ("dog_bark", 2, 2.4), ("speech", 7, 10)]
    samples = make_tones(plan, 12.0)
    model = Model.load(tone_bundle)
    orders: list[list[dict[str, Any]]] = [
        [{"style": "sentence", "decoder": "none"}, {"style": "brackets"}],
        [{"style": "brackets"}, {"style": "sentence", "decoder": "none"}],
    ]
    said = []
    for first, second in orders:
        run = InlineRun(CaptionTask(model.manifest, first), model)
        events = run.feed(Chunk(samples[:, : 3 * RATE], 0, MONO))
        events += run.update(second)
        events += run.feed(Chunk(samples[:, 3 * RATE :], 3 * RATE, MONO)) + run.finish()
        cues = [e.cue for e in events if isinstance(e, CueEvent)]
        check_feed(cues)
        assert sorted(c.cue_id for c in opened(cues)) == sorted(
            c.cue_id for c in cues if c.is_final
        )
        said.append([c.text for c in opened(cues)])
    assert said == [
        ["Rain falls while a dog barks", "[someone speaking]"],
        ["[rain falling]", "[dog barks]", "Someone speaks"],
    ]


def test_a_head_waits_while_something_rises_and_no_longer_than_it_may() -> None:
    head = TimingHead((1.0, 0.0, 0.0, 8.0, 0.0), -3.0, 0.3, 160.0, 1500.0)
    calm, tense = Outlook(0, 0.0), Outlook(1, 0.9)
    assert not head.speaks(120, calm)
    assert head.speaks(200, calm)
    assert not head.speaks(1200, tense)
    assert head.speaks(1500, tense)
    assert 0 < head.chance(0, calm) < head.chance(0, tense) < 1
    assert head_of({}) is WAIT


def test_a_timing_head_that_makes_no_sense_is_refused() -> None:
    good = {"weights": [0.0] * INPUTS, "bias": 0, "cut": 0.1, "least_ms": 0, "most_ms": 1}
    assert head_of({"timing": good}).most_ms == 1
    for bad in ({**good, "weights": [1.0]}, {**good, "least_ms": 9}, {**good, "bias": None}, 3,
                {"weights": []}):  # fmt: skip
        with pytest.raises(ManifestError, match="timing"):
            head_of({"timing": bad})


def test_the_decoders_head_speaks_sooner_than_a_fixed_wait(
    tone_bundle: Bundle, make_tones: Tones
) -> None:
    samples = make_tones([("rain", 1, 9)], 10.0)
    first = [
        opened(feed(tone_bundle, samples, options))[0].audio_seen_sample / RATE
        for options in (CaptionOptions(style="sentence"), GRAMMAR)
    ]
    assert first[0] < first[1] - 0.3
    assert first[1] < 1 + 1.5 + 0.2
