r"""The file ``.osc``: the packets of a stream, its exact length, and where to enter it.

::

    file    = magic head record* end
    magic   = 89 4F 53 43 0D 0A 1A 0A           "\x89OSC\r\n\x1a\n": survives no text mode
    head    = size u16, body, crc32(body)
      body  = version u8 (1), flags u8 (0), manifest hash 32 bytes,
              sample rate u32, hop u32, delay u32 (samples to drop at the start),
              source rate u32, runs u8, runs * (layers u8, codes - 1 u16),
              name: length u8, UTF-8
    record  = length varint (4..MAX_PACKET_BYTES), packet, crc16(packet)
    end     = 00, size u32 (of the end), samples u64, source samples u64, frames u64,
              crc32(magic to the last record), count varint,
              count * (frames varint, bytes varint), crc32(end), size u32 again, "OSCE"

All integers are big-endian, varints are LEB128. Seek entries are differences to the one before:
at that frame a record begins at that byte of the file. Nothing is allocated because a header says
so: a reader holds what has arrived, refuses a record longer than any packet can be, holes between
packets longer than silence may last, and lengths that its packets do not bear out.
"""

from __future__ import annotations

import binascii
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import BinaryIO

from ossicle.runtime import snapshot
from ossicle.runtime.errors import PacketError
from ossicle.streaming.codec.jitter import SILENCE_HOLD
from ossicle.streaming.codec.layout import CodeLayout
from ossicle.streaming.codec.packet import MAX_PACKET_BYTES, SEQUENCES, read_header

MAGIC = b"\x89OSC\r\n\x1a\n"
TAIL = b"OSCE"
VERSION = 1
MAX_HEAD = 512
MAX_END = 1 << 20  # a seek table of hundreds of hours
SEEK_FRAMES = 250  # frames between seek entries
_HEAD = struct.Struct(">BB32sIIIIB")
_END = struct.Struct(">BIQQQI")
_TRAIL = struct.Struct(">II4s")
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


@dataclass(frozen=True, slots=True)
class Record:
    """One packet of a file."""

    packet: bytes
    first: int  # frame index, does not wrap
    frames: int
    offset: int  # of the record, in bytes from the start of the file


class ContainerWriter:
    """Writes a file front to back; ``sink`` may be a pipe."""

    def __init__(self, head: FileHead, sink: Callable[[bytes], object]) -> None:
        self.head = head
        self._sink = sink
        self._offset = 0
        self._crc = 0
        self._seek: list[tuple[int, int]] = []
        self._write(head.to_bytes())

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._offset

    def packet(self, data: bytes, first: int) -> None:
        """Append one packet whose first frame is ``first``."""
        if not self._seek or first >= self._seek[-1][0] + SEEK_FRAMES:
            self._seek.append((first, self._offset))
        crc = struct.pack(">H", binascii.crc_hqx(data, 0))
        self._write(_varint(len(data)) + data + crc)

    def close(self, samples: int, source_samples: int, frames: int | None = None) -> None:
        """Append the end: exact lengths and the seek table.

        ``frames`` are as many as ``samples`` need (:meth:`FileHead.frames_for`) if not given.
        """
        frames = self.head.frames_for(samples) if frames is None else frames
        table = bytearray(_varint(len(self._seek)))
        before = (0, 0)
        for entry in self._seek:
            table += _varint(entry[0] - before[0]) + _varint(entry[1] - before[1])
            before = entry
        size = _END.size + len(table) + _TRAIL.size
        end = _END.pack(0, size, samples, source_samples, frames, self._crc) + table
        self._write(end + _TRAIL.pack(zlib.crc32(end), size, TAIL))

    def _write(self, data: bytes) -> None:
        self._crc = zlib.crc32(data, self._crc)
        self._offset += len(data)
        self._sink(data)


@snapshot.record("codec.ReaderState")
@dataclass(slots=True)
class ReaderState:
    """Where a reader is; with it, reading goes on in another process."""

    offset: int = 0  # of the first byte that was not consumed
    frame: int = 0  # index from which the next sequence is unwrapped
    crc: int = 0
    head: bytes = b""  # magic to checksum
    buffer: bytearray | bytes = b""
    ended: bool = False
    whole: bool = True  # reading began at the first byte, so that the file's checksum can be held


