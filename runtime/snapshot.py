"""One stream's whole memory as bytes, and back: versioned, checksummed, size-capped, no pickle.

Layout: magic ``OSNP``, format version (u16), length of the header (u32), length of the arrays
(u64), BLAKE2b-128 of what follows, a msgpack header, then the arrays' bytes one after another,
each 64-byte aligned. Only plain values, arrays and classes registered with :func:`record`
travel; reading constructs nothing else. Whoever needs to know who wrote a snapshot wraps it in a
keyed digest (see the service's resume).
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.errors import SnapshotError

MAGIC = b"OSNP"
VERSION = 1
MAX_BYTES = 64 << 20
MAX_DEPTH = 32
_HEAD = struct.Struct("<4sHIQ16s")
_DTYPES = frozenset(
    (
        *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    )
)
_ALIGN = 64
_AS_IS = frozenset((type(None), bool, float, str, bytes))

ClassT = TypeVar("ClassT", bound=type)
_records: dict[str, type] = {}
_names: dict[type, str] = {}
_fields: dict[type, tuple[str, ...]] = {}


def record(name: str) -> Callable[[ClassT], ClassT]:
    """Class decorator: let this dataclass or struct travel in snapshots as ``name``.

    Names are part of the format: keep them when the class moves.
    """

    def register(cls: ClassT) -> ClassT:
        if issubclass(cls, msgspec.Struct):
            fields = cls.__struct_fields__
        elif dataclasses.is_dataclass(cls):
            fields = tuple(f.name for f in dataclasses.fields(cls) if f.init)
        else:
            raise TypeError(f"{cls.__name__} is not a dataclass; put @record above @dataclass")
        known = _records.get(name)
        if known is not None and known.__qualname__ != cls.__qualname__:
            raise TypeError(f"snapshot record {name!r} is taken by {known.__qualname__}")
        _records[name] = cls
        _names[cls], _fields[cls] = name, fields
        return cls

    return register


def dump(tree: Any, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return ``tree`` as bytes that :func:`load` turns back into an equal tree.

    Raises:
        SnapshotError: a value that cannot travel, or more than ``max_bytes``.
    """
    arrays: list[NDArray[Any]] = []
    header = msgspec.msgpack.encode(_plain(tree, arrays, 0))
    parts = [header]
    size = len(header)
    for array in arrays:
        pad = -size % _ALIGN
        parts += [bytes(pad), np.ascontiguousarray(array).tobytes()]
        size += pad + array.nbytes
        if size > max_bytes:
            raise SnapshotError(f"snapshot of over {max_bytes} bytes; raise max_bytes if intended")
    if size > max_bytes:
        raise SnapshotError(f"snapshot of {size} bytes; at most {max_bytes} are allowed")
    body = b"".join(parts)
    digest = hashlib.blake2b(body, digest_size=16).digest()
    return _HEAD.pack(MAGIC, VERSION, len(header), size - len(header), digest) + body


def load(data: bytes | memoryview, *, max_bytes: int = MAX_BYTES) -> Any:
    """Return the tree that :func:`dump` was given.

    Raises:
        SnapshotError: foreign, damaged, truncated, too large, or of an unknown record.
    """
    data = memoryview(data)
    if len(data) < _HEAD.size:
        raise SnapshotError(f"snapshot of {len(data)} bytes; its head alone is {_HEAD.size}")
    magic, version, header_size, array_size, digest = _HEAD.unpack(data[: _HEAD.size])
    if magic != MAGIC:
        raise SnapshotError("not a snapshot: the first four bytes are not OSNP")
    if version != VERSION:
        raise SnapshotError(f"snapshot version {version}; this release reads {VERSION}")
    body = data[_HEAD.size :]
    if len(body) > max_bytes or header_size + array_size != len(body):
        raise SnapshotError(
            f"snapshot body of {len(body)} bytes, {header_size + array_size} declared, "
            f"{max_bytes} allowed; was it cut off?"
        )
    if hashlib.blake2b(body, digest_size=16).digest() != digest:
        raise SnapshotError("snapshot checksum differs: the bytes were damaged")
    try:
        header = msgspec.msgpack.decode(body[:header_size])
        reader = _Reader(body, header_size)
        return reader.tree(header, 0)
    except (msgspec.DecodeError, TypeError, ValueError, KeyError, IndexError) as error:
        raise SnapshotError(f"snapshot cannot be read: {error}") from error


