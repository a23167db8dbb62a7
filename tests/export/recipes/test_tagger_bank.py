from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")

from ossicle.export.recipes import tagger_bank as bank  # noqa: E402
from ossicle.export.recipes import tagger_blend as blending  # noqa: E402
from ossicle.export.recipes import tagger_screen as screen  # noqa: E402
from ossicle.export.recipes import tagger_tune as tune  # noqa: E402
from ossicle.export.recipes.tagger_data import Library, load_library  # noqa: E402
from ossicle.export.recipes.tagger_scenes import frames_of  # noqa: E402
from ossicle.export.recipes.tagger_step import UNKNOWABLE  # noqa: E402
from ossicle.export.recipes.tagger_teacher import log_mel  # noqa: E402
from ossicle.runtime.errors import AudioError  # noqa: E402
from ossicle.runtime.scene import alarms, everyday  # noqa: E402
from ossicle.runtime.scene.labels import ENVIRONMENT, LABELS  # noqa: E402
from ossicle.runtime.scene.mix import Placement, mix  # noqa: E402
from ossicle.runtime.scene.music import compose  # noqa: E402
from ossicle.runtime.scene.sound import Sound  # noqa: E402
from ossicle.runtime.scene.strange import FAMILIES, invent  # noqa: E402


def small_bank() -> blending.Bank:
    rng = np.random.default_rng(0)
    items: dict[str, list[bank.Item]] = {}
    for label in (*LABELS, bank.UNKNOWN):
        sound = alarms.synthesise("siren" if label not in alarms.ALARMS else label, rng, 4.0)
        item = bank.item_of(replace(sound, label=label))
        assert item is not None
        items[label] = [item, item]
    hiss = rng.standard_normal(160_000).astype(np.float32) / 8
    bed = bank.item_of(Sound(bank.BED, hiss, ((0, len(hiss)),)))
    assert bed is not None
    items[bank.BED] = [bed]
    return blending.Bank(items, {bank.UNKNOWN: np.full(2, 0.3)})


def test_a_bank_comes_back_from_disk(tmp_path: Path) -> None:
    items = [i for each in small_bank().items.values() for i in each]
    bank.save(tmp_path / "a.npz", items)
    back = bank.read(tmp_path / "a.npz")
    assert [(i.label, i.bursts) for i in back] == [(i.label, i.bursts) for i in items]
    np.testing.assert_array_equal(back[-1].mel, items[-1].mel)
    assert not list(tmp_path.glob("*.part*"))


def test_a_blend_is_the_mixture_that_samples_would_give() -> None:
    """Mixed as mel powers or as samples: the same scene, within what beats between sounds do."""
    rng = np.random.default_rng(1)
    tone = alarms.synthesise("smoke_alarm", rng, 4.0, variant="t3_piezo")
    hiss = rng.standard_normal(160_000)
    scene = mix([Placement(tone, 32_000, 15.0)], hiss, -20.0)
    item, bed = bank.item_of(tone), bank.item_of(Sound(bank.BED, hiss.astype(np.float32),
                                                       ((0, 160_000),)))  # fmt: skip
    assert item is not None
    assert bed is not None
    gain = float(np.sqrt(np.mean(scene.bed**2)))
    plain: Any = SimpleNamespace(random=lambda: 0.9)  # no microphone, no other pitch
    loud = np.max(np.abs(scene.stems[0])) / np.max(np.abs(tone.samples))
    power = blending._power(plain, bed, 1000, 0) * (gain / bed.rms) ** 2
    power += blending._power(plain, item, 1000, 200) * loud**2
    ours = np.log(np.sqrt(power) + blending.FLOOR)
    assert float(np.mean(np.abs(ours - log_mel(scene.samples)))) < 0.2
    spans = [(a + 200, b + 200) for a, b in item.bursts]
    stack = np.stack([power - (own := blending._power(plain, item, 1000, 200) * loud**2), own])
    truth = blending._truth([("smoke_alarm", spans)], stack, power)
    assert float(np.mean(truth != frames_of(scene))) < 0.002


