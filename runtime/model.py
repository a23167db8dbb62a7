"""A bundle made ready to run, and the memory of the rows that run through it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.backend import Backend, BoundGraph, LoadedGraph, make_backend
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import AudioError, BackendError, ManifestError
from ossicle.runtime.manifest import Manifest, Program, ProgramInput
from ossicle.runtime.program import make_ready

Array = NDArray[Any]


class Model:
    """Weights and settings, immutable and shared; :meth:`open` gives the memory to run with."""

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle = bundle
        self.backend = backend
        self.name = bundle.manifest.name  # the bundle's
        self._graphs: dict[str, LoadedGraph] = {}
        self._ready = {
            name: make_ready(line, bundle, self._load)
            for name, line in bundle.manifest.programs.items()
        }

    @classmethod
    def load(
        cls,
        where: Bundle | str | os.PathLike[str],
        backend: Backend | str = "ort",
        threads: int = 1,
    ) -> Model:
        """Return the model of a bundle, given opened, by path or by name.

        Raises:
            BundleError, ManifestError: a bundle that cannot be trusted or read.
            BackendError: a backend that is missing or refuses a graph.
        """
        bundle = where if isinstance(where, Bundle) else Bundle.open(where)
        return cls(bundle, make_backend(backend, threads) if isinstance(backend, str) else backend)

    @property
    def manifest(self) -> Manifest:
        """What the bundle says about itself."""
        return self.bundle.manifest

    def program(self, name: str) -> Program:
        """Return one of the bundle's programs.

        Raises:
            ManifestError: no such program.
        """
        try:
            return self.manifest.programs[name]
        except KeyError:
            raise ManifestError(
                f"{self.name} has no program {name!r}; it has {sorted(self.manifest.programs)}"
            ) from None

    def open(self, batch: int = 1, program: str = "step") -> ModelState:
        """Return fresh memory for ``batch`` rows of one program."""
        line = self.program(program)
        parts = [ready.open(batch) for ready in self._ready[program]]
        conditions = [given for given in line.inputs if given.kind == "condition"]
        held = {given.name: self._default(given, batch) for given in conditions}
        unset = {given.name for given in conditions if given.default is None}
        return ModelState(batch, program, parts, held, unset)

    def step(self, state: ModelState, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one hop for every row of ``state``.

        Args:
            state: from :meth:`open` of this model.
            inputs: ``[B, ...]`` by name. Conditions may be left out: the last ones given hold.

        Returns:
            Outputs ``[B, ...]`` by name, owned by the caller.

        Raises:
            AudioError: a missing, unknown or misshapen input.
            BackendError: the backend failed; the memory is as it was before the call.
        """
        line = self.manifest.programs[state.program]
        values = self._collect(line, state, inputs)
        state.begin()
        try:
            for ready, part in zip(self._ready[state.program], state.parts, strict=True):
                if not isinstance(part, dict):
                    given = part.run({port: values[name] for port, name in ready.takes})
                    values.update([(name, given[port]) for port, name in ready.gives])
                    state.ran.append(part)
                elif ready.host is not None:
                    made = ready.host.run(part, [values[n] for n in ready.op.inputs])
                    values.update(zip(ready.op.outputs, made, strict=True))
        except Exception:
            state.undo()
            raise
        return {o.name: np.array(values[o.name]) for o in line.outputs}

    def reset(self, state: ModelState, row: int) -> None:
        """Give one row of ``state`` its first memory again."""
        self.import_row(state, row, self.export_row(self._template(state.program), 0))

    def export_row(self, state: ModelState, row: int) -> dict[str, Array]:
        """Return one row's whole memory: arrays without the batch axis, owned by the caller."""
        return {key: array[row].copy() for key, array in state.arrays().items()}

    def import_row(self, state: ModelState, row: int, memory: Mapping[str, Array]) -> None:
        """Put what :meth:`export_row` returned into a row.

        Raises:
            ManifestError: memory of another model or program.
        """
        arrays = state.arrays()
        if set(arrays) != set(memory):
            raise ManifestError(
                f"{self.name}: memory has {sorted(memory)}; {sorted(arrays)} expected. "
                "Is it from another model or version?"
            )
        for key, array in arrays.items():
            if array.shape[1:] != memory[key].shape or array.dtype != memory[key].dtype:
                raise ManifestError(
                    f"{self.name}: memory {key} is {memory[key].dtype} {memory[key].shape}; "
                    f"{array.dtype} {array.shape[1:]} expected"
                )
        for key, array in arrays.items():
            array[row] = memory[key]

    def memory_bytes(self, program: str = "step") -> int:
        """Return how much one stream remembers, in bytes."""
        return sum(array.nbytes for array in self._template(program).arrays().values())

    def _template(self, program: str) -> ModelState:
        return self.open(1, program)

    def _load(self, name: str) -> LoadedGraph:
        if name not in self._graphs:
            self._graphs[name] = self.backend.load(self.bundle, name)
        return self._graphs[name]

    def _collect(
        self, line: Program, state: ModelState, inputs: Mapping[str, Array]
    ) -> dict[str, Array]:
        values: dict[str, Array] = {}
        for given in line.inputs:
            array = inputs.get(given.name)
            if array is None:
                if given.name not in state.held or given.name in state.unset:
                    raise AudioError(f"{self.name}: input {given.name!r} is missing")
                values[given.name] = state.held[given.name]
                continue
            values[given.name] = self._checked(given, array, state.batch)
            if given.kind == "condition":
                state.held[given.name][:] = array
                state.unset.discard(given.name)
        unknown = set(inputs) - {given.name for given in line.inputs}
        if unknown:
            raise AudioError(f"{self.name} has no input {sorted(unknown)}")
        return values

    def _checked(self, given: ProgramInput, array: Array, batch: int) -> Array:
        shape = array.shape
        fits = (
            len(shape) == len(given.shape) + 1
            and shape[0] == batch
            and all(want in (-1, have) for want, have in zip(given.shape, shape[1:], strict=True))
        )
        if not fits or array.dtype != given.dtype:
            raise AudioError(
                f"{self.name}: input {given.name!r} is {array.dtype} {shape}; "
                f"{given.dtype} {(batch, *given.shape)} expected"
            )
        return array

    def _default(self, given: ProgramInput, batch: int) -> Array:
        shape = (batch, *given.shape)
        if given.default in ("zeros", None):
            return np.zeros(shape, given.dtype)
        if given.default == "ones":
            return np.ones(shape, given.dtype)
        held = self.bundle.array(given.default or "")
        if held.shape != given.shape:
            raise ManifestError(f"{given.default} is {held.shape}; {given.shape} expected")
        return np.array(np.broadcast_to(held.astype(given.dtype), shape), order="C")


