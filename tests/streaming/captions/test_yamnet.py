"""The tier of 521 classes: YAMNet as imported, on recordings, worded through the map."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.model import Model
from ossicle.runtime.task import CueEvent, Hop, InlineRun
from ossicle.streaming.captions.cue import Cue, Op, check_feed
from ossicle.streaming.captions.rules import groups_of, narrower_of
from ossicle.streaming.captions.sounds import class_map, known_sounds
from ossicle.streaming.captions.task import CaptionTask
from ossicle.streaming.cli.app import main

soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")

RATE = 16_000
PATCH = 96  # frames of 10 ms
CLIPS = {"001_-_Dog_bark": "dog", "002_-_Rain": "rain", "004_-_Baby_cry": "crying_baby",
         "007_-_Helicopter": "helicopter", "009_-_Rooster": "rooster"}  # fmt: skip


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    pytest.importorskip("onnx", reason="the importer needs onnx")
    from ossicle.export.importers import import_model

    if not (data / "weights" / "yamnet" / "yamnet.tflite").is_file():
        pytest.skip(f"no weights/yamnet in {data}")
    place = tmp_path_factory.mktemp("yamnet") / "yamnet"
    import_model("yamnet", data / "weights" / "yamnet" / "yamnet.tflite", place)
    return Model.load(Bundle.open(place))


def clips(data: Path, folder: str, count: int) -> Iterator[NDArray[np.float32]]:
    for path in sorted((data / "train" / "env_esc10_f1-4" / folder).glob("4-*.flac"))[:count]:
        yield soundfile.read(path, dtype="float32")[0]


class Kept(InlineRun):
    """A run that keeps every patch's scores."""

    def __init__(self, model: Model) -> None:
        super().__init__(CaptionTask(model.manifest), model)
        self.scores: list[NDArray[np.float32]] = []

    def _run(self, hops: list[Hop]) -> list[object]:  # type: ignore[override]
        events: list[object] = []
        for hop in hops:
            out = self.model.step(self.memory, {k: np.asarray(v)[None] for k, v in
                                                hop.inputs.items()})  # fmt: skip
            self.scores.append(out["scores"][0].copy())
            events += self.task.take(self.state, hop, {k: v[0] for k, v in out.items()})
        return events


def captioned(model: Model, samples: NDArray[np.float32], cut: int) -> (
    tuple[list[Cue], list[NDArray[np.float32]]]
):  # fmt: skip
    run, events = Kept(model), list[object]()
    for at in range(0, len(samples), cut):
        events += run.feed(Chunk(samples[None, at : at + cut], at, AudioFormat(RATE)))
    events += run.finish()
    return [e.cue for e in events if isinstance(e, CueEvent)], run.scores


def test_real_clips_are_captioned_by_what_they_are(model: Model, data: Path) -> None:
    """At least two of three recordings of each; the map and the thresholds do the rest."""
    for folder, key in CLIPS.items():
        heard = []
        for samples in clips(data, folder, 3):
            cues, _ = captioned(model, samples, 1600)
            check_feed(cues)
            heard.append({c.labels[0].class_id for c in cues if c.labels})
        group = next(g for g in groups_of(model.manifest) if g.key == key)
        assert sum(group.class_ids[0] in found for found in heard) >= 2, (key, heard)


def test_patches_that_come_piecemeal_are_those_of_the_whole(model: Model, data: Path) -> None:
    (samples,) = clips(data, "001_-_Dog_bark", 1)
    some, piecemeal = captioned(model, samples, 777)
    same, at_once = captioned(model, samples, len(samples))
    assert some == same
    np.testing.assert_array_equal(piecemeal, at_once)
    hop = model.manifest.hop
    for number in (3, 6):  # a patch heard alone: nothing before it matters
        start = (number + 1) * hop - PATCH * 160 - 2 * 160
        run = Kept(model)
        lone = samples[max(0, start) : (number + 1) * hop]
        padded = np.concatenate([np.zeros(-len(lone) % hop, np.float32), lone])
        run.feed(Chunk(padded[None], 0, AudioFormat(RATE)))
        np.testing.assert_allclose(run.scores[-1], at_once[number], atol=2e-3)


def test_a_narrower_sound_silences_the_broader(model: Model) -> None:
    groups = groups_of(model.manifest)
    pairs = {(groups[a].key, groups[b].key) for a, b in narrower_of(groups)}
    assert ("crying_baby", "crying") in pairs
    known = known_sounds()
    for key, sound in known.items():
        assert set(sound.narrows) <= set(known) - {key}
        for broad in sound.narrows:  # an alarm is never silenced by what is none
            assert known[broad].priority != "ALERT" or sound.priority == "ALERT"
    samples = np.zeros((1, model.manifest.hop), np.float32)
    task = CaptionTask(model.manifest)
    state, labels, opened = task.open(), list(class_map("yamnet")), []
    scores = np.zeros((1, 521), np.float32)
    scores[0, [labels.index("Crying, sobbing"), labels.index("Baby cry, infant cry")]] = 0.9
    for at in range(6):
        (hop,) = task.push(state, Chunk(samples, at * model.manifest.hop, AudioFormat(RATE)))
        events = task.take(state, hop, {"scores": scores})
        cues = [e.cue for e in events if isinstance(e, CueEvent)]
        opened += [c.text for c in cues if c.op is Op.OPEN]
    assert opened == ["[baby crying]"]


def test_it_is_used_by_its_path(model: Model, data: Path, tmp_path: Path) -> None:
    (samples,) = clips(data, "001_-_Dog_bark", 1)
    wav = tmp_path / "dog.wav"
    soundfile.write(wav, samples, RATE)
    for style in ("brackets", "sentence"):
        out = tmp_path / f"{style}.vtt"
        try:
            main(["caption", str(wav), "-m", str(model.bundle.root), "-o", str(out), "-q",
                  "--style", style])  # fmt: skip
        except SystemExit as left:
            pytest.fail(f"exit {left.code}") if left.code else None
        assert "dog" in out.read_text().lower()
