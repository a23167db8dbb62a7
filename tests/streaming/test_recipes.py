"""The recipes of the documentation, run as they stand, against the built-in models."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from streamtoys import ServerProcess

import ossicle
from ossicle.runtime.bundle import list_bundles

HERE = Path(__file__).parent
README = HERE.parents[1] / "streaming" / "README.md"
RECIPES = [
    block
    for block in re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    if "grpcurl" in block
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A folder with talk.raw, grpcurl (or its stand-in) and a server with built-in models."""
    names = [n for n in ("sounds-16k", "codec-16k") if n in list_bundles()]
    if not names:
        pytest.skip("no built-in tagger in this tree")
    from ossicle.runtime.scene.mix import demo_scene

    home = tmp_path_factory.mktemp("recipes")
    samples, scene = demo_scene()
    heard = np.clip(samples[: 12 * scene.rate_hz], -1, 1)
    (home / "talk.raw").write_bytes((heard * 32767).astype("<i2").tobytes())
    if shutil.which("grpcurl") is None:
        tool = home / "grpcurl"
        tool.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "grpcurl.py"} "$@"\n')
        tool.chmod(0o755)
    process = ServerProcess(names)
    yield home, process.start()
    process.stop()


def test_there_are_recipes() -> None:
    assert len(RECIPES) == 7


def test_the_python_of_the_documentation_runs(place: tuple[Path, int], tmp_path: Path) -> None:
    """As it stands, but for the port, with a file and an array of its own."""
    import soundfile

    home, port = place
    talk = np.frombuffer((home / "talk.raw").read_bytes(), "<i2")
    soundfile.write(tmp_path / "street.wav", talk, 16_000)
    (snippet,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "snippet.py").write_text(snippet.replace("127.0.0.1:8061", f"127.0.0.1:{port}"))
    done = subprocess.run(
        [sys.executable, "snippet.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        check=False, env={**os.environ, "PYTHONPATH": str(Path(ossicle.__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, *answers = done.stdout.splitlines()
    assert re.fullmatch(r"\[.+\]", first)
    assert any(line.startswith("caption ") for line in answers)
    assert any(line.startswith("encode ") for line in answers)


def test_a_client_in_another_language_captions_a_file(
    place: tuple[Path, int], tmp_path: Path
) -> None:
    """The program as documented, with nothing of ours but the proto file."""
    packages = HERE / "node" / "node_modules"
    if shutil.which("node") is None or not packages.is_dir():
        pytest.skip(f"no node, or no node_modules: run `npm ci` in {packages.parent}")
    home, port = place
    (program,) = re.findall(r"```js\n(.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "caption.mjs").write_text(program)
    (tmp_path / "node_modules").symlink_to(packages)
    shutil.copy(README.parent / "proto" / "ossicle.proto", tmp_path)
    done = subprocess.run(
        ["node", "caption.mjs", f"127.0.0.1:{port}", str(home / "talk.raw")], cwd=tmp_path,
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *captions, last = done.stdout.splitlines()
    assert captions
    assert all(re.fullmatch(r"\d+\.\d \d+\.\d \[.+\]", line) for line in captions)
    assert last == f"{12 * 16_000} samples heard"


@pytest.mark.parametrize("recipe", RECIPES, ids=range(len(RECIPES)))
def test_a_recipe_works_as_it_stands(place: tuple[Path, int], recipe: str) -> None:
    home, port = place
    environment = {**os.environ, "PATH": f"{home}:{os.environ['PATH']}"}
    script = recipe.replace("localhost:8061", f"127.0.0.1:{port}")
    done = subprocess.run(
        ["bash", "-euc", script], cwd=home, env=environment, capture_output=True, text=True,
        timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if "Ossicle/Recognize" in recipe or "Ossicle/Stream" in recipe:
        assert re.search(r'"text": "\[[a-z ]+\]"', done.stdout)
    if "ListModels" in recipe:
        assert "sounds-16k" in done.stdout
    if recipe.strip().endswith("list"):
        assert "ossicle.v1.Ossicle" in done.stdout.split()
    if "describe" in recipe:
        assert "rpc Stream ( stream .ossicle.v1.StreamRequest )" in done.stdout
    if "Health" in recipe:
        assert '"SERVING"' in done.stdout
    if "GetStatus" in recipe:
        assert '"READY"' in done.stdout
