"""The command line: here and at a server, with the same files as a result."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamtoys import RATE, ServerProcess, load_all, tones
from typer.testing import CliRunner

from ossicle.runtime.bundle import list_bundles
from ossicle.runtime.model import Model
from ossicle.streaming.cli.app import app, main
from ossicle.streaming.cli.output import EXIT_CODES, exit_code
from ossicle.streaming.server.config import FIELDS

soundfile = pytest.importorskip("soundfile")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    return load_all(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def server(models: dict[str, Model]) -> Iterator[str]:
    process = ServerProcess(models)
    yield f"127.0.0.1:{process.start()}"
    process.stop()


@pytest.fixture
def paths(models: dict[str, Model]) -> dict[str, str]:
    return {name: str(model.bundle.root) for name, model in models.items()}


@pytest.fixture(params=[(16_000, 1), (44_100, 2)], ids=["16k mono", "44.1k stereo"])
def wav(request: Any, tmp_path: Path) -> Path:
    rate, channels = request.param
    x = tones(2.0)[0]
    if channels == 2:
        x = np.stack([x, 0.5 * x[::-1]], axis=1)
    path = tmp_path / "in.wav"
    soundfile.write(path, x, rate, subtype="FLOAT")
    return path


def ossicle(*arguments: str, code: int = 0, capsys: Any = None) -> str:
    """Run a command in this process and return what it printed."""
    try:
        main(list(arguments))
    except SystemExit as left:
        found = left.code or 0
    else:
        found = 0
    said = capsys.readouterr()
    assert found == code, said.err
    return str(said.out + said.err)


def strip(line: str) -> dict[str, Any]:
    cue = json.loads(line)
    cue.pop("ledger")
    return dict(cue)


@pytest.mark.parametrize("format", ["jsonl", "vtt", "srt", "ttml"])
def test_caption_is_the_same_here_and_there(
    wav: Path, server: str, paths: dict[str, str], tmp_path: Path, format: str, capsys: Any
) -> None:
    here, there = tmp_path / f"a.{format}", tmp_path / f"b.{format}"
    ossicle("caption", str(wav), "-o", str(here), "-m", paths["tones"], capsys=capsys)
    ossicle("caption", str(wav), "-f", format, "-o", str(there), "-m", "tones",
            "--server", server, capsys=capsys)  # fmt: skip
    if format == "jsonl":
        mine = [strip(line) for line in here.read_text().splitlines()]
        assert mine == [strip(line) for line in there.read_text().splitlines()]
        assert soundfile.info(wav).samplerate != RATE or any(cue["op"] == "OPEN" for cue in mine)
    else:
        assert here.read_bytes() == there.read_bytes()


@pytest.mark.parametrize("decoder", ["none", "captioner-16k"])
def test_sentences_are_worded_the_same_here_and_there(
    wav: Path, server: str, paths: dict[str, str], tmp_path: Path, decoder: str, capsys: Any
) -> None:
    if decoder not in ("none", *list_bundles()):
        pytest.skip("no built-in sentence decoder in this tree")
    here, there = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    common = ["caption", str(wav), "--style", "sentence", "--decoder", decoder]
    ossicle(*common, "-o", str(here), "-m", paths["tones"], capsys=capsys)
    ossicle(*common, "-o", str(there), "-m", "tones", "--server", server, capsys=capsys)
    mine = [strip(line) for line in here.read_text().splitlines()]
    assert mine == [strip(line) for line in there.read_text().splitlines()]


@pytest.mark.parametrize("option", [("--decoder", "./captioner"), ("--lang", "/etc/own.toml")])
def test_a_server_opens_no_place_that_a_client_names(
    wav: Path, server: str, option: tuple[str, str], capsys: Any
) -> None:
    said = ossicle("caption", str(wav), "--style", "sentence", *option, "-f", "jsonl", "-m",
                   "tones", "--server", server, code=2, capsys=capsys)  # fmt: skip
    assert "a name that the server knows" in " ".join(said.split())


def test_encode_and_decode_are_the_same_here_and_there(
    wav: Path, server: str, paths: dict[str, str], tmp_path: Path, capsys: Any
) -> None:
    here, there = tmp_path / "a.osc", tmp_path / "b.osc"
    a, b = tmp_path / "a.wav", tmp_path / "b.wav"
    local, remote = ["-m", paths["toy-codec"]], ["-m", "toy-codec", "--server", server]

    def told(*arguments: str) -> dict[str, Any]:
        return dict(json.loads(ossicle(*arguments, "--json", "-q", capsys=capsys)))

    told_here = told("encode", str(wav), str(here), "--kbps", "2", *local)
    told_there = told("encode", str(wav), str(there), "--kbps", "2", *remote)
    assert here.read_bytes() == there.read_bytes()
    assert told_there == pytest.approx(told_here, rel=1e-6)
    told_here = told("decode", str(here), str(a), *local)
    told_there = told("decode", str(here), str(b), *remote)
    assert told_there == pytest.approx(told_here, rel=1e-6)
    x, rate = soundfile.read(a)
    y, other = soundfile.read(b)
    assert rate == other == soundfile.info(wav).samplerate
    assert len(x) == soundfile.info(wav).frames
    np.testing.assert_array_equal(x, y)


def test_enhance_is_the_same_here_and_there(
    wav: Path, server: str, paths: dict[str, str], tmp_path: Path, capsys: Any
) -> None:
    a, b = tmp_path / "a.wav", tmp_path / "b.wav"
    common = ["enhance", str(wav), "--drop-alarms"]
    ossicle(*common, "-o", str(a), "-m", paths["fir"], capsys=capsys)
    ossicle(*common, "-o", str(b), "-m", "fir", "--server", server, capsys=capsys)
    x, _ = soundfile.read(a)
    y, _ = soundfile.read(b)
    assert x.shape == soundfile.read(wav)[0].shape
    np.testing.assert_array_equal(x, y)


def test_a_pipe_is_captioned_as_it_comes(paths: dict[str, str]) -> None:
    pcm = (tones(2.0)[0] * 32767).astype("<i2").tobytes()
    command = [sys.executable, "-m", "ossicle.streaming.cli", "caption", "-", "--rate",
               str(RATE), "-m", paths["tones"], "-q"]  # fmt: skip
    done = subprocess.run(command, input=pcm, capture_output=True, check=True)
    cues = [json.loads(line) for line in done.stdout.splitlines()]
    assert any("dog" in cue["text"] for cue in cues)


def test_models_json_is_a_list_of_what_there_is(server: str, capsys: Any) -> None:
    rows = json.loads(ossicle("models", "--json", "--server", server, capsys=capsys))
    assert {(r["name"], r["task"], r["latency_class"]) for r in rows} == {
        ("fir", "enhance", "talk"), ("tones", "tag", "offline"), ("toy-codec", "encode", "talk"),
    }  # fmt: skip
    assert isinstance(json.loads(ossicle("models", "--json", capsys=capsys)), list)


def test_status_and_bench(server: str, paths: dict[str, str], capsys: Any) -> None:
    found = json.loads(ossicle("status", server, "--json", capsys=capsys))
    assert found["state"] == "READY"
    costs = json.loads(ossicle("bench", paths["fir"], "--json", capsys=capsys))
    assert costs["fir.step"]["1"] > 0


def test_a_token_is_made_once(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "t.toml"
    made = json.loads(ossicle("token", "a", "--file", str(file), "--json", capsys=capsys))
    assert made["token"] not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert "already" in ossicle("token", "a", "--file", str(file), code=2, capsys=capsys)


def test_print_config_can_be_read_back(tmp_path: Path, capsys: Any) -> None:
    text = ossicle("serve", "--print-config", "--port", "7", "--set", "idle_s=3", capsys=capsys)
    file = tmp_path / "o.toml"
    file.write_text(text)
    again = ossicle("serve", "--print-config", "--config", str(file), capsys=capsys)
    assert again == text
    assert "port = 7 " in text
    assert "idle_s = 3.0" in text


WRONG = [
    (["caption", "/nowhere.wav"], 3, "no audio file"),
    (["caption", "-"], 3, "--rate"),
    (["enhance", "/nowhere.wav", "-o", "x.wav"], None, ""),
    (["encode", "/nowhere.wav", "x.osc", "-m", "nothing"], 4, "nothing"),
    (["decode", "/nowhere.osc", "x.wav"], 3, "cannot be read"),
    (["status", "127.0.0.1:1"], 5, "ossicle serve"),
    (["serve", "--host", "0.0.0.0"], 2, "--insecure"),
    (["serve", "--set", "nonsense=1"], 2, "nonsense"),
    (["verify", "nothing"], 4, "nothing"),
    (["nonsense"], 2, "No such command"),
]


@pytest.mark.parametrize(("arguments", "code", "says"), WRONG)
def test_what_is_wrong_is_said_and_has_its_code(
    arguments: list[str], code: int | None, says: str, capsys: Any
) -> None:
    try:
        main(arguments)
        found = 0
    except SystemExit as left:
        found = left.code  # type: ignore[assignment]
    said = capsys.readouterr()
    assert found in EXIT_CODES
    assert found == code if code is not None else found in (3, 4)
    assert says in (said.out + said.err).replace("\n", " ")
    assert "Traceback" not in said.err


def test_errors_are_json_where_json_is_asked_for(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main(["caption", "/nowhere.wav", "--json"])
    line = json.loads(capsys.readouterr().err)
    assert (line["kind"], line["exit"]) == ("AudioError", 3)


def test_every_command_explains_itself_and_takes_json() -> None:
    runner = CliRunner()
    names = {
        c.name or c.callback.__name__.strip("_") for c in app.registered_commands if c.callback
    }
    wanted = {"serve", "demo", "caption", "encode", "decode", "separate", "enhance", "verify",
              "models", "import", "pull", "loadgen", "bench", "devices", "mic"}  # fmt: skip
    assert wanted <= names
    for name in names:
        shown = runner.invoke(app, [name, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
        assert shown.exit_code == 0
        assert "--json" in shown.output, name


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys, ossicle.streaming.cli\n"
        "heavy = {'numpy', 'grpc', 'onnxruntime', 'torch', 'soundfile', 'google.protobuf'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG"])
def test_a_piped_file_says_its_own_rate(
    paths: dict[str, str], tmp_path: Path, format: str, capsys: Any
) -> None:
    file = tmp_path / f"in.{format.lower()}"
    soundfile.write(file, tones(2.0)[0], 16_000, format=format)
    command = [sys.executable, "-m", "ossicle.streaming.cli", "caption", "-", "-f", "jsonl", "-q",
               "-m", paths["tones"]]  # fmt: skip
    with file.open("rb") as piped:
        done = subprocess.run(command, stdin=piped, capture_output=True, timeout=60, check=True)
    here = tmp_path / "a.jsonl"
    ossicle("caption", str(file), "-o", str(here), "-m", paths["tones"], capsys=capsys)
    assert [strip(line) for line in done.stdout.decode().splitlines()] == [
        strip(line) for line in here.read_text().splitlines()
    ]


def test_the_settings_are_printed_as_json_too(capsys: Any) -> None:
    found = json.loads(ossicle("serve", "--print-config", "--json", "--port", "1", capsys=capsys))
    assert found["port"] == 1
    assert set(found) == set(FIELDS)


def test_words_are_completed() -> None:
    """What the shell asks when somebody types ``ossicle de`` and a tab."""
    import os

    asked = {"_OSSICLE_COMPLETE": "complete_bash", "COMP_WORDS": "ossicle de", "COMP_CWORD": "1"}
    program = "import sys; sys.argv = ['ossicle']; from ossicle.streaming.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **asked}, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert set(done.stdout.split()) == {"decode", "demo", "devices"}


def test_unknown_errors_have_a_code_too() -> None:
    assert exit_code(ZeroDivisionError()) == 70


@pytest.mark.slow
def test_the_built_in_models_give_the_same_here_and_there(tmp_path: Path, capsys: Any) -> None:
    from ossicle.runtime.bundle import list_bundles
    from ossicle.runtime.scene.mix import demo_scene

    names = ["sounds-16k", "codec-16k", "separate-16k", "separate-16k-talk"]
    if set(names) - set(list_bundles()):
        pytest.skip("no built-in models in this tree")
    samples, scene = demo_scene()
    wav, osc = str(tmp_path / "in.wav"), str(tmp_path / "in.osc")
    soundfile.write(wav, samples[5 * scene.rate_hz : 10 * scene.rate_hz], scene.rate_hz)
    ossicle("encode", wav, osc, capsys=capsys)
    commands: dict[str, list[str]] = {
        "vtt": ["caption", wav, "-f", "vtt", "-o"],
        "osc": ["encode", wav],
        "wav": ["decode", osc],
        "dog.wav": ["separate", wav, "--query", "dog barking", "-o"],
        "speech.wav": ["enhance", wav, "-o"],
    }
    process = ServerProcess(names)
    try:
        there = ["--server", f"127.0.0.1:{process.start()}"]
        for suffix, command in commands.items():
            a, b = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
            ossicle(*command, str(a), capsys=capsys)
            ossicle(*command, str(b), *there, capsys=capsys)
            assert a.read_bytes() == b.read_bytes(), suffix
    finally:
        process.stop()
