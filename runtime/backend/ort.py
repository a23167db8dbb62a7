"""ONNX Runtime, with explicit states: two prebuilt bindings a batch size, swapped each run.

One intra-op thread without spinning, run in order: at streaming sizes a second thread costs more
than it brings, and spinning burns the core that another stream could use. A device that was asked
for and not obtained is an error, never a silent run on the CPU.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

import numpy as np

from ossicle.runtime.backend.base import Array, initial_state
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import BackendError
from ossicle.runtime.manifest import Graph, Port


def _import_ort() -> Any:
    both = [d for d in ("onnxruntime", "onnxruntime-gpu") if _installed(d)]
    if len(both) == 2:
        raise BackendError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; "
            "`pip uninstall onnxruntime onnxruntime-gpu`, then install ossicle[cpu] or ossicle[gpu]"
        )
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(
            "ONNX Runtime is not installed; `pip install 'ossicle[cpu]'` (or [gpu])"
        ) from error
    return onnxruntime


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


class OrtBackend:
    """Runs graphs on the CPU, or on CUDA through the same provider interface."""

    def __init__(self, device: str = "cpu", threads: int = 1) -> None:
        self.name = "ort" if device == "cpu" else "ort-cuda"
        self.device = device
        self.threads = threads

    def load(self, bundle: Bundle, graph: str) -> OrtGraph:
        """Load a graph; its bytes were checked against the manifest."""
        ort = _import_ort()
        spec = bundle.manifest.graphs[graph]
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # without VNNI, sums of eight-bit products saturate unless they are asked not to
        options.add_session_config_entry("session.x64quantprecision", "1")
        wanted = "CPUExecutionProvider"
        if self.device == "cuda":
            wanted = "CUDAExecutionProvider"
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            if wanted not in ort.get_available_providers():
                raise BackendError(
                    "CUDA was asked for, but this ONNX Runtime has no CUDA provider; "
                    "install ossicle[gpu] in an environment without ossicle[cpu]"
                )
        try:
            session = ort.InferenceSession(bundle.read(spec.file), options, providers=[wanted])
        except Exception as error:
            # an eight-bit graph whose constants are shared, as importers wrote them before
            advice = "; import or export it again" if "existing tensor" in str(error) else ""
            raise BackendError(
                f"{bundle.manifest.name}: ONNX Runtime refuses {spec.file}: {error}{advice}"
            ) from error
        if wanted not in session.get_providers():
            raise BackendError(f"{wanted} was asked for; got {session.get_providers()}")
        return OrtGraph(session, spec, bundle, self.device)


class OrtGraph:
    """One session; every binding of it shares the weights."""

    def __init__(self, session: Any, spec: Graph, bundle: Bundle, device: str) -> None:
        self.session = session
        self.spec = spec
        self.bundle = bundle
        self.device = device
        _check_ports(session, spec, bundle.manifest.name)

    def bind(self, batch: int) -> OrtBound:
        """Return the graph with fresh memory for ``batch`` rows."""
        return OrtBound(self, batch)


class OrtBound:
    """Buffers of fixed addresses, and one binding for each direction of the states."""

    def __init__(self, graph: OrtGraph, batch: int) -> None:
        self.session, self.spec, self.batch = graph.session, graph.spec, batch
        self._sides = [
            {s.input: initial_state(s, graph.bundle, batch) for s in self.spec.states}
            for _ in range(2)
        ]
        self._inputs: dict[str, Array] = {}
        self._outputs: dict[str, Array] = {}
        self._bindings: list[Any] = []
        self._now = 0
        for port in self.spec.inputs:
            if -1 not in port.shape:
                self._inputs[port.name] = np.zeros((batch, *port.shape), port.dtype)
        for port in self.spec.outputs:
            if -1 not in port.shape:
                self._outputs[port.name] = np.empty((batch, *port.shape), port.dtype)
        self._loose = [p.name for p in self.spec.outputs if -1 in p.shape]
        if len(self._inputs) == len(self.spec.inputs):
            self._bind()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Copy the inputs in, step, swap the states."""
        for port in self.spec.inputs:
            given = inputs[port.name]
            held = self._inputs.get(port.name)
            if held is None or held.shape != given.shape:
                held = self._resize(port, given)
            np.copyto(held, given, casting="same_kind")
        binding = self._bindings[self._now]
        try:
            self.session.run_with_iobinding(binding)
        except Exception as error:
            raise BackendError(f"{self.spec.file} failed while running: {error}") from error
        self._now ^= 1
        if not self._loose:
            return self._outputs
        late = dict(
            zip(self._loose, binding.copy_outputs_to_cpu()[-len(self._loose) :], strict=True)
        )
        return {**self._outputs, **late}

    def states(self) -> dict[str, Array]:
        """Return the current states; they are the buffers themselves."""
        return self._sides[self._now]

    def previous(self) -> dict[str, Array]:
        """Return the states before the last run."""
        return self._sides[self._now ^ 1]

    def _resize(self, port: Port, given: Array) -> Array:
        expected = (self.batch, *port.shape)
        fits = len(expected) == given.ndim and all(
            want in (-1, have) for want, have in zip(expected, given.shape, strict=True)
        )
        if not fits:
            raise BackendError(f"input {port.name} has shape {given.shape}; {expected} expected")
        held = np.zeros(given.shape, port.dtype)
        self._inputs[port.name] = held
        if len(self._inputs) == len(self.spec.inputs):
            self._bind()
        return held

    def _bind(self) -> None:
        self._bindings = []
        for side in (0, 1):
            binding = self.session.io_binding()
            for name, array in self._inputs.items():
                _bind_to(binding.bind_input, name, array)
            for name, array in self._outputs.items():
                _bind_to(binding.bind_output, name, array)
            for state in self.spec.states:
                _bind_to(binding.bind_input, state.input, self._sides[side][state.input])
                _bind_to(binding.bind_output, state.output, self._sides[side ^ 1][state.input])
            for name in self._loose:
                binding.bind_output(name)
            self._bindings.append(binding)


