"""A small causal decoder that words what was heard: sounds and their order in, words out.

Each word attends to the words before it through an explicit cache, and across to the memory: one
row per sound, saying which it is, in which moment it began, how sure the tagger was and what its
embedding was just then (zeros from a tagger that it does not know). Keys are
turned by their place (rotary, Su et al. 2021), so only distances count: the cache may slide, and
the graph, which turns each key by its distance to the newest, needs no position input.
:mod:`ossicle.kernels.attention` does the same with a ring and true positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

ABSENT = -1e4  # added to the score of what must not be attended to
ROTARY_BASE = 10_000.0


@dataclass(frozen=True, slots=True)
class CaptionerShape:
    """Sizes of the decoder."""

    words: int
    sounds: int
    moments: int = 4
    rows: int = 6  # S, sounds at once
    width: int = 128  # D
    heads: int = 4  # H
    layers: int = 2
    length: int = 24  # T, words remembered
    embedding: int = 0  # of the tagger's embedding that a row holds

    @property
    def features(self) -> int:
        """Values of one memory row: which sound, which moment, score, the tagger's embedding."""
        return self.sounds + self.moments + 1 + self.embedding


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return `[B, H, N, W]` with pairs `(i, i + W / 2)` turned by the angles of `[N, W / 2]`."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class Attention(nn.Module):
    """Multi-head attention of `[B, N, D]` over `[B, M, D]` with a bias `[.., N, M]`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        """Return `[B, H, N, D / H]`."""
        width = x.shape[-1] // self.heads
        return x.reshape(*x.shape[:2], self.heads, width).transpose(1, 2)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor,
        places: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:  # fmt: skip
        """Attend with ``key`` and ``value`` already projected; ``places`` `[M, W / 2]` turn.

        ``places`` are cosines and sines of the keys' places; the queries' are the last of them.
        """
        q, k, v = self.split(self.query(query)), self.split(key), self.split(value)
        if places is not None:
            cos, sin = places
            q = turn(q, cos[-q.shape[2] :], sin[-q.shape[2] :])
            k = turn(k, cos, sin)
        scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5) + bias
        mixed = scores.softmax(-1) @ v
        return torch.as_tensor(self.out(mixed.transpose(1, 2).flatten(2)))


class Layer(nn.Module):
    """Self-attention, cross-attention, and a gateless feed-forward; normalised before each."""

    def __init__(self, shape: CaptionerShape) -> None:
        super().__init__()
        width = shape.width
        self.own = Attention(width, shape.heads)
        self.cross = Attention(width, shape.heads)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(),
                                 nn.Linear(2 * width, width))  # fmt: skip

    def keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what later words need of ``x``: keys and values."""
        h = self.norms[0](x)
        return self.own.key(h), self.own.value(h)

    def forward(
        self, x: Tensor, key: Tensor, value: Tensor, bias: Tensor, places: tuple[Tensor, Tensor],
        memory: Tensor, absent: Tensor,
    ) -> Tensor:  # fmt: skip
        x = x + self.own(self.norms[0](x), key, value, bias, places)
        h = self.norms[1](x)
        x = x + self.cross(h, self.cross.key(memory), self.cross.value(memory), absent)
        return x + torch.as_tensor(self.mlp(self.norms[2](x)))


class Captioner(nn.Module):
    """The decoder. :meth:`forward` is one word; :meth:`whole` a batch of sentences at once."""

    cos: Tensor  # [T, W / 2] of places 0 to T - 1
    sin: Tensor

    def __init__(self, shape: CaptionerShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.words, shape.width)
        nn.init.normal_(self.embed.weight, std=0.05)
        self.remember = nn.Linear(shape.features, shape.width)
        self.nothing = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        half = shape.width // shape.heads // 2
        rates = ROTARY_BASE ** (-torch.arange(half, dtype=torch.float64) / half)
        angles = torch.arange(shape.length)[:, None] * rates
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def see(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return memory rows `[B, S + 1, D]` and the bias `[B, 1, 1, S + 1]` of absent ones."""
        present = memory[..., : self.shape.sounds].amax(-1)
        rows = torch.cat([self.remember(memory), self.nothing.expand(memory.shape[0], 1, -1)], 1)
        bias = torch.cat([(1 - present) * ABSENT, torch.zeros_like(present[:, :1])], 1)
        return rows, bias[:, None, None, :]

    def forward(
        self, token: Tensor, memory: Tensor, cache: Tensor, filled: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One word.

        Args:
            token: `[B, 1]` int64, the word before.
            memory: `[B, S, features]`.
            cache: `[B, 2 * layers, T, D]` keys and values of the last T words.
            filled: `[B, T]` 1 where the cache holds a word.

        Returns:
            Scores of the next word `[B, words]`, the next cache, the next filled.
        """
        rows, absent = self.see(memory)
        filled = torch.cat([filled[:, 1:], torch.ones_like(filled[:, :1])], 1)
        bias = (1 - filled)[:, None, None, :] * ABSENT
        x, kept = self.embed(token), []
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            key, value = layer.keys(x)
            key = torch.cat([cache[:, 2 * i, 1:], key], 1)
            value = torch.cat([cache[:, 2 * i + 1, 1:], value], 1)
            kept += [key, value]
            x = layer(x, key, value, bias, (self.cos, self.sin), rows, absent)
        logits = self.norm(x[:, 0]) @ self.embed.weight.T
        return logits, torch.stack(kept, 1), filled

    def whole(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """Return `[B, N, words]` scores for sentences `[B, N]`, N at most the cache's length."""
        return torch.as_tensor(self.hidden(tokens, memory) @ self.embed.weight.T)

    def hidden(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """Return `[B, N, D]`, of which the scores are products with the words' vectors."""
        rows, absent = self.see(memory)
        n = tokens.shape[1]
        bias = torch.full((n, n), ABSENT, device=tokens.device).triu(1)
        places = (self.cos[:n], self.sin[:n])
        x = self.embed(tokens)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            x = layer(x, *layer.keys(x), bias, places, rows, absent)
        return torch.as_tensor(self.norm(x))
