"""Packets in, samples out: the decoding half of a codec as a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime import snapshot
from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import PacketError
from ossicle.runtime.task import AudioEvent, Event, GapEvent, Hop, NoticeEvent
from ossicle.streaming.codec.concealment import HOLD, ConcealmentState, conceal, repeats
from ossicle.streaming.codec.jitter import MAX_GAP, Frame, JitterRing, JitterState
from ossicle.streaming.codec.layout import codec_program, frames_per_hop, layout_of
from ossicle.streaming.codec.packet import Codes, Noise
from ossicle.streaming.codec.packetreader import read

REPORT_FRAMES = 50  # between reports of loss
OPTIONS = ("layers", "samples")
CODED = -2  # level of a hop that is not silent


@snapshot.record("codec.Due")
@dataclass(slots=True)
class Due:
    """What is known of a hop that the model has not decoded yet."""

    index: int  # of its first frame
    lost: bool = False  # all of it
    noise_level: int = -1  # of the silence it is; below 0: it is none
    noise_bands: tuple[int, ...] = ()
    jumped_from: int = -1  # first frame of the hole before it


@snapshot.record("codec.Filling")
@dataclass(slots=True)
class Filling:
    """A hop of several frames of which some are there."""

    codes: Codes  # [K, frames]
    due: Due
    fresh: bool = False  # the decoder's memory begins anew


@snapshot.record("codec.DecodeState")
@dataclass(slots=True)
class DecodeState:
    """One stream that is being decoded."""

    ring: JitterState
    concealment: ConcealmentState
    layers: int  # that are decoded at most
    samples: int = -1  # of the whole stream; -1: unknown
    due: list[Due] = field(default_factory=list)
    jumped_from: int = -1
    last: Codes | None = None  # [K, 1] of the last frame that was there, where it is repeated
    repeated: int = 0  # frames in a row
    filling: Filling | None = None  # where a hop is several frames
    ended: bool = False
    reported: int = 0  # frames at the last report of loss
    reported_missing: int = 0


class DecodeTask:
    """Decodes the packets of any codec bundle; output sample ``i`` belongs to input sample ``i``.

    Loss, reordering and duplication are the jitter ring's business, concealment as
    :mod:`ossicle.streaming.codec.concealment` defines it. A hole of more than a second is not
    concealed but reported as a :class:`GapEvent`. Once a second with loss a notice ``loss`` says
    how much, for the sender to be steered by.

    A model whose hop is several frames (EnCodec: 8) is stepped when the last of them has left the
    ring; frames of it that are missing are decoded from zero features.

    Args:
        bundle: with a program ``decode``.
        layers: decode at most so many.
        delay: target delay of the jitter ring in frames; 0 for a reliable transport or a file.
        samples: length of the stream where it is known; the output is cut there.
        strict: refuse bad packets with an error instead of counting them as lost.
        first: index of the first frame that will come, where a stream is entered in its middle.
    """

    kind = "decode"
    program = "decode"
    input_format: AudioFormat | None = None

    def __init__(
        self,
        bundle: Bundle,
        *,
        layers: int | None = None,
        delay: int = 0,
        samples: int | None = None,
        strict: bool = False,
        first: int = 0,
    ) -> None:
        manifest = bundle.manifest
        line = codec_program(manifest, "decode")
        self.model = manifest.name
        self.manifest = manifest
        self.layout = layout_of(bundle)
        self.per_hop = frames_per_hop(manifest)
        self.output_format = AudioFormat(manifest.sample_rate_hz, manifest.channels)
        self.ring = JitterRing(delay)
        self.strict, self.first = strict, first
        self._source, self._sink = line.inputs[0].name, line.outputs[0].name
        self._repeats = repeats(manifest)
        self._layers = self.layout.layers if layers is None else self.layout.check(layers)
        self._samples = -1 if samples is None else samples
        self.latency = (delay + self.per_hop - 1) * self.layout.hop + manifest.delay

    def open(self) -> DecodeState:
        """Return the state of a stream of which nothing was received."""
        return DecodeState(
            self.ring.open(self.first), ConcealmentState(), self._layers, self._samples
        )

    def push(self, state: DecodeState, item: bytes) -> list[Hop]:
        """Return the hops of the frames that may leave, now that packet ``item`` is there.

        Raises:
            PacketError: a bad packet, if strict; else it is counted and concealed.
        """
        if state.ended:
            raise PacketError("packet after the end of the stream; open a new one")
        try:
            packet = read(item, self.layout)
        except PacketError:
            if self.strict:
                raise
            state.ring.counts.bad += 1
            return []
        return self.due(state, self.ring.push(state.ring, packet))

    def take(
        self, state: DecodeState, hop: Hop, outputs: Mapping[str, NDArray[Any]]
    ) -> list[Event]:
        """Return the samples of one hop, concealed where it was missing."""
        due = state.due.pop(0)
        heard = conceal(state.concealment, _frame(due), outputs[self._sink])
        events: list[Event] = []
        begin = due.index * self.layout.hop - self.manifest.delay
        if due.jumped_from >= 0:
            lost = max(due.jumped_from * self.layout.hop - self.manifest.delay, 0)
            events.append(GapEvent(lost, max(begin, 0), "packets lost for over a second"))
        low = max(-begin, 0)
        high = self.manifest.hop
        if state.samples >= 0:
            high = min(high, state.samples - begin)
        if high > low:
            samples = np.ascontiguousarray(heard[:, low:high], np.float32)
            jumped = due.jumped_from >= 0
            chunk = Chunk(samples, begin + low, self.output_format, jumped)
            events.append(AudioEvent("audio", chunk))
        return events + self._report(state)

    def flush(self, state: DecodeState) -> list[Hop]:
        """Return what the ring still holds, and conceal a lost tail if the length is known."""
        if state.ended:
            return []
        state.ended = True
        frames = self.ring.drain(state.ring)
        if state.samples > 0:
            whole = -(-(state.samples + self.manifest.delay) // self.layout.hop)
            for _ in range(min(whole - state.ring.next, MAX_GAP)):
                frames.append(self.ring.pull(state.ring))
        return self.due(state, frames) + self._ready(state)

    def end(self, state: DecodeState) -> list[Event]:
        """Return what became of every frame."""
        fields = asdict(state.ring.counts)
        text = f"{fields['lost']} of {state.ring.next} frames lost, {fields['recovered']} recovered"
        return [NoticeEvent("decoded", text, fields)]

    def update(self, state: DecodeState, options: Mapping[str, Any]) -> list[Event]:
        """Change ``layers`` (None: as the task was made), or tell the stream's ``samples`` in all.

        Raises:
            PacketError: an unknown option, or a value out of range.
        """
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise PacketError(f"a decoder has no option {unknown}; {', '.join(OPTIONS)} exist")
        if "layers" in options:
            asked = options["layers"]
            state.layers = self._layers if asked is None else self.layout.check(asked)
        if "samples" in options:
            asked = options["samples"]
            state.samples = self._samples if asked is None else int(asked)
        return []

    def pull(self, state: DecodeState) -> list[Hop]:
        """Return the hop that the next frame completes, be it there or not: a clock has asked."""
        return self.due(state, [self.ring.pull(state.ring)])

    def due(self, state: DecodeState, frames: list[Frame]) -> list[Hop]:
        """Return the hops that decode ``frames``, which have left the ring."""
        hops = []
        for frame in frames:
            if frame.kind == "jump":
                hops += self._ready(state)
                state.jumped_from = frame.index
                continue
            at = frame.index % self.per_hop
            first = frame.index - at
            if state.filling is not None and state.filling.due.index != first:
                hops += self._ready(state)
            if state.filling is None:
                codes = np.full((self.layout.layers, self.per_hop), -1, np.int32)
                state.filling = Filling(codes, Due(first, True))
            self._fill(state, state.filling, at, frame)
            if at == self.per_hop - 1:
                hops += self._ready(state)
        return hops

    def _fill(self, state: DecodeState, filling: Filling, at: int, frame: Frame) -> None:
        """Put one frame into its hop, which is lost if all of it is, silent if none is coded."""
        due, jumped = filling.due, state.jumped_from >= 0
        filling.fresh |= frame.reset or jumped
        if jumped:
            due.jumped_from = state.jumped_from
        if frame.kind == "coded":
            due.lost, due.noise_level, due.noise_bands = False, CODED, ()
        elif frame.noise is not None and due.noise_level != CODED:
            due.lost = False
            due.noise_level, due.noise_bands = frame.noise.level, frame.noise.bands
        heard = self._heard(state, frame)
        if heard is not None:
            count = min(state.layers, heard.shape[0])
            filling.codes[:count, at] = heard[:count, 0]
        state.jumped_from = -1

    def _ready(self, state: DecodeState) -> list[Hop]:
        """Return the hop that is filling, if there is one."""
        filling, state.filling = state.filling, None
        if filling is None:
            return []
        state.due.append(filling.due)
        begin = filling.due.index * self.layout.hop
        inputs = {self._source: filling.codes}
        return [Hop(inputs, begin, begin + self.manifest.hop, filling.fresh)]

    def _heard(self, state: DecodeState, frame: Frame) -> Codes | None:
        """Return the codes to decode for ``frame``: its own, repeated ones, or none."""
        if not self._repeats:
            return frame.codes
        if frame.kind == "lost" and state.repeated < HOLD and state.jumped_from < 0:
            state.repeated += 1
            return state.last
        state.last = frame.codes
        if frame.kind != "lost":
            state.repeated = 0
        return frame.codes

    def _report(self, state: DecodeState) -> list[Event]:
        """Say once a second how much was missing before redundancy mended it."""
        counts = state.ring.counts
        seen = counts.coded + counts.lost
        window = seen - state.reported
        if window < REPORT_FRAMES:
            return []
        missing = counts.lost + counts.recovered
        loss = (missing - state.reported_missing) / window
        state.reported, state.reported_missing = seen, missing
        if not loss:
            return []
        fields = {"loss": loss, "lost": counts.lost, "recovered": counts.recovered}
        return [NoticeEvent("loss", f"{100 * loss:.0f} % of frames missing", fields)]


def _frame(due: Due) -> Frame:
    if due.lost:
        return Frame(due.index, "lost")
    if due.noise_level < 0:
        return Frame(due.index, "coded")
    return Frame(due.index, "silence", noise=Noise(due.noise_level, due.noise_bands))
