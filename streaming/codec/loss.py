"""A bad network, seeded: Gilbert loss, jitter, reordering and duplication."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.errors import PacketError


@dataclass(frozen=True, slots=True)
class Arrival:
    """A packet at the far end."""

    ns: int  # since the first packet was sent
    index: int  # which of the packets that were sent
    packet: bytes


@dataclass(frozen=True, slots=True)
class BadLink:
    """A network with memory: losses come in bursts (Gilbert's two states, E. N. Gilbert 1960).

    The link is good or bad; every packet sent while it is bad is lost. It turns bad and good
    again with the probabilities that give ``loss`` and a mean burst of ``burst`` packets.
    Jitter is exponential and lets packets overtake each other.
    """

    loss: float = 0.0  # share of packets, 0..1
    burst: float = 1.0  # packets, at least 1
    delay_ms: float = 20.0
    jitter_ms: float = 0.0  # mean of the extra delay
    duplicate: float = 0.0  # share of packets that come twice
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.loss < 1 or self.burst < 1 or not 0 <= self.duplicate <= 1:
            raise PacketError(
                f"loss {self.loss}, burst {self.burst}, duplicate {self.duplicate}; "
                "0 <= loss < 1, burst >= 1, 0 <= duplicate <= 1 expected"
            )

    def losses(self, count: int) -> NDArray[np.bool_]:
        """Return which of ``count`` packets in a row are lost."""
        draw = np.random.default_rng([self.seed, 1]).random(count + 1)
        recover = 1.0 / self.burst
        fail = min(recover * self.loss / (1.0 - self.loss), 1.0)
        lost = np.zeros(count, bool)
        bad = bool(draw[0] < self.loss)
        for i in range(count):
            lost[i] = bad
            bad = bool(draw[i + 1] >= recover) if bad else bool(draw[i + 1] < fail)
        return lost

    def carry(self, packets: Sequence[bytes], interval_ms: float) -> list[Arrival]:
        """Return what arrives of ``packets``, sent every ``interval_ms``, in order of arrival."""
        rng = np.random.default_rng([self.seed, 2])
        count = len(packets)
        sent = np.arange(count) * interval_ms
        extra = rng.exponential(1.0, (count, 2)) * self.jitter_ms
        twice = rng.random(count) < self.duplicate
        arrivals = []
        for i in np.flatnonzero(~self.losses(count)).tolist():
            for copy in range(1 + int(twice[i])):
                ms = sent[i] + self.delay_ms + extra[i, copy]
                arrivals.append(Arrival(round(ms * 1e6), i, packets[i]))
        return sorted(arrivals, key=lambda a: (a.ns, a.index))
