"""A model hub's protocol, spoken by a server of our own."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ossicle.export.commands import pull_command
from ossicle.export.hub import is_hub_id, pull_hub
from ossicle.export.importers import import_model
from ossicle.export.registry import Entry, Registry, read_registry
from ossicle.runtime.errors import DownloadError, ExportError

COMMIT = "c1dbe2ae3f1de713481a3b3e7c47f357092ee040"
SMALL = b'{"model_type": "mimi"}'
LARGE = bytes(range(256)) * 1000
NAMES = ("config.json", "model.safetensors")


def blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does: small files itself, large ones by a redirect with their hash."""

    seen: list[str]
    lies: str = ""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        self.seen.append(f"{self.command} {self.path}")
        if self.path.startswith("/bytes/"):
            self.reply(200, {}, LARGE[::-1] if self.lies == "corrupt" else LARGE, body)
        elif self.path.startswith("/old/name/"):
            self.reply(307, {"Location": self.path.replace("/old/name/", "/new/name/")}, b"", body)
        elif self.path.endswith("config.json") and "/name/" in self.path:
            sent = b"{}" if self.lies == "small" and body else SMALL
            self.reply(200, {"ETag": f'"{blob(SMALL)}"', "X-Repo-Commit": COMMIT}, sent, body)
        elif self.path.endswith("model.safetensors"):
            digest = "none" if self.lies == "hash" else hashlib.sha256(LARGE).hexdigest()
            size = str(1 << 60) if self.lies == "size" else str(len(LARGE))
            headers = {
                "Location": "/bytes/model", "X-Linked-Etag": f'"{digest}"',
                "X-Linked-Size": size, "X-Repo-Commit": COMMIT,
            }  # fmt: skip
            self.reply(302, headers, b"", body)
        else:
            self.reply(401, {}, b"", body)

    def reply(self, code: int, headers: dict[str, str], data: bytes, body: bool) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    handler = type("Handler", (Hub,), {"seen": [], "lies": ""})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{http.server_address[1]}/")
    yield handler
    http.shutdown()
    http.server_close()
    thread.join()


def test_files_are_pinned_to_a_commit_and_checked(hub: Any, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    folder = pull_hub("owner/name", NAMES, tmp_path, progress=lambda *row: told.append(row))
    assert (folder / "config.json").read_bytes() == SMALL
    assert (folder / "model.safetensors").read_bytes() == LARGE
    assert told[-1] == ("model.safetensors", len(LARGE), len(LARGE))
    assert f"GET /owner/name/resolve/{COMMIT}/model.safetensors" in hub.seen
    before = len(hub.seen)
    pull_hub("owner/name", NAMES, tmp_path)
    assert not any(line.startswith("GET /bytes") for line in hub.seen[before:])


def test_renamed_models_are_followed(hub: Any, tmp_path: Path) -> None:
    folder = pull_hub("old/name", ("config.json",), tmp_path)
    assert (folder / "config.json").read_bytes() == SMALL


@pytest.mark.parametrize(
    ("lies", "says"),
    [
        ("small", "is not the file the hub names"),
        ("corrupt", "SHA-256 differs"),
        ("hash", "names no SHA-256"),
        ("size", "at most"),
    ],
)
def test_what_is_not_as_named_is_not_kept(hub: Any, tmp_path: Path, lies: str, says: str) -> None:
    hub.lies = lies
    with pytest.raises(DownloadError, match=says):
        pull_hub("owner/name", NAMES, tmp_path)
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept <= ({"config.json"} if lies != "small" else set())


def test_closed_and_unreachable_hubs_are_one_sentence(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DownloadError, match="401"):
        pull_hub("owner/closed", NAMES, tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="cannot be reached"):
        pull_hub("owner/name", NAMES, tmp_path)


def test_import_takes_a_hub_name_and_leaves_nothing_of_a_wrong_one(
    hub: Any, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="model_type"):
        import_model("encodec", "owner/name", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "GET /bytes/model" in hub.seen


def test_pull_needs_the_licence_and_then_asks_the_hub(hub: Any) -> None:
    entry = Entry("toy", "encodec", "CC-BY-NC-4.0", "non-commercial", "", (), "owner/name")
    with pytest.raises(DownloadError, match="accept the licence by name"):
        pull_command("toy", registry=Registry(1, (entry,)))
    assert hub.seen == []
    with pytest.raises(ExportError, match="model_type"):
        pull_command("toy", accept_license="CC-BY-NC-4.0", registry=Registry(1, (entry,)))
    assert hub.seen


def test_paths_are_not_taken_for_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("facebook/encodec_24khz")
    for text in ("/absolute/path", "../up", "a/b/c", "single", "~/home", ""):
        assert not is_hub_id(text), text
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert not is_hub_id("owner/name")


def test_every_family_of_the_registry_can_be_imported() -> None:
    from ossicle.export.importers import FAMILIES, HUB_FILES

    for entry in read_registry().models:
        assert entry.family in FAMILIES
        assert not entry.hub or (entry.family in HUB_FILES and is_hub_id(entry.hub))
