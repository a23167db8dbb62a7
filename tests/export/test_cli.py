"""Models on the command line, as a user types it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ossicle.export import commands
from ossicle.export.registry import Entry, Registry, RemoteFile, read_registry
from ossicle.runtime.bundle import Bundle
from ossicle.streaming.cli import output
from ossicle.streaming.cli.app import main

_SPEC = importlib.util.spec_from_file_location(
    "fake_tensorrt", Path(__file__).with_name("fake_tensorrt.py")
)
assert _SPEC is not None
assert _SPEC.loader is not None
fake = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(fake)

FOLDERS = {
    "dtln": "dtln",
    "gtcrn": "gtcrn",
    "lyra": "lyra_v2",
    "silero-vad": "silero_vad",
    "yamnet": "yamnet",
}
QUICK = ("shapes", "reset", "continuation", "golden")


def ossicle(*arguments: str) -> int:
    """Run a command in this process and return its exit code."""
    try:
        main(list(arguments))
    except SystemExit as left:
        return int(left.code or 0)
    return 0


@pytest.mark.parametrize("family", FOLDERS)
def test_imported_and_verified(
    family: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The laws that take long are tried on the same bundles elsewhere."""
    place = str(tmp_path / family)
    assert ossicle("import", family, str(weights / FOLDERS[family]), "-o", place, "--json") == 0
    assert json.loads(capsys.readouterr().out)["path"] == place
    laws = [part for law in QUICK for part in ("--law", law)]
    assert ossicle("verify", place, *laws, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["ok"] for row in report["rows"]] == [True] * len(QUICK)
    assert ossicle("verify", place, "--law", "gravity") == 2
    assert "no law gravity" in capsys.readouterr().err


def test_in_a_process_of_its_own(weights: Path, tmp_path: Path) -> None:
    base = [sys.executable, "-m", "ossicle.streaming.cli"]
    place = str(tmp_path / "dtln")
    for line in (["import", "dtln", str(weights / "dtln"), "-o", place], ["verify", place]):
        done = subprocess.run([*base, *line], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_wrong_checkpoint_is_one_line_and_an_exit_code(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "out"
    assert ossicle("import", "lyra", str(weights / "dtln"), "-o", str(place), "--json") == 8
    said = json.loads(capsys.readouterr().err)
    assert said["kind"] == "ExportError"
    assert "soundstream_encoder.tflite" in said["error"]
    assert not place.exists()


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> Any:
    """TensorRT and CUDA that only check how they are called."""
    fake.CALLS.clear()
    cuda = fake.Cuda()
    module = fake.module("10.3.0", cuda)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr("ossicle.export.tensorrt.CudaRuntime", lambda: cuda)
    return module


def test_engines_are_built_from_the_command_line(
    tensorrt: Any, private_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ossicle("export", "tensorrt", "sounds-16k", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert set(made) == set(Bundle.open("sounds-16k").manifest.graphs)
    for path in made.values():
        assert Path(path).read_bytes() == b"engine"
        assert Path(path).parent == private_cache / "engines"
    assert ossicle("export", "tensorrt", "sounds-16k", "--json") == 0
    assert fake.CALLS.count(("build",)) == len(made)
    assert ossicle("export", "tensorrt", "sounds-16k", "--rebuild", "--json") == 0
    assert fake.CALLS.count(("build",)) == 2 * len(made)


def test_unknown_graph_is_named(tensorrt: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert ossicle("export", "tensorrt", "sounds-16k", "--graph", "ear", "--json") == 8
    assert "no graph ear" in json.loads(capsys.readouterr().err)["error"]
    assert ("build",) not in fake.CALLS


def test_graphs_for_cpus_alone_are_refused_before_building(
    tensorrt: Any, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(tmp_path / "lyra")
    assert ossicle("import", "lyra", str(weights / "lyra_v2"), "-o", place, "--json") == 0
    capsys.readouterr()
    assert ossicle("export", "tensorrt", place, "--json") == 8
    said = json.loads(capsys.readouterr().err)["error"]
    assert "zero points" in said
    assert ("build",) not in fake.CALLS
    floats = ("--graph", "encoder-float", "--graph", "decoder-float")
    assert ossicle("export", "tensorrt", place, *floats, "--json") == 0
    assert set(json.loads(capsys.readouterr().out)) == {"encoder-float", "decoder-float"}


def test_missing_tensorrt_names_its_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert ossicle("export", "tensorrt", "sounds-16k", "--json") == 4
    assert "package tensorrt" in json.loads(capsys.readouterr().err)["error"]


def test_operator_tables_need_no_tensorrt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert ossicle("export", "tensorrt", "sounds-16k", "--check", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert all(rows == {"10.3": [], "10.15": []} for rows in found.values())


def test_model_repository_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "repo"
    assert ossicle("export", "triton-repo", "sounds-16k", str(place), "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(place)}
    assert list(place.glob("*/config.pbtxt"))
    assert ossicle("export", "triton-repo", "sounds-16k", str(place), "--json") == 8


@pytest.fixture
def gtcrn_upstream(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Entry]:
    """The true file of the registry behind a server of our own."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(weights / "gtcrn")))
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    known = read_registry().find("gtcrn")
    url = f"http://127.0.0.1:{http.server_address[1]}/gtcrn_simple.onnx"
    file = RemoteFile(url, known.files[0].sha256, known.files[0].size)
    entry = Entry("gtcrn", "gtcrn", known.license, known.license_class, "", (file,))
    monkeypatch.setattr(commands, "read_registry", lambda: Registry(1, (entry,)))
    yield entry
    http.shutdown()
    http.server_close()
    thread.join()


def test_pull_is_quiet_with_json(
    gtcrn_upstream: Entry, private_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ossicle("pull", "gtcrn", "--json") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert json.loads(said.out) == {"name": "gtcrn", "task": "enhance"}
    assert Bundle.open("gtcrn").root == private_cache / "gtcrn"


def test_pull_moves_a_bar_on_a_terminal(
    gtcrn_upstream: Entry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output.sys.stderr, "isatty", lambda: True, raising=False)
    assert ossicle("pull", "gtcrn") == 0
    said = capsys.readouterr()
    assert "pull gtcrn_simple.onnx" in said.err
    assert "535.2/535.2 kB" in said.err
    assert "is installed" in said.out


def test_registry_names_the_files_at_hand(weights: Path) -> None:
    """Hash and size in the registry are those of the files that the importers are tried on."""
    import hashlib

    for entry in read_registry().models:
        for file in entry.files:
            data = (weights / FOLDERS[entry.family] / file.name).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (file.size, file.sha256)
