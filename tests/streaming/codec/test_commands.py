"""Files and pipes: any format in, the same length out, and one typed error for what is wrong."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from ossicle.runtime.bundle import Bundle, write_bundle
from ossicle.runtime.errors import AudioError, BundleError, PacketError
from ossicle.streaming.codec.commands import decode_file, encode_file


def talk(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    tones = sum(np.sin(2 * np.pi * f * time) for f in (150, 310, 620))
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 2 * time)
    return np.tile((0.12 * tones * swell).astype(np.float32)[:, None], (1, channels))


@pytest.fixture
def home(tmp_path: Path, toy: Bundle, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the toy codec among the installed bundles."""
    monkeypatch.setenv("OSSICLE_CACHE", os.fspath(toy.root.parent))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "rate", "channels", "seconds"),
    [("a.wav", 16_000, 1, 2.0), ("a.flac", 44_100, 2, 1.7), ("a.ogg", 48_000, 1, 1.0),
     ("a.wav", 8_000, 1, 0.01), ("a.wav", 22_050, 1, 3.3333),
     ("a.wav", 16_000, 1, 1.23456)],
)  # fmt: skip
def test_a_file_comes_back_as_long_as_it_was(
    home: Path, name: str, rate: int, channels: int, seconds: float
) -> None:
    sf.write(home / name, talk(seconds, rate, channels), rate)
    told: list[Any] = []
    made = encode_file(home / name, home / "a.osc", layers=6, model="toy-codec",
                       progress=lambda *at: told.append(at))  # fmt: skip
    back = decode_file(home / "a.osc", home / "back.wav")
    info = sf.info(home / "back.wav")
    wanted = sf.info(home / name).frames
    assert (info.frames, info.samplerate, info.channels) == (wanted, rate, 1)
    assert back.whole
    assert made.samples == back.samples == wanted
    assert made.bytes == back.bytes == (home / "a.osc").stat().st_size
    assert told[-1][0] == pytest.approx(seconds, abs=1e-3)
    if seconds >= 1:
        one, two = talk(seconds, rate)[:, 0], sf.read(home / "back.wav")[0]
        assert np.corrcoef(one, two)[0, 1] > 0.8


def test_no_audio_is_a_file_too(home: Path) -> None:
    sf.write(home / "a.wav", np.zeros((0, 1)), 16_000)
    assert encode_file(home / "a.wav", home / "a.osc", model="toy-codec").frames == 0
    decode_file(home / "a.osc", home / "b.wav")
    assert sf.info(home / "b.wav").frames == 0


def test_rate_and_layers_do_what_they_say(home: Path) -> None:
    sf.write(home / "a.wav", talk(10, 16_000), 16_000)
    made = encode_file(home / "a.wav", home / "a.osc", 1.5, "toy-codec")
    assert made.layers == 5  # of 6 bits at 50 frames a second
    assert made.payload_kbps == pytest.approx(1.5, rel=0.01)
    assert made.file_kbps < 1.5 * 1.3
    few = decode_file(home / "a.osc", home / "few.wav", layers=2)
    many = decode_file(home / "a.osc", home / "many.wav")
    assert few.samples == many.samples == 160_000
    assert not np.array_equal(sf.read(home / "few.wav")[0], sf.read(home / "many.wav")[0])
    encode_file(home / "a.wav", home / "b.osc", model="toy-codec", layers=2)
    decode_file(home / "b.osc", home / "same.wav")
    np.testing.assert_array_equal(sf.read(home / "few.wav")[0], sf.read(home / "same.wav")[0])
    with pytest.raises(PacketError, match="17 layers"):
        decode_file(home / "a.osc", home / "x.wav", layers=17)
    assert not (home / "x.wav").exists()


@pytest.mark.parametrize(("start", "stop"), [(0.0, 3.0), (7.3, 9.0), (11.0, 12.5), (30.0, 31.0)])
def test_a_part_is_the_part_of_the_whole(home: Path, start: float, stop: float) -> None:
    sf.write(home / "a.wav", talk(12, 16_000), 16_000)
    encode_file(home / "a.wav", home / "a.osc", layers=4, model="toy-codec", silence_dbfs=-60.0)
    decode_file(home / "a.osc", home / "whole.wav")
    decode_file(home / "a.osc", home / "part.wav", start_s=start, stop_s=stop)
    whole, part = sf.read(home / "whole.wav")[0], sf.read(home / "part.wav")[0]
    np.testing.assert_array_equal(part, whole[round(start * 16_000) : round(stop * 16_000)])


