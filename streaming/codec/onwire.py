"""What a packet costs on the wire, headers included, and what is left for codes."""

from __future__ import annotations

from dataclasses import dataclass

from ossicle.runtime.errors import PacketError


@dataclass(frozen=True, slots=True)
class Wire:
    """Bytes that every message adds to its packet."""

    name: str
    overhead_bytes: int

    def kbps(self, packet_bytes: float, packets_per_second: float) -> float:
        """Rate on the wire of packets of ``packet_bytes`` (their own header included)."""
        return 8 * (packet_bytes + self.overhead_bytes) * packets_per_second / 1000.0


WIRES = {
    wire.name: wire
    for wire in (
        Wire("bare", 0),
        Wire("rtp", 40),  # IPv4 20, UDP 8, RTP 12
        # IPv4 20, TCP with timestamps 32, HTTP/2 DATA 9, gRPC 5, protobuf tags and lengths 8;
        # acknowledgements of the other side not counted
        Wire("grpc", 74),
        Wire("grpc-tls", 96),  # and a TLS 1.3 record: 5 header, 1 type, 16 tag
    )
}


def wire(name: str) -> Wire:
    """Return one of the known wires.

    Raises:
        PacketError: not a known one.
    """
    known = WIRES.get(name)
    if known is None:
        raise PacketError(f"wire {name!r}; one of {', '.join(WIRES)} expected")
    return known


def frames_per_message(budget_ms: float, hop_ms: float, other_ms: float, most: int = 16) -> int:
    """Return how many frames may wait for each other within ``budget_ms`` of total delay.

    ``other_ms`` is every other delay: the codec's own beyond its hop, the jitter ring, compute
    and network. At least one frame is sent together, whatever the budget.

    >>> frames_per_message(budget_ms=200, hop_ms=20, other_ms=60)
    7
    """
    room = int((budget_ms - other_ms) / hop_ms + 1e-9)
    return max(1, min(room, most))
