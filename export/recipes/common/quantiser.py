"""Residual vector quantiser for training: every book learns from every vector of a step."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ossicle.kernels import kmeans

Samples = NDArray[np.float32]


def nearest(x: Tensor, book: Tensor) -> Tensor:
    """Index of the nearest row of ``book [N, D]`` for each row of ``x [M, D]``; first wins ties."""
    score = torch.addmm(book.square().sum(dim=1) * -0.5, x, book.T)
    if score.device.type == "cpu":  # numpy's argmax is vectorised, torch's is not: 8x here
        return torch.from_numpy(score.numpy().argmax(axis=1))
    return score.argmax(dim=1)


class ResidualBooks(nn.Module):
    """``K`` books of ``N`` rows, learnt by exponential moving averages, ``[K, N, D]``.

    A row that fewer than ``starve`` vectors (averaged) choose is moved onto a vector of the
    current step. Books are not parameters: no gradient reaches them.
    """

    books: Tensor
    count: Tensor
    total: Tensor

    def __init__(self, layers: int, codes: int, width: int, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("books", torch.zeros(layers, codes, width))
        self.register_buffer("count", torch.ones(layers, codes))
        self.register_buffer("total", torch.zeros(layers, codes, width))
        self.restarts = 0

    @torch.no_grad()
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``[M, D]`` to codes ``[K, M]`` and the residual after each layer, ``[K + 1, M, D]``."""
        rest, codes, rests = x, [], [x]
        for book in self.books:
            index = nearest(rest, book)
            rest = rest - book[index]
            codes.append(index)
            rests.append(rest)
        return torch.stack(codes), torch.stack(rests)

    @torch.no_grad()
    def learn(self, codes: Tensor, rests: Tensor, generator: torch.Generator) -> None:
        """Moves every book towards the vectors that chose its rows."""
        layers, size, _ = self.books.shape
        for k in range(layers):
            hits = torch.bincount(codes[k], minlength=size).float()
            sums = torch.zeros_like(self.total[k]).index_add_(0, codes[k], rests[k])
            self.count[k].mul_(self.decay).add_(hits, alpha=1 - self.decay)
            self.total[k].mul_(self.decay).add_(sums, alpha=1 - self.decay)
            starve = 0.03 * len(codes[k]) / size
            dead = (self.count[k] < starve).nonzero()[:, 0]
            if len(dead):
                pick = torch.randint(len(rests[k]), (len(dead),), generator=generator)
                self.count[k, dead] = 3 * starve
                self.total[k, dead] = rests[k][pick] * 3 * starve
                self.restarts += len(dead)
            self.books[k] = self.total[k] / self.count[k].clamp(min=1e-6)[:, None]

    @torch.no_grad()
    def fit(self, x: Tensor, generator: torch.Generator, rounds: int = 8) -> None:
        """k-means, layer by layer, from the vectors ``x [M, D]``; at least ``N`` of them.

        Each book starts from rows drawn at random: seeding by distance picks outliers first, and
        a thousand draws of it cost more than the fit.
        """
        size = self.books.shape[1]
        rest = np.ascontiguousarray(x.cpu().numpy(), np.float32)
        for k in range(len(self.books)):
            drawn = torch.randperm(len(rest), generator=generator)[:size].numpy()
            seed = int(torch.randint(2**31, (1,), generator=generator))
            found = kmeans.fit(rest, size, passes=rounds, start=rest[drawn], seed=seed)
            index = kmeans.assign(rest, found.centroids)
            hits = torch.from_numpy(np.bincount(index, minlength=size)).float().clamp(min=0.5)
            self.books[k] = torch.from_numpy(found.centroids)
            self.count[k] = hits * (1600 / len(x))
            self.total[k] = self.books[k] * self.count[k][:, None]
            rest = rest - found.centroids[index]

    @torch.no_grad()
    def fit_sums(self, x: Tensor, generator: torch.Generator, outer: int = 8) -> None:
        """As ``fit``, but rows of all books after the first are sums: row ``j I + i = a_i + b_j``.

        ``I = N / outer`` rows and ``outer`` others stand for ``N``, which a search can use: it
        multiplies with ``I + outer`` rows instead of ``N`` (``ossicle.kernels.rvq``). On new
        latents such books left 0.03 dB a layer more than free rows.
        """
        size = self.books.shape[1]
        rest = np.ascontiguousarray(x.cpu().numpy(), np.float32)
        for k in range(len(self.books)):
            seed = int(torch.randint(2**31, (1,), generator=generator))
            book = _sums(rest, size // outer, outer, seed) if k else _free(rest, size, seed)
            self.books[k] = torch.from_numpy(book)
            rest = rest - book[kmeans.assign(rest, book)]
        self.total.zero_()
        self.count.fill_(1)

    def partial(self, x: Tensor, rests: Tensor, depth: Tensor) -> Tensor:
        """``x [B, T, D]`` quantised to ``depth [B]`` layers, gradients passed straight through."""
        batch, steps, width = x.shape
        left = rests.reshape(len(rests), batch, steps, width)[depth, torch.arange(batch)]
        return x - left.detach()


def _free(x: Samples, rows: int, seed: int, passes: int = 10) -> Samples:
    """``rows`` centroids of ``x [M, D]`` by k-means, started from rows drawn at random."""
    drawn = np.random.default_rng(seed).permutation(len(x))[:rows]
    return kmeans.fit(x, rows, passes=passes, start=x[drawn], seed=seed).centroids


def _sums(x: Samples, inner: int, outer: int, seed: int, rounds: int = 8) -> Samples:
    """A book ``[outer inner, D]`` of sums for ``x [M, D]``, outer index first.

    Starts from k-means of ``x`` and of what that leaves; then vectors go to the nearest sum, and
    each part in turn becomes the mean of what the other leaves of its vectors.
    """
    a = _free(x, inner, seed, 4)
    b = _free(x - a[kmeans.assign(x, a)], outer, seed, 6)
    for _ in range(rounds):
        chosen = kmeans.assign(x, _table(a, b))
        j, i = np.divmod(chosen, inner)
        for _ in range(2):
            _centre(a, i, x - b[j])
            _centre(b, j, x - a[i])
    return _table(a, b)


def _table(a: Samples, b: Samples) -> Samples:
    return np.ascontiguousarray((b[:, None] + a[None]).reshape(-1, a.shape[1]))


def _centre(rows: Samples, chosen: NDArray[np.int64], x: Samples) -> None:
    """Moves each row that was chosen to the mean of the vectors that chose it."""
    total = torch.zeros(rows.shape).index_add_(0, torch.from_numpy(chosen), torch.from_numpy(x))
    hits = np.bincount(chosen, minlength=len(rows))
    used = hits > 0
    rows[used] = total.numpy()[used] / hits[used, None]
