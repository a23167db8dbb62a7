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

    def open(self, batch: int) -> HostState:
        """Return a level that the first sound will set."""
        return {"power": np.zeros((batch, 1), np.float32), "gain": np.ones((batch, 1), np.float32)}

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Return the levelled samples and the gain."""
        x = inputs[0][:, 0]
        power, before = state["power"], state["gain"]
        fresh = np.mean(x * x, axis=1, keepdims=True)
        rate = np.where(fresh > power, self.attack, self.release)
        first = (power == 0) & (fresh > 0)
        power += np.where(first, np.float32(1), rate) * (fresh - power)
        level = np.sqrt(power)
        after = np.clip(self.target / np.maximum(level, 1e-9), 1 / self.limit, self.limit)
        after = np.where(power > 0, after, before).astype(np.float32)
        start = np.where(first, after, before)
        ramp = np.arange(1, x.shape[1] + 1, dtype=np.float32) / np.float32(x.shape[1])
        gain = start + (after - start) * ramp
        state["gain"][:] = after
        return [(x * gain)[:, None], gain]


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
            past = np.where(state["gain"] == 0, gain[:, :1], state["gain"])
            joined = np.concatenate([past, gain], axis=1)
            gain, state["gain"][:] = joined[:, : gain.shape[1]], joined[:, gain.shape[1] :]
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
