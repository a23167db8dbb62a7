"""Level in and out: models that were trained at one loudness hear every input at that loudness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ossicle.runtime.host.base import Array, HostState, Params, host_op


class Level:
    """``[B, 1, T]`` -> the samples near ``target``, and the gain ``[B, T]`` that did it.

    The level is a peak-holding mean square: it rises within ``attack`` hops and falls within
    ``release`` hops, so that pauses are not pulled up to the loudness of speech. The gain moves in
    a straight line across each hop and depends on the past and the present hop only.
    """

    def __init__(
        self, target_dbfs: float, attack: float, release: float, max_gain_db: float
    ) -> None:
        self.target = np.float32(10.0 ** (target_dbfs / 20))
        self.attack = np.float32(1 - np.exp(-1 / attack))
        self.release = np.float32(1 - np.exp(-1 / release))
        self.limit = np.float32(10.0 ** (max_gain_db / 20))
        self.least = np.float32(1) / self.limit
        self._line = np.empty(0, np.float32)

    def open(self, batch: int) -> HostState:
        """Return a level that the first sound will set."""
        return {"power": np.zeros((batch, 1), np.float32), "gain": np.ones((batch, 1), np.float32)}

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Return the levelled samples and the gain."""
        x = inputs[0][:, 0]
        power, before = state["power"], state["gain"]
        fresh = np.add.reduce(x * x, axis=1, keepdims=True) / np.float32(x.shape[1])
        rate = np.where(fresh > power, self.attack, self.release)
        heard = power.all()  # nearly always: what a stream's first sound needs is then left out
        if not heard:
            first = power == 0
            rate = np.where(first, np.float32(1), rate)
        power += rate * (fresh - power)
        after, start = self._gain(power, before), before
        if not heard:
            start = np.where(first, after, before)
        gain = start + (after - start) * self._ramp(x.shape[1])
        before[:] = after
        return [(x * gain)[:, None], gain]

    def _gain(self, power: Array, before: Array) -> Array:
        """Return the gain that the level asks for; silence from the start keeps the one it had."""
        if power.all():
            asked = self.target / np.sqrt(power)
        else:
            asked = self.target / np.maximum(np.sqrt(power), np.float32(1e-9))
            asked = np.where(power > 0, asked, before)
        return np.minimum(np.maximum(asked, self.least), self.limit)

    def _ramp(self, length: int) -> Array:
        if self._line.size != length:
            self._line = np.arange(1, length + 1, dtype=np.float32) / np.float32(length)
        return self._line


class Unlevel:
    """Samples ``[B, 1, T]`` and gain ``[B, T]`` -> the samples at the level that came in.

    ``delay`` is by how many samples the first trail the second.
    """

    def __init__(self, delay: int = 0) -> None:
        self.delay = delay

    def open(self, batch: int) -> HostState:
        """Return no gain for what was before the stream; it takes the first one that comes."""
        return {"gain": np.zeros((batch, self.delay), np.float32)} if self.delay else {}

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Return the samples divided by the gain that they had."""
        samples, gain = inputs
        if self.delay:
            past = state["gain"]
            if not past.all():
                past = np.where(past == 0, gain[:, :1], past)
            length = gain.shape[1]
            if length > self.delay:
                joined = np.concatenate([past, gain], axis=1)
                gain, state["gain"][:] = joined[:, :length], joined[:, length:]
            else:
                made = samples / past[:, None, :length]
                state["gain"][:, :-length] = past[:, length:]
                state["gain"][:, -length:] = gain
                return [made]
        return [samples / gain[:, None]]


@host_op("level")
def _level(params: Params) -> Level:
    return Level(
        params.number("target_dbfs", -60, 0, -26),
        params.number("attack_hops", 0.1, 1e6, 4),
        params.number("release_hops", 0.1, 1e6, 400),
        params.number("max_gain_db", 0, 80, 40),
    )


@host_op("unlevel")
def _unlevel(params: Params) -> Unlevel:
    return Unlevel(params.integer("delay", 0, 1 << 16, 0))
