"""What becomes of each request of one stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ossicle.runtime.errors import WireError
from ossicle.streaming import messages as m
from ossicle.streaming.failures import Closing
from ossicle.streaming.session.branch import Branch
from ossicle.streaming.session.coded import CodedReader
from ossicle.streaming.session.drift import ClockWatch
from ossicle.streaming.session.inlet import Refused
from ossicle.streaming.session.limits import Rate, refuse_size
from ossicle.streaming.session.line import Line
from ossicle.streaming.session.swap import Reopen, swap

FULL_WAIT_S = 0.002  # between two tries at a full lease
CLOSE_NS = 8_000_000  # messages nearer to each other come faster than a paced loop looks


class Intake:
    """Takes requests one by one, and counts them; audio goes through the inlet to the leases."""

    def __init__(
        self,
        line: Line,
        rate: Rate,
        drift_ppm: float,
        checkpoint: Callable[[], Awaitable[None]],
        reopen: Reopen | None = None,
    ) -> None:
        self._line, self._rate = line, rate
        self._checkpoint, self._reopen = checkpoint, reopen
        self._branches = list(line.branches.values())
        self._clock = ClockWatch(drift_ppm)
        self.bytes_in = self.messages_in = self.packets_in = 0
        self.ended = False  # `end` came
        self._bad_said = False
        self._credited = 0  # how far the client may send
        self._arrived_ns = 0  # when the last message did
        self._packet_position = 0

    async def take(self, request: m.Request) -> None:
        """Do what a request asks for.

        Raises:
            OssicleError: it is wrong, or too much.
        """
        self.messages_in += 1
        if type(request) is m.AudioIn:
            await self._audio(request)
            return
        line = self._line
        match request:
            case m.PacketsIn():
                await self._packets(request)
            case m.Credit(until):
                line.outbox.grant(until)
            case m.Marker():
                line.marks.send(request, line.inlet.position, line.branches.values())
            case m.Query():
                self._query(request)
            case m.LossReport(lost, _, task):
                self._one(task, "encode", "loss").opened.update({"loss": min(1.0, max(0.0, lost))})
            case m.Acknowledge(number):
                if line.checkpoints is not None:
                    line.checkpoints.acknowledged(number)
            case m.End():
                self.ended = True
            case m.Config():
                raise WireError(
                    "a second config; it comes first and exactly once. Open another stream",
                    field="config",
                )

    def _query(self, query: m.Query) -> None:
        """Change what a separate task gives: its targets, its depth, or both."""
        self._line.log("query", "; ".join(query.texts) or query.text)
        branch = self._one(query.task, "separate", "query")
        asked = list(query.texts) or query.text
        changes: dict[str, Any] = {} if query.depth is None else {"depth": query.depth}
        if asked or not changes:  # nothing at all is refused as an empty query is
            changes["query"] = asked
        branch.ask(changes)

    def _one(self, task: str, kind: str, field: str) -> Branch:
        """Return the task meant by name, or of the only one of its kind."""
        branches = self._line.branches
        found = [
            b for name, b in branches.items() if b.spec.kind == kind and (not task or name == task)
        ]
        if len(found) != 1:
            raise WireError(
                f"{field} for {task or 'an unnamed task'}, but {len(found)} {kind} tasks fit; the "
                f"stream has {', '.join(branches)}",
                field=f"{field}.task",
            )
        return found[0]

    # -- audio ----------------------------------------------------------------------------------

    async def _audio(self, message: m.AudioIn) -> None:
        arrival = time.monotonic_ns()
        self._count(len(message.data), arrival)
        line = self._line
        inlet = line.inlet
        for branch in self._branches:
            if branch.wanted:
                assert self._reopen is not None
                await swap(line, branch, self._reopen)
        if message.start_sample is not None:
            inlet.place(message.start_sample)
            for gap in inlet.gaps:
                line.outbox.put(m.Response(gap))
            inlet.gaps.clear()
        if message.capture_unix_ns:
            notice = self._clock.saw(arrival, message.capture_unix_ns)
            if notice is not None:
                line.outbox.put(m.Response(notice))
        if inlet.coded is not None:
            await self._coded(inlet.coded, message.data, arrival)
        else:
            await self._push(inlet.read(message.data), arrival)
        if inlet.bad_samples and not self._bad_said:
            self._bad_said = True
            line.notice("BAD_SAMPLES", "samples that are NaN or Inf were silenced")
        if line.config.credit_ms:
            self.give_credit()
        if line.checkpoints is not None and line.checkpoints.due(inlet.position):
            await self._checkpoint()

    def give_credit(self) -> None:
        """Tell a client that keeps credit how far it may send: a ring beyond what was taken."""
        line = self._line
        ring = line.limits.ring_ms * line.inlet.format.rate_hz // 1000
        until = line.inlet.position + ring
        if until - self._credited >= ring // 4:
            self._credited = until
            line.outbox.put(m.Response(m.Credit(until)))

    async def _push(self, samples: Any, arrival: int) -> None:
        line = self._line
        for chunk in line.inlet.chunks(samples):
            refused = line.inlet.push(chunk, arrival)
            if refused:
                await self._retry(refused, arrival)
            if not line.live:
                await self._yield()
            if line.over:
                return

    async def _yield(self) -> None:
        """Let the others work, and wait where answers have piled up; for streams not live."""
        if self._line.outbox.full:
            await self._line.outbox.room()
        await asyncio.sleep(0)

    async def _retry(self, refused: list[Refused], arrival: int) -> None:
        """Wait until full leases have taken what they refused; for streams that are not live."""
        line = self._line
        blocked: set[int] = set()
        while refused and not line.over:
            await asyncio.sleep(FULL_WAIT_S)
            if line.outbox.full:
                await line.outbox.room()
            blocked.clear()
            left: list[Refused] = []
            for lease, chunk in refused:
                if id(lease) in blocked or not lease.push(chunk, arrival):
                    blocked.add(id(lease))
                    left.append((lease, chunk))
            refused = left

    async def _coded(self, coded: CodedReader, data: bytes, arrival: int) -> None:
        while data and not self._line.over:
            data = data[coded.put(data) :]
            await self._take_coded(coded, arrival)
            if data:
                await asyncio.sleep(FULL_WAIT_S)

    async def _take_coded(self, coded: CodedReader, arrival: int) -> None:
        for samples in coded.take():
            inlet = self._line.inlet
            inlet.adopt_header()
            await self._push(inlet.fresh(samples), arrival)

    # -- packets --------------------------------------------------------------------------------

    async def _packets(self, message: m.PacketsIn) -> None:
        arrival, line = time.monotonic_ns(), self._line
        lease = self._one(message.task, "decode", "packets").opened
        self._count(sum(len(p.data) for p in message.packets), arrival)
        for packet in message.packets:
            while not lease.push(packet.data, arrival) and not line.over:  # noqa: ASYNC110  (room has no event)
                await asyncio.sleep(FULL_WAIT_S)
            self.packets_in += 1
            if not line.live:
                await self._yield()
        if line.checkpoints is not None and line.checkpoints.due(self._reached(message)):
            await self._checkpoint()

    def _reached(self, message: m.PacketsIn) -> int:
        """Return how far the packets reach, on the client's clock; used to time checkpoints."""
        if message.packets:
            last = message.packets[-1]
            self._packet_position = max(self._packet_position, last.start_sample + last.samples)
        return max(self._line.inlet.position, self._packet_position)

    def _count(self, size: int, arrival_ns: int) -> None:
        line = self._line
        if size > line.limits.max_message_bytes:
            refuse_size(size, line.limits.max_message_bytes, "audio.data")
        self.bytes_in += size
        if not line.live or arrival_ns - self._arrived_ns < CLOSE_NS:
            line.outbox.hurry()
        self._arrived_ns = arrival_ns
        if line.inlet.repeating:
            return
        if line.live and self._rate.take(size, arrival_ns / 1e9) > 0:
            raise Closing(
                f"{self._rate.per_second:g} bytes a second are allowed, averaged over 10 s; this "
                "stream sent more. Live audio comes at its own pace; for files say pace FILE",
                reason="RATE",
                retry_after_ms=1000,
            )

    # -- the end --------------------------------------------------------------------------------

    async def finish(self) -> None:
        """Push what is held, and ask every lease for its tail."""
        arrival, line = time.monotonic_ns(), self._line
        inlet = line.inlet
        if inlet.coded is not None:
            inlet.coded.end()
            while not inlet.coded.over and not line.over:
                await self._take_coded(inlet.coded, arrival)
                await asyncio.sleep(FULL_WAIT_S)
            await self._take_coded(inlet.coded, arrival)
        refused = inlet.finish(arrival)
        if refused:
            await self._retry(refused, arrival)
        total = inlet.position
        for branch in line.branches.values():
            outlet = branch.outlet
            if branch.spec.kind != "decode":
                outlet.limit = -(-total * outlet.output_rate_hz // outlet.client_rate_hz)
            if branch.lease is not None:
                branch.lease.flush()
