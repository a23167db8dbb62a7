"""One stream of a load: sends when a sample was due, and counts latency from then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from ossicle.streaming import messages as m
from ossicle.streaming.captions.cue import Cue
from ossicle.streaming.client.transport import ServerError, Transport
from ossicle.streaming.loadgen.heard import Heard
from ossicle.streaming.loadgen.plan import RATE_HZ, SETTLE_S, Plan


class Player:
    """One stream of the load."""

    def __init__(self, plan: Plan, transport: Transport, heard: Heard, sound: list[bytes]) -> None:
        self.plan, self.transport, self.heard, self.sound = plan, transport, heard, sound
        self.begun_s = 0.0
        self.lead: dict[str, int] = {}  # samples after an answer's end that it also needs
        self._go = asyncio.Event()
        self._over = False

    async def run(self, phase_s: float) -> None:
        """Play one stream to its end."""
        await asyncio.sleep(phase_s)
        try:
            async for response in self.transport.stream(self._requests()):
                self._take(response, time.perf_counter())
        except ServerError as error:
            kind = self.heard.failed if self._go.is_set() else self.heard.refused
            reason = error.failure.reason or error.failure.code
            kind[reason] = kind.get(reason, 0) + 1
        finally:
            self._over = True
            self._go.set()  # whoever still waits to send may leave

    async def _requests(self) -> AsyncIterator[m.Request]:
        plan = self.plan
        options: dict[str, dict[str, Any]] = {
            "separate": {"query": plan.query},
            "encode": {"frames_per_packet": 1},
        }
        tasks = tuple(
            m.TaskSpec(
                kind, model=plan.model, deadline_ms=plan.budget_ms, options=options.get(kind, {})
            )
            for kind in plan.tasks
        )
        yield m.Config(RATE_HZ, tasks, encoding="pcm_s16", client="loadgen")
        await self._go.wait()
        if self._over:
            return
        self.begun_s = time.perf_counter()
        interval = plan.message_ms / 1000
        for index in range(int(plan.seconds / interval)):
            due = self.begun_s + (index + 1) * interval
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            self.heard.late_send_ms.append(max(0.0, 1000 * (time.perf_counter() - due)))
            yield m.AudioIn(self.sound[index % len(self.sound)])
        yield m.End()

    def _take(self, response: m.Response, now: float) -> None:
        body, plan = response.body, self.plan
        if isinstance(body, m.Started):
            self.heard.opened += 1
            for task in body.tasks:
                self.lead[task.name] = (
                    0 if task.kind in ("encode", "caption") else task.delay_samples
                )
            self._go.set()
            return
        if isinstance(body, m.Ended):
            self.heard.ended.append(body)
            return
        end = _end_of(body)
        if end is None or response.ledger is None:
            return
        needed = end + self.lead.get(response.task, 0)
        message = -(-needed // plan.samples)  # the message that brought the last needed sample
        due = self.begun_s + message * plan.message_ms / 1000
        if due - self.begun_s < SETTLE_S or message > int(plan.seconds * 1000 / plan.message_ms):
            return
        self.heard.answers += 1
        self.heard.latency_ms.append(1000 * (now - due))
        self.heard.ledger(response)
        self.heard.ledger_misses += response.ledger.total_us > 1000 * plan.budget_ms


def _end_of(body: Any) -> int | None:
    """Return the input sample at which the answer's sound ends (rates are equal here)."""
    if isinstance(body, m.PacketsOut):
        last = body.packets[-1]
        return last.start_sample + last.samples
    if isinstance(body, m.AudioOut):
        return body.start_sample + body.samples
    if isinstance(body, Cue):
        return body.audio_seen_sample
    return None
