"""The layers of the built-in codec: causal, their memory passed in and out.

Axis letters: ``B`` batch, ``T`` or ``S`` frames, ``C`` channels.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class CausalMix(nn.Module):
    """A matrix over the last ``kernel`` frames: ``[B, T, C] -> [B, T, out]``.

    The state is the ``kernel - 1`` frames before the hop, ``[B, kernel - 1, C]``.
    """

    def __init__(self, width: int, out: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.width = width
        self.linear = nn.Linear(kernel * width, out)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, T, C]`` and its history to ``[B, T, out]`` and the new history."""
        steps = x.shape[1]
        seen = torch.cat([state.to(x.dtype), x], dim=1)
        taps = [seen[:, i : i + steps] for i in range(self.kernel)]
        return self.linear(torch.cat(taps, dim=2)), seen[:, steps:]


class Block(nn.Module):
    """``x + W2 silu(W1 [n(x) of the last frames])``, n a LayerNorm without weights."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.width = width
        self.mix = CausalMix(width, width, kernel)
        self.out = nn.Linear(width, width)
        with torch.no_grad():
            self.out.weight.mul_(0.5)
            self.out.bias.zero_()

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, T, C]`` to ``[B, T, C]`` and the new state."""
        n = functional.layer_norm(x, (self.width,))
        y, state = self.mix(n, state)
        return x + self.out(functional.silu(y)), state


def cosines(rows: int, n: int) -> Tensor:
    """The first ``rows`` vectors of the orthonormal DCT-II of length ``n``, ``[rows, n]``."""
    k = torch.arange(rows)[:, None]
    t = torch.arange(n)[None]
    basis = torch.cos(math.pi * (t + 0.5) * k / n) * math.sqrt(2 / n)
    basis[0] *= math.sqrt(0.5)
    return basis


def fourier(n: int) -> Tensor:
    """Hann-windowed real DFT as one matrix, ``[n, 2 (n // 2 + 1)]``: cosines, then sines."""
    t = torch.arange(n, dtype=torch.float64)
    window = 0.5 - 0.5 * torch.cos(2 * math.pi * (t + 0.5) / n)
    angle = 2 * math.pi * t[:, None] * torch.arange(n // 2 + 1, dtype=torch.float64)[None] / n
    both = torch.cat([angle.cos(), angle.sin()], dim=1) * window[:, None] * (2 / n)
    return both.float()


class Taps(torch.autograd.Function):
    """A dilated depthwise filter over time, its gradient without a padded copy a tap.

    ``[B, history + T, C]`` and ``[k, C]`` to ``[B, T, C]``. The plain sum of slices is the same
    filter; its automatic gradient fills and adds one array of the full length for each tap, which
    took a third of a training step.
    """

    @staticmethod
    def forward(ctx: Any, seen: Tensor, taps: Tensor, dilation: int) -> Tensor:
        """The filter's output."""
        ctx.save_for_backward(seen, taps)
        ctx.dilation = dilation
        steps = seen.shape[1] - (len(taps) - 1) * dilation
        y = seen[:, :steps] * taps[0]
        for i in range(1, len(taps)):
            y.addcmul_(seen[:, i * dilation : i * dilation + steps], taps[i])
        return y

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of the input and of the taps."""
        seen, taps = ctx.saved_tensors
        steps, width = given.shape[1], taps.shape[1]
        back, of_taps = torch.zeros_like(seen), torch.empty_like(taps)
        for i in range(len(taps)):
            here = slice(i * ctx.dilation, i * ctx.dilation + steps)
            back[:, here].addcmul_(given, taps[i])
            of_taps[i] = (given * seen[:, here]).reshape(-1, width).sum(dim=0)
        return back, of_taps, None


class Unit(nn.Module):
    """``x + W2 f(W1 dw(f(x)))``: a dilated depthwise filter, then two matrices; f leaks at 0.3."""

    def __init__(self, width: int, hidden: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        self.history = (kernel - 1) * dilation  # frames
        self.taps = nn.Parameter(torch.randn(kernel, width) * kernel**-0.5)
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(hidden, width)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, T, C]`` and ``[B, history, C]`` to ``[B, T, C]`` and the new history."""
        steps = x.shape[1]
        seen = torch.cat([state.to(x.dtype), leak(x)], dim=1)
        if steps <= 64:  # one gather instead of a slice a tap: fewer operators in a graph
            index = torch.arange(steps)[:, None] + torch.arange(self.kernel) * self.dilation
            near = seen.index_select(1, index.reshape(-1))
            y = (near.reshape(x.shape[0], steps, *self.taps.shape) * self.taps).sum(dim=2)
        else:
            y = Taps.apply(seen, self.taps.to(x.dtype), self.dilation)  # type: ignore[no-untyped-call]
        return x + self.second(leak(self.first(y))), seen[:, steps:]


def leak(x: Tensor) -> Tensor:
    """Leaky rectifier, slope 0.3."""
    return functional.leaky_relu(x, 0.3)
