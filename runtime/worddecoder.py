"""One word at a time from a sentence decoder's weights, through the attention kernels.

The same arithmetic as the bundle's graph `word.onnx`, which is what the conformance kit verifies:
here the words said so far lie in a ring (:mod:`ossicle.kernels.attention`), one per layer, and the
sounds to be worded in a memory to attend across, so nothing is shifted and nothing rebuilt as a
sentence grows. Both are explicit state, a row for each beam.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels import attention
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import ManifestError
from ossicle.runtime.model import Model

Array = NDArray[np.float32]
ROTARY_BASE = 10_000.0
WEIGHTS = "weights.npz"
NEEDED = frozenset({"rows", "moments", "length", "begin", "end", "language", "heads"})


def as_vector(embedding: NDArray[Any]) -> Array:
    """Return a tagger's embedding `[D]` at unit RMS, as a memory row holds it."""
    vector = np.nan_to_num(np.asarray(embedding, np.float32))
    return np.asarray(vector / (np.sqrt(np.mean(vector * vector)) + 1e-3), np.float32)


class Words(Protocol):
    """A decoder as a search sees it."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """``begin``, ``end`` and ``length`` of the vocabulary and the longest sentence."""
        ...

    def open(self, memory: Array, beams: int) -> Any:
        """Return a fresh state of ``beams`` rows about ``memory`` `[S, features]`."""
        ...

    def step(self, state: Any, tokens: Sequence[int]) -> Array:
        """Return the scores of the next word `[beams, words]` after ``tokens``, one a row."""
        ...

    def reorder(self, state: Any, rows: Sequence[int]) -> None:
        """Let row ``i`` go on from what was row ``rows[i]``."""
        ...


class GraphWords:
    """The decoder as the bundle's graph: the reference."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.settings = settings_of(model.bundle)

    def open(self, memory: Array, beams: int) -> Any:
        """See :class:`Words`."""
        return self.model.open(beams), np.repeat(memory[None], beams, axis=0)

    def step(self, state: Any, tokens: Sequence[int]) -> Array:
        """See :class:`Words`."""
        memory = {"token": np.array(tokens, np.int64)[:, None], "memory": state[1]}
        return np.asarray(self.model.step(state[0], memory)["logits"])

    def reorder(self, state: Any, rows: Sequence[int]) -> None:
        """See :class:`Words`."""
        for array in state[0].arrays().values():
            array[:] = array[list(rows)]


@dataclass(slots=True)
class KernelState:
    """The words so far and the sounds to be worded, by layer."""

    own: list[attention.AttentionState]
    across: list[attention.Memory]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's weights, `[in, out]`."""

    own: tuple[Array, Array]  # to query, key and value side by side [D, 3 D], bias
    own_out: tuple[Array, Array]
    query: tuple[Array, Array]
    key: tuple[Array, Array]
    value: tuple[Array, Array]
    cross_out: tuple[Array, Array]
    up: tuple[Array, Array]
    down: tuple[Array, Array]
    norms: tuple[tuple[Array, Array], ...]


