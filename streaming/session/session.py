"""One client from its config to its end: ``AsyncIterator`` of requests in, of responses out.

Nothing here knows of sockets, protobuf or threads: the engine's answers come through a mailbox
onto this loop, the transport is whoever iterates. A reader task takes requests and hands them to
the intake; the caller's own task takes answers out of the outbox. The end of requests without
``end`` is a lost client: nothing is flushed, the slots go back at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from ossicle.runtime.errors import OssicleError, WireError
from ossicle.runtime.task import CueEvent
from ossicle.streaming import messages as m
from ossicle.streaming.session.branch import Branch
from ossicle.streaming.session.capture import Capture
from ossicle.streaming.session.checkpoints import Checkpoints
from ossicle.streaming.session.inlet import Inlet
from ossicle.streaming.session.intake import Intake
from ossicle.streaming.session.limits import Rate
from ossicle.streaming.session.line import Line
from ossicle.streaming.session.outbox import Outbox
from ossicle.streaming.session.seam import Batch, Exported, Failed, Flushed, Mark, Word
from ossicle.streaming.session.swap import Reopen

log = logging.getLogger("ossicle.session")
GRPC_BYTES = 5 + 9 + 52  # what a message costs beside itself: gRPC, HTTP/2 DATA, TCP/IP


class Session(Line):
    """One stream. Made by the service, which opens its leases; used on one event loop only."""

    def __init__(
        self,
        name: str,
        config: m.Config,
        inlet: Inlet,
        outbox: Outbox,
        branches: list[Branch],
        limits: m.StreamLimits,
        rate: Rate,
        checkpoints: Checkpoints | None = None,
        drift_ppm: float = 50.0,
        log_text: bool = False,
        reopen: Reopen | None = None,
    ) -> None:
        super().__init__(name, config, inlet, outbox, branches, limits, checkpoints, log_text)
        self.bytes_out = self.messages_out = 0
        self.checkpoints_saved = self.checkpoints_failed = 0
        self.failure: Exception | None = None  # what ended it badly
        self.waiting = False  # the client is held back by us, not idle
        self.warned = False  # that its time is nearly over
        self.opened_s = self.heard_s = time.monotonic()
        self.taking_since: float | None = None  # an answer is with the transport since then
        self.on_ended: Callable[[Session], None] = lambda _: None
        self.capture = Capture()
        self.intake = Intake(self, rate, drift_ppm, self.checkpoint, reopen)
        self._all_flushed = asyncio.Event()

    @property
    def promised_ms(self) -> float:
        """The shortest time in which any of its tasks has to answer a hop."""
        return min(b.promised_ms for b in self.branches.values())

    @property
    def ended(self) -> bool:
        """Whether ``end`` came."""
        return self.intake.ended

    # -- from the engine ------------------------------------------------------------------------

    def deliver(self, branch: Branch, batch: Batch) -> None:
        """Take what the engine answered for one task; on the loop."""
        if self.over:
            return
        now = time.monotonic_ns()
        outlet, hop = branch.outlet, None
        for event, ledger in batch:
            if ledger is not None and ledger is not hop:
                hop = ledger
                outlet.account(ledger)
            if not isinstance(event, Word):
                outlet.take(event, ledger, now)
                if self.log_text and isinstance(event, CueEvent) and event.cue.is_final:
                    self.log("caption", event.cue.text)
            elif not self._heed(branch, event):
                return

    def _heed(self, branch: Branch, word: Word) -> bool:
        """Take what the engine says about one task; return whether the stream goes on."""
        match word:
            case Mark(tag):
                if (answer := self.marks.reached(tag)) is not None:
                    self.outbox.put(answer)
            case Exported(tag, data):
                self.capture.exported(branch, tag, data)
            case Flushed() if branch.leaving is not None:
                branch.leaving.set()
            case Flushed():
                branch.outlet.finish()
                branch.flushed = True
                if all(b.flushed for b in self.branches.values()):
                    self._all_flushed.set()
            case Failed(error):
                self.fail(error)
                return False
        return True

    def relieve(self) -> None:
        """There is headroom again: tasks that had to take a smaller model get theirs back."""
        for branch in self.branches.values():
            if branch.reduced:
                branch.wanted, branch.why = branch.model, "headroom again"

    # -- life -----------------------------------------------------------------------------------

    def fail(self, error: Exception) -> None:
        """Give the stream up: the reader of answers sees ``error``."""
        if not self.over:
            if not isinstance(error, OssicleError):
                log.exception("stream failed", exc_info=error, extra={"session": self.name})
            self.failure = error
            self.outbox.fail(error)
            self.close()

    def close(self) -> None:
        """Give everything back; may be called from anywhere on the loop, any number of times."""
        if self.over:
            return
        self.over = True
        self.outbox.close()
        for branch in self.branches.values():
            if branch.lease is not None:
                branch.lease.close()
            if branch.leaving is not None:
                branch.leaving.set()
        self.inlet.close()
        self._all_flushed.set()
        self.capture.give_up()
        self.on_ended(self)

    async def run(self, requests: AsyncIterator[m.Request]) -> AsyncIterator[m.Response]:
        """Yield every answer; `requests` are those after the config."""
        reader = asyncio.create_task(self._read(requests), name=f"ossicle-read-{self.name}")
        try:
            while True:
                self.taking_since = None
                response = await self.outbox.next()
                if response is None:
                    break
                self.taking_since = time.monotonic()
                yield response
        finally:
            self.close()
            reader.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await reader

    async def _read(self, requests: AsyncIterator[m.Request]) -> None:
        intake = self.intake
        try:
            async for request in requests:
                self.waiting = True
                await intake.take(request)
                self.waiting, self.heard_s = False, time.monotonic()
                if intake.ended:
                    await self._finish()
                    return
            if not self.over:
                log.info("client lost", extra={"session": self.name})
                self.fail(
                    WireError(
                        "the requests ended without `end`: taken for a lost client, nothing was "
                        "flushed. Send `end` last",
                        reason="NO_END",
                    )
                )
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.fail(error)

    async def _finish(self) -> None:
        await self.intake.finish()
        await self._all_flushed.wait()
        if self.over:
            return
        self.outbox.put(m.Response(self.totals()))
        self.outbox.close()

    # -- what is said about the stream ----------------------------------------------------------

    def totals(self) -> m.Ended:
        """Return the last answer as it stands now."""
        intake = self.intake
        audio_s = self.inlet.position / self.inlet.format.rate_hz
        seconds = audio_s or max(
            (b.outlet.reached / b.outlet.output_rate_hz for b in self.branches.values()),
            default=0.0,
        )
        wire_in = intake.bytes_in + intake.messages_in * GRPC_BYTES
        wire_out = self.bytes_out + self.messages_out * GRPC_BYTES
        per = 1000 * seconds if seconds else float("inf")
        return m.Ended(
            samples=self.inlet.position,
            lost_samples=self.outbox.dropped_samples,
            bytes_in=intake.bytes_in,
            bytes_out=self.bytes_out,
            wire_kbps_in=8 * wire_in / per,
            wire_kbps_out=8 * wire_out / per,
            tasks=tuple(b.outlet.totals(seconds) for b in self.branches.values()),
        )

    # -- checkpoints ----------------------------------------------------------------------------

    async def checkpoint(self) -> None:
        """Take a snapshot between two messages: nothing is pushed until every lease answered."""
        checkpoints, intake = self.checkpoints, self.intake
        assert checkpoints is not None
        begun = time.monotonic()
        tasks = await self.capture.take(self.branches.values(), checkpoints.patience_s)
        if tasks is None:
            checkpoints.skipped(self.inlet.position)
            return
        if self.over:
            return
        tree = {
            "inlet": self.inlet.export(),
            "packets_in": intake.packets_in,
            "tasks": tasks,
            "bytes_in": intake.bytes_in,
            "messages_in": intake.messages_in,
        }
        data = checkpoints.pack(tree)
        spent = time.monotonic() - begun
        checkpoints.save(data, self.inlet.position, intake.packets_in, spent, self._saved)

    def _saved(self, checkpoint: m.Checkpoint | None, why: str) -> None:
        if checkpoint is None:
            self.checkpoints_failed += 1
        else:
            self.checkpoints_saved += 1
        if self.over:
            return
        if checkpoint is not None:
            self.outbox.put(m.Response(checkpoint))
        elif why:
            self.notice("NO_CHECKPOINT", why)
