"""Events of one task in, answers at the client's rate out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ossicle.runtime import snapshot
from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.budget import Ledger
from ossicle.runtime.resample import Resampler
from ossicle.runtime.task import (
    AudioEvent,
    CueEvent,
    Event,
    GapEvent,
    NoticeEvent,
    PacketEvent,
)
from ossicle.streaming.encodings import encode
from ossicle.streaming.messages import (
    AudioOut,
    Gap,
    Notice,
    PacketsOut,
    Response,
    TaskTotals,
    WirePacket,
)
from ossicle.streaming.session.numbering import Numbering
from ossicle.streaming.session.outbox import Outbox
from ossicle.streaming.session.stages import StageTimes


@dataclass
class _Track:
    resampler: Resampler | None
    state: Any


COUNTERS = ("seq", "packets", "packet_bytes", "payload_bits")


class Outlet:
    """The output side of one task of one stream."""

    def __init__(
        self,
        task: str,
        model_rate_hz: int,
        client_rate_hz: int,
        output_rate_hz: int,
        encoding: str,
        outbox: Outbox,
        restore: dict[str, Any] | None = None,
        *,
        finals_only: bool = False,
        heartbeats: bool = True,
    ) -> None:
        self.task = task
        self._finals_only, self._heartbeats = finals_only, heartbeats
        self.model_rate_hz = model_rate_hz
        self.client_rate_hz = client_rate_hz
        self.output_rate_hz = output_rate_hz
        self.encoding = encoding
        self.outbox = outbox
        self.seq = 0
        self.hops = 0
        self.misses = 0
        self.gaps = 0
        self.ladder_steps = 0
        self.packets = 0
        self.packet_bytes = 0
        self.payload_bits = 0
        self.interval_ms = 0  # a caption changes at most so often; overload may set it
        self.reached = 0  # output samples so far, the end of the last one
        self.limit: int | None = None  # output samples in all, once the input has ended
        self.on_hop: Callable[[Ledger], None] | None = None
        self.on_rung: Callable[[int, str], dict[str, str] | None] = lambda rung, why: {}
        self._tracks: dict[str, _Track] = {}
        self._restore = restore or {}
        for name in COUNTERS:
            setattr(self, name, self._restore.get(name, 0))
        self._captions = Numbering(self._restore.get("captions"))
        self._stages = StageTimes()
        self._takers: dict[type, Callable[[Any, Ledger | None, int], None]] = {
            AudioEvent: self._sound,
            PacketEvent: self._packet,
            CueEvent: self._cue,
            GapEvent: self._gap,
            NoticeEvent: self._notice,
        }

    def take(self, event: Event, ledger: Ledger | None, ready_ns: int) -> None:
        """Put the answers that ``event`` makes into the outbox."""
        self._takers[type(event)](event, ledger, ready_ns)

    def account(self, ledger: Ledger) -> None:
        """Count one hop's ledger."""
        self.hops += 1
        if ledger.missed:
            self.misses += 1
        self._stages.add(ledger)
        if self.on_hop is not None:
            self.on_hop(ledger)

    def finish(self) -> None:
        """Give out what the resamplers still hold; the task has ended."""
        for name, track in self._tracks.items():
            if track.resampler is not None:
                for piece in track.resampler.flush(track.state):
                    self._send(name, piece, None, time.monotonic_ns())

    def totals(self, seconds: float) -> TaskTotals:
        """Return this task's line of ``ended``, for a stream of ``seconds``."""
        per = 1000 * seconds if seconds else float("inf")
        return TaskTotals(
            self.task,
            self.hops,
            self.misses,
            self._stages.percentiles(),
            self.payload_bits / per,
            8 * self.packet_bytes / per,
        )

    def begin_anew(self) -> None:
        """Another model has the task from here on: number its captions after those so far."""
        self._captions.begin_anew()

    def export_bytes(self, beside: dict[str, Any]) -> bytes:
        """Return everything this side remembers, as snapshot bytes, and what stands ``beside``."""
        tree = {
            **beside,
            **{name: getattr(self, name) for name in COUNTERS},
            "captions": self._captions.export(),
            "tracks": {
                name: track.state for name, track in self._tracks.items() if track.resampler
            },
        }
        return snapshot.dump(tree)

    def _cue(self, event: CueEvent, ledger: Ledger | None, ready_ns: int) -> None:
        cue = self._captions.take(event.cue, self.interval_ms)
        if cue is None:
            return
        if self._heartbeats if cue.is_heartbeat else cue.is_final or not self._finals_only:
            self._put(cue, ledger, ready_ns)

    def _gap(self, event: GapEvent, ledger: Ledger | None, ready_ns: int) -> None:
        self.gaps += 1
        gap = Gap(self._client(event.start), self._client(event.stop), event.reason.upper())
        self._put(gap, ledger, ready_ns)

    def _notice(self, event: NoticeEvent, ledger: Ledger | None, ready_ns: int) -> None:
        text, fields = event.text, {k: str(v) for k, v in event.fields.items()}
        if event.kind == "ladder":
            self.ladder_steps += 1
            why = text.partition(" (")[0]
            changes = self.on_rung(int(event.fields["rung"]), why)
            if changes is None:
                return
            if changes:
                text = f"{why} ({', '.join(f'{k}={v}' for k, v in changes.items())})"
                fields |= changes
        self._put(Notice(event.kind.upper(), text, fields), ledger, ready_ns)

    def _client(self, sample: int) -> int:
        return sample * self.client_rate_hz // self.model_rate_hz

    def _sound(self, event: AudioEvent, ledger: Ledger | None, ready_ns: int) -> None:
        name, chunk = event.track, event.chunk
        track = self._tracks.get(name)
        if track is None:
            track = self._tracks[name] = self._open_track(name, chunk.format)
        if track.resampler is None:
            self._send(name, chunk, ledger, ready_ns)
            return
        for piece in track.resampler.step(track.state, chunk):
            self._send(name, piece, ledger, ready_ns)

    def _open_track(self, name: str, format: AudioFormat) -> _Track:
        if format.rate_hz == self.output_rate_hz:
            return _Track(None, None)
        resampler = Resampler(format, AudioFormat(self.output_rate_hz, format.channels))
        saved = self._restore.get("tracks", {}).get(name)
        return _Track(resampler, resampler.open() if saved is None else saved)

    def _send(self, name: str, chunk: Chunk, ledger: Ledger | None, ready_ns: int) -> None:
        samples = chunk.samples
        if self.limit is not None and chunk.stop > self.limit:
            samples = samples[:, : max(0, self.limit - chunk.start)]
        count = samples.shape[1]
        if not count:
            return
        body = AudioOut(
            name,
            encode(samples, self.encoding),
            chunk.start,
            count,
            samples.shape[0],
            chunk.discont,
        )
        rate, client = self.output_rate_hz, self.client_rate_hz
        self.reached = max(self.reached, chunk.start + count)
        span = (chunk.start * client // rate, (chunk.start + count) * client // rate)
        self._put(body, ledger, ready_ns, 1000 * count / rate, span)

    def _packet(self, event: PacketEvent, ledger: Ledger | None, ready_ns: int) -> None:
        start, stop, data = event.start, event.stop, event.packet
        self.packets += 1
        self.packet_bytes += len(data)
        self.payload_bits += event.payload_bits
        rate = self.model_rate_hz
        body = PacketsOut((WirePacket(data, start, stop - start),), rate)
        span = (start, stop)
        if rate != self.client_rate_hz:
            span = (self._client(start), self._client(stop))
        self._put(body, ledger, ready_ns, 1000 * (stop - start) / rate, span)

    def _put(
        self,
        body: Any,
        ledger: Ledger | None,
        ready_ns: int,
        ms: float = 0.0,
        span: tuple[int, int] = (0, 0),
    ) -> None:
        self.seq += 1
        self.outbox.put(Response(body, self.task, self.seq, ledger, ready_ns), ms, span)
