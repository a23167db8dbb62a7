"""The torch modules that a bundle was exported from, run as they are.

On the CPU it is the reference: an exported graph is held against the module it came from through
the very same program. On a GPU (``device="cuda"``) each graph's whole step is recorded as a CUDA
graph, one a batch bucket, and replayed: rows beside those asked for are padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ossicle.runtime.backend.base import Array, BoundGraph, initial_state
from ossicle.runtime.backend.torchgraph import CudaRecorder, RecordedStep, Recorder
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import BackendError
from ossicle.runtime.manifest import Graph


class TorchBackend:
    """Runs ``modules[graph]``, called with inputs then states in the manifest's order.

    A module returns its outputs and then its next states, as one flat tuple. ``recorder`` makes
    what records a step; without one, steps are recorded on CUDA devices and run plainly elsewhere.
    """

    def __init__(
        self,
        modules: Mapping[str, Any],
        device: str = "cpu",
        recorder: Callable[[], Recorder] | None = None,
    ) -> None:
        self.name = "torch" if device == "cpu" else f"torch-{device}"
        self.modules, self.device = modules, device
        self.reasons: dict[str, str] = {}  # by graph: why its steps are not recorded
        self._recorder = recorder
        if device.startswith("cuda"):
            _require_cuda(device)
            self._recorder = recorder or (lambda: CudaRecorder(device))

    def load(self, bundle: Bundle, graph: str) -> TorchGraph:
        """Return the module that stands for ``graph``."""
        if graph not in self.modules:
            raise BackendError(f"no torch module for graph {graph!r}; got {sorted(self.modules)}")
        return TorchGraph(self, graph, bundle)

    def recorder(self) -> Recorder | None:
        """Return what records the steps of one binding."""
        return None if self._recorder is None else self._recorder()


def _require_cuda(device: str) -> None:
    import torch

    if not torch.cuda.is_available():
        raise BackendError(
            f"device {device!r} was asked for, and torch {torch.__version__} finds no CUDA device; "
            "device='cpu' runs here"
        )


class TorchGraph:
    """One module, shared."""

    def __init__(self, backend: TorchBackend, name: str, bundle: Bundle) -> None:
        self.backend, self.name, self.bundle = backend, name, bundle
        self.spec: Graph = bundle.manifest.graphs[name]
        self.module = backend.modules[name].eval().to(backend.device)

    def bind(self, batch: int) -> BoundGraph:
        """Return the module with fresh memory for ``batch`` rows, padded to a bucket if recorded.

        Raises:
            BackendError: more rows than the largest bucket, or shapes that are not fixed.
        """
        recorder = self.backend.recorder()
        if recorder is None:
            return TorchBound(self, batch)
        for bucket in sorted(self.bundle.manifest.batch):
            if bucket >= batch:
                return RecordedBound(self, batch, bucket, recorder)
        raise BackendError(
            f"batch {batch}; the largest bucket is {max(self.bundle.manifest.batch)}"
        )


class TorchBound:
    """One module and its rows' memory."""

    def __init__(self, graph: TorchGraph, batch: int) -> None:
        self.graph = graph
        first = {s.input: initial_state(s, graph.bundle, batch) for s in graph.spec.states}
        self._sides = [first, {k: v.copy() for k, v in first.items()}]
        self._now = 0

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Step the module once."""
        import torch

        spec = self.graph.spec
        held = self._sides[self._now]
        given = [inputs[p.name] for p in spec.inputs] + [held[s.input] for s in spec.states]
        with torch.inference_mode():
            made = self.graph.module(*(torch.from_numpy(np.ascontiguousarray(a)) for a in given))
        flat = made if isinstance(made, tuple | list) else (made,)
        arrays = [np.asarray(t.numpy()) for t in flat]
        after = self._sides[self._now ^ 1]
        for state, array in zip(spec.states, arrays[len(spec.outputs) :], strict=True):
            np.copyto(after[state.input], array)
        self._now ^= 1
        return {p.name: a for p, a in zip(spec.outputs, arrays, strict=False)}

    def states(self) -> dict[str, Array]:
        """Return the current states."""
        return self._sides[self._now]

    def previous(self) -> dict[str, Array]:
        """Return the states before the last run."""
        return self._sides[self._now ^ 1]


class RecordedBound:
    """One recorded step and the host's side of its rows' memory.

    States stay on the device. Those who ask for them get a copy on the host, sent up again before
    the next run, since they may have written to it.
    """

    def __init__(self, graph: TorchGraph, batch: int, bucket: int, recorder: Recorder) -> None:
        self._graph, self.batch = graph, batch
        spec, device = graph.spec, graph.backend.device
        first = {s.input: initial_state(s, graph.bundle, bucket) for s in spec.states}
        pinned = device.startswith("cuda")
        self._host = {name: _staged(array, pinned) for name, array in first.items()}
        self._before = {name: _staged(array, pinned) for name, array in first.items()}
        initial = {name: tensor.to(device, copy=True) for name, tensor in self._host.items()}
        self.step = RecordedStep(graph.module, spec, initial, bucket, recorder)
        self._given = {n: _staged_like(t, pinned) for n, t in self.step.inputs.items()}
        self._made = {n: _staged_like(t, pinned) for n, t in self.step.outputs.items()}
        self._wait = _synchroniser(device)
        self._host_is_ahead = False  # the host's states are to be sent up before the next run
        self._host_is_behind = False

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Send the inputs up, step, bring the outputs down.

        Raises:
            BackendError: an input of another shape or type, or the step failed.
        """
        self._stage(inputs)
        for name, tensor in self._given.items():
            self.step.inputs[name].copy_(tensor, non_blocking=True)
        if self._host_is_ahead:
            for name, tensor in self._host.items():
                self.step.sides[self.step.now][name].copy_(tensor, non_blocking=True)
        self.step.run()
        for name, tensor in self._made.items():
            tensor.copy_(self.step.outputs[name], non_blocking=True)
        self._wait()
        self._host_is_ahead, self._host_is_behind = False, True
        if self.step.why_eager:
            self._graph.backend.reasons[self._graph.name] = self.step.why_eager
        return {name: tensor.numpy()[: self.batch] for name, tensor in self._made.items()}

    def _stage(self, inputs: Mapping[str, Array]) -> None:
        for port in self._graph.spec.inputs:
            rows = self._given[port.name].numpy()[: self.batch]
            array = inputs[port.name]
            if array.shape != rows.shape or array.dtype != rows.dtype:
                raise BackendError(
                    f"{self._graph.name}: input {port.name!r} is {array.dtype} {array.shape}; "
                    f"{rows.dtype} {rows.shape} expected"
                )
            np.copyto(rows, array)

    def states(self) -> dict[str, Array]:
        """Return the current states on the host; what is written there is sent up again."""
        if self._host_is_behind:
            self._fetch(self._host, self.step.now)
            self._host_is_behind = False
        self._host_is_ahead = True
        return {name: tensor.numpy()[: self.batch] for name, tensor in self._host.items()}

    def previous(self) -> dict[str, Array]:
        """Return the states before the last run."""
        self._fetch(self._before, self.step.now ^ 1)
        return {name: tensor.numpy()[: self.batch] for name, tensor in self._before.items()}

    def _fetch(self, host: Mapping[str, Any], side: int) -> None:
        for name, tensor in host.items():
            tensor.copy_(self.step.sides[side][name], non_blocking=True)
        self._wait()


def _staged(array: Array, pinned: bool) -> Any:
    """Return a host tensor with the array's values, page-locked where a GPU copies from it."""
    import torch

    tensor = torch.from_numpy(array.copy())
    return tensor.pin_memory() if pinned else tensor


def _staged_like(tensor: Any, pinned: bool) -> Any:
    import torch

    return torch.zeros(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)


def _synchroniser(device: str) -> Callable[[], None]:
    """Return what waits until the device has done what it was given."""
    if not device.startswith("cuda"):
        return lambda: None
    import torch

    return lambda: torch.cuda.current_stream(torch.device(device)).synchronize()
