"""Codecs that others trained: the same packets, transport and commands, by name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from ossicle.export.importers import import_model
from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.bundle import find_bundle
from ossicle.runtime.errors import BundleError
from ossicle.runtime.model import Model
from ossicle.runtime.task import AudioEvent, InlineRun, PacketEvent
from ossicle.streaming.codec.commands import decode_file, encode_file
from ossicle.streaming.codec.layout import layout_of
from ossicle.streaming.codec.packetreader import thin
from ossicle.streaming.codec.resync import resynchronisation
from ossicle.streaming.codec.tasks import DecodeTask, EncodeTask


def data_folder() -> Path:
    """The folder of real audio and weights, or a skip."""
    named = os.environ.get("OSSICLE_DATA")
    beside = Path(__file__).parents[3].parent / "shared" / "data"
    for place in (*([Path(named)] if named else []), beside):
        if (place / "weights" / "lyra_v2").is_dir():
            return place
    pytest.skip("no folder of real weights: set OSSICLE_DATA")


@pytest.fixture(scope="module")
def lyra(tmp_path_factory: pytest.TempPathFactory) -> Model:
    home = tmp_path_factory.mktemp("cache")
    return Model.load(import_model("lyra", data_folder() / "weights" / "lyra_v2", home / "lyra"))


@pytest.fixture(params=["lyra", "codec-16k"])
def codec(request: pytest.FixtureRequest) -> Model:
    if request.param == "lyra":
        model: Model = request.getfixturevalue("lyra")
        return model
    try:
        return Model.load(find_bundle("codec-16k"))
    except BundleError:
        pytest.skip("codec-16k is not installed")


def voice(seconds: float) -> np.ndarray:
    """Something voiced, with pauses: ``[1, T]`` at 16 kHz."""
    time = np.arange(round(seconds * 16_000)) / 16_000
    pitch = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 1.5 * time)) / 16_000
    voiced = sum(np.sin(k * pitch) / k for k in range(1, 20))
    return (0.08 * voiced * (np.sin(2 * np.pi * 1.2 * time) > -0.5))[None].astype(np.float32)


def there_and_back(model: Model, signal: np.ndarray, kbps: float, lose: int = 0) -> np.ndarray:
    run = InlineRun(EncodeTask(model.bundle, kbps=kbps), model)
    events = run.feed(Chunk(signal, 0, AudioFormat(16_000))) + run.finish()
    packets = [e.packet for e in events if isinstance(e, PacketEvent)]
    if lose:
        del packets[lose : lose + 2]
    heard = InlineRun(DecodeTask(model.bundle, samples=signal.shape[1]), model)
    out = [e for p in packets for e in heard.feed(p)] + heard.finish()
    return np.concatenate([e.chunk.samples for e in out if isinstance(e, AudioEvent)], axis=1)


def test_a_codec_drops_into_tasks(codec: Model) -> None:
    signal = voice(2.0)
    heard = there_and_back(codec, signal, 6.0)
    assert heard.shape == signal.shape
    level = np.sqrt(np.mean(heard**2) / np.mean(signal**2))
    assert 0.4 < level < 2.0
    holed = there_and_back(codec, signal, 6.0, lose=40)
    np.testing.assert_array_equal(holed[:, : 38 * 320], heard[:, : 38 * 320])
    assert np.isfinite(holed).all()


def test_its_packets_are_thinned_without_it(codec: Model) -> None:
    layout = layout_of(codec.bundle)
    signal = voice(0.5)

    def packets(**options: float) -> list[bytes]:
        run = InlineRun(EncodeTask(codec.bundle, **options), codec)  # type: ignore[arg-type]
        events = run.feed(Chunk(signal, 0, AudioFormat(16_000))) + run.finish()
        return [e.packet for e in events if isinstance(e, PacketEvent)]

    few = layout.layers_for(3.0)
    assert [thin(p, few, layout) for p in packets()] == packets(kbps=3.0)


def test_it_forgets_a_loss_within_a_second(codec: Model) -> None:
    got = resynchronisation(codec, voice(4.5), lost=2, after=100)
    assert got.quiet_frames is not None
    assert got.quiet_frames <= 50


def test_files_by_its_name(lyra: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSSICLE_CACHE", os.fspath(lyra.bundle.root.parent))
    signal = voice(2.37)[0]
    sf.write(tmp_path / "a.wav", signal, 16_000)
    made = encode_file(tmp_path / "a.wav", tmp_path / "a.osc", 6.0, "lyra")
    assert made.layers == 30
    assert made.payload_kbps == pytest.approx(6.0, rel=0.01)
    decode_file(tmp_path / "a.osc", tmp_path / "b.wav", layers=16)
    assert sf.info(tmp_path / "b.wav").frames == len(signal)
