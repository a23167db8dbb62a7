"""Public checkpoints, whose makers never heard of this package, as bundles.

    import_model("lyra", "weights/lyra_v2", "out/lyra")

Each family is one module with ``draft(path) -> Draft``; the list is ``FAMILIES``.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from ossicle.export.finish import finish
from ossicle.export.hub import is_hub_id, pull_hub
from ossicle.export.importers.source import Draft
from ossicle.export.pull import Progress
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import ExportError

FAMILIES = {
    "dtln": "speech enhancement, two ONNX graphs (model_1.onnx, model_2.onnx), MIT",
    "encodec": "neural codec, 24 kHz, a hub's name or its files (config.json, model.safetensors)",
    "gtcrn": "speech enhancement, streaming ONNX with caches (gtcrn_simple.onnx), MIT",
    "lyra": "neural codec, 16 kHz, three TFLite files of lyra v2, Apache-2.0",
    "silero-vad": "voice activity, ONNX opset 15, 16 kHz, MIT",
    "yamnet": "521 sound classes, TFLite, 16 kHz, Apache-2.0",
}
HUB_FILES = {"encodec": ("config.json", "model.safetensors")}  # families that a model hub keeps


def draft(family: str, path: str | Path) -> Draft:
    """Get the manifest and files of a checkpoint, without writing anything."""
    if family not in FAMILIES:
        raise ExportError(f"family {family!r} is not known; one of {', '.join(FAMILIES)}")
    module = importlib.import_module(f"ossicle.export.importers.{family.replace('-', '_')}")
    made: Draft = module.draft(Path(path))
    return made


def import_model(
    family: str, path: str | Path, out: str | Path, progress: Progress | None = None
) -> Bundle:
    """Write a checkpoint as a bundle at ``out`` and get it opened.

    ``path`` is a file or folder, or for the families of ``HUB_FILES`` the ``owner/name`` of a hub's
    model. Raises ``ExportError`` where the files are not of that family, ``DownloadError`` where
    they cannot be had, and leaves nothing behind then.
    """
    if family in HUB_FILES and is_hub_id(str(path)):
        path = pull_hub(str(path), HUB_FILES[family], progress=progress)
    made = draft(family, path)
    return finish(out, made.manifest, made.files, tolerance=made.tolerance)
