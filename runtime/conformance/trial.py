"""Run every law on a bundle, or on a streaming ONNX file with a manifest beside or inside it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from ossicle.runtime.backend import Backend
from ossicle.runtime.bundle import Bundle, check_file, write_bundle
from ossicle.runtime.conformance.laws import LAWS
from ossicle.runtime.conformance.report import Report, Row
from ossicle.runtime.conformance.subject import Subject
from ossicle.runtime.errors import BundleError, ManifestError, OssicleError
from ossicle.runtime.manifest import parse_manifest
from ossicle.runtime.model import Model

METADATA_KEY = "ossicle.manifest"


def verify(
    where: Bundle | str | os.PathLike[str],
    backend: Backend | str = "ort",
    laws: Iterable[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Return what every law found for a bundle, an ``.onnx`` file or a bundle's name.

    Args:
        where: what to verify. An ``.onnx`` file carries its manifest in its metadata, or has one
            called ``NAME.manifest.json`` beside it; ``files`` may be left out there.
        backend: what runs the graphs.
        laws: names from :data:`LAWS`; all of them by default.
        progress: told the name of each law before it is tried.

    Raises:
        BundleError, ManifestError, BackendError: nothing could be run at all.
    """
    subject = open_subject(where, backend)
    rows = []
    for name in laws or LAWS:
        if progress is not None:
            progress(name)
        try:
            rows.append(LAWS[name](subject))
        except OssicleError as error:
            rows.append(Row(name, False, f"{type(error).__name__}: {error}"))
    manifest = subject.manifest
    return Report(manifest.name, manifest.version, subject.model.backend.name, tuple(rows))


def open_subject(where: Bundle | str | os.PathLike[str], backend: Backend | str = "ort") -> Subject:
    """Return the model at ``where``, ready for the laws."""
    if isinstance(where, Bundle):
        return Subject(Model.load(where, backend))
    path = Path(where)
    if path.suffix == ".onnx":
        with tempfile.TemporaryDirectory(prefix="ossicle-") as scratch:
            return Subject(Model.load(_bundle_of(path, Path(scratch)), backend))
    return Subject(Model.load(path if path.exists() else str(where), backend))


def _bundle_of(path: Path, scratch: Path) -> Bundle:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    beside = path.with_suffix(".manifest.json")
    text = beside.read_bytes() if beside.is_file() else _metadata(data, path)
    manifest = parse_manifest(text)
    names = {graph.file for graph in manifest.graphs.values()}
    if len(names) != 1:
        raise ManifestError(f"{path.name}: its manifest names the files {sorted(names)}; one fits")
    file = names.pop()
    if file in manifest.files:
        check_file(manifest, file, data)
    return write_bundle(scratch / manifest.name, manifest, {file: data})


def _metadata(data: bytes, path: Path) -> bytes:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise BundleError(f"{path.name} is not a readable ONNX model: {error}") from error
    held = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if held is None:
        raise ManifestError(
            f"{path.name} carries no manifest; write {path.with_suffix('.manifest.json').name} "
            "beside it (see CONTRIBUTING, 'A manifest by hand')"
        )
    return bytes(held, "utf-8")
