"""How a sender spends its bits: layers, redundancy and frames per packet, from loss and rate."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ossicle.runtime import snapshot
from ossicle.runtime.errors import PacketError
from ossicle.streaming.codec.layout import CodeLayout
from ossicle.streaming.codec.onwire import Wire
from ossicle.streaming.codec.packet import HEADER_BYTES, MAX_FRAMES

ENTER_LOSS, LEAVE_LOSS = 0.01, 0.005  # redundancy of one packet comes and goes
ENTER_HEAVY, LEAVE_HEAVY = 0.04, 0.025  # of two packets
SHARE = 0.18  # of the affordable layers that each redundant frame gets
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
    depth: int = 0


@dataclass(frozen=True, slots=True)
class RateControl:
    """Turns a target rate and reported loss into a :class:`Plan`, with hysteresis.

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
        enter = 2 if state.loss >= ENTER_HEAVY else 1 if state.loss >= ENTER_LOSS else 0
        stay = 2 if state.loss >= LEAVE_HEAVY else 1 if state.loss >= LEAVE_LOSS else 0
        state.depth = max(enter, min(state.depth, stay))

    def plan(self, state: RateState) -> Plan:
        """Return how to send now. One layer is sent even where the rate allows none."""
        room = self._room(state)
        bare = Plan(self._fit(room, state.frames, 0, 0), state.frames)
        if state.depth == 0:
            return bare
        best = bare
        for depth in range(1, state.depth + 1):
            low = max(1, round(SHARE * bare.layers))
            layers = self._fit(room, state.frames, low, depth)
            plan = Plan(layers, state.frames, low, depth)
            if plan.bits(self.layout) <= room and layers >= low:
                best = plan
        return best

    def _room(self, state: RateState) -> float:
        """Payload bits that a packet may have."""
        per_packet = 1000.0 * state.kbps * state.frames / self.layout.frame_rate
        if self.wire is None:
            return per_packet
        return per_packet - 8 * (self.wire.overhead_bytes + HEADER_BYTES) - 7

    def _fit(self, room: float, frames: int, low: int, depth: int) -> int:
        count = 1
        while count < self.layout.layers:
            plan = Plan(count + 1, frames, low, depth)
            if plan.bits(self.layout) > room + 1e-9:
                break
            count += 1
        return count


def at_layers(plan: Plan, layers: int, layout: CodeLayout) -> Plan:
    """Return ``plan`` with a fixed number of layers."""
    return replace(plan, layers=layout.check(layers))