def _bind_to(bind: Any, name: str, array: Array) -> None:
    bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


_ORT_DTYPES = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64",
    "tensor(int32)": "int32", "tensor(int8)": "int8", "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}  # fmt: skip


def _check_ports(session: Any, spec: Graph, name: str) -> None:
    """Raise BackendError unless the file's ports are those that the manifest names."""
    wanted_in = {p.name: (p.shape, p.dtype) for p in spec.inputs}
    wanted_in |= {s.input: (s.shape, s.dtype) for s in spec.states}
    wanted_out = {p.name: (p.shape, p.dtype) for p in spec.outputs}
    wanted_out |= {s.output: (s.shape, s.dtype) for s in spec.states}
    for side, wanted, ports in (
        ("input", wanted_in, session.get_inputs()),
        ("output", wanted_out, session.get_outputs()),
    ):
        found = {p.name: p for p in ports}
        if set(found) != set(wanted):
            raise BackendError(
                f"{name}: {spec.file} has {side}s {sorted(found)}; the manifest says "
                f"{sorted(wanted)}. Name each one, as a port or as a state"
            )
        for port, (shape, dtype) in wanted.items():
            have = found[port]
            if _ORT_DTYPES.get(have.type) != dtype:
                raise BackendError(
                    f"{name}: {side} {port} is {have.type}; the manifest says {dtype}. "
                    "Say what the file has"
                )
            sizes = have.shape[1:]
            clash = len(sizes) != len(shape) or any(
                isinstance(a, int) and b not in (-1, a) for a, b in zip(sizes, shape, strict=False)
            )
            if clash and side == "input":
                raise BackendError(
                    f"{name}: {side} {port} has shape {have.shape}; the manifest says B x {shape}. "
                    "Say what the file has, without the batch axis"
                )
