from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ossicle.runtime.errors import BundleError, QueryError
from ossicle.runtime.model import Model
from ossicle.streaming.separation import query as module
from ossicle.streaming.separation.query import Query, QueryBook, sentence_encoder


@pytest.fixture(scope="module")
def book(separator: Model) -> QueryBook:
    return QueryBook.of(separator.bundle)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("speech", {"speech"}),
        ("a person talking", {"speech"}),
        ("barking", {"dog_bark"}),
        ("a dog", {"dog_bark"}),
        ("The Baby!", {"baby_cry"}),
        ("baby crying", {"baby_cry"}),
        ("vehicle engine", {"helicopter", "chainsaw"}),
        ("ambulance", {"siren"}),
        ("rain, sea waves and a dog", {"rain", "sea_waves", "dog_bark"}),
        ("guitar + piano", {"guitar", "piano"}),
        ("loud noise in the background", {"noise"}),
        ("background noise", {"noise"}),
        ("winds", {"winds"}),
        ("door bell", {"doorbell"}),
    ],
)
def test_wordings_are_understood(book: QueryBook, text: str, wanted: set[str]) -> None:
    found = book.resolve(text)
    assert set(found.wanted) == wanted
    assert found.unwanted == ()
    assert 0.5 <= found.similarity <= 1


@pytest.mark.parametrize(
    "text", ["not the traffic", "everything but the traffic", "-traffic", "no traffic",
             "all except traffic", "everything without the traffic", "minus traffic"]
)  # fmt: skip
def test_negative_queries_take_away(book: QueryBook, text: str) -> None:
    found = book.resolve(text)
    assert found.wanted == ()
    assert set(found.unwanted) == {"helicopter", "chainsaw"}
    _, blend = found.conditions(book.labels, depth=0.75)
    assert blend.tolist() == [1.0, -0.75]


def test_positive_less_negative(book: QueryBook) -> None:
    found = book.resolve("music without drums")
    assert "drums" not in found.wanted
    assert "guitar" in found.wanted
    with pytest.raises(QueryError, match="nothing would be left"):
        book.resolve("speech but not speech")


@pytest.mark.parametrize(
    "text",
    ["elephants", "собака", "犬", "quantum physics", "!!!", "12345", "glass breaking",
     "church bells", "door slam", "washing machine", "sewing machine", "door", "knock on the door",
     "keyboard typing", "the wind", "loud thunder", "a truck", "running", "boiling water"],
)  # fmt: skip
def test_what_is_unknown_is_refused_with_what_is_near(book: QueryBook, text: str) -> None:
    with pytest.raises(QueryError, match="nearest are") as caught:
        book.resolve(text)
    assert len(caught.value.nearest) == 3
    assert all(name in book.names and 0 <= s < 0.5 for name, s in caught.value.nearest)


def test_empty_and_endless_queries_are_refused(book: QueryBook) -> None:
    with pytest.raises(QueryError, match="empty"):
        book.resolve("  ")
    with pytest.raises(QueryError, match="10000 characters"):
        book.resolve("x" * 10_000)
    with pytest.raises(QueryError, match="more than 16"):
        book.resolve(",".join(["dog"] * 17))
    with pytest.raises(QueryError, match="names no sound"):
        book.resolve(", ,")


@given(st.text(max_size=60))
def test_any_text_gives_a_query_or_a_typed_refusal(book: QueryBook, text: str) -> None:
    with contextlib.suppress(QueryError):
        found = book.resolve(text)
        assert set(found.wanted) | set(found.unwanted) <= set(book.labels)


@given(st.sampled_from(["speech", "dog", "rain", "guitar"]), st.sampled_from(["a ", "the ", ""]))
def test_articles_and_case_do_not_matter(book: QueryBook, name: str, article: str) -> None:
    assert book.resolve((article + name).upper()).wanted == book.resolve(name).wanted


def test_answers_are_kept(book: QueryBook) -> None:
    assert book.resolve("a dog") is book.resolve("a dog")
    for index in range(300):
        book.resolve(f"dog {'!' * index}")
    assert len(book._cache) <= 256


def test_depth_is_bounded() -> None:
    query = Query("speech", ("speech",), (), 1.0)
    member, blend = query.conditions(("dog_bark", "speech"), 0.25)
    assert member.tolist() == [0.0, 1.0]
    assert blend.tolist() == [0.75, 0.25]
    for depth in (-0.1, 1.1, float("nan")):
        with pytest.raises(QueryError, match="depth"):
            query.conditions(("speech",), depth)


