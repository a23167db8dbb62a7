"""How a sender spends its bits: layers, redundancy and frames per packet, from loss and rate."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ossicle.runtime import snapshot
from ossicle.runtime.errors import PacketError
from ossicle.streaming.codec.layout import CodeLayout
from ossicle.streaming.codec.onwire import Wire
from ossicle.streaming.codec.packet import HEADER_BYTES, MAX_FRAMES

ENTER_LIGHT, LEAVE_LIGHT = 0.01, 0.005  # some redundancy comes and goes
ENTER_HEAVY, LEAVE_HEAVY = 0.04, 0.025  # more of it
SHARES = (0.0, 0.12, 0.24)  # of the affordable layers that ride along, by degree of protection
LEAST_BITS = 80  # of a frame: with fewer, every layer that is given up costs more than it saves
RISE, FALL = 0.5, 0.1  # weight of a new report above and below the average


@snapshot.record("codec.Plan")
@dataclass(frozen=True, slots=True)
class Plan:
    """What the next packets are made of."""

    layers: int
    frames: int = 1  # per packet
    redundant_layers: int = 0
    depth: int = 0  # packets back that ride along: 0, 1 or 2
    far: bool = False  # of the two, only the one that lies farther back

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= MAX_FRAMES or self.depth not in (0, 1, 2):
            raise PacketError(
                f"{self.frames} frames a packet, redundancy of {self.depth} packets; "
                f"1 to {MAX_FRAMES} and 0 to 2 allowed"
            )
        if (
            (self.redundant_layers == 0) is not (self.depth == 0)
            or self.layers < 1
            or (self.far and self.depth != 2)
        ):
            raise PacketError(
                f"{self.layers} layers, {self.redundant_layers} redundant of {self.depth} packets"
            )

    def bits(self, layout: CodeLayout) -> int:
        """Payload bits of one packet."""
        copies = 1 if self.far else self.depth
        lead = 8 + layout.bits(self.redundant_layers) * copies * self.frames
        return layout.bits(self.layers) * self.frames + (lead if self.depth else 0)


@snapshot.record("codec.RateState")
@dataclass(slots=True)
class RateState:
    """What one sender knows of its link."""

    kbps: float  # asked for: on the wire if a wire is named, else payload
    frames: int = 1
    loss: float = 0.0  # smoothed reports
    guard: int = 0  # degree of protection: 0 none, 1 light, 2 heavy


@dataclass(frozen=True, slots=True)
class RateControl:
    """Turns a target rate and reported loss into a :class:`Plan`, with hysteresis.

    What rides along is of the second packet before: a burst of two is outlived as with both
    packets before, at half the bits (measured in ``benchmarks/codec_loss.py``).

    With a ``wire`` the target counts every header; without one it counts the codes alone
    (then the redundancy comes out of the same bits).
    """

    layout: CodeLayout
    wire: Wire | None = None

    def open(self, kbps: float, frames: int = 1) -> RateState:
        """Return the state of a sender that has heard of no loss."""
        if not kbps > 0:
            raise PacketError(f"target of {kbps} kbps; it must be positive")
        return RateState(kbps, frames)

    def report(self, state: RateState, loss: float) -> None:
        """Take in a report: the share of packets lost, 0..1."""
        if not 0 <= loss <= 1:
            raise PacketError(f"reported loss of {loss}; a share from 0 to 1 expected")
        state.loss += (RISE if loss > state.loss else FALL) * (loss - state.loss)
        enter = 2 if state.loss >= ENTER_HEAVY else 1 if state.loss >= ENTER_LIGHT else 0
        stay = 2 if state.loss >= LEAVE_HEAVY else 1 if state.loss >= LEAVE_LIGHT else 0
        state.guard = max(enter, min(state.guard, stay))

    def plan(self, state: RateState) -> Plan:
        """Return how to send now. One layer is sent even where the rate allows none."""
        room = self._room(state)
        bare = Plan(self._fit(room, Plan(1, state.frames)), state.frames)
        low = int(SHARES[state.guard] * bare.layers)
        if low < 1 or self.layout.bits(bare.layers) < LEAST_BITS:
            return bare
        guarded = Plan(1, state.frames, low, 2, far=True)
        layers = self._fit(room, guarded)
        return replace(guarded, layers=layers) if layers > low else bare

    def _room(self, state: RateState) -> float:
        """Payload bits that a packet may have."""
        per_packet = 1000.0 * state.kbps * state.frames / self.layout.frame_rate
        if self.wire is None:
            return per_packet
        return per_packet - 8 * (self.wire.overhead_bytes + HEADER_BYTES) - 7

    def _fit(self, room: float, plan: Plan) -> int:
        """Return the most layers that ``plan`` can have."""
        count = 1
        while count < self.layout.layers:
            if replace(plan, layers=count + 1).bits(self.layout) > room + 1e-9:
                break
            count += 1
        return count


def at_layers(plan: Plan, layers: int, layout: CodeLayout) -> Plan:
    """Return ``plan`` with a fixed number of layers."""
    return replace(plan, layers=layout.check(layers))
