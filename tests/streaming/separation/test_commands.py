from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from separationtoys import tones

from ossicle.runtime.errors import AudioError, BundleError, QueryError
from ossicle.runtime.model import Model
from ossicle.streaming.separation.commands import enhance_file, separate_file


@pytest.fixture
def stereo(tmp_path: Path) -> Path:
    x = np.repeat(tones(0.7), 3)
    place = tmp_path / "in.wav"
    sf.write(place, np.stack([x, 0.5 * x], axis=1), 48_000)
    return place


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_stereo_at_48_khz_keeps_its_shape(stereo: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out.{suffix}"
    summary = separate_file(stereo, "speech", out)
    info, given = sf.info(out), sf.info(stereo)
    assert (info.samplerate, info.channels) == (48_000, 2)
    assert info.frames == given.frames
    assert summary.seconds == pytest.approx(0.7)
    assert summary.tracks == ("speech",)
    assert len(summary.level_db) == 1


def test_several_queries_give_several_files_and_a_plot(stereo: Path, tmp_path: Path) -> None:
    outs = [tmp_path / "a.wav", tmp_path / "b.wav"]
    plot = tmp_path / "p.png"
    separate_file(stereo, ["speech", "not speech"], outs, plot=plot)
    x, a, b = (sf.read(place)[0] for place in (stereo, *outs))
    assert plot.read_bytes()[:4] == b"\x89PNG"
    inner = slice(3000, -3000)
    error = np.square(a + b - x)[inner].sum() / np.square(x)[inner].sum()
    assert error < 0.15  # what lies above 8 kHz is not given back


def test_the_same_query_twice_gives_the_same_twice(stereo: Path, tmp_path: Path) -> None:
    outs = [tmp_path / "a.wav", tmp_path / "b.wav"]
    separate_file(stereo, ["speech", "speech"], outs)
    np.testing.assert_array_equal(sf.read(outs[0])[0], sf.read(outs[1])[0])


def test_pipes(monkeypatch: pytest.MonkeyPatch, stereo: Path) -> None:
    class Pipe:
        def __init__(self, data: bytes = b"") -> None:
            self.buffer = io.BytesIO(data)

    given, made = Pipe(stereo.read_bytes()), Pipe()
    monkeypatch.setattr(sys, "stdin", given)
    monkeypatch.setattr(sys, "stdout", made)
    enhance_file("-", "-", model="separate-16k")
    data = made.buffer.getvalue()
    assert data[:4] == b"RIFF"
    assert len(data) - 44 == sf.info(stereo).frames * 4


def test_eight_bits_and_no_samples(tmp_path: Path) -> None:
    eight, empty, out = tmp_path / "8.wav", tmp_path / "0.wav", tmp_path / "out.wav"
    sf.write(eight, tones(0.3), 16_000, subtype="PCM_U8")
    enhance_file(eight, out, model="separate-16k")
    assert sf.info(out).frames == 4800
    sf.write(empty, np.zeros(0), 16_000)
    summary = enhance_file(empty, out, model="separate-16k", plot=tmp_path / "p.png")
    assert sf.info(out).frames == 0
    assert summary.seconds == 0


def test_progress_is_told(stereo: Path, tmp_path: Path) -> None:
    told = []
    separate_file(stereo, "speech", tmp_path / "o.wav", progress=lambda a, b: told.append((a, b)))
    assert told[-1] == (pytest.approx(0.7), pytest.approx(0.7))


def test_what_cannot_be_leaves_no_file(stereo: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.wav"
    with pytest.raises(QueryError, match="nearest"):
        separate_file(stereo, "elephants", out)
    with pytest.raises(AudioError, match="one for each"):
        separate_file(stereo, ["speech", "rain"], out)
    with pytest.raises(AudioError, match="no such file"):
        separate_file(tmp_path / "none.wav", "speech", out)
    with pytest.raises(BundleError, match="no bundle"):
        separate_file(stereo, "speech", out, model="separate-99k")
    with pytest.raises(AudioError, match="only one track"):
        separate_file(stereo, ["speech", "rain"], ["-", "-"])
    assert not out.exists()


def test_plots_say_what_to_install(
    stereo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(AudioError, match="matplotlib"):
        separate_file(stereo, "speech", tmp_path / "o.wav", plot=tmp_path / "p.png")


def test_the_built_in_bundle_keeps_its_promises(separator: Model) -> None:
    manifest = separator.manifest
    assert manifest.latency <= 160
    assert manifest.hop <= 128
    assert manifest.latency_class == "hearing"
    assert manifest.extra["mmac_per_second"] <= 60


@pytest.mark.filterwarnings("error")
def test_infinite_samples_are_neither_heard_nor_counted(tmp_path: Path, separator: Model) -> None:
    x = np.full(4800, 0.1, np.float32)
    x[100], x[200], x[300] = np.inf, -np.inf, np.nan
    sf.write(tmp_path / "in.wav", x, 16_000, subtype="FLOAT")
    summary = separate_file(
        tmp_path / "in.wav", "speech", tmp_path / "out.wav", model=separator.bundle
    )
    assert np.isfinite(sf.read(tmp_path / "out.wav")[0]).all()
    assert np.isfinite(summary.level_db).all()
