"""One client from its config to its end: ``AsyncIterator`` of requests in, of responses out.

Nothing here knows of sockets, protobuf or threads: the engine's answers come through a mailbox
onto this loop, the transport is whoever iterates. A reader task takes requests and pushes audio;
the caller's own task takes answers out of the outbox. The end of requests without ``end`` is a lost
client: nothing is flushed, the slots go back at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from ossicle.runtime.budget import Ledger
from ossicle.runtime.errors import OssicleError, WireError
from ossicle.streaming import messages as m
from ossicle.streaming.checkpoints import Checkpoints
from ossicle.streaming.coded import CodedReader
from ossicle.streaming.failures import Closing
from ossicle.streaming.inlet import Inlet, Refused
from ossicle.streaming.limits import Drift, Rate, check_size
from ossicle.streaming.outbox import Outbox
from ossicle.streaming.outlet import Outlet
from ossicle.streaming.seam import Batch, Exported, Failed, Flushed, Lease, Mark

log = logging.getLogger("ossicle.session")
GRPC_BYTES = 5 + 9 + 52  # what a message costs beside itself: gRPC, HTTP/2 DATA, TCP/IP
FULL_WAIT_S = 0.002  # between two tries at a full lease
DRIFT_EVERY_S = 30.0


class Branch:
    """One task of the stream: its lease and its outlet."""

    def __init__(self, spec: m.TaskSpec, started: m.TaskStarted, outlet: Outlet) -> None:
        self.spec, self.started, self.outlet = spec, started, outlet
        self.lease: Lease | None = None
        self.flushed = False
        self.exported: bytes | None = None
        self.side: Any = None  # the outlet's memory at that point


class Session:
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
    ) -> None:
        self.name, self.config = name, config
        self.inlet, self.outbox = inlet, outbox
        self.branches = {b.spec.track: b for b in branches}
        self.limits = limits
        self.checkpoints = checkpoints
        self.live = config.pace == "live"
        self.bytes_in = self.bytes_out = self.messages_in = self.messages_out = 0
        self.packets_in = 0
        self.failure: Exception | None = None  # what ended it badly
        self.ended = False  # `end` came
        self.waiting = False  # the client is held back by us, not idle
        self.warned = False  # that its time is nearly over
        self.over = False
        self.opened_s = self.heard_s = time.monotonic()
        self.taking_since: float | None = None  # an answer is with the transport since then
        self.on_ended: Callable[[Session], None] = lambda _: None
        self._rate = rate
        self._marks: dict[int, tuple[m.Marker, int, int]] = {}  # tag -> marker, left, arrival
        self._next_mark = 0
        self._export = 0  # number of the snapshot that is being taken
        self._all_flushed = asyncio.Event()
        self._all_exported = asyncio.Event()
        self._drift, self._drift_ppm, self._drift_said_s = Drift(), drift_ppm, 0.0
        self._bad_said = False
        self._credited = 0  # how far the client may send
        self._packet_ms = 0.0
        self.reason = "END"

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
            match event:
                case Mark(tag):
                    self._marked(tag)
                case Exported(tag, data):
                    self._exported(branch, tag, data)
                case Flushed():
                    outlet.finish()
                    branch.flushed = True
                    if all(b.flushed for b in self.branches.values()):
                        self._all_flushed.set()
                case Failed(error):
                    self.fail(error)
                    return
                case _:
                    outlet.take(event, ledger, now)

    def _exported(self, branch: Branch, tag: int, data: bytes) -> None:
        if tag != self._export:  # of an attempt that was given up: audio came since
            return
        branch.exported, branch.side = data, branch.outlet.export_bytes()
        if all(b.exported is not None for b in self.branches.values()):
            self._all_exported.set()

    def _marked(self, tag: int) -> None:
        marker, left, arrival = self._marks.pop(tag)
        if left > 1:
            self._marks[tag] = (marker, left - 1, arrival)
            return
        ledger = Ledger(wait_us=(time.monotonic_ns() - arrival) // 1000)
        self.outbox.put(m.Response(marker, ledger=ledger))

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
        self.inlet.close()
        self._all_flushed.set()
        self._all_exported.set()
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
        try:
            async for request in requests:
                self.waiting = True
                await self._handle(request)
                self.waiting, self.heard_s = False, time.monotonic()
                if self.ended:
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

    async def _handle(self, request: m.Request) -> None:
        self.messages_in += 1
        if type(request) is m.AudioIn:
            await self._audio(request)
            return
        match request:
            case m.PacketsIn():
                await self._packets(request)
            case m.Credit(until):
                self.outbox.grant(until)
            case m.Marker():
                self._mark(request)
            case m.Query(text, task):
                self._one(task, "separate", "query").update({"query": text})
            case m.LossReport(lost, _, task):
                self._one(task, "encode", "loss").update({"loss": min(1.0, max(0.0, lost))})
            case m.Acknowledge(number):
                if self.checkpoints is not None:
                    self.checkpoints.acknowledged(number)
            case m.End():
                self.ended = True
            case m.Config():
                raise WireError(
                    "a second config; it comes first and exactly once. Open another stream",
                    field="config",
                )

    def _one(self, task: str, kind: str, field: str) -> Lease:
        """Return the lease of the task meant by name, or of the only one of its kind."""
        found = [
            b
            for name, b in self.branches.items()
            if b.spec.kind == kind and (not task or name == task)
        ]
        if len(found) != 1 or found[0].lease is None:
            raise WireError(
                f"{field} for {task or 'an unnamed task'}, but {len(found)} {kind} tasks fit; the "
                f"stream has {', '.join(self.branches)}",
                field=f"{field}.task",
            )
        return found[0].lease

    # -- audio and packets in -------------------------------------------------------------------

    async def _audio(self, message: m.AudioIn) -> None:
        arrival = time.monotonic_ns()
        self._count(len(message.data))
        inlet = self.inlet
        inlet.place(message)
        for gap in inlet.gaps:
            self.outbox.put(m.Response(gap))
        inlet.gaps.clear()
        if message.capture_unix_ns:
            self._watch_clock(arrival, message.capture_unix_ns)
        if inlet.coded is not None:
            await self._coded(inlet.coded, message.data, arrival)
        else:
            await self._push(inlet.read(message.data), arrival)
        if inlet.bad_samples and not self._bad_said:
            self._bad_said = True
            self._notice("BAD_SAMPLES", "samples that are NaN or Inf were silenced")
        if self.config.credit_ms:
            self.give_credit()
        if self.checkpoints is not None and self.checkpoints.due(inlet.position):
            await self._checkpoint()

    def give_credit(self) -> None:
        """Tell a client that keeps credit how far it may send: a ring beyond what was taken."""
        ring = self.limits.ring_ms * self.inlet.format.rate_hz // 1000
        until = self.inlet.position + ring
        if until - self._credited >= ring // 4:
            self._credited = until
            self.outbox.put(m.Response(m.Credit(until)))

    async def _push(self, samples: Any, arrival: int) -> None:
        for chunk in self.inlet.chunks(samples):
            refused = self.inlet.push(chunk, arrival)
            if refused:
                await self._retry(refused, arrival)
            if not self.live:
                if self.outbox.full:
                    await self.outbox.room()
                await asyncio.sleep(0)
            if self.over:
                return

    async def _retry(self, refused: list[Refused], arrival: int) -> None:
        """Wait until full leases have taken what they refused; for streams that are not live."""
        blocked: set[int] = set()
        while refused and not self.over:
            await asyncio.sleep(FULL_WAIT_S)
            if self.outbox.full:
                await self.outbox.room()
            blocked.clear()
            left: list[Refused] = []
            for lease, chunk in refused:
                if id(lease) in blocked or not lease.push(chunk, arrival):
                    blocked.add(id(lease))
                    left.append((lease, chunk))
            refused = left

    async def _coded(self, coded: CodedReader, data: bytes, arrival: int) -> None:
        while data and not self.over:
            data = data[coded.put(data) :]
            await self._take_coded(coded, arrival)
            if data:
                await asyncio.sleep(FULL_WAIT_S)

    async def _take_coded(self, coded: CodedReader, arrival: int) -> None:
        for samples in coded.take():
            self.inlet.adopt_header()
            await self._push(samples, arrival)

    async def _packets(self, message: m.PacketsIn) -> None:
        arrival = time.monotonic_ns()
        lease = self._one(message.task, "decode", "packets")
        self._count(sum(len(p.data) for p in message.packets))
        for packet in message.packets:
            while not lease.push(packet.data, arrival) and not self.over:  # noqa: ASYNC110
                await asyncio.sleep(FULL_WAIT_S)
            self.packets_in += 1
            if not self.live:
                if self.outbox.full:
                    await self.outbox.room()
                await asyncio.sleep(0)
        if self.checkpoints is not None and self.checkpoints.due(self._packet_position(message)):
            await self._checkpoint()

    def _packet_position(self, message: m.PacketsIn) -> int:
        """Return how far the packets reach, on the client's clock; used to time checkpoints."""
        if message.packets:
            last = message.packets[-1]
            self._packet_ms = max(self._packet_ms, float(last.start_sample + last.samples))
        return max(self.inlet.position, int(self._packet_ms))

    def _count(self, size: int) -> None:
        check_size(size, self.limits.max_message_bytes, "audio.data")
        self.bytes_in += size
        late = self._rate.take(size, time.monotonic()) if self.live else 0.0
        if late > 0:
            raise Closing(
                f"{self._rate.per_second:g} bytes a second are allowed, averaged over 10 s; this "
                "stream sent more. Live audio comes at its own pace; for files say pace FILE",
                reason="RATE",
                retry_after_ms=1000,
            )

    def _watch_clock(self, arrival_ns: int, capture_unix_ns: int) -> None:
        if not self._drift_said_s:
            self._drift_said_s = self.heard_s
        self._drift.add(arrival_ns / 1e9, capture_unix_ns / 1e9)
        ppm = self._drift.ppm
        if (
            self._drift.span_s >= DRIFT_EVERY_S
            and self.heard_s - self._drift_said_s >= DRIFT_EVERY_S
            and abs(ppm) >= self._drift_ppm
        ):
            self._drift_said_s = self.heard_s
            text = f"the client's clock runs {ppm:+.0f} ppm against the server's"
            self._notice("CLOCK_DRIFT", text, {"ppm": f"{ppm:.1f}"})

    def _mark(self, marker: m.Marker) -> None:
        tag, self._next_mark = self._next_mark, self._next_mark + 1
        placed = m.Marker(marker.id, marker.client_ns, self.inlet.position)
        if len(self._marks) >= 1000:
            raise WireError("1000 markers are on their way; wait for some", field="marker")
        self._marks[tag] = (placed, len(self.branches), time.monotonic_ns())
        for branch in self.branches.values():
            assert branch.lease is not None
            branch.lease.mark(tag)

    def _notice(self, kind: str, text: str, fields: dict[str, str] | None = None) -> None:
        self.outbox.put(m.Response(m.Notice(kind, text, fields or {})))

    def going_away(self, seconds: float, why: str) -> None:
        """Announce that the connection will be closed, so that the client can move."""
        text = f"the connection is closed in {seconds:g} s ({why}); reconnect to go on"
        fields = {"seconds": f"{seconds:g}", "reason": why}
        self._notice("GOING_AWAY", text, fields)

    # -- the end --------------------------------------------------------------------------------

    async def _finish(self) -> None:
        arrival = time.monotonic_ns()
        inlet = self.inlet
        if inlet.coded is not None:
            inlet.coded.end()
            while not inlet.coded.over and not self.over:
                await self._take_coded(inlet.coded, arrival)
                await asyncio.sleep(FULL_WAIT_S)
            await self._take_coded(inlet.coded, arrival)
        refused = inlet.finish(arrival)
        if refused:
            await self._retry(refused, arrival)
        total = inlet.position
        for branch in self.branches.values():
            outlet = branch.outlet
            if branch.spec.kind != "decode":
                outlet.limit = -(-total * outlet.output_rate_hz // outlet.client_rate_hz)
            if branch.lease is not None:
                branch.lease.flush()
        await self._all_flushed.wait()
        if self.over:
            return
        self.reason = "END"
        self.outbox.put(m.Response(self.totals()))
        self.outbox.close()

    def totals(self) -> m.Ended:
        """Return the last answer as it stands now."""
        audio_s = self.inlet.position / self.inlet.format.rate_hz
        seconds = audio_s or max(
            (b.outlet.reached / b.outlet.output_rate_hz for b in self.branches.values()),
            default=0.0,
        )
        wire_in = self.bytes_in + self.messages_in * GRPC_BYTES
        wire_out = self.bytes_out + self.messages_out * GRPC_BYTES
        per = 1000 * seconds if seconds else float("inf")
        return m.Ended(
            samples=self.inlet.position,
            lost_samples=self.outbox.dropped_samples,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            wire_kbps_in=8 * wire_in / per,
            wire_kbps_out=8 * wire_out / per,
            tasks=tuple(b.outlet.totals(seconds) for b in self.branches.values()),
            reason=self.reason,
        )

    # -- checkpoints ----------------------------------------------------------------------------

    async def _checkpoint(self) -> None:
        """Take a snapshot between two messages: nothing is pushed until every lease answered."""
        checkpoints = self.checkpoints
        assert checkpoints is not None
        begun = time.monotonic()
        self._all_exported.clear()
        self._export += 1
        for branch in self.branches.values():
            branch.exported = None
            assert branch.lease is not None
            branch.lease.export(self._export)
        try:
            await asyncio.wait_for(self._all_exported.wait(), checkpoints.patience_s)
        except TimeoutError:
            self._export += 1
            checkpoints.skipped(self.inlet.position)
            return
        if self.over:
            return
        tree = {
            "inlet": self.inlet.export(),
            "packets_in": self.packets_in,
            "tasks": {n: (b.exported, b.side) for n, b in self.branches.items()},
            "bytes_in": self.bytes_in,
            "messages_in": self.messages_in,
        }
        data = checkpoints.pack(tree)
        spent = time.monotonic() - begun
        position, packets = self.inlet.position, self.packets_in
        checkpoints.save(data, position, packets, spent, self._saved)

    def _saved(self, checkpoint: m.Checkpoint | None, why: str) -> None:
        if self.over:
            return
        if checkpoint is not None:
            self.outbox.put(m.Response(checkpoint))
        elif why:
            self._notice("NO_CHECKPOINT", why)
