from __future__ import annotations

import shutil
from pathlib import Path

from ossicle.export.recipes.separator_card import card, write_card
from ossicle.runtime.bundle import Bundle, find_bundle

MORE = [("somewhere/sounds", "CC BY 4.0", 1200), ("elsewhere/voices", "CC0", 34)]


def test_a_card_names_the_data_it_had() -> None:
    manifest = Bundle.open(find_bundle("separate-16k")).manifest
    plain = card(manifest, {"text": "An hour."}, {})
    assert "CREDITS.tsv" not in plain
    assert "| alarms and background noise | synthesised |\n\nMixtures" in plain
    full = card(manifest, {"text": "An hour."}, {}, MORE)
    assert "| synthesised |\n| clean speech, music and sounds that no query names, 1,234" in full
    assert "2 public repositories (`CREDITS.tsv`) |\n\nSome of those licences" in full


def test_credits_go_into_the_bundle(tmp_path: Path) -> None:
    place = tmp_path / "own"
    shutil.copytree(find_bundle("separate-16k"), place)
    bundle = write_card(place, {"text": ""}, more=MORE)
    assert bundle.read("CREDITS.tsv").decode().splitlines() == [
        "repository\tlicence\trecordings",
        "somewhere/sounds\tCC BY 4.0\t1200",
        "elsewhere/voices\tCC0\t34",
    ]
    assert bundle.manifest.metrics == Bundle.open(find_bundle("separate-16k")).manifest.metrics
