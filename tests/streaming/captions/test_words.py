"""Words: what the data files promise, what is refused, and how text is laid out and committed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossicle.runtime import snapshot
from ossicle.runtime.errors import CaptionError
from ossicle.streaming.captions.composer import Composer
from ossicle.streaming.captions.cue import (
    Cue,
    Kind,
    Op,
    Priority,
    check_feed,
    from_json_line,
    to_json_line,
)
from ossicle.streaming.captions.layout import LINE_COLUMNS, columns, lay_out, reading_ms
from ossicle.streaming.captions.lexicon import (
    FORMS,
    clean,
    languages,
    load_lexicon,
    parse_lexicon,
)
from ossicle.streaming.captions.lines import Draft, Group, Timing, common
from ossicle.streaming.captions.sinks.base import clean_lines
from ossicle.streaming.captions.sounds import Form, class_map, known_sounds, sound_of
from ossicle.streaming.captions.stabiliser import Stabiliser


@pytest.mark.parametrize("language", languages())
def test_no_language_lacks_a_form_and_every_one_fits_its_line(language: str) -> None:
    words = load_lexicon(language)
    assert {"en", "de", "fr", "zh"} <= set(languages())
    assert set(words.sounds) == set(known_sounds())
    for key in known_sounds():
        assert words.speaks(key) is words
        for form in Form:
            text = f"[{words.phrase(key, form)}]"
            assert text.strip("[] ")
            assert columns(text) <= LINE_COLUMNS, text
            clause = words.clause(key, form)
            assert clause.strip()
            assert columns(clause) <= LINE_COLUMNS, clause


@pytest.mark.parametrize("language", ["de", "fr", "zh"])
def test_no_language_speaks_another(language: str) -> None:
    """What is told in a language is its own: apart from names of signals, no English is left."""
    english, words = load_lexicon("en").sounds, load_lexicon(language).sounds
    same = [k for k, forms in words.items() if any(forms[f] == english[k][f] for f in FORMS)]
    assert set(same) <= {"explosion", "applause"}  # so written in French and German too


def test_every_class_of_audioset_is_decided() -> None:
    table = class_map("yamnet")
    assert len(table) == 521
    assert set(table.values()) - {""} <= set(known_sounds())


def test_a_missing_word_is_said_in_the_declared_language_and_says_so(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    entry = '{ short = "wau", sustained = "wau wau", noun = "Wau", clause = "es macht wau" }'
    patterns = "\n".join(f'{name} = "{p}"' for name, p in GOOD["patterns"].items())  # type: ignore[attr-defined]
    own.write_text(
        f'language = "xx"\nfallback = "fr"\n[patterns]\n{patterns}\n[sounds]\ndog = {entry}\n'
    )
    groups = [Group("dog", "dog", (0,)), Group("sewing_machine", "x", (1,))]
    composer = Composer(groups, Timing(), 16_000, str(own))
    assert [x.language for x in composer.lexicons] == ["xx", "fr"]


GOOD = {
    "language": "xx",
    "patterns": {"brackets": "[{text}]", "continues": "{noun} on", "stops": "{noun} off",
                 "then": "then {text}", "while": "while {text}",
                 "sentence_continues": "{noun} on", "sentence_stops": "{noun} off"},
    "sounds": {"dog": {"short": "wau", "sustained": "wau wau", "noun": "w", "clause": "wau"}},
}  # fmt: skip


def test_a_lexicon_with_missing_forms_is_refused() -> None:
    parse_lexicon(GOOD, "xx")
    with pytest.raises(CaptionError, match="no words for 'cat'"):
        parse_lexicon(GOOD, "xx").speaks("cat")
    for broken in (
        {**GOOD, "language": ""},
        {**GOOD, "colour": 1},
        {**GOOD, "patterns": {}},
        {**GOOD, "patterns": {**GOOD["patterns"], "then": "then {tex}"}},
        {**GOOD, "patterns": {**GOOD["patterns"], "then": "then"}},
        {**GOOD, "sounds": {"dog": {"short": "wau"}}},
        {**GOOD, "sounds": {"dog": {**GOOD["sounds"]["dog"], "clause": " "}}},
        {**GOOD, "sounds": {"dog": {**GOOD["sounds"]["dog"], "extra": "x"}}},
        {**GOOD, "fallback": "nowhere"},
    ):
        with pytest.raises(CaptionError):
            parse_lexicon(broken, "xx")


def test_a_lexicon_of_ones_own_by_path(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text("not toml [")
    with pytest.raises(CaptionError, match="not TOML"):
        load_lexicon(str(path))
    with pytest.raises(CaptionError, match="cannot be read"):
        load_lexicon(str(tmp_path / "absent.toml"))


def test_aliases_name_one_sound_each() -> None:
    assert sound_of("Dog bark") == sound_of("dog_barking") == "dog"
    assert sound_of("smoke_detector") == "smoke_alarm"
    assert sound_of("phone_ring") == "phone_ring"
    assert sound_of("something else") == "something else"


@given(st.text(max_size=100))
def test_a_label_is_shown_clean(text: str) -> None:
    shown = clean(text)
    assert shown
    assert shown.isprintable() or any(c in "\u200d\ufe0f" or c.isspace() for c in shown)
    assert "\n" not in shown
    assert clean(shown) == shown


@given(st.text(max_size=300), st.integers(8, 42))
@settings(max_examples=200)
def test_text_fits_its_lines(text: str, width: int) -> None:
    laid = lay_out(text, width)
    assert len(laid.split("\n")) <= 2
    assert all(columns(line) <= width for line in laid.split("\n"))
    if "…" not in laid:
        assert laid.replace("\n", "").replace(" ", "") == "".join(text.split())


@given(st.lists(st.sampled_from(["dog", "barks", "while", "rain", "狗叫"]), max_size=14))
def test_words_that_are_added_move_no_earlier_line_break(words: list[str]) -> None:
    for n in range(len(words)):
        before, after = lay_out(" ".join(words[:n])), lay_out(" ".join(words[: n + 1]))
        if "…" not in after:
            assert after.startswith(before)


@given(st.text(max_size=200))
def test_no_player_finds_markup_in_clean_lines(text: str) -> None:
    lines = clean_lines(text)
    assert not set(lines) & set("<>&{}\\\r\0\ufeff")
    assert "\n\n" not in lines
    assert lines == lines.strip()


def test_reading_speed() -> None:
    assert reading_ms("[dog]") == 834
    assert reading_ms("x" * 84) == 4200
    assert reading_ms("狗" * 84) == 7000


def draft(text: str, op: Op = Op.UPDATE, sure: int | None = None, cue_id: int = 1,
          priority: Priority = Priority.AMBIENT) -> Draft:  # fmt: skip
    return Draft(op, cue_id, Kind.SOUND, priority, text, len(text) if sure is None else sure,
                 0, 1, True, (), (), "en")  # fmt: skip


texts = st.text("ab", max_size=6)


@given(steps=st.lists(st.one_of(st.none(), texts), min_size=1, max_size=30),
       hold=st.integers(0, 4), final=st.sampled_from([Op.CLOSE, Op.RETRACT]))  # fmt: skip
@settings(max_examples=300)
def test_what_is_committed_never_changes(steps: list[str | None], hold: int, final: Op) -> None:
    stabiliser = Stabiliser(hold)
    state, promised, shown = stabiliser.open(), "", 0
    steps = ["a", *steps]
    for at, text in enumerate([*steps, "aba"]):
        op = final if at == len(steps) else Op.OPEN if at == 0 else Op.UPDATE
        drafts = [] if text is None else [draft(text, op)]
        for item in stabiliser.step(state, drafts, at):
            said = item.draft.text
            assert item.draft.op is (Op.OPEN if not shown else item.draft.op)
            if item.draft.op is not Op.RETRACT:
                assert said[: len(promised)] == promised
                assert item.stable_chars >= len(promised)
                promised = said[: item.stable_chars]
            shown += 1
    assert not state.held
    counts = state.counts
    assert counts.opened == counts.closed + counts.retracted
    assert counts.opened + counts.withheld == 1


@given(a=texts, b=texts, hold=st.integers(1, 5), at=st.integers(1, 10))
def test_a_prefix_is_committed_when_two_looks_agree(a: str, b: str, hold: int, at: int) -> None:
    stabiliser = Stabiliser(hold)
    state = stabiliser.open()
    stabiliser.step(state, [draft(a, Op.OPEN, sure=0)], 0)
    stabiliser.step(state, [draft(b)], at)
    (cue,) = state.held.values()
    if at >= hold:
        assert cue.committed == (common(a, b) if cue.hypothesis == b else 0)
    stabiliser.step(state, [], at + hold)
    assert cue.committed == len(b)


def test_an_alert_is_shown_and_committed_at_once() -> None:
    stabiliser = Stabiliser(1000)
    state = stabiliser.open()
    (item,) = stabiliser.step(state, [draft("fire", Op.OPEN, 0, priority=Priority.ALERT)], 5)
    assert (item.draft.op, item.stable_chars) == (Op.OPEN, 4)
    assert stabiliser.step(state, [draft("rain", Op.OPEN, cue_id=2)], 5) == []


def test_a_draft_survives_a_snapshot() -> None:
    stabiliser = Stabiliser(10)
    state = stabiliser.open()
    stabiliser.step(state, [draft("x", Op.OPEN)], 0)
    again = snapshot.load(snapshot.dump(state))
    assert stabiliser.step(again, [], 10) == stabiliser.step(state, [], 10) != []


def test_a_line_of_json_and_back() -> None:
    cue = Cue(
        seq=1, cue_id=2, revision=0, op=Op.OPEN, kind=Kind.SOUND, text='[a "b"\n😀]',
        stable_chars=3, is_final=False, stability=0.5, sample_rate_hz=16_000, start_sample=2**33,
        end_sample=2**33, end_open=True, display_start_ms=1, display_end_ms=2,
        audio_seen_sample=2**33,
    )  # fmt: skip
    line = to_json_line(cue)
    assert b"\n" not in line
    assert from_json_line(line) == cue
    assert from_json_line(line[:-1] + b',"newer":1}') == cue
    for bad in (b"", b"{}", b"[1]", line.replace(b'"OPEN"', b'"DANCE"'), line[:-1],
                line.replace(b'"stable_chars":3', b'"stable_chars":99')):  # fmt: skip
        with pytest.raises(CaptionError):
            from_json_line(bad)
    with pytest.raises(CaptionError, match="ascend"):
        replace(cue, start_sample=2**34)
    with pytest.raises(CaptionError, match="before"):
        check_feed([cue, replace(cue, seq=2, audio_seen_sample=2**33, start_sample=0,
                                 end_sample=0, op=Op.HEARTBEAT, cue_id=0),
                    replace(cue, seq=3, revision=1, op=Op.UPDATE, end_sample=2**33 - 1,
                            start_sample=2**33 - 1, audio_seen_sample=2**33 - 1)])  # fmt: skip
