"""Snapshots of streams on disk, so that another process can go on where this one stopped.

One file a checkpoint, ``<stream>.<number>.snap``: HMAC-SHA256 under the key of the state directory,
then the bytes of :mod:`ossicle.runtime.snapshot`. The key is made once, 0600, and never leaves the
machine; a file that was not written with it is not read. Files are synced and then renamed into
place, and the directory is synced: nothing half written is ever read, and what a client was told of
outlives the process and a power failure. A token is the stream's random name, the number and a MAC
of both.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ossicle.runtime import snapshot
from ossicle.runtime.errors import SnapshotError

KEY_FILE = "snapshots.key"
MAC_BYTES = 32
_NAME = re.compile(r"([0-9a-f]{32})\.(\d{1,18})\.snap")


@dataclass(frozen=True, slots=True)
class Token:
    """Which checkpoint of which stream."""

    stream: str  # 32 hex digits
    number: int


class SnapshotStore:
    """The snapshots in one directory, held to a number of bytes.

    Args:
        folder: made if it is not there; 0700.
        max_bytes: of one snapshot.
        total_bytes: of all together; beyond it, new ones are refused.
        keep_s: older ones are removed.
    """

    def __init__(
        self,
        folder: str | Path,
        max_bytes: int = 16 << 20,
        total_bytes: int = 1 << 30,
        keep_s: float = 300.0,
    ) -> None:
        self.folder = Path(folder)
        self.max_bytes, self.total_bytes, self.keep_s = max_bytes, total_bytes, keep_s
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._key = _key(self.folder / KEY_FILE)
        except OSError as error:
            raise SnapshotError(
                f"state directory {self.folder} cannot be used: {error}; give another --state-dir"
            ) from None
        self._held = sum(p.stat().st_size for p in self.folder.glob("*.snap"))

    @staticmethod
    def new_stream() -> str:
        """Return a name that cannot be guessed."""
        return secrets.token_hex(16)

    def token(self, stream: str, number: int) -> bytes:
        """Return the token of a checkpoint."""
        body = bytes.fromhex(stream) + number.to_bytes(8, "big")
        return body + self._mac(b"token" + body)[:16]

    def read_token(self, data: bytes) -> Token:
        """Return what a token names.

        Raises:
            SnapshotError: it was not made here.
        """
        body, mac = data[:24], data[24:]
        if len(data) != 40 or not hmac.compare_digest(self._mac(b"token" + body)[:16], mac):
            raise SnapshotError(
                "the resume token was not made by this server (or its key has changed); open a "
                "new stream"
            )
        return Token(body[:16].hex(), int.from_bytes(body[16:], "big"))

    def write(self, stream: str, number: int, tree: Any) -> int:
        """Put a checkpoint on disk and return its size.

        Raises:
            SnapshotError: too large, no room, or the disk refused.
        """
        data = snapshot.dump(tree, max_bytes=self.max_bytes)
        if self._held + len(data) > self.total_bytes:
            self.sweep()
        if self._held + len(data) > self.total_bytes:
            raise SnapshotError(
                f"snapshots hold {self._held} bytes, {self.total_bytes} allowed; raise "
                "state_dir_bytes or lower resume_keep_s"
            )
        path = self._path(stream, number)
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            with _private(part) as file:
                file.write(self._mac(data))
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            _sync_folder(self.folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise SnapshotError(f"snapshot could not be written: {error}") from None
        self._held += len(data) + MAC_BYTES
        return len(data)

    def read(self, token: Token) -> Any:
        """Return the tree of a checkpoint.

        Raises:
            SnapshotError: gone, damaged, not written with this key, or too large.
        """
        path = self._path(token.stream, token.number)
        try:
            if path.stat().st_size > self.max_bytes + MAC_BYTES:
                raise SnapshotError(f"snapshot {path.name} is over {self.max_bytes} bytes")
            data = path.read_bytes()
        except OSError:
            raise SnapshotError(
                "the snapshot is gone (kept for "
                f"{self.keep_s:g} s after the stream was lost); open a new stream"
            ) from None
        mac, body = data[:MAC_BYTES], memoryview(data)[MAC_BYTES:]
        if not hmac.compare_digest(self._mac(body), mac):
            raise SnapshotError(f"snapshot {path.name} was not written with this server's key")
        return snapshot.load(body, max_bytes=self.max_bytes)

    def forget(self, stream: str, below: int | None = None) -> None:
        """Remove a stream's checkpoints, all or those before number ``below``."""
        for path in self.folder.glob(f"{stream}.*.snap"):
            found = _NAME.fullmatch(path.name)
            if found and (below is None or int(found[2]) < below):
                self._remove(path)

    def sweep(self) -> None:
        """Remove what is too old, and what a killed process left half written."""
        limit = time.time() - self.keep_s
        for path in [*self.folder.glob("*.snap"), *self.folder.glob("*.part")]:
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < limit:
                    self._remove(path)

    def _remove(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            size = path.stat().st_size
            path.unlink()
            self._held = max(0, self._held - size)

    def _path(self, stream: str, number: int) -> Path:
        return self.folder / f"{stream}.{number}.snap"

    def _mac(self, data: bytes | memoryview) -> bytes:
        return hmac.new(self._key, data, hashlib.sha256).digest()


def _private(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _sync_folder(folder: Path) -> None:
    """Have the names in ``folder`` on the disk, not only in memory."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _key(path: Path) -> bytes:
    """Return the key in ``path``, making it where there is none."""
    if not path.exists():
        fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        with _private(fresh) as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another server was first: its key holds
            os.link(fresh, path)
        fresh.unlink()
        _sync_folder(path.parent)
    key = path.read_bytes()
    if len(key) != 32:
        raise SnapshotError(f"{path} is {len(key)} bytes, not a key of 32; remove it")
    if path.stat().st_mode & 0o077:
        raise SnapshotError(f"{path} can be read by others; chmod 600 it")
    return key
