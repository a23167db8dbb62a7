"""Codecs by name for the codec benchmarks: installed, or imported from a folder of weights."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ossicle.runtime.errors import BundleError
from ossicle.runtime.model import Model

DATA = Path(os.environ.get("OSSICLE_DATA", "../shared/data"))  # holds train/ and weights/


def lyra_weights(data: Path) -> Path | None:
    """Return the folder of Lyra's three TFLite files, if it is there."""
    folder = data / "weights" / "lyra_v2"
    return folder if folder.is_dir() else None


def load_codecs(names: list[str], data: Path, backend: str = "ort") -> list[Model]:
    """Return the codecs that can be had; say which cannot."""
    found = []
    for name in names:
        try:
            found.append(Model.load(name, backend))
        except BundleError as error:
            weights = lyra_weights(data)
            if name == "lyra" and weights is not None:
                from ossicle.export.importers import import_model

                home = Path(tempfile.mkdtemp(prefix="ossicle-"))
                bundle = import_model("lyra", weights, home / "lyra")
                found.append(Model.load(bundle, backend))
            else:
                print(f"without {name}: {error}")
    return found
