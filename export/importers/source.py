"""Reading other people's files: what is there, of the right kind, and nothing that runs code."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from ossicle.runtime.errors import ExportError
from ossicle.runtime.manifest import Manifest

Array = NDArray[Any]
MAX_FILE = 2 << 30


@dataclass(frozen=True, slots=True)
class Draft:
    """What an importer makes: a manifest whose ``files`` are still empty, and their bytes."""

    manifest: Manifest
    files: dict[str, bytes] = field(default_factory=dict)
    tolerance: float = 1e-4


def file_in(path: Path, *names: str) -> Path:
    """Get the first of ``names`` in the folder ``path``, or ``path`` itself if it is a file."""
    if path.is_file():
        return path
    if not path.exists():
        raise ExportError(f"{path} does not exist; give the folder or file of the checkpoint")
    for name in names:
        if (path / name).is_file():
            return path / name
    raise ExportError(f"{path} holds none of {', '.join(names)}; is it another model's folder?")


def folder_of(path: Path) -> Path:
    """Get the folder that ``path`` is or lies in."""
    if not path.exists():
        raise ExportError(f"{path} does not exist; give the folder of the checkpoint")
    return path if path.is_dir() else path.parent


def sha256(path: Path) -> str:
    """Get the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def source_line(upstream: str, files: Sequence[Path]) -> str:
    """Get the manifest's ``source``: where the files come from, and which they are."""
    return "; ".join([upstream, *(f"{f.name} sha256:{sha256(f)}" for f in files)])


def npy(array: Array) -> bytes:
    """Get the bytes of an ``.npy`` file."""
    out = io.BytesIO()
    np.save(out, np.ascontiguousarray(array), allow_pickle=False)
    return out.getvalue()


def load_onnx(path: Path) -> onnx.ModelProto:
    """Get an ONNX model whose weights are inside the file; ``ExportError`` where it is none."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise ExportError(f"{path.name} is larger than {MAX_FILE} bytes")
        model = onnx.ModelProto.FromString(path.read_bytes())
    except OSError as err:
        raise ExportError(f"{path.name} cannot be read: {err.strerror or err}") from err
    except Exception as err:  # protobuf's DecodeError, whose module moves between releases
        if isinstance(err, ExportError):
            raise
        raise ExportError(f"{path.name} is not an ONNX model, or it is cut short") from err
    if not model.graph.node:
        raise ExportError(f"{path.name} is not an ONNX model: it holds no graph")
    for weight in model.graph.initializer:
        if weight.data_location == onnx.TensorProto.EXTERNAL:
            raise ExportError(f"{path.name} keeps {weight.name!r} in another file; embed it first")
    return model


class Weights:
    """Named arrays of a checkpoint; asking for one that is missing or misshapen is an error."""

    def __init__(self, label: str, family: str, arrays: dict[str, Array]) -> None:
        self.label, self.family, self._arrays = label, family, arrays

    @classmethod
    def of_onnx(cls, model: onnx.ModelProto, label: str, family: str) -> Weights:
        """Get the initialisers of a graph."""
        try:
            found = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
        except (ValueError, TypeError) as err:
            raise ExportError(f"{label} holds a damaged weight: {err}") from err
        return cls(label, family, found)

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def get(self, name: str, *shape: int) -> Array:
        """Get the float32 array ``name``, which must have ``shape`` (-1 for any length)."""
        if name not in self._arrays:
            raise ExportError(
                f"{self.label} has no weight {name!r}; it is not a {self.family} file"
            )
        return checked(self._arrays[name], shape, name, self.label)


def checked(array: Array, shape: Sequence[int], name: str, label: str) -> Array:
    """Get ``array`` as finite float32 of ``shape``, or say what is wrong with it."""
    fits = array.ndim == len(shape) and all(
        want in (-1, have) for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        raise ExportError(f"{label}: {name!r} has shape {array.shape}; {tuple(shape)} is expected")
    if array.dtype.kind != "f":
        raise ExportError(f"{label}: {name!r} is of type {array.dtype}; floats are expected")
    if not np.isfinite(array).all():
        raise ExportError(f"{label}: {name!r} holds NaN or infinity")
    return array.astype(np.float32)


class InOrder:
    """The constant inputs of one operator kind, in the order in which the graph runs them."""

    def __init__(self, model: onnx.ModelProto, label: str) -> None:
        self.label = label
        self._constants = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
        self._nodes: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            if any(name in self._constants for name in node.input):
                self._nodes.setdefault(node.op_type, []).append(node)

    def next(
        self, kind: str, *shapes: Sequence[int], where: Callable[[Array], bool] | None = None
    ) -> list[Array]:
        """Get the weights of the next ``kind`` node, with these shapes."""
        queue = self._nodes.get(kind, [])
        while queue:
            node = queue.pop(0)
            found = [self._constants[n] for n in node.input if n in self._constants]
            if where is not None and not (found and where(found[0])):
                continue
            if len(found) != len(shapes):
                raise ExportError(
                    f"{self.label}: a {kind} has {len(found)} weights; {len(shapes)} expected"
                )
            return [checked(a, s, kind, self.label) for a, s in zip(found, shapes, strict=True)]
        raise ExportError(f"{self.label} has too few {kind} nodes; it is another architecture")
