"""Bounds-checked reading of FlatBuffers tables.

The wire format (see the FlatBuffers internals page): a table starts with a signed offset back to
its vtable; the vtable holds one 16-bit offset per field, 0 where the field is absent. Strings,
vectors and sub-tables are unsigned 32-bit offsets relative to where they are stored.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.errors import ExportError


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a FlatBuffer; every read outside the file raises ``ExportError``."""

    data: bytes
    position: int

    @classmethod
    def root(cls, data: bytes, identifier: bytes) -> Table:
        """Get the root table of ``data``, whose bytes 4 to 8 must be ``identifier``."""
        if len(data) < 8 or data[4:8] != identifier:
            raise ExportError(
                f"not a {identifier.decode()} FlatBuffer: the file has {len(data)} bytes and "
                f"identifier {data[4:8]!r}; was it cut short, or is it another kind of file?"
            )
        return cls(data, int(_unpack("<I", data, 0)))

    def _field(self, index: int) -> int:
        """Get the absolute position of field ``index``, or 0 where it is absent."""
        vtable = self.position - int(_unpack("<i", self.data, self.position))
        size = int(_unpack("<H", self.data, vtable))
        slot = 4 + 2 * index
        if slot + 2 > size:
            return 0
        offset = int(_unpack("<H", self.data, vtable + slot))
        return self.position + offset if offset else 0

    def scalar(self, index: int, code: str, default: Any = 0) -> Any:
        """Get a number; ``code`` is a ``struct`` letter."""
        at = self._field(index)
        return _unpack("<" + code, self.data, at) if at else default

    def table(self, index: int) -> Table | None:
        """Get a sub-table, or ``None`` where it is absent."""
        at = self._field(index)
        return Table(self.data, at + int(_unpack("<I", self.data, at))) if at else None

    def _vector(self, index: int, width: int) -> tuple[int, int]:
        """Get position and length of a vector whose elements take ``width`` bytes."""
        at = self._field(index)
        if not at:
            return 0, 0
        start = at + int(_unpack("<I", self.data, at))
        count = int(_unpack("<I", self.data, start))
        if start + 4 + count * width > len(self.data):
            raise ExportError(
                f"a vector of {count} elements of {width} bytes starts at byte {start} and runs "
                f"past the end of the file ({len(self.data)} bytes); it is cut short or damaged"
            )
        return start + 4, count

    def tables(self, index: int) -> list[Table]:
        """Get a vector of tables."""
        start, count = self._vector(index, 4)
        spots = range(start, start + 4 * count, 4)
        return [Table(self.data, at + int(_unpack("<I", self.data, at))) for at in spots]

    def array(self, index: int, dtype: str) -> NDArray[Any]:
        """Get a vector of numbers as a read-only array."""
        kind = np.dtype(dtype)
        start, count = self._vector(index, kind.itemsize)
        return np.frombuffer(self.data, kind, count, start) if count else np.zeros(0, kind)

    def text(self, index: int) -> str:
        """Get a string, empty where it is absent."""
        return bytes(self.array(index, "u1")).decode("utf-8", "replace")


def _unpack(code: str, data: bytes, at: int) -> Any:
    if at < 0 or at + struct.calcsize(code) > len(data):
        raise ExportError(
            f"a FlatBuffer offset points to byte {at} of a file of {len(data)} bytes; "
            "the file is cut short or damaged"
        )
    return struct.unpack_from(code, data, at)[0]
