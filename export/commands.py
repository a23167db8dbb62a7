"""What the command line does with models, as plain functions that print nothing.

A command-line front end loads this module lazily: it needs the ``export`` extra.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from ossicle.export.hub import pull_hub
from ossicle.export.importers import FAMILIES, HUB_FILES, import_model
from ossicle.export.pull import Progress, pull_files
from ossicle.export.registry import Registry, read_registry
from ossicle.export.tensorrt import build_engines, static_report
from ossicle.export.triton_repo import write_repository
from ossicle.runtime.bundle import Bundle, cache_folder, list_bundles
from ossicle.runtime.errors import DownloadError


def import_command(
    family: str, path: str | Path, out: str | Path, progress: Progress | None = None
) -> Bundle:
    """Write the checkpoint at ``path`` as a bundle at ``out``: ``ossicle import``."""
    return import_model(family, path, out, progress)


def pull_command(
    name: str,
    *,
    accept_license: str | None = None,
    registry: Registry | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Download, check and import a public model into the cache: ``ossicle pull``.

    A licence that is not permissive must be named in ``accept_license``.
    """
    entry = (registry or read_registry()).find(name)
    if entry.license_class != "permissive" and accept_license != entry.license:
        raise DownloadError(
            f"{name} is licensed {entry.license} ({entry.license_class}); to use it under those "
            f"terms, accept the licence by name: {entry.license}"
        )
    if entry.hub:
        folder = pull_hub(entry.hub, HUB_FILES[entry.family], progress=progress)
    else:
        folder = pull_files(entry, progress=progress)
    bundle = import_model(entry.family, folder, cache_folder() / name)
    shutil.rmtree(folder, ignore_errors=True)
    return bundle


def models_command() -> list[tuple[str, str, str]]:
    """Get ``(name, state, about)`` of installed and known models: ``ossicle models``."""
    rows = [
        (name, "installed", Bundle.open(place).manifest.task)
        for name, place in list_bundles().items()
    ]
    have = {name for name, _, _ in rows}
    for entry in read_registry().models:
        if entry.name not in have:
            megabytes = sum(f.size for f in entry.files) / 1e6
            where = f"{megabytes:.1f} MB" if entry.files else f"hub: {entry.hub}"
            about = f"{entry.about}, {entry.license}, {where}"
            rows.append((entry.name, "can be pulled", about))
    return rows


def families_command() -> dict[str, str]:
    """Get the families that can be imported, with what they expect."""
    return dict(FAMILIES)


def export_triton_repo_command(bundle: str | Path, out: str | Path) -> Path:
    """Write a bundle as an NVIDIA Triton model repository: ``ossicle export triton-repo``."""
    return write_repository(Bundle.open(bundle), Path(out))


def export_tensorrt_command(
    bundle: str | Path, graphs: Sequence[str] = (), *, rebuild: bool = False
) -> dict[str, Path]:
    """Build the TensorRT engines of a bundle for this device: ``ossicle export tensorrt``."""
    return build_engines(Bundle.open(bundle), rebuild=rebuild, graphs=graphs)


def check_tensorrt_command(bundle: str | Path) -> dict[str, dict[str, list[str]]]:
    """Get what each graph holds that TensorRT 10.3 and 10.15 do not run; needs no TensorRT."""
    return static_report(Bundle.open(bundle))