@dataclass(slots=True)
class ContainerReader:
    """Takes a file in pieces of any size and gives its packets; holds at most one record.

    Raises (from ``feed`` and ``finish``):
        PacketError: not such a file, damaged, or cut.
    """

    state: ReaderState = field(default_factory=ReaderState)
    head: FileHead | None = None
    end: FileEnd | None = None

    def __post_init__(self) -> None:
        if self.state.head:
            self.head = parse_head(self.state.head)

    def feed(self, data: bytes) -> list[Record]:
        """Take the next bytes and return the packets that they complete."""
        state = self.state
        if state.ended and data:
            raise PacketError(f"{len(data)} bytes after the end of the file; are two files joined?")
        buffer = bytes(state.buffer) + data
        used = 0
        if self.head is None:
            used = _head_size(buffer)
            if not used:
                state.buffer = buffer
                return []
            state.head, self.head = buffer[:used], parse_head(buffer[:used])
        records: list[Record] = []
        while not state.ended:
            size = self._record(buffer, used, records, state.offset + used)
            if not size:
                break
            used += size
        if state.ended:
            used = len(buffer)
        else:
            state.crc = zlib.crc32(buffer[:used], state.crc)
        state.offset += used
        state.buffer = buffer[used:]
        return records

    def finish(self) -> FileEnd:
        """Return the end of the file; nothing more will come."""
        if self.end is None:
            raise PacketError(
                f"file ends after {self.state.offset} whole bytes and {self.state.frame} frames "
                "without its end record; it was cut, or is still being written"
            )
        return self.end

    def _record(self, buffer: bytes, at: int, records: list[Record], offset: int) -> int:
        """Read one record or the end; return its size, 0 if it is not all there."""
        if at < len(buffer) and buffer[at] == 0:
            return self._end(buffer, at)
        length, begin = _read_varint(buffer, at, MAX_PACKET_BYTES)
        if not begin or begin + length + 2 > len(buffer):
            return 0
        packet = buffer[begin : begin + length]
        (crc,) = struct.unpack_from(">H", buffer, begin + length)
        if crc != binascii.crc_hqx(packet, 0):
            raise PacketError(f"packet at byte {offset} is damaged: its checksum differs")
        header = read_header(packet)
        first = self.state.frame + (header.sequence - self.state.frame) % SEQUENCES
        if first > self.state.frame + SILENCE_HOLD:
            raise PacketError(
                f"packet at byte {offset} begins {first - self.state.frame} frames after the one "
                f"before it; at most {SILENCE_HOLD} may be missing. Is the file damaged?"
            )
        self.state.frame = first + header.frames
        records.append(Record(packet, first, header.frames, offset))
        return begin + length + 2 - at

    def _end(self, buffer: bytes, at: int) -> int:
        """Read the end record if all of it is there and the file with it."""
        if len(buffer) - at < _END.size:
            return 0
        size = int(_END.unpack_from(buffer, at)[1])
        if not _END.size + 1 + _TRAIL.size <= size <= MAX_END:
            raise PacketError(f"end record of {size} bytes; at most {MAX_END} allowed")
        if len(buffer) - at < size:
            return 0
        if len(buffer) - at > size:
            raise PacketError("bytes after the end of the file; are two files joined?")
        assert self.head is not None
        crc = zlib.crc32(buffer[:at], self.state.crc) if self.state.whole else None
        end = parse_end(buffer[at:], crc=crc)
        _check_lengths(end, self.head, self.state.frame)
        self.end = end
        self.state.ended = True
        return size


def read_ends(file: BinaryIO) -> tuple[bytes, FileEnd]:
    """Return the head's bytes and the end record of a seekable file, without reading between.

    Raises:
        PacketError: not such a file, or cut.
    """
    start = file.read(len(MAGIC) + 2 + MAX_HEAD + 4)
    size = _head_size(start)
    total = file.seek(0, 2)
    if not size or total < size + _END.size + 1 + _TRAIL.size:
        raise PacketError(f"file of {total} bytes is cut")
    file.seek(total - _TRAIL.size)
    _, length, tail = _TRAIL.unpack(file.read(_TRAIL.size))
    if tail != TAIL or not _END.size + _TRAIL.size < length <= min(MAX_END, total - size):
        raise PacketError("file has no end record; it was cut, or is still being written")
    file.seek(total - length)
    end = parse_end(file.read(length))
    if any(not size <= offset < total - length for _, offset in end.seek):
        raise PacketError("seek table points outside the packets; the file is damaged")
    return start[:size], end


def enter(head: bytes, end: FileEnd, frame: int) -> ReaderState:
    """Return the state of a reader that goes on at the last seek entry at or before ``frame``.

    Feed it the file from ``state.offset`` on.
    """
    first, offset = 0, len(head)
    for entry in end.seek:
        if entry[0] > frame:
            break
        first, offset = entry
    return ReaderState(offset, first, head=head, whole=False)


def parse_head(data: bytes) -> FileHead:
    """Return what :meth:`FileHead.to_bytes` was given.

    Raises:
        PacketError: damaged, or of another version.
    """
    size = _head_size(data)
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
    if len(data) < _END.size + _TRAIL.size:
        raise PacketError(f"end of the file is {len(data)} bytes; it was cut")
    check, size, tail = _TRAIL.unpack(data[-_TRAIL.size :])
    body = data[: -_TRAIL.size]
    mark, again, samples, source, frames, before = _END.unpack_from(body)
    if tail != TAIL or mark != 0 or not size == again == len(data) or check != zlib.crc32(body):
        raise PacketError("end of the file is damaged: its checksum or tail differs")
    if crc is not None and before != crc:
        raise PacketError("file is damaged: the checksum over all packets differs")
    return FileEnd(samples, source, frames, tuple(_read_seek(body, _END.size)))


def _check_lengths(end: FileEnd, head: FileHead, frames: int) -> None:
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
    count, at = _read_varint(body, at, MAX_END)
    if not at or count > (len(body) - at) // 2:
        raise PacketError(f"seek table of {count} entries in {len(body) - at} bytes")
    frame = offset = 0
    for _ in range(count):
        more_frames, at = _read_varint(body, at, 2**62)
        more_bytes, at = _read_varint(body, at, 2**62) if at else (0, 0)
        if not at:
            raise PacketError("seek table ends inside an entry")
        frame, offset = frame + more_frames, offset + more_bytes
        yield frame, offset
    if at != len(body):
        raise PacketError("seek table holds more than its entries")


def _head_size(buffer: bytes) -> int:
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


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int, limit: int) -> tuple[int, int]:
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
