"""What the README says is run: its example, its commands' names, its links and its length."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()


def test_the_example_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    assert len(blocks) == 1
    assert 8 <= len([line for line in blocks[0].splitlines() if line.strip()]) <= 16
    exec(compile(blocks[0], "README.md", "exec"), {"__name__": "readme"})


def test_every_command_it_names_exists() -> None:
    from typer.main import get_command

    from ossicle.streaming.cli.app import app

    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"^ossicle ([a-z]+)", TEXT, re.M)) | set(
        re.findall(r"`ossicle ([a-z]+)", TEXT)
    )
    assert named
    assert named <= known


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_it_stays_short_and_finished() -> None:
    assert len(TEXT.splitlines()) < 150
    for word in ("NUMBERS", "TAGLAT", "TODO"):
        assert word not in TEXT


@pytest.mark.parametrize("target", ["run", "test"])
def test_the_two_commands_are_in_the_makefile(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)
    assert f"make {target}" in TEXT
