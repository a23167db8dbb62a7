"""When one stream's snapshots are taken, and what becomes of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from ossicle.runtime import snapshot
from ossicle.runtime.errors import SnapshotError
from ossicle.streaming import messages as m
from ossicle.streaming.session.store import SnapshotStore

PATIENCE_S = 1.0  # for the engine to export every task
UNACKNOWLEDGED = 3  # checkpoints that may wait for the client's word
Saved = Callable[[m.Checkpoint | None, str], None]


class Checkpoints:
    """The checkpoints of one stream: one every ``every`` samples, less often where they cost much.

    A checkpoint is announced to the client after everything sent before it, so a client that holds
    the announcement holds those answers too. Older files go once the client acknowledged a newer.
    """

    def __init__(
        self,
        store: SnapshotStore,
        stream: str,
        client: str,
        config: m.Config,
        every: int,
        share: float,
        number: int = 0,
        position: int = 0,
    ) -> None:
        self.store, self.stream, self.client = store, stream, client
        self.patience_s = PATIENCE_S
        self.number = number
        self._config = fingerprint(config)
        self._every, self._share = every, share
        self._at = position
        self._not_before_s = 0.0
        self._acknowledged = number
        self._writing: asyncio.Task[None] | None = None
        self._complained = False

    def due(self, position: int) -> bool:
        """Whether the next snapshot should be taken at ``position``."""
        return (
            position - self._at >= self._every
            and self._writing is None
            and self.number - self._acknowledged < UNACKNOWLEDGED
            and time.monotonic() >= self._not_before_s
        )

    def skipped(self, position: int) -> None:
        """The engine had no time; try again after another interval."""
        self._at = position

    def acknowledged(self, number: int) -> None:
        """The client holds checkpoint ``number``: the ones before it are not needed."""
        if self._acknowledged < number <= self.number:
            self._acknowledged = number
            self.store.forget(self.stream, below=number)

    def pack(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Return ``tree`` with whom it belongs to, as plain values that nobody changes any more."""
        return {
            "client": self.client,
            "config": self._config,
            "body": snapshot.dump(tree, max_bytes=self.store.max_bytes),
        }

    def save(
        self, tree: dict[str, Any], position: int, packets: int, spent_s: float, done: Saved
    ) -> None:
        """Write in a thread; ``done`` is called on the loop with the checkpoint or the reason."""
        self._at = position
        self.number += 1
        self._writing = asyncio.create_task(
            self._write(tree, self.number, position, packets, spent_s, done)
        )

    async def _write(
        self,
        tree: dict[str, Any],
        number: int,
        position: int,
        packets: int,
        spent_s: float,
        done: Saved,
    ) -> None:
        begun = time.monotonic()
        try:
            await asyncio.to_thread(self.store.write, self.stream, number, tree)
        except SnapshotError as error:
            self._writing = None
            self.number -= 1
            said, self._complained = self._complained, True
            done(None, "" if said else f"the stream cannot be resumed for now: {error}")
            self._not_before_s = time.monotonic() + 10.0
            return
        self._writing = None
        self._complained = False
        cost = spent_s + time.monotonic() - begun
        self._not_before_s = begun + cost / self._share
        token = self.store.token(self.stream, number)
        done(m.Checkpoint(number, token, position, packets), "")


def fingerprint(config: m.Config) -> str:
    """Return what must be equal between a stream and its resumption."""
    tasks = [
        [t.track, t.kind, t.model, sorted((k, v) for k, v in t.options.items() if k != "query")]
        for t in config.tasks
    ]
    output = [config.output_encoding, config.output_rate_hz]
    return repr([config.sample_rate_hz, config.channels, config.encoding, output, tasks])


def unpack(tree: Any, client: str, config: m.Config) -> dict[str, Any]:
    """Return what :meth:`Checkpoints.pack` was given.

    Raises:
        SnapshotError: of another client, or another config.
    """
    if not isinstance(tree, dict) or set(tree) != {"client", "config", "body"}:
        raise SnapshotError("the snapshot holds no stream")
    if tree["client"] != client:
        raise SnapshotError("the resume token belongs to another client")
    if tree["config"] != fingerprint(config):
        raise SnapshotError(
            "the config differs from the stream's that is to be resumed; send the same one"
        )
    body = snapshot.load(tree["body"])
    if not isinstance(body, dict):
        raise SnapshotError("the snapshot holds no stream")
    return body