class ModelState:
    """The memory of ``batch`` rows of one program; never shared, replaced to be reset."""

    def __init__(
        self,
        batch: int,
        program: str,
        parts: list[BoundGraph | dict[str, Array]],
        held: dict[str, Array],
        unset: set[str],
    ) -> None:
        self.batch = batch
        self.program = program
        self.parts = parts
        self.held = held  # conditions, as last given
        self.unset = unset  # conditions that nobody gave yet and that have no default
        self.ran: list[BoundGraph] = []  # graphs that the last step ran
        self._before: list[tuple[Array, Array]] = []  # host memory, and a copy from before it

    def begin(self) -> None:
        """Remember what a step may have to take back."""
        self.ran.clear()
        self._before = [
            (array, array.copy())
            for part in self.parts
            if isinstance(part, dict)
            for array in part.values()
        ]

    def undo(self) -> None:
        """Take the last step back for every row."""
        for row in range(self.batch):
            self.undo_row(row)

    def undo_row(self, row: int) -> None:
        """Take the last step back for one row; conditions stay as given."""
        for array, before in self._before:
            array[row] = before[row]
        for graph in self.ran:
            previous = graph.previous()
            for name, array in graph.states().items():
                array[row] = previous[name][row]

    def rows(self) -> list[Array]:
        """Return the arrays of :meth:`arrays` without their names, in a fixed order."""
        found: list[Array] = []
        for part in self.parts:
            found += (part if isinstance(part, dict) else part.states()).values()
        found += self.held.values()
        return found

    def arrays(self) -> dict[str, Array]:
        """Return every array of the memory ``[B, ...]`` by a stable name; they may be written."""
        found: dict[str, Array] = {}
        for index, part in enumerate(self.parts):
            arrays = part if isinstance(part, dict) else part.states()
            for name, array in arrays.items():
                found[f"{index}.{name}"] = array
        for name, array in self.held.items():
            found[f"held.{name}"] = array
        return found


def load_model(where: str | os.PathLike[str], backend: str = "ort", threads: int = 1) -> Model:
    """Return ``Model.load(where, backend, threads)``; the public face of this module."""
    if not where:
        raise BackendError("no bundle named; `ossicle models` lists the installed ones")
    return Model.load(where, backend, threads)
