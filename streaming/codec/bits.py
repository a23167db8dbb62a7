"""Codes as bits, most significant first: the reference that any faster packer must equal."""

from __future__ import annotations

from collections.abc import Sequence

FEW = 48  # codes that one loop handles; more are halved, since big integers shift slowly


def pack(values: Sequence[int], widths: Sequence[int]) -> int:
    """Return ``values`` laid one after another as one big integer, the first one on top.

    Values must fit their widths; nothing is checked here.

    >>> bin(pack([1, 2], [2, 3]))
    '0b1010'
    """
    if len(values) > FEW:
        half = len(values) // 2
        low = widths[half:]
        return pack(values[:half], widths[:half]) << sum(low) | pack(values[half:], low)
    word = 0
    for value, width in zip(values, widths, strict=True):
        word = word << width | value
    return word


def unpack(word: int, widths: Sequence[int]) -> list[int]:
    """Return what :func:`pack` was given.

    >>> unpack(0b1010, [2, 3])
    [1, 2]
    """
    if len(widths) > FEW:
        half = len(widths) // 2
        low = sum(widths[half:])
        rest = word & ((1 << low) - 1)
        return unpack(word >> low, widths[:half]) + unpack(rest, widths[half:])
    values = [0] * len(widths)
    for i in range(len(widths) - 1, -1, -1):
        width = widths[i]
        values[i] = word & ((1 << width) - 1)
        word >>= width
    return values


def to_bytes(word: int, bits: int) -> bytes:
    """Return the lowest ``bits`` bits of ``word``, padded with zeros to whole bytes at the end.

    >>> to_bytes(0b1010, 5).hex()
    '50'
    """
    size = (bits + 7) // 8
    return (word << (8 * size - bits)).to_bytes(size, "big")


def from_bytes(data: bytes | memoryview, bits: int) -> tuple[int, int]:
    """Return the first ``bits`` bits of ``data`` and the padding after them, as integers.

    >>> from_bytes(bytes([0x57]), 5)
    (10, 7)
    """
    word = int.from_bytes(data, "big")
    spare = 8 * len(data) - bits
    return word >> spare, word & ((1 << spare) - 1)