def test_a_cut_file_is_refused_or_kept_in_part(home: Path) -> None:
    sf.write(home / "a.wav", talk(10, 16_000), 16_000)
    encode_file(home / "a.wav", home / "a.osc", layers=4, model="toy-codec")
    decode_file(home / "a.osc", home / "whole.wav")
    data = (home / "a.osc").read_bytes()
    (home / "cut.osc").write_bytes(data[: len(data) // 2])
    with pytest.raises(PacketError, match="--partial"):
        decode_file(home / "cut.osc", home / "cut.wav")
    assert not list(home.glob("*cut.wav*"))
    kept = decode_file(home / "cut.osc", home / "cut.wav", partial=True)
    assert not kept.whole
    part, whole = sf.read(home / "cut.wav")[0], sf.read(home / "whole.wav")[0]
    assert 3 * 16_000 < len(part) < 6 * 16_000
    np.testing.assert_array_equal(part, whole[: len(part)])


def test_a_file_of_another_model_is_refused(home: Path, toy: Bundle) -> None:
    import msgspec

    sf.write(home / "a.wav", talk(1, 16_000), 16_000)
    encode_file(home / "a.wav", home / "a.osc", model="toy-codec")
    files = {name: toy.read(name) for name in toy.manifest.files}
    stored = io.BytesIO()
    np.save(stored, 2 * toy.array("books.npy"))
    other = write_bundle(
        home / "other", msgspec.structs.replace(toy.manifest, version="2"),
        {**files, "books.npy": stored.getvalue()},
    )  # fmt: skip
    with pytest.raises(BundleError, match="made by toy-codec"):
        decode_file(home / "a.osc", home / "b.wav", model=other)
    card = write_bundle(
        home / "card", msgspec.structs.replace(toy.manifest, source="a mended card"), files
    )
    assert decode_file(home / "a.osc", home / "b.wav", model=card).whole


@pytest.mark.parametrize(
    ("source", "target", "error", "why"),
    [("missing.wav", "a.osc", AudioError, "no such file"),
     ("text.wav", "a.osc", AudioError, "not audio"),
     ("good.wav", "no/such/folder/a.osc", AudioError, "cannot be written")],
)  # fmt: skip
def test_what_cannot_be_encoded_is_said(
    home: Path, source: str, target: str, error: type[Exception], why: str
) -> None:
    (home / "text.wav").write_text("this is no sound")
    sf.write(home / "good.wav", talk(0.1, 16_000), 16_000)
    with pytest.raises(error, match=why):
        encode_file(home / source, home / target, model="toy-codec")
    assert not list(home.glob("*.osc*"))


def test_what_cannot_be_decoded_is_said(home: Path) -> None:
    sf.write(home / "good.wav", talk(0.1, 16_000), 16_000)
    encode_file(home / "good.wav", home / "good.osc", model="toy-codec")
    with pytest.raises(PacketError, match="cannot be read"):
        decode_file(home / "missing.osc", home / "a.wav")
    with pytest.raises(PacketError, match="magic"):
        decode_file(home / "good.wav", home / "a.wav")
    with pytest.raises(AudioError, match=r"\.xyz"):
        decode_file(home / "good.osc", home / "a.xyz")
    with pytest.raises(AudioError, match="start < stop"):
        decode_file(home / "good.osc", home / "a.wav", start_s=2, stop_s=1)
    with pytest.raises(BundleError, match="no bundle"):
        encode_file(home / "good.wav", home / "a.osc", model="no-such-codec")


def test_from_pipe_to_pipe(home: Path) -> None:
    """``encode - - | decode - -`` as two processes gives the bytes that files give."""
    rate = 16_000
    sf.write(home / "a.wav", talk(3, rate), rate, subtype="PCM_16")
    encode_file(home / "a.wav", home / "a.osc", 3.0, "toy-codec")
    decode_file(home / "a.osc", home / "file.wav")
    module = "from ossicle.streaming.codec.commands import *;"
    encode = module + "encode_file('-', '-', 3.0, 'toy-codec')"
    decode = module + "decode_file('-', '-')"

    def pipe(code: str, data: bytes) -> bytes:
        done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True,
                              check=True, env=os.environ)  # fmt: skip
        return done.stdout

    packed = pipe(encode, (home / "a.wav").read_bytes())
    assert packed == (home / "a.osc").read_bytes()
    assert pipe(encode, flac(home / "a.wav")) == packed
    heard = pipe(decode, packed)
    (home / "pipe.wav").write_bytes(heard)
    piped = np.frombuffer(heard[44:], "<i2") / 32768
    filed = sf.read(home / "file.wav")[0]
    assert len(piped) == len(filed) == 3 * rate
    assert np.abs(piped - filed).max() < 1e-4


def flac(place: Path) -> bytes:
    stored = io.BytesIO()
    sf.write(stored, *sf.read(place), format="FLAC")
    return stored.getvalue()


@pytest.mark.parametrize(
    ("subtype", "step"),
    [("PCM_U8", 1e-2), ("PCM_24", 1e-6), ("PCM_32", 1e-7), ("FLOAT", 1e-7), ("DOUBLE", 1e-7)],
)
@pytest.mark.parametrize("format", ["WAV", "WAVEX"])
def test_every_wav_can_be_piped(
    monkeypatch: pytest.MonkeyPatch, format: str, subtype: str, step: float
) -> None:
    from ossicle.streaming.codec.audiofile import open_source

    stored = io.BytesIO()
    signal = talk(0.3, 8000, 2)
    sf.write(stored, signal, 8000, format=format, subtype=subtype)

    class Stdin:
        buffer = io.BytesIO(stored.getvalue())

    monkeypatch.setattr(sys, "stdin", Stdin)
    with open_source("-") as source:
        got = np.concatenate(list(source.runs), axis=1)
    assert (source.rate_hz, source.channels, source.total) == (8000, 2, 2400)
    np.testing.assert_allclose(got, signal.T, atol=step)


@pytest.mark.parametrize("data", [b"", b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEdata\4\0\0\0",
                                  b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\xff"])  # fmt: skip
def test_a_pipe_of_no_audio_is_refused(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    from ossicle.streaming.codec.audiofile import open_source

    class Stdin:
        buffer = io.BytesIO(data)

    monkeypatch.setattr(sys, "stdin", Stdin)
    with pytest.raises(AudioError), open_source("-") as source:
        list(source.runs)
