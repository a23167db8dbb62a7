"""Keep an output in step with its input: the model's delay off the front, the padding off the end.

Tasks that turn audio into audio use this between the engine and the listener, so that output
sample ``i`` always belongs to input sample ``i`` and as many come out as went in.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
    # what a gap interrupted while hops of it were still with the model, oldest first:
    # start, hops that came out, hops to come, discont
    earlier: list[tuple[int, int, int, bool]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Trimmer:
    """The rule for one model; what a stream remembers is its :class:`Alignment`."""

    hop: int
    delay: int  # samples by which the model's output trails

    def open(self) -> Alignment:
        """Return the alignment of a stream that has not begun."""
        return Alignment()

    def begin(self, state: Alignment, start: int, discont: bool = False) -> None:
        """Start (again) at input sample ``start`` with a model that was reset.

        Hops that went in before and have not come out yet keep the place they had.
        """
        pending = state.fed // self.hop - state.hops if state.opened else 0
        if pending > 0:
            state.earlier.append((state.start, state.hops, pending, state.discont))
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
        if state.earlier:
            return self._trim_earlier(state, samples, format)
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

    def _trim_earlier(self, state: Alignment, samples: Samples, format: AudioFormat) -> list[Chunk]:
        start, hops, left, discont = state.earlier.pop(0)
        at = hops * self.hop - self.delay
        low = min(self.hop, max(0, -at))
        if left > 1:
            state.earlier.insert(0, (start, hops + 1, left - 1, discont and low == self.hop))
        if low == self.hop:
            return []
        kept = np.ascontiguousarray(samples[:, low:])
        return [Chunk(kept, start + at + low, format, discont)]