def test_a_bundle_without_names_takes_no_query(separator: Model, tmp_path: object) -> None:
    import msgspec

    bare = types.SimpleNamespace(manifest=msgspec.structs.replace(separator.manifest, labels=None))
    with pytest.raises(BundleError, match="no text queries"):
        QueryBook.of(bare)  # type: ignore[arg-type]


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """A stand-in for a sentence encoder: three directions, and one for all else."""
    near = {"mutt": (1.0, 0.1, 0.0), "hound": (1.0, 0.0, 0.0), "puppy": (0.9, 0.0, 0.2)}
    return np.array([near.get(text, (0.0, 0.0, 1.0)) for text in texts], np.float32)


def test_a_sentence_encoder_widens_the_wording(separator: Model) -> None:
    phrases = [["hound", "dog"], ["rain"]]
    weight, bias = np.zeros((64, 3), np.float32), np.zeros(3, np.float32)
    wide = QueryBook(("dog_bark", "rain"), [["dog_bark"], ["rain"]], phrases, weight, bias, embed)
    found = wide.resolve("mutt")
    assert found.wanted == ("dog_bark",)
    assert found.similarity == pytest.approx(1 / np.hypot(1, 0.1))
    assert wide.resolve("not mutt").unwanted == ("dog_bark",)
    narrow = QueryBook.of(separator.bundle)
    with pytest.raises(QueryError):
        narrow.resolve("mutt")


def test_what_the_sentence_encoder_does_not_know_is_refused_with_its_likeness() -> None:
    def odd(texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([[1.0, 0.0] if t == "dog" else [0.3, 1.0] for t in texts], np.float32)

    weight, bias = np.zeros((64, 2), np.float32), np.array([0.0, 5.0], np.float32)
    book = QueryBook(("dog_bark",), [["dog_bark"]], [["dog"]], weight, bias, odd)
    with pytest.raises(QueryError, match="unheard") as caught:
        book.resolve("unheard of")
    assert caught.value.nearest == (("dog", pytest.approx(0.287, abs=1e-3)),)


def test_the_encoder_hears_known_phrases_once(separator: Model) -> None:
    calls: list[int] = []

    def counted(texts: Sequence[str]) -> NDArray[np.float32]:
        calls.append(len(texts))
        return embed(texts)

    book = QueryBook.of(separator.bundle, counted)
    for text in ("quantum physics", "elephants", "elephants"):
        with contextlib.suppress(QueryError):
            book.resolve(text)
    assert sum(count > 1 for count in calls) == 1


def test_the_sentence_encoder_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(QueryError, match="sentence-transformers"):
        sentence_encoder("any")

    class Encoder:
        def __init__(self, name: str) -> None:
            if name == "nowhere":
                raise OSError("not a folder")

        def encode(self, texts: list[str]) -> list[list[float]]:
            return [[float(len(text))] for text in texts]

    fake = types.ModuleType("sentence_transformers")
    fake.SentenceTransformer = Encoder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", fake)
    assert module.sentence_encoder("some")(["abc"]).tolist() == [[3.0]]
    with pytest.raises(QueryError, match="nowhere"):
        module.sentence_encoder("nowhere")


def test_a_folder_of_a_sentence_encoder_is_read_by_the_library_itself(tmp_path: Path) -> None:
    """Real sentence-transformers and real files; the weights are random, so no wording is wide."""
    pytest.importorskip("sentence_transformers", reason="the extra 'queries' is not installed")
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hound", "rain", "the", "falls"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(tmp_path)
    transformers.BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    embed = sentence_encoder(str(tmp_path))
    vectors = embed(["hound", "the rain falls", "the hound"])
    assert vectors.shape == (3, 32)
    assert vectors.dtype == np.float32
    weight, bias = np.zeros((64, 3), np.float32), np.zeros(3, np.float32)
    phrases = [["hound"], ["the rain falls"]]
    book = QueryBook(("dog_bark", "rain"), [["dog_bark"], ["rain"]], phrases, weight, bias, embed)
    found = book.resolve("not the rain falls")
    assert found.unwanted == ("rain",)
    assert found.similarity == pytest.approx(1.0, abs=1e-5)