@pytest.mark.parametrize("seed", range(12))
def test_a_scene_has_its_shape_and_an_odd_sound_is_left_open(seed: int) -> None:
    held = small_bank()
    scene = blending.blend(np.random.default_rng(seed), held)
    assert scene.mel.shape == (1000, 64)
    assert np.isfinite(scene.mel).all()
    assert scene.truth.shape == (250, len(LABELS))
    if scene.calm:
        known = [LABELS.index(n) for n in LABELS if n not in ("speech", "music")]
        assert not scene.truth[:, known].any()
    odd = [replace(i, label=bank.ODD) for i in held.items[bank.UNKNOWN]]
    held.items[bank.UNKNOWN] = odd
    open_ = blending.mixed(np.random.default_rng(seed), held, [(bank.UNKNOWN, 10.0)], "calm")
    assert (open_.truth == UNKNOWABLE).any(axis=0)[LABELS.index("music")]
    assert not open_.truth[:, : len(ENVIRONMENT)].any()


def test_what_a_recording_may_be_is_left_open_and_what_it_is_not_is_taught() -> None:
    held = small_bank()
    held.items[bank.UNKNOWN] = [
        replace(i, label=f"{bank.ODD}:siren,rooster") for i in held.items[bank.UNKNOWN]
    ]
    scene = blending.mixed(np.random.default_rng(3), held, [(bank.UNKNOWN, 10.0)], "calm")
    open_ = {LABELS[k] for k in np.flatnonzero((scene.truth == UNKNOWABLE).any(axis=0))}
    assert open_ == {"speech", "music", "siren", "rooster"}
    assert not (scene.truth == 1).any()


def test_a_list_of_suspects_says_what_they_may_be(tmp_path: Path) -> None:
    (tmp_path / "list.tsv").write_text("a.flac\tsiren,rooster\nb.flac\n")
    listed = bank.read_screened(tmp_path / "list.tsv")
    assert listed == {"a.flac": "siren,rooster", "b.flac": ""}
    (tmp_path / "unknown").mkdir()
    x = np.random.default_rng(0).standard_normal(16_000) / 8
    for name in ("a", "b", "c"):
        soundfile.write(tmp_path / "unknown" / f"{name}.flac", x, 16_000)
    paths = sorted((tmp_path / "unknown").glob("*"))
    made = bank.gather(np.random.default_rng(0), Library(), paths, listed)
    assert [i.label for i in made] == ["odd:siren,rooster", "odd"]  # b is left out


def test_a_folder_without_recordings_is_no_bank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bank, "load_library", lambda data, folds: Library())
    with pytest.raises(AudioError, match="holds no recordings"):
        bank.main(["--more", str(tmp_path), "--out", str(tmp_path / "out")])


def test_a_teachers_names_become_ours() -> None:
    scores = np.zeros(3, np.float32)
    names = ["Theremin", "Bark", "Silence"]
    assert screen.labels_like(scores, names, 0.1) == ()
    scores[:2] = 0.2, 0.05
    assert screen.labels_like(scores, names, 0.1) == ("siren",)
    assert set(screen.LIKE) == set(screen.OWN) == set(LABELS) - {"speech", "music"}


