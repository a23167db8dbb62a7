"""Several processes that learn as one: every step takes the mean of their gradients.

Each draws scenes of its own, so that a step of two processes is one of twice the scenes; their
parameters stay alike to the bit, for all add the same numbers in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, distributed

from ossicle.runtime.errors import ExportError

PATIENCE: Final = timedelta(minutes=30)  # the first one judges while the others wait


class Pair:
    """``count`` processes that meet in the file ``meet``; this one is number ``rank``.

    Without a file this one is alone, and nothing is exchanged.

    Raises:
        ExportError: a rank that is none of 0 to ``count`` - 1, or several without a file.
    """

    def __init__(self, meet: Path | None = None, rank: int = 0, count: int = 1) -> None:
        if not 0 <= rank < count:
            raise ExportError(f"process {rank} of {count}; 0 to {count - 1} expected")
        if meet is None and count > 1:
            raise ExportError(f"{count} processes need one file to meet in: give --meet to each")
        self.count = count
        self.group: Any = None  # its operations are missing in the types of torch
        if meet is not None and count > 1:
            store = distributed.FileStore(str(meet), count)  # type: ignore[attr-defined]
            self.group = distributed.ProcessGroupGloo(store, rank, count, PATIENCE)

    def clock(self, seconds: float) -> float:
        """The first one's ``seconds``, for all: what depends on time must not differ."""
        if self.group is None:
            return seconds
        told = torch.tensor([seconds], dtype=torch.float64)
        self.group.broadcast(told, 0).wait()
        return float(told)

    def share(self, parameters: Iterable[Tensor]) -> None:
        """Put the mean of all processes' gradients in place of this one's."""
        if self.group is None:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        self.group.allreduce([flat]).wait()
        flat /= self.count
        at = 0
        for gradient in gradients:
            gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
            at += gradient.numel()
