"""A stand-in for CUDA graphs on the CPU: it keeps the operators of a run and runs them again.

Like a real graph it knows nothing of Python: a replay reads and writes the tensors of the
recording, in their order, whatever became of the names they had. Recording leaves no trace, and
what a graph cannot hold (a size that depends on values) it refuses in torch's words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Action = Callable[[], None]


class _Log(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.nonzero.default:  # how large it is, only the host finds out
            raise RuntimeError("operation not permitted when stream is capturing")
        made = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, made))
        return made


class Tape:
    """Warms up by running; records by running under a log and putting everything back."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.lasting: Callable[[], list[torch.Tensor]] = list

    def warm(self, action: Action) -> None:
        self.events.append("warm")
        action()

    def record(self, action: Action) -> Action:
        self.events.append("record")
        before = [tensor.clone() for tensor in self.lasting()]
        with _Log() as log:
            action()
        for tensor, value in zip(self.lasting(), before, strict=True):
            tensor.copy_(value)
        return lambda: self._replay(log.calls)

    def _replay(self, calls: list[tuple[Any, Any, Any, Any]]) -> None:
        self.events.append("replay")
        with torch.inference_mode():
            for func, args, kwargs, made in calls:
                again = func(*args, **kwargs)
                for kept, value in zip(_tensors(made), _tensors(again), strict=True):
                    if kept.data_ptr() != value.data_ptr():  # else it was done in place, or a view
                        kept.copy_(value)


def _tensors(made: Any) -> list[torch.Tensor]:
    many = made if isinstance(made, tuple | list) else [made]
    return [value for value in many if isinstance(value, torch.Tensor)]
