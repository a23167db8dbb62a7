"""Downloads that resume, that are checked, and that are there whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ossicle.export.registry import Entry, RemoteFile
from ossicle.runtime.bundle import cache_folder
from ossicle.runtime.errors import DownloadError

STEP = 1 << 16
TIMEOUT_S = 30.0
TRIES = 3
Progress = Callable[[str, int, int], None]  # file name, bytes so far, bytes in all


class _SafeRedirect(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to anything less."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme != "https"):
            raise DownloadError(
                f"{req.full_url} redirects to {newurl}, which is less safe; it was not followed"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def pull_files(entry: Entry, folder: Path | None = None, progress: Progress | None = None) -> Path:
    """Get the folder that holds every file of ``entry``, downloading what is missing.

    ``folder`` defaults to ``downloads/NAME`` in the cache. Raises ``DownloadError``.
    """
    folder = folder or cache_folder() / "downloads" / entry.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise DownloadError(f"{folder} cannot be made: {err.strerror or err}") from err
    for file in entry.files:
        fetch(file, folder, progress)
    return folder


def fetch(file: RemoteFile, folder: Path, progress: Progress | None = None) -> Path:
    """Get one file, resumed where an earlier try stopped, and checked against its hash."""
    target = folder / file.name
    if target.is_file() and _matches(target, file):
        return target
    partial = folder / f"{file.name}.part"
    for attempt in range(TRIES):
        try:
            _append(file, partial, progress or (lambda *_: None))
        except OSError as err:
            if isinstance(err, urllib.error.HTTPError) and 400 <= err.code < 500:
                raise DownloadError(f"{file.url} answers {err.code} {err.reason}") from err
            if not isinstance(err, urllib.error.URLError | TimeoutError | ConnectionError):
                raise DownloadError(f"{partial} cannot be written: {err.strerror or err}") from err
            if attempt + 1 == TRIES:
                raise DownloadError(offline(file.url, file.name, err)) from err
            continue
        except http.client.HTTPException as err:
            if attempt + 1 == TRIES:
                raise DownloadError(f"{file.url} broke off: {type(err).__name__}") from err
            continue
        if partial.stat().st_size >= file.size:
            break
    return _settle(file, partial, target)


def _settle(file: RemoteFile, partial: Path, target: Path) -> Path:
    """Rename a whole and right file; delete a wrong one, keep a short one for next time."""
    have = partial.stat().st_size if partial.is_file() else 0
    if have < file.size:
        raise DownloadError(
            f"{file.name} stopped at {have} of {file.size} bytes; run the same command to go on"
        )
    if not _matches(partial, file):
        partial.unlink()
        raise DownloadError(
            f"{file.name} is not the file the registry names (SHA-256 differs); it was deleted. "
            "The upstream file changed, or the download was tampered with"
        )
    partial.replace(target)
    return target


def _append(file: RemoteFile, partial: Path, progress: Progress) -> None:
    have = partial.stat().st_size if partial.is_file() else 0
    if have >= file.size:
        return
    request = urllib.request.Request(file.url, headers={"User-Agent": "ossicle"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    opener = urllib.request.build_opener(_SafeRedirect)
    with opener.open(request, timeout=TIMEOUT_S) as answer:
        resumed = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(
            f"bytes {have}-"
        )
        have = have if resumed else 0
        with partial.open("ab" if resumed else "wb") as out:
            while data := answer.read(STEP):
                have += len(data)
                if have > file.size:
                    raise DownloadError(
                        f"{file.url} sends more than the {file.size} bytes the registry names"
                    )
                out.write(data)
                progress(file.name, have, file.size)


def _matches(path: Path, file: RemoteFile) -> bool:
    if path.stat().st_size != file.size:
        return False
    digest = hashlib.sha256()
    with path.open("rb") as data:
        while block := data.read(STEP):
            digest.update(block)
    return digest.hexdigest() == file.sha256


def offline(url: str, name: str, err: OSError) -> str:
    """Get the one sentence for a server that cannot be reached."""
    reason = getattr(err, "reason", err)
    return (
        f"{urlsplit(url).hostname} cannot be reached ({reason}); connect, or copy {name} here by "
        "hand and use `ossicle import`"
    )
