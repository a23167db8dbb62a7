"""The jitter ring: packets in any order in, frames in order out, each named for what it is.

A frame leaves when the ring has seen one that is ``delay`` frames newer (arrival-driven, for
services and files) or when a clock asks for it (:meth:`JitterRing.pull`, for playing). In both
cases the target delay is ``delay`` frames: that is how long a packet may be late, and how far
back redundancy can still mend.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ossicle.runtime import snapshot
from ossicle.runtime.errors import PacketError
from ossicle.streaming.codec.packet import SEQUENCES, Codes, Noise, Packet

Kind = Literal["coded", "silence", "lost", "jump"]

SILENCE_HOLD = 50  # frames for which a silence descriptor speaks; after that they are lost
MAX_GAP = 50  # frames that are concealed one by one; a longer hole is jumped over


@snapshot.record("codec.Slot")
@dataclass(slots=True)
class Slot:
    """A frame that waits: its codes, or the noise that stands for it."""

    codes: Codes | None  # [K, 1]
    level: int = -1  # of the noise; -1: none
    bands: tuple[int, ...] = ()
    redundant: bool = False
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that leaves the ring."""

    index: int  # frames since the stream opened, never wraps
    kind: Kind  # "jump": frames from index to stop are gone, start from a fresh memory
    codes: Codes | None = None  # [K, 1] where coded
    noise: Noise | None = None  # where silence
    redundant: bool = False  # codes came as redundancy of a later packet
    reset: bool = False
    stop: int = 0  # of a jump


@snapshot.record("codec.LinkCounts")
@dataclass(slots=True)
class LinkCounts:
    """What happened to a stream, in frames (packets where said)."""

    packets: int = 0  # that arrived and could be read
    bad: int = 0  # packets that could not
    duplicate: int = 0  # packets
    late: int = 0  # packets of which every frame had left
    coded: int = 0
    recovered: int = 0  # from redundancy
    silence: int = 0
    lost: int = 0
    jumped: int = 0


@snapshot.record("codec.JitterState")
@dataclass(slots=True)
class JitterState:
    """One stream's ring."""

    waiting: dict[int, Slot] = field(default_factory=dict)  # by frame index
    next: int = 0  # index of the frame that leaves next
    newest: int = -1  # highest index seen
    shift: int = 0  # what to add to a packet's sequence: the sender may begin again
    noise_level: int = -1  # the descriptor in force; -1: none
    noise_bands: tuple[int, ...] = ()
    noise_until: int = 0  # first frame for which it no longer speaks
    counts: LinkCounts = field(default_factory=LinkCounts)


@dataclass(frozen=True, slots=True)
class JitterRing:
    """Holds at most ``capacity`` frames; a packet beyond that makes the oldest leave early."""

    delay: int = 2  # frames
    capacity: int = 128  # frames

    def __post_init__(self) -> None:
        if not 0 <= self.delay < self.capacity <= 4096:
            raise PacketError(
                f"jitter ring of delay {self.delay} and capacity {self.capacity} frames; "
                "0 <= delay < capacity <= 4096 expected"
            )

    def open(self, first: int = 0) -> JitterState:
        """Return an empty ring that expects frame ``first``."""
        return JitterState(next=first, newest=first - 1)

    def push(self, state: JitterState, packet: Packet) -> list[Frame]:
        """Put a packet in and return the frames that may leave, oldest first.

        At most ``MAX_GAP + delay + 32`` frames leave for one packet, whatever it says.
        """
        state.counts.packets += 1
        first = _unwrap(packet.sequence + state.shift, state.next)
        out: list[Frame] = []
        if packet.reset and first + packet.frames + MAX_GAP < state.next:
            out += self.drain(state)  # the sender began again: its frames follow ours
            state.shift, first = state.next - packet.sequence, state.next
        elif first + packet.frames <= state.next:
            state.counts.late += 1
            return out
        elif first - max(state.next, state.newest + 1) > MAX_GAP and not _spoken(state, first):
            out += [*self.drain(state), _jump(state, first)]
        while first + packet.frames - state.next > self.capacity:
            out.append(self.pull(state))
        state.counts.duplicate += not self._store(state, packet, first)
        state.newest = max(state.newest, first + packet.frames - 1)
        while state.newest - state.next >= self.delay:
            out.append(self.pull(state))
        return out

    def pull(self, state: JitterState) -> Frame:
        """Return the next frame, whatever is known of it: a clock has asked."""
        index = state.next
        state.next += 1
        slot = state.waiting.pop(index, None)
        counts = state.counts
        if slot is not None and slot.codes is not None:
            state.noise_until = 0
            counts.coded += 1
            counts.recovered += slot.redundant
            return Frame(index, "coded", slot.codes, redundant=slot.redundant, reset=slot.reset)
        if slot is not None:
            state.noise_level, state.noise_bands = slot.level, slot.bands
            state.noise_until = index + SILENCE_HOLD
        if index < state.noise_until:
            counts.silence += 1
            reset = slot is not None and slot.reset
            noise = Noise(state.noise_level, state.noise_bands)
            return Frame(index, "silence", noise=noise, reset=reset)
        counts.lost += 1
        return Frame(index, "lost")

    def drain(self, state: JitterState) -> list[Frame]:
        """Return everything up to the newest frame: nothing more will come."""
        return [self.pull(state) for _ in range(state.newest + 1 - state.next)]

    def _store(self, state: JitterState, packet: Packet, first: int) -> bool:
        """Put the packet's frames in their slots; False if it brought nothing new."""
        fresh = False
        for t in range(packet.frames):
            if packet.noise is not None:
                slot = Slot(None, packet.noise.level, packet.noise.bands)
            else:
                slot = Slot(packet.codes[:, t : t + 1])
            slot.reset = packet.reset and t == 0
            fresh |= self._keep(state, first + t, slot)
        if packet.past is not None:
            count = int(packet.past.shape[1])
            oldest = first - count - (packet.frames if packet.far else 0)
            for t in range(count):
                slot = Slot(packet.past[:, t : t + 1], redundant=True)
                fresh |= self._keep(state, oldest + t, slot)
        return fresh

    def _keep(self, state: JitterState, index: int, slot: Slot) -> bool:
        if index < state.next or index >= state.next + self.capacity:
            return False
        held = state.waiting.get(index)
        if held is not None and not _better(slot, held):
            return False
        state.waiting[index] = slot
        return True


def _better(slot: Slot, held: Slot) -> bool:
    """Whether ``slot`` says more about a frame than ``held``: its own packet, then more layers."""
    if slot.redundant is not held.redundant:
        return held.redundant
    layers = -1 if slot.codes is None else slot.codes.shape[0]
    return layers > (-1 if held.codes is None else held.codes.shape[0])


def _unwrap(sequence: int, near: int) -> int:
    """Return the index that has ``sequence`` as its low bits and lies nearest to ``near``.

    >>> _unwrap(3, 65_530), _unwrap(65_530, 65_540)
    (65539, 65530)
    """
    half = SEQUENCES // 2
    return near + (sequence - near + half) % SEQUENCES - half


def _spoken(state: JitterState, first: int) -> bool:
    """Whether a silence descriptor speaks for the frames before ``first``."""
    last = state.waiting.get(state.newest)
    if last is None:
        return first <= state.noise_until
    return last.codes is None and first <= state.newest + SILENCE_HOLD


def _jump(state: JitterState, first: int) -> Frame:
    frame = Frame(state.next, "jump", stop=first)
    state.counts.jumped += first - state.next
    state.next, state.newest = first, first - 1
    state.waiting.clear()
    state.noise_until = 0
    return frame
