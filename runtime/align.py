"""Keep an output in step with its input: the model's delay off the front, the padding off the end.

Tasks that turn audio into audio use this between the engine and the listener, so that output
sample ``i`` always belongs to input sample ``i`` and as many come out as went in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ossicle.runtime import snapshot
from ossicle.runtime.audio import AudioFormat, Chunk, Samples


@snapshot.record("align.Alignment")
@dataclass(slots=True)
class Alignment:
    """Where one stream stands."""

    start: int = 0  # index of the first input sample
    fed: int = 0  # samples that went in
    hops: int = 0  # hops that came out of the model
    given: int = 0  # samples that were handed on
    opened: bool = False
    discont: bool = False


@dataclass(frozen=True, slots=True)
class Trimmer:
    """The rule for one model; what a stream remembers is its :class:`Alignment`."""

    hop: int
    delay: int  # samples by which the model's output trails

    def open(self) -> Alignment:
        """Return the alignment of a stream that has not begun."""
        return Alignment()

    def begin(self, state: Alignment, start: int, discont: bool = False) -> None:
        """Start (again) at input sample ``start`` with a model that was reset."""
        state.start, state.fed, state.hops, state.given = start, 0, 0, 0
        state.opened, state.discont = True, discont

    def fed(self, state: Alignment, samples: int) -> None:
        """Count samples that went in."""
        state.fed += samples

    def hops_to_drain(self, state: Alignment, pending: int = 0) -> int:
        """Return how many silent hops must follow until all that went in has come out.

        ``pending`` hops are on their way to the model already.
        """
        needed = -(-(state.fed + self.delay) // self.hop) if state.fed else 0
        return max(0, needed - state.hops - pending)

    def trim(self, state: Alignment, samples: Samples, format: AudioFormat) -> list[Chunk]:
        """Return what of the model's next ``[C, hop]`` belongs to the stream, in place."""
        at = state.hops * self.hop - self.delay  # aligned index of samples[:, 0]
        state.hops += 1
        low = max(0, -at)
        high = min(self.hop, state.fed - at)
        if high <= low:
            return []
        start = state.start + at + low
        made = Chunk(np.ascontiguousarray(samples[:, low:high]), start, format, state.discont)
        state.given += high - low
        state.discont = False
        return [made]
