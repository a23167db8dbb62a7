"""Snapshots themselves: who may read them, what they cost, and what becomes of a full disk."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamtoys import (
    CAPTION,
    ENCODE,
    ENHANCE,
    config,
    given,
    load_all,
    pieces,
    tones,
)

from ossicle.runtime.errors import SnapshotError
from ossicle.runtime.model import Model
from ossicle.streaming import messages as m
from ossicle.streaming.server.caller import Caller
from ossicle.streaming.server.config import Settings
from ossicle.streaming.server.service import Service
from ossicle.streaming.session.inline import InlineEngine
from ossicle.streaming.session.store import SnapshotStore

TASKS = (ENHANCE, CAPTION, ENCODE)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    return load_all(tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "state")


async def first_half(
    models: dict[str, Model], store: SnapshotStore, caller: Caller, tasks: Any = TASKS
) -> tuple[m.Config, m.Checkpoint, Any]:
    """Run the first half of a stream and lose the client after a checkpoint."""
    service = Service(
        InlineEngine(loaded=models), Settings(checkpoint_s=0.2, checkpoint_share=1.0), store
    )
    asked = config(*tasks, checkpoints=True)
    x = tones(2.0)

    async def requests() -> Any:
        yield asked
        for piece in pieces(x, 800)[:30]:
            yield piece
            await asyncio.sleep(0.01)
        await asyncio.sleep(5)

    points: list[m.Checkpoint] = []
    answers = service.stream(requests(), caller)
    async for response in answers:
        if isinstance(response.body, m.Checkpoint):
            points.append(response.body)
            if len(points) == 1:
                break
    await answers.aclose()
    return asked, points[-1], x


async def resume(
    models: dict[str, Model], store: SnapshotStore | None, asked: m.Config, caller: Caller
) -> list[m.Response]:
    service = Service(InlineEngine(loaded=models), Settings(), store)
    return [r async for r in service.stream(given([asked, m.End()]), caller)]


async def test_only_the_same_client_with_the_same_config_may_go_on(
    models: dict[str, Model], store: SnapshotStore
) -> None:
    from dataclasses import replace

    from ossicle.streaming.server.security import Grant

    caller = Caller(Grant("a"))
    asked, point, _ = await first_half(models, store, caller)
    good = replace(asked, resume_token=point.token)
    answers = await resume(models, store, good, caller)
    started = answers[0].body
    assert isinstance(started, m.Started)
    assert started.resumed
    assert started.acknowledged_sample == point.sample > 0
    asked, point, _ = await first_half(models, store, caller)
    good = replace(asked, resume_token=point.token)
    touched = point.token[:-1] + bytes([point.token[-1] ^ 1])
    for bad, who, match in [
        (good, Caller(Grant("b")), "another client"),
        (replace(good, output_rate_hz=8_000), caller, "config differs"),
        (replace(good, tasks=good.tasks[:1]), caller, "config differs"),
        (replace(good, resume_token=touched), caller, "not made by this server"),
        (replace(good, resume_token=b"x"), caller, "not made by this server"),
    ]:
        with pytest.raises(SnapshotError, match=match):
            await resume(models, store, bad, who)


async def test_a_snapshot_that_was_touched_is_not_read(
    models: dict[str, Model], store: SnapshotStore
) -> None:
    from dataclasses import replace

    asked, point, _ = await first_half(models, store, Caller())
    good = replace(asked, resume_token=point.token)
    (path,) = store.folder.glob(f"*.{point.number}.snap")
    data = bytearray(path.read_bytes())
    for at in (0, 40, len(data) // 2, len(data) - 1):
        changed = bytearray(data)
        changed[at] ^= 1
        path.write_bytes(changed)
        with pytest.raises(SnapshotError, match="not written with this server's key"):
            await resume(models, store, good, Caller())
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(SnapshotError):
        await resume(models, store, good, Caller())
    path.unlink()
    with pytest.raises(SnapshotError, match="gone"):
        await resume(models, store, good, Caller())


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    one, two = SnapshotStore(tmp_path / "a"), SnapshotStore(tmp_path / "b")
    name = one.new_stream()
    one.write(name, 1, {"x": 1})
    assert one.read(one.read_token(one.token(name, 1))) == {"x": 1}
    with pytest.raises(SnapshotError, match="not made by this server"):
        two.read_token(one.token(name, 1))
    again = SnapshotStore(tmp_path / "a")  # the key is kept
    assert again.read(again.read_token(one.token(name, 1))) == {"x": 1}
    assert (tmp_path / "a" / "snapshots.key").stat().st_mode & 0o777 == 0o600


def test_the_store_keeps_to_its_bytes_and_its_time(tmp_path: Path) -> None:
    import os

    store = SnapshotStore(tmp_path, max_bytes=2_000, total_bytes=5_000, keep_s=60)
    big = np.zeros(300, np.float32)
    name = store.new_stream()
    for number in range(3):
        store.write(name, number, big)
    with pytest.raises(SnapshotError, match="5000 allowed"):
        store.write(name, 3, big)
    with pytest.raises(SnapshotError, match="2000"):
        store.write(name, 3, np.zeros(1_000, np.float32))
    for path in tmp_path.glob("*.snap"):
        os.utime(path, (1, 1))
    store.write(name, 4, big)  # the old ones made room
    assert [p.name.split(".")[1] for p in tmp_path.glob("*.snap")] == ["4"]
    store.forget(name)
    assert not list(tmp_path.glob("*.snap"))


def test_a_snapshot_is_on_the_disk_before_anyone_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File first, then its name; a name without its bytes would be read after a power failure."""
    import os

    done: list[str] = []
    sync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        done.append("folder" if target == tmp_path.resolve() else target.suffix)
        sync(descriptor)

    def renamed(source: Path, target: Path) -> Path:
        done.append("rename")
        return replace(source, target)

    store = SnapshotStore(tmp_path)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    store.write(store.new_stream(), 1, {"x": 1})
    assert done == [".part", "rename", "folder"]


