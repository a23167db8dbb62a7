"""What a file ``.osc`` begins and ends with; ``container`` says how it is laid out."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from ossicle.runtime.errors import PacketError
from ossicle.streaming.codec.jitter import SILENCE_HOLD
from ossicle.streaming.codec.layout import CodeLayout

MAGIC = b"\x89OSC\r\n\x1a\n"
TAIL = b"OSCE"
VERSION = 1
MAX_HEAD = 512
MAX_END = 1 << 20  # a seek table of hundreds of hours
_HEAD = struct.Struct(">BB32sIIIIB")
END = struct.Struct(">BIQQQI")
TRAIL = struct.Struct(">II4s")
_CRC = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class FileHead:
    """What a file says before its first packet."""

    model: str  # name of the bundle
    manifest_hash: bytes  # 32 bytes: see ossicle.streaming.codec.identity
    layout: CodeLayout
    delay: int  # samples that the decoder's output trails
    source_rate_hz: int

    def frames_for(self, samples: int) -> int:
        """Return how many frames bring ``samples`` samples out of the decoder."""
        return -(-(samples + self.delay) // self.layout.hop) if samples else 0

    def to_bytes(self) -> bytes:
        """Return magic, size, body and checksum.

        Raises:
            PacketError: a name too long.
        """
        name = self.model.encode()
        if len(name) > 64:
            raise PacketError(f"model name of {len(name)} bytes; at most 64 fit a file")
        runs = [(len(list(same)), size) for size, same in groupby(self.layout.books)]
        body = _HEAD.pack(
            VERSION, 0, self.manifest_hash, self.layout.sample_rate_hz, self.layout.hop,
            self.delay, self.source_rate_hz, len(runs),
        )  # fmt: skip
        body += b"".join(struct.pack(">BH", count, size - 1) for count, size in runs)
        body += bytes([len(name)]) + name
        return MAGIC + struct.pack(">H", len(body)) + body + _CRC.pack(zlib.crc32(body))


@dataclass(frozen=True, slots=True)
class FileEnd:
    """What a file says after its last packet."""

    samples: int  # at the model's rate
    source_samples: int  # at the source's rate
    frames: int
    seek: tuple[tuple[int, int], ...] = ()  # (frame, byte), ascending


def parse_head(data: bytes) -> FileHead:
    """Return what :meth:`FileHead.to_bytes` was given.

    Raises:
        PacketError: damaged, or of another version.
    """
    size = head_size(data)
    if size != len(data):
        raise PacketError(f"file head of {len(data)} bytes is not whole")
    body = data[len(MAGIC) + 2 : -4]
    if zlib.crc32(body) != _CRC.unpack(data[-4:])[0]:
        raise PacketError("file head is damaged: its checksum differs")
    try:
        version, flags, digest, rate, hop, delay, source, runs = _HEAD.unpack_from(body)
        books: list[int] = []
        at = _HEAD.size
        for _ in range(runs):
            count, size = struct.unpack_from(">BH", body, at)
            books += [size + 1] * count
            at += 3
        name = body[at + 1 : at + 1 + body[at]].decode()
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise PacketError(f"file head cannot be read: {error}") from error
    if version != VERSION or flags:
        raise PacketError(f"file of version {version}, flags {flags}; this release reads {VERSION}")
    if at + 1 + len(name.encode()) != len(body):
        raise PacketError("file head holds more than it should")
    return FileHead(name, digest, CodeLayout(tuple(books), hop, rate), delay, source)


def parse_end(data: bytes, crc: int | None = None) -> FileEnd:
    """Return the end record in ``data``; with ``crc``, check all that came before it.

    Raises:
        PacketError: damaged, or it contradicts the file.
    """
    if len(data) < END.size + TRAIL.size:
        raise PacketError(f"end of the file is {len(data)} bytes; it was cut")
    check, size, tail = TRAIL.unpack(data[-TRAIL.size :])
    body = data[: -TRAIL.size]
    mark, again, samples, source, frames, before = END.unpack_from(body)
    if tail != TAIL or mark != 0 or not size == again == len(data) or check != zlib.crc32(body):
        raise PacketError("end of the file is damaged: its checksum or tail differs")
    if crc is not None and before != crc:
        raise PacketError("file is damaged: the checksum over all packets differs")
    return FileEnd(samples, source, frames, tuple(_read_seek(body, END.size)))


def check_lengths(end: FileEnd, head: FileHead, frames: int) -> None:
    """Refuse lengths that the packets do not bear out; padding would be made of nothing."""
    layout = head.layout
    source = end.samples * head.source_rate_hz / layout.sample_rate_hz
    slack = 2 + 2 * head.source_rate_hz / layout.sample_rate_hz
    if (
        not frames <= end.frames <= frames + SILENCE_HOLD
        or end.frames != head.frames_for(end.samples)
        or abs(source - end.source_samples) > slack
    ):
        raise PacketError(
            f"file says {end.samples} samples ({end.source_samples} at its source) in {end.frames} "
            f"frames, but holds {frames} frames of {layout.hop} samples; it is damaged"
        )


def _read_seek(body: bytes, at: int) -> Iterator[tuple[int, int]]:
    count, at = read_varint(body, at, MAX_END)
    if not at or count > (len(body) - at) // 2:
        raise PacketError(f"seek table of {count} entries in {len(body) - at} bytes")
    frame = offset = 0
    for _ in range(count):
        more_frames, at = read_varint(body, at, 2**62)
        more_bytes, at = read_varint(body, at, 2**62) if at else (0, 0)
        if not at:
            raise PacketError("seek table ends inside an entry")
        frame, offset = frame + more_frames, offset + more_bytes
        yield frame, offset
    if at != len(body):
        raise PacketError("seek table holds more than its entries")


def head_size(buffer: bytes) -> int:
    """Return the size of magic and head, 0 if they are not all there."""
    if buffer[: len(MAGIC)] != MAGIC[: len(buffer)]:
        raise PacketError("not an .osc file: the first bytes are not its magic")
    if len(buffer) < len(MAGIC) + 2:
        return 0
    (size,) = struct.unpack_from(">H", buffer, len(MAGIC))
    if size > MAX_HEAD:
        raise PacketError(f"file head of {size} bytes; at most {MAX_HEAD} allowed")
    total = len(MAGIC) + 2 + int(size) + 4
    return total if len(buffer) >= total else 0


def varint(value: int) -> bytes:
    """Return ``value`` in LEB128: seven bits a byte, low ones first."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int, limit: int) -> tuple[int, int]:
    """Return the value at ``at`` and the place behind it; (0, 0) if it is not all there."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            return 0, 0
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            if value > limit:
                raise PacketError(f"length of {value}; at most {limit} allowed. Is it damaged?")
            return value, at
    raise PacketError("a length of more than ten bytes; the file is damaged")
