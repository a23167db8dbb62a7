"""Frames in, packets out: grouping, redundancy of the frames before, silence descriptors."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import numpy as np

from ossicle.runtime import snapshot
from ossicle.streaming.codec import packet as packets
from ossicle.streaming.codec.layout import CodeLayout
from ossicle.streaming.codec.packet import MAX_DEPTH, SEQUENCES, Codes, Noise, Packet
from ossicle.streaming.codec.rate import Plan

REFRESH = 20  # frames between silence descriptors while silence lasts


class Sent(msgspec.Struct, frozen=True, gc=False):
    """A packet that is ready, and what it stands for."""

    data: bytes
    first: int  # frame index
    frames: int
    payload_bits: int


@snapshot.record("codec.SenderState")
@dataclass(slots=True)
class SenderState:
    """One stream's frames that wait, and those that may be sent again."""

    next: int = 0  # index of the frame that is pushed next
    held: list[Codes] = field(default_factory=list)  # [K, 1] each
    history: list[Codes] = field(default_factory=list)  # last frames sent, newest last
    reset: bool = True  # the next packet says that the encoder's memory was new
    quiet: int = -1  # frames since the last silence descriptor; -1: not silent


@dataclass(frozen=True, slots=True)
class Sender:
    """Makes packets of one codec's frames; how is said by the :class:`Plan` of each call."""

    layout: CodeLayout

    def open(self) -> SenderState:
        """Return the state of a stream that starts at frame 0."""
        return SenderState()

    def push(self, state: SenderState, codes: Codes, plan: Plan) -> list[Sent]:
        """Send one frame ``[K, 1]``, of all layers or the first ones.

        Packets leave when ``plan.frames`` frames wait.
        """
        state.quiet = -1
        frame = np.ascontiguousarray(codes, np.int32)
        if plan.frames == 1 and not plan.depth and not state.held:
            return [self._alone(state, frame, plan)]
        state.held.append(frame)
        state.next += 1
        return self.flush(state, plan) if len(state.held) >= plan.frames else []

    def silence(self, state: SenderState, noise: Noise, plan: Plan) -> list[Sent]:
        """Send nothing for one frame but, at first and every ``REFRESH`` frames, what it is."""
        sent = self.flush(state, plan)
        state.quiet = (state.quiet + 1) % REFRESH
        if state.quiet == 0:
            first = state.next
            empty = np.empty((0, 1), np.int32)
            sent.append(self._seal(state, Packet(
                first % SEQUENCES, empty, noise=noise, reset=state.reset), first))  # fmt: skip
        state.history.clear()
        state.next += 1
        return sent

    def skip(self, state: SenderState, frame: int, plan: Plan) -> list[Sent]:
        """Go on at ``frame`` with a new encoder memory: frames before it were never heard."""
        sent = self.flush(state, plan)
        state.next, state.reset, state.quiet = frame, True, -1
        state.history.clear()
        return sent

    def flush(self, state: SenderState, plan: Plan) -> list[Sent]:
        """Send what waits."""
        if not state.held:
            return []
        codes = _cut(state.held, plan.layers)
        first = state.next - len(state.held)
        past = self._past(state, len(state.held), plan)
        far = plan.far and past is not None
        packet = Packet(first % SEQUENCES, codes, past, far, reset=state.reset)
        keep = MAX_DEPTH * plan.frames
        state.history = [*state.history, *state.held][-keep:]
        state.held = []
        return [self._seal(state, packet, first)]

    def _alone(self, state: SenderState, frame: Codes, plan: Plan) -> Sent:
        """Send one frame by itself, as :meth:`flush` would: most packets of a live stream."""
        first = state.next
        data, size = packets.write_frame(
            frame[: plan.layers], first % SEQUENCES, state.reset, self.layout
        )
        state.history = [*state.history, frame][-MAX_DEPTH:]
        state.next, state.reset = first + 1, False
        return Sent(data, first, 1, size)

    def _past(self, state: SenderState, frames: int, plan: Plan) -> Codes | None:
        depth = min(plan.depth, len(state.history) // frames)
        if depth == 0 or (plan.far and depth < MAX_DEPTH):
            return None
        old = state.history[-depth * frames :][: frames if plan.far else None]
        return _cut(old, plan.redundant_layers)

    def _seal(self, state: SenderState, packet: Packet, first: int) -> Sent:
        state.reset = False
        data = packets.write(packet, self.layout)
        size = packets.payload_bits(packet, self.layout)
        return Sent(data, first, packet.frames, size)


def _cut(frames: list[Codes], layers: int) -> Codes:
    """Frames side by side, with the layers that each of them has: a plan may just have risen."""
    layers = min([layers, *[len(frame) for frame in frames]])
    return np.concatenate([frame[:layers] for frame in frames], axis=1)
