"""Level in and out: models that were trained at one loudness hear every input at that loudness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ossicle.kernels import paths
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
        rates = self.target, self.attack, self.release, self.least, self.limit
        self._rates = tuple(float(rate) for rate in rates)

    def open(self, batch: int) -> HostState:
        """Return a level that the first sound will set."""
        return {"power": np.zeros((batch, 1), np.float32), "gain": np.ones((batch, 1), np.float32)}

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Return the levelled samples and the gain."""
        x = np.ascontiguousarray(inputs[0][:, 0], np.float32)
        core = paths.core()
        if core is None:
            made, gain = self._plain(state, x)
        else:
            made, gain = np.empty_like(x), np.empty_like(x)
            core.level(x, state["power"], state["gain"], self._rates, made, gain)
        return [made[:, None], gain]

    def _plain(self, state: HostState, x: Array) -> tuple[Array, Array]:
        """Return the same without the compiled part."""
        power, before = state["power"], state["gain"]
        fresh = np.mean(x * x, axis=1, keepdims=True)
        first = power == 0
        rate = np.where(fresh > power, self.attack, self.release)
        power += np.where(first, np.float32(1), rate) * (fresh - power)
        asked = self.target / np.maximum(np.sqrt(power), np.float32(1e-9))
        after = np.clip(np.where(power > 0, asked, before), self.least, self.limit)
        start = np.where(first, after, before)
        ramp = np.arange(1, x.shape[1] + 1, dtype=np.float32) / np.float32(x.shape[1])
        gain = start + (after - start) * ramp
        before[:] = after
        return x * gain, gain


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
        if not self.delay:
            return [samples / gain[:, None]]
        core = paths.core()
        if core is None:
            return [self._plain(state["gain"], samples[:, 0], gain)[:, None]]
        x = np.ascontiguousarray(samples[:, 0], np.float32)
        made = np.empty_like(x)
        core.unlevel(x, np.ascontiguousarray(gain), state["gain"], made)
        return [made[:, None]]

    def _plain(self, past: Array, x: Array, gain: Array) -> Array:
        """Return the same without the compiled part."""
        joined = np.concatenate([np.where(past == 0, gain[:, :1], past), gain], axis=1)
        past[:] = joined[:, gain.shape[1] :]
        return np.asarray(x / joined[:, : gain.shape[1]])


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
