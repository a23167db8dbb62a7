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
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from ossicle.runtime import snapshot
from ossicle.runtime.errors import PacketError
from ossicle.streaming.codec.ends import (
    END,
    MAGIC,
    MAX_END,
    MAX_HEAD,
    TAIL,
    TRAIL,
    FileEnd,
    FileHead,
    check_lengths,
    head_size,
    parse_end,
    parse_head,
    read_varint,
    varint,
)
from ossicle.streaming.codec.jitter import SILENCE_HOLD
from ossicle.streaming.codec.packet import MAX_PACKET_BYTES, SEQUENCES
from ossicle.streaming.codec.packetreader import read_header

SEEK_FRAMES = 250  # frames between seek entries


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
        self._write(varint(len(data)) + data + crc)

    def close(self, samples: int, source_samples: int, frames: int | None = None) -> None:
        """Append the end: exact lengths and the seek table.

        ``frames`` are as many as ``samples`` need (:meth:`FileHead.frames_for`) if not given.
        """
        frames = self.head.frames_for(samples) if frames is None else frames
        table = bytearray(varint(len(self._seek)))
        before = (0, 0)
        for entry in self._seek:
            table += varint(entry[0] - before[0]) + varint(entry[1] - before[1])
            before = entry
        size = END.size + len(table) + TRAIL.size
        end = END.pack(0, size, samples, source_samples, frames, self._crc) + table
        self._write(end + TRAIL.pack(zlib.crc32(end), size, TAIL))

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
            used = head_size(buffer)
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
        length, begin = read_varint(buffer, at, MAX_PACKET_BYTES)
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
        if len(buffer) - at < END.size:
            return 0
        size = int(END.unpack_from(buffer, at)[1])
        if not END.size + 1 + TRAIL.size <= size <= MAX_END:
            raise PacketError(f"end record of {size} bytes; at most {MAX_END} allowed")
        if len(buffer) - at < size:
            return 0
        if len(buffer) - at > size:
            raise PacketError("bytes after the end of the file; are two files joined?")
        assert self.head is not None
        crc = zlib.crc32(buffer[:at], self.state.crc) if self.state.whole else None
        end = parse_end(buffer[at:], crc=crc)
        check_lengths(end, self.head, self.state.frame)
        self.end = end
        self.state.ended = True
        return size


def read_ends(file: BinaryIO) -> tuple[bytes, FileEnd]:
    """Return the head's bytes and the end record of a seekable file, without reading between.

    Raises:
        PacketError: not such a file, or cut.
    """
    start = file.read(len(MAGIC) + 2 + MAX_HEAD + 4)
    size = head_size(start)
    total = file.seek(0, 2)
    if not size or total < size + END.size + 1 + TRAIL.size:
        raise PacketError(f"file of {total} bytes is cut")
    file.seek(total - TRAIL.size)
    _, length, tail = TRAIL.unpack(file.read(TRAIL.size))
    if tail != TAIL or not END.size + TRAIL.size < length <= min(MAX_END, total - size):
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
