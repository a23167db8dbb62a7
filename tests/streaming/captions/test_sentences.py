"""Sentences say what was heard, once, and nothing on silence, whoever words them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossicle.runtime.bundle import Bundle, list_bundles
from ossicle.runtime.errors import BundleError, ManifestError, QueryError
from ossicle.runtime.model import Model
from ossicle.runtime.worddecoder import GraphWords, KernelWords
from ossicle.runtime.wording import beam_search, named
from ossicle.streaming.captions.lexicon import languages
from ossicle.streaming.captions.sentences import (
    Heard,
    SentenceWriter,
    join_clauses,
    writer_of,
)

KEYS = ["dog", "rain", "speech", "smoke_alarm", "siren", "rooster", "crying_baby", "clock_tick"]
heard_lists = st.lists(
    st.builds(Heard, st.sampled_from(KEYS), st.integers(0, 2), st.floats(0.3, 1.0)), max_size=4
)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    if "captioner-16k" not in list_bundles():
        pytest.skip("the bundle captioner-16k is not installed")
    return Bundle.open("captioner-16k")


@pytest.fixture(scope="module")
def writer(bundle: Bundle) -> SentenceWriter:
    return SentenceWriter(bundle)


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
        assert sentence.author == "grammar"


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
        assert sentence.author == "captioner-16k"
        told = {h.key for h in heard}
        assert named(sentence.text.lower().replace(",", " ,"), writer.naming) == told


def test_the_decoder_words_most_of_what_people_meet(writer: SentenceWriter) -> None:
    pairs = [[Heard(a, 0, 0.9), Heard(b, m, 0.9)] for a in KEYS for b in KEYS for m in (0, 1)
             if a < b]  # fmt: skip
    decoded = [s.decoded for p in pairs if (s := writer.write(p)) is not None]
    assert sum(decoded) > 0.6 * len(decoded)


def test_kernels_and_graph_give_the_same_scores_word_by_word(
    bundle: Bundle, writer: SentenceWriter
) -> None:
    """The ring wraps: more words than it holds are read."""
    graph, kernels = GraphWords(Model.load(bundle)), KernelWords(bundle)
    rng = np.random.default_rng(5)
    for told in ([], [Heard("dog")], [Heard("dog"), Heard("rain", 1), Heard("siren", 1, 0.4)]):
        memory = writer.memory(told)
        states = graph.open(memory, 3), kernels.open(memory, 3)
        for at in range(2 * graph.settings["length"] + 3):
            tokens = rng.integers(1, len(writer.words), 3).tolist()
            a, b = graph.step(states[0], tokens), kernels.step(states[1], tokens)
            np.testing.assert_allclose(a, b, atol=2e-4, err_msg=f"word {at}")
            if at % 4 == 2:
                for words, state in zip((graph, kernels), states, strict=True):
                    words.reorder(state, [2, 0, 0])


def test_kernels_and_graph_write_the_same_sentences(bundle: Bundle, writer: SentenceWriter) -> None:
    graph = GraphWords(Model.load(bundle))
    assert writer.decoder is not None
    for a, b, beam in product(KEYS[:3], KEYS[3:6], (1, 4)):
        memory = writer.memory([Heard(a), Heard(b, 1, 0.7)])
        assert beam_search(graph, memory, beam) == beam_search(writer.decoder, memory, beam)


def test_greedy_is_a_beam_of_one_and_no_beam_is_refused(writer: SentenceWriter) -> None:
    assert writer.decoder is not None
    memory = writer.memory([Heard("dog"), Heard("rain")])
    (one,) = beam_search(writer.decoder, memory, 1)
    assert one
    assert len(beam_search(writer.decoder, memory, 3)) <= 3
    with pytest.raises(QueryError, match="beam of 0"):
        beam_search(writer.decoder, memory, 0)


def test_a_sound_the_decoder_does_not_know_is_left_to_the_grammar(writer: SentenceWriter) -> None:
    sentence = writer.write([Heard("Kazoo")])
    assert sentence is not None
    assert (sentence.text, sentence.decoded) == ("Kazoo", False)
    german = writer.write([Heard("dog")], "de")
    assert german is not None
    assert (german.text, german.decoded) == ("Ein Hund bellt", False)


def test_a_tagger_is_no_decoder(tone_bundle: Bundle) -> None:
    with pytest.raises(ManifestError, match="no sentence decoder"):
        SentenceWriter(tone_bundle)
    with pytest.raises(BundleError, match="nowhere"):
        writer_of("nowhere")
    assert writer_of("none").decoder is None
