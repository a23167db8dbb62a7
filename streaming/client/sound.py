"""Samples as a client gets them."""

from __future__ import annotations

from dataclasses import dataclass

from ossicle.runtime.audio import Samples


@dataclass(frozen=True, slots=True)
class Sound:
    """Samples of one track, `[C, T]`, at the stream's output rate."""

    track: str
    samples: Samples
    start_sample: int
    rate_hz: int
    discont: bool = False

    @property
    def stop_sample(self) -> int:
        """Index after the last sample."""
        return self.start_sample + int(self.samples.shape[1])
