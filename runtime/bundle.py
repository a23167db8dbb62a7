"""A streaming model on disk: a folder, or one stored ``.ossicle`` zip, with a manifest.

Nothing in a bundle is used before its size and SHA-256 were compared with the manifest, and
nothing outside the bundle is ever reached through it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.errors import BundleError, OssicleError
from ossicle.runtime.manifest import FileEntry, Manifest, check_manifest, parse_manifest

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 4 << 20
MAX_FILE_BYTES = 2 << 30
MAX_BUNDLE_BYTES = 4 << 30
BUILT_IN = Path(__file__).parent / "bundles"


@dataclasses.dataclass(frozen=True, slots=True)
class Bundle:
    """A manifest and the verified bytes behind it."""

    root: Path
    manifest: Manifest

    @classmethod
    def open(cls, where: str | os.PathLike[str]) -> Bundle:
        """Open a folder, an ``.ossicle`` file, or a bundle's name.

        Raises:
            BundleError: not found, or not what its manifest says.
            ManifestError: a manifest that cannot be right.
        """
        root = find_bundle(where)
        data = _read(root, MANIFEST, MAX_MANIFEST_BYTES)
        bundle = cls(root, parse_manifest(data))
        bundle.verify()
        return bundle

    def read(self, name: str) -> bytes:
        """Return the bytes of one listed file, after checking them.

        Raises:
            BundleError: not listed, missing, or changed.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(f"{self.manifest.name}: no file {name!r} in the manifest")
        data = _read(self.root, name, entry.size)
        check_file(self.manifest, name, data)
        return data

    def array(self, name: str) -> NDArray[Any]:
        """Return the array in an ``.npy`` file of the bundle."""
        return _load_array(name, self.read(name))

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """Return the arrays in an ``.npz`` file of the bundle."""
        try:
            with np.load(io.BytesIO(self.read(name)), allow_pickle=False) as held:
                return {key: np.asarray(held[key]) for key in held.files}
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise BundleError(f"{name} is not a readable .npz file: {error}") from error

    def verify(self) -> None:
        """Check every listed file, and that every file a graph or operator names is listed."""
        for graph in self.manifest.graphs.values():
            self._listed(graph.file)
            for state in graph.states:
                if state.init not in ("zeros", "ones"):
                    self._listed(state.init)
        for golden in self.manifest.golden:
            self._listed(golden.inputs)
            self._listed(golden.outputs)
        if sum(entry.size for entry in self.manifest.files.values()) > MAX_BUNDLE_BYTES:
            raise BundleError(f"{self.manifest.name}: over {MAX_BUNDLE_BYTES} bytes")
        for name in self.manifest.files:
            self.read(name)

    def _listed(self, name: str) -> None:
        if name not in self.manifest.files:
            raise BundleError(f"{self.manifest.name}: {name!r} is used but not listed under files")


def find_bundle(where: str | os.PathLike[str]) -> Path:
    """Return the place of a bundle given by path or by name.

    Names are looked for among the built-in bundles, then in the cache folder
    (``OSSICLE_CACHE``, else ``~/.cache/ossicle``).
    """
    path = Path(where)
    if (path / MANIFEST).is_file() or (path.suffix == ".ossicle" and path.is_file()):
        return path
    name = os.fspath(where)
    if name and "/" not in name and name not in (".", ".."):
        for home in (BUILT_IN, cache_folder()):
            if (home / name / MANIFEST).is_file():
                return home / name
    names = ", ".join(sorted(list_bundles())) or "none"
    raise BundleError(
        f"no bundle at {name!r}: neither a folder with {MANIFEST}, an .ossicle file, nor one of "
        f"the installed bundles ({names}). `ossicle models` lists what can be pulled"
    )


def list_bundles() -> dict[str, Path]:
    """Return the names and places of all installed bundles; built-in ones come first."""
    found: dict[str, Path] = {}
    for home in (BUILT_IN, cache_folder()):
        if home.is_dir():
            for place in sorted(home.iterdir()):
                if (place / MANIFEST).is_file():
                    found.setdefault(place.name, place)
    return found