def _plain(value: Any, arrays: list[NDArray[Any]], depth: int) -> Any:
    """Return ``value`` in tagged lists that msgpack can write; arrays are set aside."""
    if depth > MAX_DEPTH:
        raise SnapshotError(f"snapshot deeper than {MAX_DEPTH} levels; is the tree cyclic?")
    if type(value) in _AS_IS or isinstance(value, bool | float | str | bytes):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else ["i", str(value)]
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if isinstance(value, np.ndarray):
        if value.dtype.name not in _DTYPES:
            raise SnapshotError(f"array of dtype {value.dtype} cannot travel in a snapshot")
        arrays.append(value)
        return ["a", value.dtype.name, list(value.shape)]
    if isinstance(value, list | tuple):
        tag = "l" if isinstance(value, list) else "t"
        plain = [v if type(v) in _AS_IS else _plain(v, arrays, depth + 1) for v in value]
        return [tag, *plain]
    if isinstance(value, dict):
        pairs = [
            [_plain(k, arrays, depth + 1), _plain(v, arrays, depth + 1)] for k, v in value.items()
        ]
        return ["d", *pairs]
    name = _names.get(type(value))
    if name is None:
        raise SnapshotError(
            f"{type(value).__name__} cannot travel in a snapshot; register it with record()"
        )
    held = [(field, getattr(value, field)) for field in _fields[type(value)]]
    fields = {k: v if type(v) in _AS_IS else _plain(v, arrays, depth + 1) for k, v in held}
    return ["r", name, fields]


class _Reader:
    """Rebuilds a tree; arrays are read in the order they were written."""

    def __init__(self, body: memoryview, offset: int) -> None:
        self.body = body
        self.offset = offset

    def tree(self, value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise SnapshotError(f"snapshot deeper than {MAX_DEPTH} levels")
        if not isinstance(value, list):
            if isinstance(value, dict):
                raise SnapshotError("snapshot holds an untagged map")
            return value
        tag, *rest = value
        if tag == "i":
            return int(rest[0])
        if tag == "a":
            return self._array(*rest)
        if tag in ("l", "t"):
            items = [self.tree(item, depth + 1) for item in rest]
            return items if tag == "l" else tuple(items)
        if tag == "d":
            return {self.tree(k, depth + 1): self.tree(v, depth + 1) for k, v in rest}
        if tag == "r":
            return self._record(*rest, depth=depth)
        raise SnapshotError(f"snapshot holds an unknown tag {tag!r}")

    def _record(self, name: str, fields: dict[str, Any], *, depth: int) -> Any:
        cls = _records.get(name)
        if cls is None:
            raise SnapshotError(
                f"snapshot holds a {name!r}, which this program does not know; import its module"
            )
        known = set(_fields[cls])
        if set(fields) != known:
            differs = sorted(set(fields) ^ known)
            raise SnapshotError(f"snapshot of {name!r} differs from this release in {differs}")
        return cls(**{k: self.tree(v, depth + 1) for k, v in fields.items()})

    def _array(self, dtype: str, shape: list[int]) -> NDArray[Any]:
        if dtype not in _DTYPES or any(not isinstance(n, int) or n < 0 for n in shape):
            raise SnapshotError(f"snapshot holds an array of {dtype} {shape}")
        kind = np.dtype(dtype)
        count = 1
        for n in shape:
            count *= n
        begin = self.offset + (-self.offset % _ALIGN)
        end = begin + count * kind.itemsize
        if end > len(self.body):
            raise SnapshotError(f"snapshot array of {count} {dtype} runs past its end")
        self.offset = end
        flat = np.frombuffer(self.body[begin:end], kind)
        return flat.reshape(shape).copy()