class KernelWords:
    """The decoder through the attention kernels, on its weights.

    Raises:
        ManifestError: a bundle that is no sentence decoder, or has no weights beside its graph.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.settings = settings_of(bundle)
        if WEIGHTS not in bundle.manifest.files:
            raise ManifestError(f"{bundle.manifest.name} has no {WEIGHTS}; build it again")
        held = {k: np.asarray(v, np.float32) for k, v in bundle.arrays(WEIGHTS).items()}
        try:
            self.embed = held["embed.weight"]  # [words, D]
            self._last = np.ascontiguousarray(self.embed.T)
            self._remember = _linear(held, "remember")
            self._nothing = held["nothing"].reshape(1, -1)
            self._norm = (held["norm.weight"], held["norm.bias"])
            count = len({k.split(".")[1] for k in held if k.startswith("layers.")})
            self.layers = [_layer(held, f"layers.{i}") for i in range(count)]
        except KeyError as error:
            raise ManifestError(f"{bundle.manifest.name}: {WEIGHTS} lacks {error}") from error
        self.heads = int(self.settings["heads"])
        self.sounds = len(bundle.manifest.labels or ())

    def open(self, memory: Array, beams: int) -> KernelState:
        """See :class:`Words`."""
        present = memory[memory[:, : self.sounds].max(axis=1) > 0]
        rows = np.concatenate([_through(present, self._remember), self._nothing])
        width = self.embed.shape[1] // self.heads
        own = [
            attention.fresh(self.settings["length"], self.heads, width, batch=beams)
            for _ in self.layers
        ]
        return KernelState(own, [self._across(rows, layer, beams) for layer in self.layers])

    def step(self, state: KernelState, tokens: Sequence[int]) -> Array:
        """See :class:`Words`."""
        x = self.embed[list(tokens)]  # [B, D]
        for layer, own, across in zip(self.layers, state.own, state.across, strict=True):
            first, second, third = layer.norms
            q, k, v = np.split(_through(_normal(x, first), layer.own), 3, axis=1)
            seen = attention.step(self._split(q), self._split(k), self._split(v), own,
                                  self.settings["length"], rotary_base=ROTARY_BASE)  # fmt: skip
            x = x + _through(seen.reshape(x.shape), layer.own_out)
            q = self._split(_through(_normal(x, second), layer.query))
            x = x + _through(attention.cross(q, across).reshape(x.shape), layer.cross_out)
            h = _through(_normal(x, third), layer.up)
            x = x + _through(h / (1 + np.exp(-h)), layer.down)
        return np.asarray(_normal(x, self._norm) @ self._last)

    def reorder(self, state: KernelState, rows: Sequence[int]) -> None:
        """See :class:`Words`; the sounds are the same in every row."""
        for own in state.own:
            for array in (own.keys, own.values, own.position):
                array[:] = array[list(rows)]

    def _split(self, x: Array) -> Array:
        """Return `[B, D]` as `[B, 1, H, W]`."""
        return np.ascontiguousarray(x.reshape(len(x), 1, self.heads, -1))

    def _across(self, rows: Array, layer: Layer, beams: int) -> attention.Memory:
        """Return what a layer attends across to, the same for every beam."""
        shape = (1, len(rows), self.heads, -1)
        k, v = (_through(rows, w).reshape(shape) for w in (layer.key, layer.value))
        one = attention.remember(np.ascontiguousarray(k), np.ascontiguousarray(v))
        keys, values = np.repeat(one.keys, beams, axis=0), np.repeat(one.values, beams, axis=0)
        return attention.Memory(keys, values, np.repeat(one.lengths, beams))


def settings_of(bundle: Bundle) -> Mapping[str, Any]:
    """Return a sentence decoder's settings.

    Raises:
        ManifestError: a bundle that is none.
    """
    extra = bundle.manifest.extra
    lacking = sorted(NEEDED - set(extra))
    if lacking or bundle.manifest.labels is None:
        raise ManifestError(
            f"{bundle.manifest.name} is no sentence decoder: it lacks {lacking or 'labels'}"
        )
    return extra


def _layer(held: Mapping[str, Array], at: str) -> Layer:
    parts = [_linear(held, f"{at}.own.{name}") for name in ("query", "key", "value")]
    own = tuple(np.ascontiguousarray(np.concatenate([p[i] for p in parts], -1)) for i in (0, 1))
    return Layer(
        own=(own[0], own[1]),
        own_out=_linear(held, f"{at}.own.out"),
        query=_linear(held, f"{at}.cross.query"),
        key=_linear(held, f"{at}.cross.key"),
        value=_linear(held, f"{at}.cross.value"),
        cross_out=_linear(held, f"{at}.cross.out"),
        up=_linear(held, f"{at}.mlp.0"),
        down=_linear(held, f"{at}.mlp.2"),
        norms=tuple((held[f"{at}.norms.{i}.weight"], held[f"{at}.norms.{i}.bias"])
                    for i in range(3)),
    )  # fmt: skip


def _linear(held: Mapping[str, Array], name: str) -> tuple[Array, Array]:
    """Return `[in, out]` and a bias, zero where there is none."""
    weight = np.ascontiguousarray(held[f"{name}.weight"].T)
    return weight, held.get(f"{name}.bias", np.zeros(weight.shape[1], np.float32))


def _through(x: Array, layer: tuple[Array, Array]) -> Array:
    return np.asarray(x @ layer[0] + layer[1])


def _normal(x: Array, norm: tuple[Array, Array]) -> Array:
    """Return `[B, D]` normalised; products instead of means, which cost three calls each."""
    width = x.shape[1]
    centred = x - (x.sum(1) / width)[:, None]
    square = np.einsum("bd,bd->b", centred, centred) / width + np.float32(1e-5)
    return np.asarray(centred * (1 / np.sqrt(square))[:, None] * norm[0] + norm[1])