def cache_folder() -> Path:
    """Return where pulled and imported bundles are kept."""
    named = os.environ.get("OSSICLE_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "ossicle"


def check_file(manifest: Manifest, name: str, data: bytes) -> None:
    """Hold a file's bytes to what the manifest says of it.

    Raises:
        BundleError: another size or hash.
    """
    entry = manifest.files[name]
    if len(data) != entry.size or hashlib.sha256(data).hexdigest() != entry.sha256:
        raise BundleError(
            f"{manifest.name}: {name} is not the file the manifest names "
            f"({len(data)} bytes, {entry.size} expected, SHA-256 differs); fetch it again"
        )


def write_bundle(
    place: str | os.PathLike[str], manifest: Manifest, files: Mapping[str, bytes]
) -> Bundle:
    """Write a bundle whole or not at all, and return it opened.

    ``manifest.files`` is computed. ``place`` ending in ``.ossicle`` gives one stored zip, so that
    it can be mapped; anything else a folder. An earlier bundle at ``place`` is replaced.

    Raises:
        BundleError: a file name that leaves the folder, a full disk, or parts that contradict.
    """
    for name in files:
        _check_member(name)
    entries = {
        name: FileEntry(hashlib.sha256(data).hexdigest(), len(data))
        for name, data in sorted(files.items())
    }
    manifest = msgspec.structs.replace(manifest, files=entries)
    check_manifest(manifest)
    place = Path(place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    except OSError as error:
        raise BundleError(f"bundle {place} was not written: {error}") from error
    try:
        content = {MANIFEST: manifest.to_json(), **files}
        if place.suffix == ".ossicle":
            fresh = scratch / place.name
            with zipfile.ZipFile(fresh, "w", zipfile.ZIP_STORED) as archive:
                for name in sorted(content):
                    archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content[name])
        else:
            fresh = scratch / "bundle"
            for name, data in content.items():
                target = fresh / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
        Bundle.open(fresh)
        _swap(fresh, place, scratch)
    except OSError as error:
        raise BundleError(f"bundle {place} was not written: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Bundle.open(place)


def _swap(fresh: Path, place: Path, scratch: Path) -> None:
    if place.is_dir():
        place.rename(scratch / "old")
    fresh.replace(place)


def _check_member(name: str) -> None:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise BundleError(f"file name {name!r} leaves the bundle; plain relative names are allowed")


def _read(root: Path, name: str, limit: int) -> bytes:
    _check_member(name)
    if limit > MAX_FILE_BYTES:
        raise BundleError(f"{name} is said to be {limit} bytes; at most {MAX_FILE_BYTES} allowed")
    try:
        if root.is_dir():
            return _read_file(root, name, limit)
        return _read_zip(root, name, limit)
    except OssicleError:
        raise
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise BundleError(f"{name} in {root.name} cannot be read: {error}") from error


def _read_file(root: Path, name: str, limit: int) -> bytes:
    place = root / name
    if not place.resolve().is_relative_to(root.resolve()):
        raise BundleError(f"{name!r} points outside the bundle {root.name}")
    with place.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise BundleError(f"{name} is larger than the {limit} bytes that are allowed")
    return data


def _read_zip(root: Path, name: str, limit: int) -> bytes:
    with zipfile.ZipFile(root) as archive:
        for info in archive.infolist():
            _check_member(info.filename)
        try:
            info = archive.getinfo(name)
        except KeyError:
            raise BundleError(f"{name} is not in {root.name}") from None
        if info.file_size > limit or info.file_size > 200 * max(info.compress_size, 1):
            raise BundleError(
                f"{name} unpacks to {info.file_size} bytes from {info.compress_size}; "
                f"at most {limit} are expected. Is it a decompression bomb?"
            )
        with archive.open(info) as member:
            return member.read(limit + 1)


def _load_array(name: str, data: bytes) -> NDArray[Any]:
    with contextlib.suppress(ValueError, OSError, EOFError):
        return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
    raise BundleError(f"{name} is not a readable .npy file")
