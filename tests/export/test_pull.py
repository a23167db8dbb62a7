from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ossicle.export import pull
from ossicle.export.commands import models_command, pull_command
from ossicle.export.pull import fetch, pull_files
from ossicle.export.registry import Entry, Registry, RemoteFile, read_registry
from ossicle.runtime.errors import DownloadError, ExportError

DATA = bytes(range(256)) * 2000  # 512 kB


class Upstream(BaseHTTPRequestHandler):
    """Serves, cuts short, corrupts and redirects, by path."""

    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Range")))
        if self.path.startswith("/redirect/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/redirect"))
            self.end_headers()
            return
        if self.path.startswith("/missing/"):
            self.send_error(404)
            return
        body = bytes(len(DATA)) if self.path.startswith("/corrupt/") else DATA
        if self.path.startswith("/long/"):
            body = DATA + DATA
        start = 0
        if asked := self.headers.get("Range"):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        body = body[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = self.path.startswith("/cut/") or (self.path.startswith("/once/") and not start)
        self.wfile.write(body[: 100_000 if cut else None])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    seen: list[tuple[str, str | None]] = []
    handler = type("Handler", (Upstream,), {"seen": seen})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_address[1]}", seen
    http.shutdown()
    http.server_close()
    thread.join()


def remote(base: str, path: str) -> RemoteFile:
    return RemoteFile(base + path, hashlib.sha256(DATA).hexdigest(), len(DATA))


@pytest.mark.parametrize("path", ["/good/a.bin", "/redirect/good/a.bin"])
def test_whole_file_arrives_with_progress(server: Any, path: str, tmp_path: Path) -> None:
    base, seen = server
    told: list[tuple[str, int, int]] = []
    got = fetch(remote(base, path), tmp_path, lambda *row: told.append(row))
    assert got.read_bytes() == DATA
    assert told[-1] == ("a.bin", len(DATA), len(DATA))
    fetch(remote(base, path), tmp_path)
    assert len(seen) == (2 if "redirect" in path else 1)  # the second time nothing was asked


def test_cut_transfer_resumes_by_itself(server: Any, tmp_path: Path) -> None:
    base, seen = server
    assert fetch(remote(base, "/once/a.bin"), tmp_path).read_bytes() == DATA
    assert [asked for _, asked in seen] == [None, "bytes=100000-"]


def test_what_stays_short_is_kept_for_next_time(server: Any, tmp_path: Path) -> None:
    base, _ = server
    with pytest.raises(DownloadError, match=r"stopped at \d+ of"):
        fetch(remote(base, "/cut/a.bin"), tmp_path)
    assert (tmp_path / "a.bin.part").stat().st_size >= 100_000
    assert not (tmp_path / "a.bin").exists()
    assert fetch(remote(base, "/good/a.bin"), tmp_path).read_bytes() == DATA


def test_corrupt_file_is_deleted(server: Any, tmp_path: Path) -> None:
    base, _ = server
    with pytest.raises(DownloadError, match="SHA-256 differs"):
        fetch(remote(base, "/corrupt/a.bin"), tmp_path)
    assert list(tmp_path.glob("a.bin*")) == []


def test_more_than_promised_is_refused(server: Any, tmp_path: Path) -> None:
    base, _ = server
    with pytest.raises(DownloadError, match="more than"):
        fetch(remote(base, "/long/a.bin"), tmp_path)


def test_missing_and_offline_are_one_clear_sentence(server: Any, tmp_path: Path) -> None:
    base, _ = server
    with pytest.raises(DownloadError, match="404"):
        fetch(remote(base, "/missing/a.bin"), tmp_path)
    with pytest.raises(DownloadError, match="cannot be reached"):
        fetch(remote("http://127.0.0.1:9", "/a.bin"), tmp_path)


def test_redirect_away_from_https_is_refused() -> None:
    import urllib.request

    asked = urllib.request.Request("https://example.org/a.bin")
    with pytest.raises(DownloadError, match="less safe"):
        pull._SafeRedirect().redirect_request(asked, None, 302, "", {}, "http://example.org/a.bin")


def test_full_disk_is_an_error_of_ours(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pull, "_append", full)
    with pytest.raises(DownloadError, match="No space left"):
        fetch(remote(server[0], "/good/a.bin"), tmp_path)


def test_pulled_rubbish_leaves_no_bundle(server: Any, private_cache: Path) -> None:
    base, _ = server
    entry = Entry("toy", "gtcrn", "MIT", "permissive", "a toy", (remote(base, "/good/gtcrn.onnx"),))
    with pytest.raises(ExportError):
        pull_command("toy", registry=Registry(1, (entry,)))
    assert not (private_cache / "toy").exists()


def test_licence_must_be_accepted_by_name(server: Any) -> None:
    entry = Entry("toy", "gtcrn", "CC-BY-NC-4.0", "non-commercial", "", (remote(server[0], "/a"),))
    with pytest.raises(DownloadError, match=r"CC-BY-NC-4\.0"):
        pull_command("toy", registry=Registry(1, (entry,)))


def test_real_model_comes_through_a_server(
    weights: Path, private_cache: Path, tmp_path: Path
) -> None:
    """Serve the true GTCRN file, pull it, and find it installed."""
    import functools
    from http.server import SimpleHTTPRequestHandler

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(weights / "gtcrn"))
    )
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        known = read_registry().find("gtcrn")
        url = f"http://127.0.0.1:{http.server_address[1]}/gtcrn_simple.onnx"
        file = RemoteFile(url, known.files[0].sha256, known.files[0].size)
        entry = Entry("gtcrn", "gtcrn", "MIT", "permissive", "", (file,))
        bundle = pull_command("gtcrn", registry=Registry(1, (entry,)))
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
    assert bundle.root == private_cache / "gtcrn"
    assert ("gtcrn", "installed", "enhance") in models_command()


def test_registry_is_sound() -> None:
    registry = read_registry()
    for entry in registry.models:
        assert all(file.url.startswith("https://") for file in entry.files)
    with pytest.raises(DownloadError, match="no model"):
        registry.find("nothing")


def test_registry_errors_are_typed(tmp_path: Path) -> None:
    path = tmp_path / "registry.json"
    for text in ("", "{}", '{"schema": 2, "models": []}', '{"schema": 1, "models": [], "x": 1}'):
        path.write_text(text)
        with pytest.raises(DownloadError):
            read_registry(path)


def test_pull_files_names_an_unusable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    entry = Entry("toy", "gtcrn", "MIT", "permissive", "", ())
    with pytest.raises(DownloadError, match="cannot be made"):
        pull_files(entry, tmp_path / "file" / "below")