async def test_a_full_disk_is_said_once_and_the_stream_goes_on(
    models: dict[str, Model], store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ossicle.streaming.session.store._private", full)
    service = Service(InlineEngine(loaded=models), Settings(checkpoint_s=0.1), store)
    asked = config(ENHANCE, checkpoints=True)

    async def requests() -> Any:
        yield asked
        for piece in pieces(tones(1.0), 400):
            yield piece
            await asyncio.sleep(0.002)
        yield m.End()

    answers = [r async for r in service.stream(requests(), Caller())]
    notices = [r.body for r in answers if isinstance(r.body, m.Notice)]
    assert [n.kind for n in notices] == ["NO_CHECKPOINT"]
    assert "No space left" in notices[0].text
    assert isinstance(answers[-1].body, m.Ended)
    assert sum(r.body.samples for r in answers if isinstance(r.body, m.AudioOut)) == 16_000
    assert not list(store.folder.glob("*.part"))


async def test_an_export_that_comes_too_late_is_not_taken_for_the_next(
    models: dict[str, Model], store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow engine answers after the session gave up: that memory is older than the position."""
    from ossicle.streaming.session.inline import InlineLease

    held: list[Any] = []
    export = InlineLease.export

    def slow(lease: InlineLease, tag: int) -> None:
        if tag == 1:
            monkeypatch.setattr(lease, "_say", held.append)  # kept back
            export(lease, tag)
            monkeypatch.undo()
            monkeypatch.setattr(InlineLease, "export", late)
        else:
            export(lease, tag)

    def late(lease: InlineLease, tag: int) -> None:
        if held:
            lease._say(held.pop())  # and nothing newer yet
        else:
            export(lease, tag)

    monkeypatch.setattr(InlineLease, "export", slow)
    monkeypatch.setattr("ossicle.streaming.session.checkpoints.PATIENCE_S", 0.05)
    asked, point, x = await first_half(models, store, Caller(), tasks=(ENHANCE,))
    from dataclasses import replace

    service = Service(InlineEngine(loaded=models), Settings(), store)
    rest = [replace(asked, resume_token=point.token), *pieces(x[:, point.sample :], 800), m.End()]
    answers = [r async for r in service.stream(given(rest), Caller())]
    sounds = [r.body for r in answers if isinstance(r.body, m.AudioOut)]
    assert sounds[0].start_sample <= point.sample
    assert sounds[-1].start_sample + sounds[-1].samples == x.shape[1]
    for before, after in pairwise(sounds):
        assert after.start_sample == before.start_sample + before.samples
