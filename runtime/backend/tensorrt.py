"""TensorRT engines with explicit states: 10.x and 11.x, one optimisation profile a batch bucket.

Engines are built on the machine that runs them, by ``ossicle.export.tensorrt``; this adapter only
loads what lies in the cache under a key of model hash, TensorRT version, compute capability and
buckets. States stay on the device in two sets, swapped by each run; a run of each direction is
captured once as a CUDA graph and launched after that.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ossicle.runtime.backend.base import Array, BoundGraph, LoadedGraph, initial_state
from ossicle.runtime.backend.cudart import Cuda, CudaRuntime
from ossicle.runtime.bundle import Bundle, cache_folder
from ossicle.runtime.errors import BackendError
from ossicle.runtime.manifest import Graph


def import_tensorrt() -> Any:
    """Return the ``tensorrt`` module; ``BackendError`` where it is missing or too old."""
    try:
        module = importlib.import_module("tensorrt")
    except ImportError as error:
        raise BackendError(
            "TensorRT (package tensorrt) is not installed; JetPack has it, and NVIDIA's index"
        ) from error
    version = str(module.__version__)
    if int(version.split(".")[0]) < 10:
        raise BackendError(f"TensorRT {version}; 10.x or 11.x is needed")
    return module


def engine_key(
    model: bytes, version: str, capability: tuple[int, int], buckets: Sequence[int]
) -> str:
    """Return the name of an engine; anything that makes another engine makes another name."""
    digest = hashlib.sha256(model).hexdigest()
    text = f"{digest}|{version}|{capability[0]}.{capability[1]}|{','.join(map(str, buckets))}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def engine_path(key: str) -> Path:
    """Return where an engine of this machine is kept."""
    return cache_folder() / "engines" / f"{key}.engine"


class TensorRtBackend:
    """Runs cached engines; ``tensorrt`` and ``cuda`` can be given for tests."""

    name = "tensorrt"

    def __init__(self, tensorrt: Any = None, cuda: Cuda | None = None) -> None:
        self.trt = tensorrt if tensorrt is not None else import_tensorrt()
        self.cuda: Cuda = cuda if cuda is not None else CudaRuntime()
        self.runtime = self.trt.Runtime(self.trt.Logger(self.trt.Logger.WARNING))

    def load(self, bundle: Bundle, graph: str) -> LoadedGraph:
        """Load the engine of one graph from the cache.

        A graph of 8-bit values for CPUs has no engine: it loads, so that the bundle's other
        programs run, and cannot be bound.
        """
        spec = bundle.manifest.graphs[graph]
        if spec.target == "cpu" and spec.precision in ("int8", "mixed"):
            return CpuGraph(graph)
        buckets = bundle.manifest.batch
        key = engine_key(
            bundle.read(spec.file), self.trt.__version__, self.cuda.capability(), buckets
        )
        path = engine_path(key)
        if not path.is_file():
            raise BackendError(
                f"no engine of {bundle.manifest.name}/{graph} for TensorRT "
                f"{self.trt.__version__} on this device; build it here with "
                f"`ossicle export tensorrt {bundle.manifest.name}`"
            )
        engine = self.runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise BackendError(f"TensorRT refuses {path.name}; delete it and build it again")
        if engine.num_optimization_profiles != len(buckets):
            raise BackendError(
                f"{path.name} has {engine.num_optimization_profiles} profiles; "
                f"{len(buckets)} batch buckets expected"
            )
        return TensorRtGraph(engine, spec, bundle, self.cuda)


class CpuGraph:
    """A graph that TensorRT does not run, in a bundle that has others."""

    def __init__(self, name: str) -> None:
        self.name = name

    def bind(self, batch: int) -> BoundGraph:
        """Refuse."""
        raise BackendError(
            f"graph {self.name!r} is for CPUs (8-bit values with zero points); run the bundle's "
            "program in floats, or another bundle"
        )


class TensorRtGraph:
    """One engine; every binding has an execution context of its own."""

    def __init__(self, engine: Any, spec: Graph, bundle: Bundle, cuda: Cuda) -> None:
        self.engine, self.spec, self.bundle, self.cuda = engine, spec, bundle, cuda

    def bind(self, batch: int) -> TensorRtBound:
        """Return the graph with fresh memory for ``batch`` rows, padded to a bucket."""
        for index, bucket in enumerate(self.bundle.manifest.batch):
            if bucket >= batch:
                return TensorRtBound(self, batch, bucket, index)
        raise BackendError(f"batch {batch}; the largest bucket is {self.bundle.manifest.batch[-1]}")


class TensorRtBound:
    """Device buffers of fixed addresses and one captured run for each direction of the states."""

    def __init__(self, graph: TensorRtGraph, batch: int, bucket: int, profile: int) -> None:
        self.spec, self.cuda, self.batch = graph.spec, graph.cuda, batch
        self._stream = self.cuda.stream()
        self._context = graph.engine.create_execution_context()
        if not self._context.set_optimization_profile_async(profile, self._stream):
            raise BackendError(f"TensorRT refuses optimisation profile {profile}")
        self._inputs, self._outputs = {}, {}
        for port in self.spec.inputs:
            self._inputs[port.name] = np.zeros((bucket, *port.shape), port.dtype)
        for port in self.spec.outputs:
            self._outputs[port.name] = np.zeros((bucket, *port.shape), port.dtype)
        self._host = {s.input: initial_state(s, graph.bundle, bucket) for s in self.spec.states}
        self._before = {name: array.copy() for name, array in self._host.items()}
        self._memory: list[int] = []
        self._ports = {
            name: self._allocate(array) for name, array in {**self._inputs, **self._outputs}.items()
        }
        self._sides = [
            {name: self._allocate(array) for name, array in self._host.items()} for _ in range(2)
        ]
        for name, array in {**self._inputs, **self._host}.items():
            if not self._context.set_input_shape(name, tuple(array.shape)):
                raise BackendError(f"TensorRT refuses shape {array.shape} for {name!r}")
        self._graphs: list[int | None] = [None, None]
        self._warm = False
        self._now = 0
        self._host_is_ahead = True  # the host's states are to be sent up before the next run
        self._host_is_behind = False

    def _allocate(self, array: Array) -> int:
        self._memory.append(self.cuda.allocate(array.nbytes))
        return self._memory[-1]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Send the inputs up, step, bring the outputs down, swap the states."""
        for name, held in self._inputs.items():
            np.copyto(held[: self.batch], inputs[name], casting="same_kind")
            self.cuda.upload(self._ports[name], held, self._stream)
        if self._host_is_ahead:
            for name, array in self._host.items():
                self.cuda.upload(self._sides[self._now][name], array, self._stream)
        self._step()
        for name, array in self._outputs.items():
            self.cuda.download(array, self._ports[name], self._stream)
        self.cuda.wait(self._stream)
        self._now ^= 1
        self._host_is_ahead, self._host_is_behind = False, True
        return {name: array[: self.batch] for name, array in self._outputs.items()}

    def _step(self) -> None:
        """Run once plainly, so that lazy set-up is done; capture each direction; then launch."""
        graph = self._graphs[self._now]
        if graph is not None:
            self.cuda.launch(graph, self._stream)
            return
        self._address()
        if not self._warm:
            self._enqueue()
            self._warm = True
            return
        self.cuda.begin_capture(self._stream)
        self._enqueue()
        graph = self.cuda.end_capture(self._stream)
        self._graphs[self._now] = graph
        self.cuda.launch(graph, self._stream)

    def _address(self) -> None:
        """Tell the context where everything lies in the present direction."""
        places = dict(self._ports)
        for state in self.spec.states:
            places[state.input] = self._sides[self._now][state.input]
            places[state.output] = self._sides[self._now ^ 1][state.input]
        for name, address in places.items():
            if not self._context.set_tensor_address(name, address):
                raise BackendError(f"the engine has no tensor {name!r}")

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream):
            raise BackendError(f"TensorRT failed to run {self.spec.file}")

    def states(self) -> dict[str, Array]:
        """Return the current states on the host; what is written there is sent up again."""
        if self._host_is_behind:
            self._before, self._host = self._host, self._before
            self._fetch(self._host, self._now)
            self._host_is_behind = False
        self._host_is_ahead = True
        return {name: array[: self.batch] for name, array in self._host.items()}

    def previous(self) -> dict[str, Array]:
        """Return the states before the last run."""
        self._fetch(self._before, self._now ^ 1)
        return {name: array[: self.batch] for name, array in self._before.items()}

    def _fetch(self, arrays: Mapping[str, Array], side: int) -> None:
        for name, array in arrays.items():
            self.cuda.download(array, self._sides[side][name], self._stream)
        self.cuda.wait(self._stream)

    def close(self) -> None:
        """Give the device memory back; the binding cannot be run after that."""
        while self._memory:
            self.cuda.free(self._memory.pop())
