"""Public models that can be pulled: where they lie, what they must hash to, who may use them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import msgspec

from ossicle.runtime.errors import DownloadError

BUILT_IN = Path(__file__).parent / "registry.json"
MAX_SIZE = 4 << 30


class RemoteFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a model; ``size`` in bytes."""

    url: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        """The file's name in the download folder."""
        return PurePosixPath(urlsplit(self.url).path).name


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model: its importer's family, licence, and its files or its name on the model hub.

    A hub itself says what its files hash to; files elsewhere are listed with hash and size.
    """

    name: str
    family: str
    license: str
    license_class: str
    about: str
    files: tuple[RemoteFile, ...]
    hub: str = ""


class Registry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All models of one registry file."""

    schema: int
    models: tuple[Entry, ...]

    def find(self, name: str) -> Entry:
        """Get a model by name."""
        for entry in self.models:
            if entry.name == name:
                return entry
        names = ", ".join(entry.name for entry in self.models) or "none"
        raise DownloadError(f"no model {name!r} in the registry; it lists {names}")


def read_registry(path: Path = BUILT_IN) -> Registry:
    """Get the registry in ``path``; raises ``DownloadError`` where it cannot be right."""
    try:
        registry = msgspec.json.decode(path.read_bytes(), type=Registry)
    except OSError as err:
        raise DownloadError(f"registry {path.name} cannot be read: {err.strerror or err}") from err
    except msgspec.DecodeError as err:
        raise DownloadError(f"registry {path.name} breaks its schema: {err}") from err
    if registry.schema != 1:
        raise DownloadError(f"registry schema {registry.schema}; this release reads 1")
    for entry in registry.models:
        if bool(entry.files) == bool(entry.hub):
            raise DownloadError(f"{entry.name}: either files or a hub's model are to be named")
        for file in entry.files:
            _check(entry.name, file)
    return registry


def _check(model: str, file: RemoteFile) -> None:
    scheme = urlsplit(file.url).scheme
    if scheme not in ("https", "http") or not file.name or file.name in (".", ".."):
        raise DownloadError(f"{model}: {file.url!r} is not an http(s) address of a file")
    if len(file.sha256) != 64 or not 0 < file.size <= MAX_SIZE:
        raise DownloadError(
            f"{model}: {file.name} has no SHA-256 of 64 digits, or size {file.size}"
        )
