"""Muon: momentum whose matrices are made orthogonal before they are taken as a step.

Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024, with the
step sizes of J. Liu et al., "Muon is scalable for LLM training", 2025, eq. 4, so that the learning
rates of Adam fit. What is no matrix (biases, single rows, what ``plain`` names) is left to Adam.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

STEPS = 5  # of the iteration; singular values end between 0.7 and 1.2
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
MOMENTUM, BETAS = 0.95, (0.9, 0.98)


def orthogonal(matrices: Tensor) -> Tensor:
    """The orthogonal matrices nearest to ``matrices`` [N, R, C], roughly (Newton-Schulz)."""
    a, b, c = COEFFICIENTS
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.transpose(1, 2) if tall else x
    x = x / (torch.linalg.matrix_norm(x.float())[:, None, None] + 1e-7).bfloat16()
    for _ in range(STEPS):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * square @ square) @ x
    nearest: Tensor = (x.transpose(1, 2) if tall else x).float()
    return nearest


class Muon(torch.optim.Optimizer):
    """Muon for the matrices among ``named`` parameters, Adam for the rest.

    Args:
        named: names and parameters; those that need no gradient are left out.
        lr: learning rate of both.
        weight_decay: decoupled, of the matrices alone.
        plain: matrices whose name holds one of these are left to Adam.
    """

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        lr: float = 1.0,
        weight_decay: float = 1e-2,
        plain: tuple[str, ...] = (),
    ) -> None:
        groups: dict[int, list[nn.Parameter]] = {0: [], 1: [], 4: []}
        for name, value in named:
            if not value.requires_grad:
                continue
            matrix = value.ndim == 2 and value.shape[0] > 1 and not any(p in name for p in plain)
            gates = 4 if "_l0" in name else 1  # of an LSTM, in one matrix
            groups[gates if matrix else 0].append(value)
        super().__init__(
            [{"params": held, "blocks": blocks} for blocks, held in groups.items() if held],
            {"lr": lr, "weight_decay": weight_decay},
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take one step along the gradients; ``closure`` is not used."""
        for group in self.param_groups:
            for value in group["params"]:
                if value.grad is None:
                    continue
                if group["blocks"]:
                    self._turn(value, group)
                else:
                    self._adam(value, group["lr"])

    def _turn(self, value: Tensor, group: dict[str, Any]) -> None:
        held, grad = self.state[value], value.grad
        assert grad is not None
        mean = held.setdefault("mean", torch.zeros_like(value)).lerp_(grad, 1 - MOMENTUM)
        wanted = grad.lerp(mean, MOMENTUM).view(group["blocks"], -1, value.shape[1])
        size = 0.2 * max(wanted.shape[1:]) ** 0.5
        value.mul_(1 - group["lr"] * group["weight_decay"])
        value.add_(orthogonal(wanted).view_as(value), alpha=-group["lr"] * size)

    def _adam(self, value: Tensor, rate: float) -> None:
        held, grad = self.state[value], value.grad
        assert grad is not None
        held["step"] = held.get("step", 0) + 1
        mean = held.setdefault("mean", torch.zeros_like(value)).lerp_(grad, 1 - BETAS[0])
        power = held.setdefault("power", torch.zeros_like(value)).mul_(BETAS[1])
        power.addcmul_(grad, grad, value=1 - BETAS[1])
        scale = (power / (1 - BETAS[1] ** held["step"])).sqrt_().add_(1e-8)
        value.addcdiv_(mean / (1 - BETAS[0] ** held["step"]), scale, value=-rate)