def test_a_named_folder_is_believed_in_what_its_sounds_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A theremin may be taken for a siren and is none; what is one itself may still be one."""
    names = ["Theremin", "Siren", "Beep, bleep"]
    (tmp_path / "names.csv").write_text("display_name\n" + "".join(f'"{n}"\n' for n in names))
    for name in ("theremin", "siren"):
        soundfile.write(tmp_path / f"{name}.flac", np.zeros(1600), 16_000)
    scores = iter([[0.0, 0.9, 0.1], [0.9, 0.1, 0.1]] * 2)  # siren.flac comes first
    monkeypatch.setattr(screen, "open_teacher", lambda path: None)
    monkeypatch.setattr(screen, "heard", lambda _, x: np.array(next(scores), np.float32))
    asked = [str(tmp_path), "--teacher", "y.tflite", "--names", str(tmp_path / "names.csv")]
    screen.main([*asked, "--threshold", "0.3", "--named"])
    assert capsys.readouterr().out == "siren.flac\tsiren\n"
    screen.main([*asked, "--threshold", "0.05", "--by-label", "0.3"])
    assert capsys.readouterr().out == "siren.flac\tsiren\ntheremin.flac\tsiren\n"


def test_a_stretched_sound_keeps_its_pitch_and_its_bursts() -> None:
    item = bank.Item("rain", np.arange(640, dtype=np.float16).reshape(10, 64), ((2, 5),), 0.1)
    longer = blending.stretched(item, 2.0)
    assert longer.mel.shape == (20, 64)
    assert longer.bursts == ((4, 10),)
    np.testing.assert_array_equal(longer.mel[4:10:2], item.mel[2:5])
    assert blending.stretched(item, 0.5).bursts == ((1, 2),)


def test_what_fools_the_model_is_drawn_oftener() -> None:
    held, rng = small_bank(), np.random.default_rng(0)
    scene = blending.Blend(np.zeros(1), np.zeros(1), True, ((bank.UNKNOWN, 1),))  # type: ignore[arg-type]
    for _ in range(20):
        blending.remember(held, scene, 1.0)
    drawn = [held.draw(rng, bank.UNKNOWN) for _ in range(400)]
    assert 240 < sum(drawn) < 360  # 1.1 against 0.4


@pytest.mark.parametrize("seed", range(4))
def test_music_and_strange_sounds_are_sound(seed: int) -> None:
    for make in (compose, invent):
        first, again = (make(np.random.default_rng(seed), 2.0).samples for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert np.isfinite(first).all()
        assert 0.8 < float(np.max(np.abs(first))) <= 0.91
        assert float(np.std(first)) > 1e-3


def test_every_family_makes_something() -> None:
    for name, make in FAMILIES.items():
        x = make(np.random.default_rng(5), 32_000, 16_000)
        assert x.shape == (32_000,), name
        assert np.isfinite(x).all(), name
        assert np.any(x != 0), name


def test_more_recordings_are_split_and_screened(tmp_path: Path) -> None:
    more, data = tmp_path / "more", tmp_path / "data"
    (data / "train").mkdir(parents=True)
    (more / "unknown").mkdir(parents=True)
    x = np.random.default_rng(0).standard_normal(16_000) / 8
    for k in range(20):
        soundfile.write(more / "unknown" / f"{k}.flac", x, 16_000)
    (more / "screened.txt").write_text("3.flac\n4.flac\n")
    parts = {
        part: {s.recipe["file"] for s in load_library(data, [4], True, part, more).odd}
        for part in ("tune", "test", "")
    }
    assert parts["tune"] | parts["test"] == parts[""]
    assert not parts["tune"] & parts["test"]
    assert len(parts[""]) == 18
    assert parts["tune"]
    assert parts["test"]


def test_tuning_scenes_come_back_from_disk(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = {label: [everyday.synthesise("rain", rng, 2.0)] for label in (*ENVIRONMENT, "music")}
    clips["speech"] = clips["music"]
    lib = Library(clips, held_out=True, part="tune")
    drawn = tune.draw(lib, 0, scenes=2, alarms=1, minutes=0.3)
    tune.save(tmp_path / "t.npz", drawn)
    back = tune.load(tmp_path / "t.npz")
    assert back.truth == drawn.truth
    assert back.spans == drawn.spans
    assert len(back.mixed) == 2
    np.testing.assert_array_equal(back.alarms["siren"][0], drawn.alarms["siren"][0])
    assert {k: len(v) for k, v in back.calm.items()} == {k: len(v) for k, v in drawn.calm.items()}


def test_two_of_a_kind_sound_wherever_either_does() -> None:
    item = small_bank().items["dog_bark"][0]
    size = len(item.mel)
    quiet = replace(item, bursts=((0, 3),))
    both = blending.doubled(np.random.default_rng(2), quiet, replace(item, bursts=((0, 5),)))
    assert both.mel.shape == item.mel.shape
    assert both.bursts[0] == (0, 3)
    start = both.bursts[-1][0]
    assert both.bursts[-1] == (start, min(start + 5, size))
    np.testing.assert_allclose(both.mel[:start], item.mel[:start], rtol=2e-3, atol=2e-3)
    # powers add: nowhere less than alone, and more where the other sounds
    assert float(np.min(both.mel.astype(np.float32) - item.mel.astype(np.float32))) > -0.02
    assert float(np.max(both.mel[start:].astype(np.float32) - item.mel[start:])) > 0.05
