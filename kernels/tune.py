"""Fixed choices per GPU architecture: nothing is tuned at run time, so that no call stalls.

None of it was measured. The shared memory limits are the vendor's; stages and warps are choices
that the ahead-of-time gate holds to those limits (and to no spilled register), no more than that.
``python -m benchmarks.gpu`` on a device is what would confirm or correct them.

Shared memory limits are the vendor's per program: 163 KB on sm_80 and sm_87, 227 KB on sm_90 and
later data-centre parts; sm_110 is held to the same 227 KB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Architecture:
    """What a kernel may use there."""

    name: str
    shared_bytes: int  # per program
    stages: int  # of software pipelining


ARCHITECTURES: Final[dict[int, Architecture]] = {
    80: Architecture("A100", 163 * 1024, 3),
    87: Architecture("Jetson Orin", 163 * 1024, 2),
    90: Architecture("H100", 227 * 1024, 3),
    110: Architecture("Jetson Thor", 227 * 1024, 3),
}

# Warps of a program, by kernel; the same everywhere until an architecture is measured to want
# others.
WARPS: Final[dict[str, int]] = {
    "rvq.encode": 4,
    "rvq.decode": 4,
    "kmeans.assign": 4,
    "kmeans.join": 1,
    "conv.step": 4,
    "conv.remember": 1,
    "attention.write": 1,
    "attention.read": 4,
    "gru.cell": 4,
    "snake": 4,
    "logmel": 4,
    "sampler.step": 4,
}
