"""Sentences say what was heard, once, and nothing on silence, whoever words them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.bundle import Bundle, list_bundles
from ossicle.runtime.errors import ManifestError, QueryError
from ossicle.runtime.model import Model
from ossicle.runtime.task import CueEvent
from ossicle.runtime.wording import beam_search, named
from ossicle.streaming.captions.commands import caption_events
from ossicle.streaming.captions.cue import Cue, Kind, Op, check_feed
from ossicle.streaming.captions.lexicon import languages
from ossicle.streaming.captions.sentences import (
    Heard,
    SceneSentences,
    SentenceWriter,
    join_clauses,
)

Tones = Callable[[list[tuple[str, float, float]], float], NDArray[np.float32]]
KEYS = ["dog", "rain", "speech", "smoke_alarm", "siren", "rooster", "crying_baby", "clock_tick"]
heard_lists = st.lists(
    st.builds(Heard, st.sampled_from(KEYS), st.integers(0, 2), st.floats(0.3, 1.0)), max_size=4
)


@pytest.fixture(scope="module")
def writer() -> SentenceWriter:
    if "captioner-16k" not in list_bundles():
        pytest.skip("the bundle captioner-16k is not installed")
    return SentenceWriter(Model.load("captioner-16k"))


def scene(events: list[Cue], sentences: SceneSentences) -> list[Cue]:
    return [out for cue in events for out in sentences.take(cue)] + sentences.end()


def test_grammar_joins_clauses_by_moment() -> None:
    told = [Heard("dog"), Heard("rain"), Heard("speech", 1)]
    assert join_clauses(told, "en") == "A dog barks while rain falls then someone speaks"
    for language in languages():
        assert join_clauses(told, language).strip()


@given(heard_lists, st.sampled_from(languages()))
@settings(max_examples=50, deadline=None)
def test_grammar_alone_words_anything_but_silence(heard: list[Heard], language: str) -> None:
    sentence = SentenceWriter(None).write(heard, language)
    assert (sentence is None) == (not heard)
    if sentence is not None:
        assert not sentence.decoded


@given(heard=heard_lists)
@settings(max_examples=25, deadline=None)
def test_a_decoded_sentence_names_what_was_heard_and_nothing_else(
    writer: SentenceWriter, heard: list[Heard]
) -> None:
    sentence = writer.write(heard)
    if not heard:
        assert sentence is None
        return
    assert sentence is not None
    assert writer.write(heard) == sentence
    if sentence.decoded:
        told = {h.key for h in heard}
        assert named(sentence.text.lower().replace(",", " ,"), writer.naming) == told


def test_the_decoder_words_most_of_what_people_meet(writer: SentenceWriter) -> None:
    pairs = [[Heard(a, 0, 0.9), Heard(b, m, 0.9)] for a in KEYS for b in KEYS for m in (0, 1)
             if a < b]  # fmt: skip
    decoded = [s.decoded for p in pairs if (s := writer.write(p)) is not None]
    assert sum(decoded) > 0.6 * len(decoded)


def test_greedy_is_a_beam_of_one_and_no_beam_is_refused(writer: SentenceWriter) -> None:
    assert writer.model is not None
    memory = writer._memory([Heard("dog"), Heard("rain")])
    (one,) = beam_search(writer.model, memory, 1)
    assert one
    assert len(beam_search(writer.model, memory, 3)) <= 3
    with pytest.raises(QueryError, match="beam of 0"):
        beam_search(writer.model, memory, 0)


def test_a_sound_the_decoder_does_not_know_is_left_to_the_grammar(writer: SentenceWriter) -> None:
    sentence = writer.write([Heard("Kazoo")])
    assert sentence is not None
    assert (sentence.text, sentence.decoded) == ("Kazoo", False)
    german = writer.write([Heard("dog")], "de")
    assert german is not None
    assert (german.text, german.decoded) == ("Ein Hund bellt", False)


def test_a_tagger_is_no_decoder(tone_bundle: Bundle) -> None:
    with pytest.raises(ManifestError, match="no sentence decoder"):
        SentenceWriter(Model.load(tone_bundle))


def test_scenes_join_the_feed_without_breaking_it(tone_bundle: Bundle, make_tones: Tones) -> None:
    plan = [("rain", 1, 14.0), ("dog_bark", 4, 4.5), ("dog_bark", 9.0, 9.4), ("music", 16.0, 19.0)]
    chunk = Chunk(make_tones(plan, 25.0), 0, AudioFormat(16_000))
    plain = [e.cue for e in caption_events([chunk], tone_bundle) if isinstance(e, CueEvent)]
    feed = scene(plain, SceneSentences(SentenceWriter(None)))
    check_feed(feed)
    scenes = [c for c in feed if c.kind is Kind.SCENE]
    assert [c.text for c in scenes if c.op is Op.OPEN] == [
        "Rain falls", "Rain falls while a dog barks", "Music plays",
    ]  # fmt: skip
    assert sum(c.op is Op.CLOSE for c in scenes) == 3
    others = [c for c in feed if c.kind is not Kind.SCENE]
    assert [(c.op, c.text, c.start_sample) for c in others] == [
        (c.op, c.text, c.start_sample) for c in plain
    ]


def test_no_scene_is_made_of_silence_nor_spoken_twice(
    tone_bundle: Bundle, make_tones: Tones
) -> None:
    def said(plan: list[tuple[str, float, float]]) -> list[str]:
        chunk = Chunk(make_tones(plan, 20.0), 0, AudioFormat(16_000))
        plain = [e.cue for e in caption_events([chunk], tone_bundle) if isinstance(e, CueEvent)]
        feed = scene(plain, SceneSentences(SentenceWriter(None)))
        return [c.text for c in feed if c.kind is Kind.SCENE and c.op is Op.OPEN]

    assert said([]) == []
    assert said([("dog_bark", t, t + 0.4) for t in (1, 5, 9, 13)]) == ["A dog barks"]
