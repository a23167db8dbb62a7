"""Cards of imported enhancers: the alarm table of the files that were measured, of no others."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from ossicle.export.importers import FAMILIES, import_model
from ossicle.export.importers.enhancer_card import FIGURES, with_card
from ossicle.export.importers.source import Draft
from ossicle.runtime.manifest import Manifest
from ossicle.runtime.scene.alarms import VARIANTS

MEASURED = json.loads(FIGURES.read_text())
ALARMS = [f"{label} {kind}" for label, kinds in VARIANTS.items() for kind in kinds]


def manifest(name: str, source: str) -> Manifest:
    return Manifest(
        schema=1, name=name, version="1", task="enhance", license="MIT",
        license_class="permissive", source=source, sample_rate_hz=16_000, hop=256, latency=512,
        lookahead=256, latency_class="talk", graphs={}, programs={},
    )  # fmt: skip


def carded(name: str, source: str) -> tuple[str, dict[str, float]]:
    made = with_card(Draft(manifest(name, source)), "About it.")
    metrics = {metric.name: metric.value for metric in made.manifest.metrics}
    return made.files["README.md"].decode(), metrics


@pytest.mark.parametrize("name", sorted(MEASURED))
def test_measured_files_get_every_alarm(name: str) -> None:
    assert name in FAMILIES
    text, metrics = carded(name, MEASURED[name]["source"])
    for alarm in ALARMS:
        row = MEASURED[name]["alarms"][alarm]
        bare, kept = (f"{c['mean_db']} ({c['worst_db']})" for c in (row["bare"], row["guarded"]))
        assert f"| {alarm} | {bare} | {kept} |" in text
    assert metrics["worst_alarm_guarded"] > -6.0 > metrics["worst_alarm"]
    assert "About it." in text
    assert "latency 32 ms" in text


def test_other_files_are_not_credited_with_figures() -> None:
    text, metrics = carded("gtcrn", "elsewhere; gtcrn_simple.onnx sha256:00")
    assert "Nothing was measured of these files" in text
    assert "| smoke_alarm" not in text
    assert not metrics


def test_the_figures_are_those_of_the_benchmark() -> None:
    place = Path(__file__).parents[2] / "benchmarks" / "results" / "separation.json"
    results = json.loads(place.read_text())["results"]
    for name, held in MEASURED.items():
        assert held["level_span_db"] == results["levels"][name]["span_db"]
        assert held["speech"]["alone"] == results["enhancement"][name]
        for alarm, row in held["alarms"].items():
            assert row["guarded"] == results["alarms"][alarm][f"{name}, guarded"]


@pytest.mark.parametrize("family", ["dtln", "gtcrn"])
def test_an_imported_bundle_carries_its_card(weights: Path, tmp_path: Path, family: str) -> None:
    bundle = import_model(family, weights / family, tmp_path / family)
    assert "| siren wail |" in bundle.read("README.md").decode()
    assert msgspec.to_builtins(bundle.manifest.metrics)
