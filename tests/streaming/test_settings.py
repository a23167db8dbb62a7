"""What is documented of settings and logs is so."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest
from streamtoys import CAPTION, config, given, load_all, tones, whole

from ossicle.runtime.errors import WireError
from ossicle.runtime.model import Model
from ossicle.streaming import messages as m
from ossicle.streaming.server.caller import Caller
from ossicle.streaming.server.config import FIELDS, Settings
from ossicle.streaming.server.logs import JsonLines
from ossicle.streaming.server.models import make_engine
from ossicle.streaming.server.service import Service
from ossicle.streaming.session.inline import InlineEngine


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    return load_all(tmp_path_factory.mktemp("bundles"))


def test_every_documented_limit_is_a_setting_with_that_default() -> None:
    readme = (Path(__file__).parents[2] / "streaming" / "README.md").read_text()
    table = readme.partition("## Limits")[2].partition("A stream has")[0]
    units = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
    rows = [row.split("|")[1:3] for row in table.splitlines() if row.startswith("| `")]
    told: dict[str, float] = {}
    for names, defaults in rows:
        values = [v.strip() for v in defaults.split(",")]
        for name, value in zip(re.findall(r"`(\w+)`", names), values, strict=True):
            number, _, unit = value.partition(" ")
            told[name] = 0.0 if value == "none" else float(number) * units.get(unit, 1)
    settings = Settings()
    assert told == {name: float(getattr(settings, name)) for name in told}
    held = {n for n in FIELDS if n.startswith("max_") or n.endswith(("_s", "_ms", "_bytes"))}
    assert held - set(told) <= {"checkpoint_s"}, "a limit that is not documented"


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.held.append(record)


@pytest.mark.parametrize("asked", [False, True])
async def test_text_is_logged_only_where_that_was_asked_for(
    models: dict[str, Model], asked: bool
) -> None:
    requests = whole(config(CAPTION), tones(2.0))
    log, records = logging.getLogger("ossicle.session"), Records()
    log.addHandler(records)
    level = log.level
    log.setLevel(logging.INFO)
    try:
        service = Service(InlineEngine(loaded=models), Settings(log_text=asked))
        with pytest.raises(WireError, match="0 separate tasks"):
            [
                r
                async for r in service.stream(
                    given([config(CAPTION), m.Query("a secret")]), Caller()
                )
            ]
        assert [r async for r in service.stream(given(requests), Caller())]
    finally:
        log.removeHandler(records)
        log.setLevel(level)
    lines = [json.loads(JsonLines(text=asked).format(record)) for record in records.held]
    told = [line["text"] for line in lines if "text" in line]
    assert ("a secret" in told) == asked
    assert any("dog" in text for text in told) == asked


def test_no_more_load_is_promised_than_the_settings_say(models: dict[str, Model]) -> None:
    asked = Settings(max_load=0.25, max_streams=10, ring_ms=500)
    engine = make_engine(models, asked)
    assert (engine.settings.max_load, engine.settings.inbox_ms) == (0.25, 500.0)
    assert engine.settings.max_streams == 40  # tasks
    with pytest.raises(WireError, match="max_load"):
        Settings(max_load=1.5)
