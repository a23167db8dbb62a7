"""``ossicle caption`` and ``ossicle mic`` as people type them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from streamtoys import ServerProcess

from ossicle.runtime.bundle import Bundle
from ossicle.runtime.model import Model
from ossicle.streaming.captions.cue import Kind, Op, check_feed, from_json_line
from ossicle.streaming.cli.app import main

soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")

RATE = 16_000
Tones = Callable[[list[tuple[str, float, float]], float], NDArray[np.float32]]
PLAN = [("dog_bark", 1.0, 1.4), ("rain", 3.0, 6.0), ("smoke_alarm", 7.0, 8.0)]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory, make_tones: Tones) -> Path:
    path = tmp_path_factory.mktemp("audio") / "street.wav"
    soundfile.write(path, make_tones(PLAN, 10.0).T, RATE)
    return path


@pytest.fixture(scope="module")
def server(tone_bundle: Bundle) -> Iterator[str]:
    process = ServerProcess({"tones": Model.load(tone_bundle)})
    yield f"127.0.0.1:{process.start()}"
    process.stop()


@pytest.fixture
def use(tone_bundle: Bundle, capfdbinary: Any) -> Callable[..., str]:
    def run(*arguments: str, code: int = 0, model: str = "") -> str:
        try:
            main([*arguments, "-m", model or str(tone_bundle.root), "-q"])
            found = 0
        except SystemExit as left:
            found = int(left.code or 0)
        assert found == code
        said = capfdbinary.readouterr()
        return str((said.out if code == 0 else said.err).decode())

    return run


def texts(srt: str) -> list[str]:
    blocks = [block.split("\n") for block in srt.strip().split("\n\n") if block]
    return [" ".join(lines[2:]) for lines in blocks]


@pytest.mark.parametrize(("options", "said"), [
    ([], ["[dog barks]", "[rain falling]", "[smoke alarm beeping]"]),
    (["--alerts-only"], ["[smoke alarm beeping]"]),
    (["--labels", "dog,rain"], ["[dog barks]", "[rain falling]"]),
    (["--labels", "dog", "--label", "smoke_alarm"], ["[dog barks]", "[smoke alarm beeping]"]),
    (["--lang", "de"], ["[Hund bellt]", "[Regen prasselt]", "[Rauchmelder piept andauernd]"]),
    (["--lang", "zh", "--alerts-only"], None),
    (["--style", "clauses"],
     ["A dog barks", "then rain falls", "then a smoke alarm beeps"]),
    (["--style", "sentence", "--decoder", "none"],
     ["A dog barks", "Rain falls", "then a smoke alarm beeps"]),
    (["--style", "sentence", "--decoder", "none", "--lang", "fr", "--labels", "dog"],
     ["Un chien aboie"]),
    (["--style", "off"], []),
])  # fmt: skip
def test_each_option_does_what_it_says(
    street: Path, use: Callable[..., str], options: list[str], said: list[str] | None
) -> None:
    found = texts(use("caption", str(street), "-f", "srt", *options))
    if said is None:
        assert len(found) == 1
        assert all(ord(c) > 255 for c in found[0].strip("[] "))
    else:
        assert found == said


def test_a_sound_below_the_score_asked_for_is_not_believed(
    make_tones: Tones, use: Callable[..., str], tmp_path: Path
) -> None:
    faint = tmp_path / "faint.wav"
    samples = make_tones([("dog_bark", 1.0, 1.4), ("rain", 3.0, 6.0)], 7.0)
    samples[:, : 2 * RATE] *= 0.36  # a score of about 0.6
    soundfile.write(faint, samples.T, RATE, subtype="FLOAT")
    assert texts(use("caption", str(faint), "-f", "srt")) == ["[dog barks]", "[rain falling]"]
    assert texts(use("caption", str(faint), "-f", "srt", "--min-score", "0.8")) == [
        "[rain falling]"
    ]


def test_the_decoder_words_the_sentences_and_signs_them(
    street: Path, use: Callable[..., str]
) -> None:
    lines = use("caption", str(street), "--style", "sentence").splitlines()
    cues = [from_json_line(line) for line in lines]
    check_feed(cues)
    scenes = [c for c in cues if c.kind is Kind.SCENE and c.op is Op.OPEN]
    assert {c.model for c in scenes} == {"captioner-16k"}
    assert {c.labels[0].name for c in scenes} == {"dog_bark", "rain"}


@pytest.mark.parametrize("options", [
    ["--style", "sentence"], ["--style", "sentence", "--lang", "de"], ["--style", "clauses"],
    ["--labels", "dog,rain", "--min-score", "0.3"], ["--alerts-only"],
])  # fmt: skip
def test_a_server_gives_the_same_feed(
    street: Path, server: str, use: Callable[..., str], options: list[str]
) -> None:
    here = use("caption", str(street), *options).splitlines()
    there = use("caption", str(street), *options, "--server", server, model="tones").splitlines()
    mine, theirs = ([{**json.loads(x), "ledger": 0} for x in lines] for lines in (here, there))
    assert mine == theirs
    assert any(cue["op"] == "OPEN" for cue in mine)


def test_what_cannot_be_done_is_said(
    street: Path, server: str, use: Callable[..., str], tmp_path: Path
) -> None:
    wrong = {
        "caption style": ["--style", "haiku"],
        "does not know": ["--labels", "dragon"],
        "no lexicon": ["--lang", "xx"],
        "min_score": ["--min-score", "7"],
        "CEA-608": ["--lang", "zh", "-f", "scc"],
        "nowhere": ["--style", "sentence", "--decoder", "nowhere"],
    }
    for says, options in wrong.items():
        model = "tones" if "--server" in options else ""
        assert says in use("caption", str(street), *options, code=3 if says != "nowhere" else 4,
                           model=model).replace("\n", " "), says  # fmt: skip
    full = Path("/dev/full")
    if full.exists():
        for more in ([], ["--server", server]):
            text = use("caption", str(street), "-f", "vtt", "-o", str(full), *more, code=3,
                       model="tones" if more else "")  # fmt: skip
            assert "No space left" in text.replace("\n", " ")


def test_the_view_shows_what_is_written(street: Path, use: Callable[..., str]) -> None:
    shown = use("caption", str(street), "-f", "srt", "--view")
    assert "[dog barks]" in shown


def test_browsers_see_a_pipe_as_it_is_captioned(street: Path, tone_bundle: Bundle) -> None:
    httpx = pytest.importorskip("httpx", reason="httpx is not installed")
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    samples, rate = soundfile.read(street, dtype="int16")
    command = [sys.executable, "-m", "ossicle.streaming.cli", "caption", "-", "--rate", str(rate),
               "-f", "srt", "--web", str(port), "-m", str(tone_bundle.root)]  # fmt: skip
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as heard:
        assert heard.stdin is not None
        assert heard.stderr is not None
        killer = threading.Timer(120, heard.kill)
        killer.start()
        try:
            assert str(port) in heard.stderr.readline().decode()
            with httpx.stream("GET", f"http://127.0.0.1:{port}/events", timeout=60) as events:
                heard.stdin.write(samples.tobytes())
                heard.stdin.close()
                told = list(events.iter_lines())
        finally:
            killer.cancel()
        assert heard.wait() == 0
    whole = "\n".join(told)
    assert "[dog barks]" in whole
    assert "[smoke alarm beeping]" in whole
    assert "event: end" in whole


def test_a_port_that_is_taken_is_said(street: Path, tone_bundle: Bundle) -> None:
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "ossicle.streaming.cli", "caption", str(street), "--web",
             str(port), "-m", str(tone_bundle.root)], capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 3
    assert str(port) in done.stderr


def test_ffmpeg_pipes_anything_into_it(street: Path, tone_bundle: Bundle, tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    flac = tmp_path / "street.flac"
    samples, rate = soundfile.read(street)
    soundfile.write(flac, np.stack([samples, samples], 1), rate)
    feed = [
        "ffmpeg",
        "-v",
        "error",
        "-i",
        str(flac),
        "-f",
        "s16le",
        "-ac",
        "1",
        "-ar",
        "16000",
        "-",
    ]
    command = [sys.executable, "-m", "ossicle.streaming.cli", "caption", "-", "--rate", "16000",
               "-f", "srt", "-q", "-m", str(tone_bundle.root)]  # fmt: skip
    with subprocess.Popen(feed, stdout=subprocess.PIPE) as reading:
        done = subprocess.run(
            command, stdin=reading.stdout, capture_output=True, check=True, text=True
        )
    assert reading.returncode == 0
    assert texts(done.stdout) == ["[dog barks]", "[rain falling]", "[smoke alarm beeping]"]


ASOUND = """
pcm.tape {{ type file file "/dev/null" infile "{tape}" format "raw" slave.pcm {{ type null }} }}
pcm.!default {{ type plug slave {{ pcm "tape" format S16_LE channels 1 rate 16000 }} }}
"""


def test_a_microphone_is_captioned_as_it_hears(
    tone_bundle: Bundle, make_tones: Tones, tmp_path: Path
) -> None:
    """ALSA reads its capture from a named pipe, so PortAudio has a device without hardware."""
    from ossicle.runtime.errors import DeviceError
    from ossicle.streaming.client.device import devices

    try:
        devices()
    except DeviceError as error:
        pytest.skip(str(error))
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    tape, conf = tmp_path / "tape", tmp_path / "asound.conf"
    os.mkfifo(tape)
    conf.write_text(ASOUND.format(tape=tape))
    pcm = make_tones([("dog_bark", 0.5, 0.9), ("smoke_alarm", 3, 4)], 6.0)[0] * 32767
    stop = threading.Event()
    player = threading.Thread(target=_play, args=(tape, pcm.astype("<i2"), stop), daemon=True)
    player.start()
    command = [sys.executable, "-m", "ossicle.streaming.cli", "mic", "--rate", "16000", "--json",
               "--lang", "de", "--labels", "dog,smoke_alarm", "-m",
               str(tone_bundle.root)]  # fmt: skip
    heard = subprocess.Popen(
        command, env={**os.environ, "ALSA_CONFIG_PATH": str(conf)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    killer = threading.Timer(120, heard.kill)
    killer.start()
    wanted, cues = {"[Hund bellt]", "[Rauchmelder piept andauernd]"}, []
    try:
        assert heard.stdout is not None
        for line in heard.stdout:
            cues.append(from_json_line(line))
            if wanted <= {c.text for c in cues}:
                break
    finally:
        killer.cancel()
        heard.terminate()
        stop.set()
        problem = heard.communicate(timeout=60)[1]
    check_feed(cues)
    assert wanted <= {c.text for c in cues}, problem


def _play(tape: Path, pcm: NDArray[np.int16], stop: threading.Event) -> None:
    """Write ``pcm`` over and over, no faster than it sounds."""
    pipe = os.open(tape, os.O_RDWR)
    begun, at = time.monotonic(), 0
    while not stop.is_set():
        piece = np.take(pcm, range(at, at + 320), mode="wrap")
        os.write(pipe, piece.tobytes())
        at += 320
        stop.wait(max(0.0, begun + at / RATE - time.monotonic()))
    os.close(pipe)
