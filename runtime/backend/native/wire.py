"""The wire format of protocol buffers, read without a library: a field's number and its bytes.

Edge installs have no ``onnx`` and no ``protobuf``; a graph needs four of the format's six kinds of
field. Everything is a slice of the bytes given: no length is believed before it was compared with
what is there, and nothing is allocated because a header says so.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ossicle.runtime.errors import BackendError

Value = int | memoryview
MAX_FIELDS = 1 << 22  # of one message; a graph of a hundred thousand nodes has fewer


def fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Yield the number and value of each field: an integer, or bytes (4, 8 or counted).

    Raises:
        BackendError: the bytes are not a message.
    """
    at, end = 0, len(data)
    for _ in range(MAX_FIELDS):
        if at == end:
            return
        key, at = varint(data, at)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise BackendError(f"field number 0 at byte {at}: not an ONNX file, or a damaged one")
        if kind == 0:
            value: Value
            value, at = varint(data, at)
            yield number, value
            continue
        if kind == 2:
            length, at = varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise BackendError(f"field {number} of kind {kind}: not an ONNX file, or a damaged one")
        if length > end - at:
            raise BackendError(f"field {number} claims {length} bytes where {end - at} are left")
        yield number, data[at : at + length]
        at += length
    raise BackendError(f"a message of more than {MAX_FIELDS} fields")


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the unsigned number at ``at`` and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise BackendError("the file ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise BackendError(f"a number of more than ten bytes before byte {at}")


def signed(value: Value) -> int:
    """Return a 64-bit field as the signed number that it stands for."""
    number = whole(value)
    return number - (1 << 64) if number >> 63 else number


def whole(value: Value) -> int:
    """Return the number of a field that must be one."""
    if not isinstance(value, int):
        raise BackendError("bytes where a number belongs: not an ONNX file, or a damaged one")
    return value


def part(value: Value) -> memoryview:
    """Return the bytes of a field that must have some."""
    if isinstance(value, int):
        raise BackendError("a number where bytes belong: not an ONNX file, or a damaged one")
    return value


def text(value: Value) -> str:
    """Return the text of a field."""
    try:
        return bytes(part(value)).decode()
    except UnicodeDecodeError as error:
        raise BackendError(f"a name that is not UTF-8: {error}") from error


def real(value: Value) -> float:
    """Return a 32-bit float field."""
    data = part(value)
    if len(data) != 4:
        raise BackendError(f"a float of {len(data)} bytes")
    return float(struct.unpack("<f", data)[0])


def integers(value: Value) -> list[int]:
    """Return the signed numbers of a repeated field: packed, or one alone."""
    if isinstance(value, int):
        return [signed(value)]
    found, at = [], 0
    while at < len(value):
        number, at = varint(value, at)
        found.append(signed(number))
    return found
