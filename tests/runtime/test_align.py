"""Output stays in step with its input, however late the model's hops are taken."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ossicle.runtime.align import Alignment, Trimmer
from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.framer import Framer

HOP, FORM = 8, AudioFormat(16_000)


class Line:
    """A model that gives back its input, ``delay`` samples late, and is reset by a gap."""

    def __init__(self, delay: int) -> None:
        self.framer, self.trimmer = Framer(FORM, HOP), Trimmer(HOP, delay)
        self.cut, self.place = self.framer.open(), Alignment()
        self.memory = np.zeros((1, delay), np.float32)
        self.waiting: list[Chunk] = []
        self.heard: list[Chunk] = []

    def push(self, chunk: Chunk) -> None:
        if chunk.discont or not self.place.opened:
            self.trimmer.begin(self.place, chunk.start, chunk.discont)
        self.trimmer.fed(self.place, chunk.length)
        self.waiting += self.framer.step(self.cut, chunk)

    def take(self, hops: int) -> None:
        for hop in self.waiting[:hops]:
            if hop.discont:
                self.memory[:] = 0
            joined = np.concatenate([self.memory, hop.samples], axis=1)
            self.memory = joined[:, HOP:].copy()
            self.heard += self.trimmer.trim(self.place, joined[:, :HOP], FORM)
        del self.waiting[:hops]


pieces = st.lists(st.tuples(st.integers(1, 40), st.booleans(), st.integers(0, 9)), max_size=20)


@given(pieces, st.integers(0, 20))
def test_hops_that_wait_through_a_gap_keep_their_place(
    plan: list[tuple[int, bool, int]], delay: int
) -> None:
    prompt, late, at = Line(delay), Line(delay), 0
    for length, gap, taken in plan:
        at += 5 if gap else 0
        samples = np.arange(at, at + length, dtype=np.float32)[None] + 1  # says where it belongs
        chunk = Chunk(samples, at, FORM, gap)
        at += length
        prompt.push(chunk)
        prompt.take(99)
        late.push(chunk)
        late.take(taken)
    late.take(10**6)
    assert [(c.start, c.length, c.discont) for c in late.heard] == [
        (c.start, c.length, c.discont) for c in prompt.heard
    ]
    for chunk in late.heard:
        np.testing.assert_array_equal(
            chunk.samples[0], np.arange(chunk.start, chunk.stop, dtype=np.float32) + 1
        )
