"""The file: what was written comes back, and damage is an error, never a crash or a hunger."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossicle.runtime import snapshot
from ossicle.runtime.errors import PacketError
from ossicle.streaming.codec.container import (
    ContainerReader,
    ContainerWriter,
    Record,
    enter,
    read_ends,
)
from ossicle.streaming.codec.ends import FileEnd, FileHead, parse_head
from ossicle.streaming.codec.layout import CodeLayout
from ossicle.streaming.codec.packet import Packet, write

LAYOUT = CodeLayout((1024,) * 12, 320, 16_000)
MIXED = CodeLayout((16,) * 40 + (5,) * 3, 320, 24_000)
HEAD = FileHead("codec-16k", bytes(range(32)), LAYOUT, 320, 44_100)


def file_of(count: int, frames: int = 4, head: FileHead = HEAD) -> bytes:
    """A file of ``count`` packets."""
    out: list[bytes] = []
    writer = ContainerWriter(head, out.append)
    for i in range(count):
        codes = np.full((3, frames), i % 5, np.int32)
        writer.packet(write(Packet(i * frames % 65_536, codes), head.layout), i * frames)
    samples = max(count * frames * head.layout.hop - head.delay, 0)
    rate = head.layout.sample_rate_hz
    writer.close(samples, round(samples * head.source_rate_hz / rate), count * frames)
    assert writer.size == len(b"".join(out))
    return b"".join(out)


def read_all(data: bytes, sizes: list[int] | None = None) -> tuple[list[Record], ContainerReader]:
    reader, at = ContainerReader(), 0
    records: list[Record] = []
    for size in [*(sizes or []), len(data)]:
        records += reader.feed(data[at : at + size])
        at += size
    reader.finish()
    return records, reader


@given(
    st.integers(0, 40), st.integers(1, 16), st.sampled_from([LAYOUT, MIXED]),
    st.lists(st.integers(0, 60), max_size=30),
)  # fmt: skip
def test_a_file_comes_back_however_it_is_cut(
    count: int, frames: int, layout: CodeLayout, sizes: list[int]
) -> None:
    head = FileHead("modèle", bytes(32), layout, 77, 48_000)
    data = file_of(count, frames, head)
    records, reader = read_all(data, sizes)
    assert reader.head == head
    assert [r.first for r in records] == list(range(0, count * frames, frames))
    assert reader.end is not None
    assert reader.end.frames == count * frames
    assert reader.end.samples == max(count * frames * layout.hop - 77, 0)
    whole, _ = read_all(data)
    assert records == whole
    assert reader.feed(b"") == []


def test_a_file_cut_at_any_byte_is_refused() -> None:
    data = file_of(12)
    for size in range(len(data)):
        with pytest.raises(PacketError, match=r"cut|magic|not all|damaged"):
            read_all(data[:size])
        with pytest.raises(PacketError):
            read_ends(io.BytesIO(data[:size]))


def test_any_flipped_bit_is_found() -> None:
    data = file_of(5)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PacketError):
            read_all(bytes(damaged))


@given(st.binary(max_size=400), st.integers(0, 200))
def test_any_bytes_are_refused_with_one_error(junk: bytes, keep: int) -> None:
    whole = file_of(3)
    with pytest.raises(PacketError):
        read_all(whole[: min(keep, len(whole) - 1)] + b"\xff" + junk)
    with pytest.raises(PacketError):
        read_ends(io.BytesIO(junk))


def test_a_reader_holds_no_more_than_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    data = file_of(400)
    reader, most = ContainerReader(), 0
    for at in range(0, len(data), 100):
        reader.feed(data[at : at + 100])
        most = max(most, len(reader.state.buffer))
    assert most < 400
    reader.finish()
    hungry = data[: len(HEAD.to_bytes())] + b"\xff\xff\xff\x7f" + bytes(50)
    with pytest.raises(PacketError, match="at most"):
        read_all(hungry)
    with pytest.raises(PacketError, match="end record of"):
        read_all(data[: len(HEAD.to_bytes())] + b"\0\xff\xff\xff\xff" + bytes(60))


def test_reading_goes_on_in_another_process() -> None:
    data = file_of(60)
    whole, _ = read_all(data)
    records: list[Record] = []
    reader = ContainerReader()
    for at in range(0, len(data), 37):
        reader = ContainerReader(snapshot.load(snapshot.dump(reader.state)))
        records += reader.feed(data[at : at + 37])
    assert records == whole
    assert reader.finish().frames == 240


@pytest.mark.parametrize("frame", [0, 1, 249, 250, 700, 10_000])
def test_the_seek_table_leads_into_the_middle(frame: int) -> None:
    data = file_of(300)
    head, end = read_ends(io.BytesIO(data))
    assert head == data[: len(head)]
    assert parse_head(head) == HEAD
    state = enter(head, end, frame)
    reader = ContainerReader(state)
    records = reader.feed(data[state.offset :])
    reader.finish()
    whole, _ = read_all(data)
    assert records[0].first <= frame
    assert records == whole[-len(records) :]
    assert frame - records[0].first < 254 or frame > 1200


def lying(end: FileEnd) -> bytes:
    """A file whose checksums hold and whose lengths do not."""
    out: list[bytes] = []
    writer = ContainerWriter(HEAD, out.append)
    writer.packet(write(Packet(0, np.zeros((3, 4), np.int32)), LAYOUT), 0)
    writer.close(end.samples, end.source_samples, end.frames)
    return b"".join(out)


@pytest.mark.parametrize(
    "end",
    [
        FileEnd(960, 2646, 10**9),
        FileEnd(10**15, 10**15, 4),
        FileEnd(960, 10**15, 4),
        FileEnd(961, 2649, 4),
        FileEnd(640, 1764, 4),
    ],
)
def test_lengths_that_the_packets_do_not_bear_out_are_refused(end: FileEnd) -> None:
    read_all(lying(FileEnd(960, 2646, 4)))
    with pytest.raises(PacketError, match="damaged"):
        read_all(lying(end))


def test_a_hole_longer_than_silence_may_last_is_refused() -> None:
    out: list[bytes] = []
    writer = ContainerWriter(HEAD, out.append)
    writer.packet(write(Packet(0, np.zeros((1, 1), np.int32)), LAYOUT), 0)
    writer.packet(write(Packet(60_000, np.zeros((1, 1), np.int32)), LAYOUT), 60_000)
    with pytest.raises(PacketError, match="frames after"):
        ContainerReader().feed(b"".join(out))


def test_damage_is_found_before_it_is_decoded() -> None:
    data = bytearray(file_of(200))
    records, _ = read_all(bytes(data))
    data[records[50].offset + 6] ^= 1
    reader = ContainerReader()
    reader.feed(bytes(data[: records[50].offset]))
    with pytest.raises(PacketError, match=f"packet at byte {records[50].offset} is damaged"):
        reader.feed(bytes(data[records[50].offset : records[52].offset]))


def test_a_packet_taken_out_is_missed() -> None:
    data = file_of(9)
    records, _ = read_all(data)
    less = data[: records[4].offset] + data[records[5].offset :]
    with pytest.raises(PacketError, match="over all packets"):
        read_all(less)


def test_two_files_joined_are_refused() -> None:
    data = file_of(3)
    with pytest.raises(PacketError, match="joined"):
        read_all(data + data)
    reader = ContainerReader()
    reader.feed(data)
    with pytest.raises(PacketError, match="joined"):
        reader.feed(b"x")


def test_another_version_is_named() -> None:
    import struct
    import zlib

    data = bytearray(HEAD.to_bytes())
    data[10] = 9
    data[-4:] = struct.pack(">I", zlib.crc32(data[10:-4]))
    with pytest.raises(PacketError, match="version 9"):
        ContainerReader().feed(bytes(data))


def test_a_sequence_wraps_in_a_file() -> None:
    records, reader = read_all(file_of(5000, 16))
    assert records[-1].first == 4999 * 16 > 65_536
    assert reader.end is not None
    assert len(reader.end.seek) == pytest.approx(80_000 / 250, rel=0.05)
