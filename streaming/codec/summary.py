"""What the two file commands share: places, progress, and the account they give."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[float, float | None], object]  # seconds done, seconds in all if known
Place = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class FileSummary:
    """What became of a file."""

    seconds: float
    samples: int  # of the audio file
    rate_hz: int  # of the audio file
    frames: int
    bytes: int  # of the .osc file, as far as it was read or written
    layers: int
    payload_kbps: float  # codes alone
    file_kbps: float  # everything
    channels: int = 1  # of the source; a codec of one channel has them mixed
    whole: bool = True  # False: the .osc file was cut and what there was was decoded
