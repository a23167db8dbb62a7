"""Files of a model hub by ``owner/name``: found, pinned to a commit, downloaded and checked.

The hub's own answers say what a file must be: of a large one size and SHA-256, of a small one the
name that Git gives to its content. ``HF_ENDPOINT`` names another server, as it does for the hub's
own client.
"""

from __future__ import annotations

import hashlib
import os
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from ossicle.export.pull import TIMEOUT_S, Progress, fetch, offline
from ossicle.export.registry import MAX_SIZE, RemoteFile
from ossicle.runtime.bundle import cache_folder
from ossicle.runtime.errors import DownloadError

MAX_SMALL = 4 << 20
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def is_hub_id(text: str) -> bool:
    """Tell whether ``text`` names a hub's model, and no file or folder here."""
    return _REPOSITORY.fullmatch(text) is not None and not Path(text).exists()


def pull_hub(
    repository: str,
    names: Sequence[str],
    folder: Path | None = None,
    revision: str = "main",
    progress: Progress | None = None,
) -> Path:
    """Get the folder that holds ``names`` of a hub's model; ``DownloadError`` where it cannot be.

    ``folder`` defaults to ``downloads/hub/OWNER--NAME`` in the cache.
    """
    place = folder or cache_folder() / "downloads" / "hub" / repository.replace("/", "--")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise DownloadError(f"{place} cannot be made: {err.strerror or err}") from err
    for name in names:
        url = f"{_endpoint()}/{repository}/resolve/{revision}/{name}"
        about = _asked(url)
        revision = about.get("X-Repo-Commit") or revision  # what comes next is of the same commit
        url = f"{_endpoint()}/{repository}/resolve/{revision}/{name}"
        if about.get("X-Linked-Etag"):
            fetch(_large(url, about), place, progress)
        else:
            _fetch_small(url, about, place / name)
    return place


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


class _Stay(urllib.request.HTTPRedirectHandler):
    """Leaves a redirect to whoever asked: the answer that redirects says what the file is."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _asked(url: str) -> Message:
    """Get what the hub says of a file, following renamed models but not to where the bytes lie."""
    opener = urllib.request.build_opener(_Stay)
    for _ in range(3):
        request = urllib.request.Request(
            url, method="HEAD", headers={"User-Agent": "ossicle", "Accept-Encoding": "identity"}
        )
        try:
            with opener.open(request, timeout=TIMEOUT_S) as answer:
                return Message() if answer.headers is None else answer.headers
        except urllib.error.HTTPError as err:
            target = err.headers.get("Location", "")
            if err.code in (301, 302, 303, 307, 308) and err.headers.get("X-Linked-Etag"):
                return err.headers
            if err.code in (301, 307, 308) and target and not urlsplit(target).netloc:
                url = urljoin(url, target)
                continue
            raise DownloadError(
                f"{url} answers {err.code} {err.reason}; is the model's name right, and is it open "
                "to everyone?"
            ) from err
        except OSError as err:
            raise DownloadError(offline(url, Path(urlsplit(url).path).name, err)) from err
    raise DownloadError(f"{url} redirects without end")


def _large(url: str, about: Message) -> RemoteFile:
    digest = about["X-Linked-Etag"].strip('"')
    size = about.get("X-Linked-Size", "")
    if not re.fullmatch("[0-9a-f]{64}", digest) or not size.isdigit():
        raise DownloadError(f"{url}: the hub names no SHA-256 and size; nothing was downloaded")
    if not 0 < int(size) <= MAX_SIZE:
        raise DownloadError(f"{url} is of {size} bytes; at most {MAX_SIZE} are downloaded")
    return RemoteFile(url, digest, int(size))


def _fetch_small(url: str, about: Message, target: Path) -> None:
    """Download a file that Git keeps itself, and compare it with the name Git gave it."""
    wanted = about.get("ETag", "").strip('W/"')
    request = urllib.request.Request(url, headers={"User-Agent": "ossicle"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            data = answer.read(MAX_SMALL + 1)
    except OSError as err:
        raise DownloadError(offline(url, target.name, err)) from err
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    if len(data) > MAX_SMALL or blob != wanted:
        raise DownloadError(
            f"{target.name} is not the file the hub names (it hashes to {blob}, {wanted or 'no'} "
            "hash was named); nothing was kept"
        )
    try:
        target.write_bytes(data)
    except OSError as err:
        raise DownloadError(f"{target} cannot be written: {err.strerror or err}") from err
