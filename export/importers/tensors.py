"""Checkpoints of tensors, read without running anything in them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from ossicle.export.importers.source import MAX_FILE, Array
from ossicle.runtime.errors import ExportError

_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1",
          "I8": "i1", "BOOL": "?"}  # fmt: skip
MAX_HEADER = 64 << 20


def read_tensors(path: Path) -> dict[str, Array]:
    """Get the arrays of a ``.safetensors`` file, or of a torch file without code in it."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise ExportError(f"{path.name} is larger than {MAX_FILE} bytes")
        if path.suffix == ".safetensors":
            return _safetensors(path.read_bytes(), path.name)
    except OSError as err:
        raise ExportError(f"{path.name} cannot be read: {err.strerror or err}") from err
    return _torch(path)


def _safetensors(data: bytes, label: str) -> dict[str, Array]:
    """Read the format: a header length (u64), a JSON header, the values."""
    if len(data) < 8:
        raise ExportError(f"{label} has {len(data)} bytes; it is cut short")
    (size,) = struct.unpack_from("<Q", data)
    if size > min(MAX_HEADER, len(data) - 8):
        raise ExportError(f"{label} names a header of {size} bytes; it is cut short or damaged")
    try:
        header = json.loads(data[8 : 8 + size])
        items = {k: v for k, v in header.items() if k != "__metadata__"}
        return {name: _entry(name, item, data, 8 + size, label) for name, item in items.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise ExportError(f"{label} has a damaged header: {err}") from err


def _entry(name: str, item: dict[str, Any], data: bytes, base: int, label: str) -> Array:
    if item["dtype"] == "BF16":
        raise ExportError(f"{label}: {name!r} is bfloat16; convert the checkpoint to float32 first")
    dtype = np.dtype(_TYPES[item["dtype"]])
    start, stop = (int(n) for n in item["data_offsets"])
    shape = [int(n) for n in item["shape"]]
    count = int(np.prod(shape, dtype=np.int64)) if shape else 1
    whole = 0 <= start <= stop and base + stop <= len(data)
    if not whole or stop - start != count * dtype.itemsize or min(shape, default=1) < 0:
        raise ExportError(f"{label}: {name!r} lies outside the file; it is cut short or damaged")
    return np.frombuffer(data, dtype, count, base + start).reshape(shape)


def _torch(path: Path) -> dict[str, Array]:
    import torch

    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as err:  # pickle, zip and torch each raise their own
        raise ExportError(
            f"{path.name} is not a plain torch checkpoint of tensors ({type(err).__name__}); files "
            "that need to run code to be read are refused"
        ) from err
    if not isinstance(held, dict) or not all(isinstance(v, torch.Tensor) for v in held.values()):
        raise ExportError(f"{path.name} holds something else than named tensors")
    return {str(name): value.numpy() for name, value in held.items()}
