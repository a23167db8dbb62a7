"""One step over tensors of fixed address, recorded once and replayed: CUDA graphs for torch.

At streaming sizes a GPU waits for its launches: a step of a hundred small kernels costs a hundred
launches eagerly and one as a graph. A graph replays the same addresses, so everything a step
reads and writes is allocated before it is recorded. States lie in two sets that take turns, hence
two recordings, one for each direction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from ossicle.runtime.errors import BackendError
from ossicle.runtime.manifest import Graph

WARM_UPS = 3  # libraries choose algorithms and allocate workspaces in their first calls

Action = Callable[[], None]
Tensors = dict[str, Any]  # torch.Tensor by name


class Recorder(Protocol):
    """What turns an action into one that can be replayed."""

    def warm(self, action: Action) -> None:
        """Run ``action`` where a recording will not see it."""
        ...

    def record(self, action: Action) -> Action:
        """Return what replays ``action``; recording it has no effect on memory that lasts.

        Raises:
            RuntimeError: the action does something that cannot be recorded.
        """
        ...


class CudaRecorder:
    """``torch.cuda.CUDAGraph``: both directions of a step share one pool, as they never overlap."""

    def __init__(self, device: Any) -> None:
        import torch

        self._cuda, self._device = torch.cuda, torch.device(device)
        self._pool = torch.cuda.graph_pool_handle()

    def warm(self, action: Action) -> None:
        """Run ``action`` on a side stream, as a recording requires."""
        cuda, device = self._cuda, self._device
        side = cuda.Stream(device)
        side.wait_stream(cuda.current_stream(device))
        with cuda.stream(side):
            action()
        cuda.current_stream(device).wait_stream(side)
        cuda.synchronize(device)

    def record(self, action: Action) -> Action:
        """Capture ``action`` on a stream of its own."""
        graph = self._cuda.CUDAGraph()
        with (
            self._cuda.device(self._device),
            self._cuda.graph(
                graph,
                pool=self._pool,
                capture_error_mode="thread_local",  # other threads go on meanwhile
            ),
        ):
            action()
        replay: Action = graph.replay
        return replay


class RecordedStep:
    """One module at one batch size: fill ``inputs``, :meth:`run`, read ``outputs`` and ``states``.

    ``module`` takes inputs then states and returns outputs then next states, as the manifest
    orders them, and leaves what it is given alone. All tensors keep their addresses for good.
    """

    def __init__(
        self, module: Any, spec: Graph, initial: Mapping[str, Any], batch: int, recorder: Recorder
    ) -> None:
        self.spec, self._module, self._recorder = spec, module, recorder
        device = next(iter(initial.values())).device if initial else _device_of(module)
        self.inputs = _ports(spec.inputs, batch, device)
        self.outputs = _ports(spec.outputs, batch, device)
        self.sides: tuple[Tensors, Tensors] = (
            {name: value.clone() for name, value in initial.items()},
            {name: value.clone() for name, value in initial.items()},
        )
        self.now = 0  # the side that holds the current states
        self.why_eager = ""  # the reason, where steps cannot be recorded
        self._replays: list[Action] | None = None

    def run(self) -> None:
        """Step once: outputs are written, and the other side becomes the current one.

        Raises:
            BackendError: the module failed, or returned what the manifest does not promise; the
                current states are as they were.
        """
        try:
            if self._replays is None:
                self._replays = self._prepared()
            self._replays[self.now]()
        except RuntimeError as error:
            raise BackendError(f"{self.spec.file}: the step failed: {error}") from error
        self.now ^= 1

    def _prepared(self) -> list[Action]:
        """Warm up on the idle side, then record each direction, or settle for eager steps."""
        import torch

        ways: list[Action] = [partial(self._step, 0), partial(self._step, 1)]
        with torch.inference_mode():
            for _ in range(WARM_UPS):  # in the present direction: the current states are read only
                self._recorder.warm(partial(self._step, self.now, strict=True))
            try:
                return [self._recorder.record(way) for way in ways]
            except RuntimeError as error:
                self.why_eager = f"{self.spec.file} runs eagerly: {str(error).strip()}"
                return [torch.inference_mode()(way) for way in ways]

    def _step(self, side: int, strict: bool = False) -> None:
        held, after = self.sides[side], self.sides[side ^ 1]
        given = [self.inputs[p.name] for p in self.spec.inputs]
        made = self._module(*given, *(held[s.input] for s in self.spec.states))
        flat = tuple(made) if isinstance(made, tuple | list) else (made,)
        targets = [self.outputs[p.name] for p in self.spec.outputs]
        targets += [after[s.input] for s in self.spec.states]
        if strict:
            self._check(flat, targets)
        for target, value in zip(targets, flat, strict=True):
            target.copy_(value)

    def _check(self, made: Sequence[Any], targets: Sequence[Any]) -> None:
        """Refuse what ``copy_`` would broadcast or convert without a word."""
        if len(made) != len(targets):
            raise BackendError(
                f"{self.spec.file}: the module returns {len(made)} tensors; {len(targets)} expected"
            )
        names = [p.name for p in self.spec.outputs] + [s.output for s in self.spec.states]
        for name, value, target in zip(names, made, targets, strict=True):
            if value.shape != target.shape or value.dtype != target.dtype:
                raise BackendError(
                    f"{self.spec.file}: the module makes {name!r} {value.dtype} "
                    f"{tuple(value.shape)}; {target.dtype} {tuple(target.shape)} expected"
                )


def _ports(ports: Sequence[Any], batch: int, device: Any) -> Tensors:
    import torch

    made = {}
    for port in ports:
        if min(port.shape, default=0) < 0:
            raise BackendError(f"{port.name!r} is {port.shape}: a recorded step has fixed shapes")
        kind = getattr(torch, port.dtype)
        made[port.name] = torch.zeros((batch, *port.shape), dtype=kind, device=device)
    return made


def _device_of(module: Any) -> Any:
    import torch

    return next((p.device for p in module.parameters()), torch.device("cpu"))
