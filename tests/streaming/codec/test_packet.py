"""Packets: what is written is read, and what was damaged is refused or read as less."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossicle.runtime.errors import PacketError
from ossicle.streaming.codec import bits
from ossicle.streaming.codec.layout import CodeLayout
from ossicle.streaming.codec.packet import (
    HEADER_BYTES,
    MAX_PACKET_BYTES,
    Noise,
    Packet,
    payload_bits,
    write,
    write_frame,
)
from ossicle.streaming.codec.packetreader import read, read_header, thin

OURS = CodeLayout((1024,) * 12, 320, 16_000)
SMALL_BOOKS = CodeLayout((16,) * 46, 320, 16_000)
SINGLE = CodeLayout((8192,), 320, 16_000)
ODD = CodeLayout((1000, 3, 65_536, 2), 320, 16_000)
layouts = st.sampled_from([OURS, SMALL_BOOKS, SINGLE, ODD])


def codes_of(draw: st.DrawFn, layout: CodeLayout, layers: int, frames: int) -> np.ndarray:
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    top = [[size] * frames for size in layout.books[:layers]]
    return rng.integers(0, top, (layers, frames)).astype(np.int32)


@st.composite
def packets(draw: st.DrawFn) -> tuple[Packet, CodeLayout]:
    layout = draw(layouts)
    sequence, reset = draw(st.integers(0, 65_535)), draw(st.booleans())
    frames = draw(st.integers(1, 16))
    if draw(st.integers(0, 9)) == 0:
        bands = tuple(draw(st.lists(st.integers(0, 15), min_size=8, max_size=8)))
        noise = Noise(draw(st.integers(0, 127)), bands)
        empty = np.empty((0, frames), np.int32)
        return Packet(sequence, empty, noise=noise, reset=reset), layout
    codes = codes_of(draw, layout, draw(st.integers(1, layout.layers)), frames)
    past, far = None, False
    if draw(st.booleans()):
        reach, low = draw(st.integers(0, 2)), draw(st.integers(1, layout.layers))
        past, far = codes_of(draw, layout, low, (2 if reach == 1 else 1) * frames), reach == 2
    return Packet(sequence, codes, past, far, reset=reset), layout


def same(one: Packet, two: Packet) -> bool:
    past = (one.past is None) is (two.past is None)
    if past and one.past is not None and two.past is not None:
        past = np.array_equal(one.past, two.past)
    return (
        past
        and np.array_equal(one.codes, two.codes)
        and (one.sequence, one.noise, one.reset, one.far)
        == (two.sequence, two.noise, two.reset, two.far)
    )


@given(packets())
def test_a_packet_comes_back(case: tuple[Packet, CodeLayout]) -> None:
    packet, layout = case
    data = write(packet, layout)
    assert same(read(data, layout), packet)
    assert len(data) == HEADER_BYTES + -(-payload_bits(packet, layout) // 8) <= MAX_PACKET_BYTES


@given(packets())
def test_one_frame_alone_is_written_as_any_packet(case: tuple[Packet, CodeLayout]) -> None:
    packet, layout = case
    alone = Packet(packet.sequence, packet.codes[:, :1], reset=packet.reset)
    if not alone.layers:
        with pytest.raises(PacketError, match=r"codes .* or noise"):
            write_frame(alone.codes, alone.sequence, alone.reset, layout)
        return
    data, size = write_frame(alone.codes, alone.sequence, alone.reset, layout)
    assert data == write(alone, layout)
    assert size == payload_bits(alone, layout)


@pytest.mark.parametrize(
    ("codes", "sequence", "match"),
    [
        (np.array([[1000]], np.int32), 0, "0 to 1 allowed"),
        (np.array([[-1]], np.int32), 0, "0 to 1 allowed"),
        (np.array([[1]], np.int64), 0, "dtype"),
        (np.zeros((5, 1), np.int32), 0, "5 layers"),
        (np.zeros((1, 17), np.int32), 0, "shape"),
        (np.zeros((1, 1), np.int32), 65_536, "sequence"),
    ],
)
def test_one_frame_that_cannot_be_is_refused_as_any_packet(
    codes: np.ndarray, sequence: int, match: str
) -> None:
    with pytest.raises(PacketError, match=match):
        write_frame(codes, sequence, False, ODD)
    with pytest.raises(PacketError, match=match):
        write(Packet(sequence, codes), ODD)


@given(packets(), st.data())
def test_a_cut_packet_is_fewer_layers_or_an_error(
    case: tuple[Packet, CodeLayout], data: st.DataObject
) -> None:
    packet, layout = case
    whole = write(packet, layout)
    size = data.draw(st.integers(0, len(whole) - 1))
    try:
        got = read(whole[:size], layout)
    except PacketError:
        ends = {
            len(write(Packet(0, packet.codes[:k], packet.past), layout))
            for k in range(1, packet.layers + 1)
        }
        assert size not in ends
        return
    assert 1 <= got.layers < packet.layers
    np.testing.assert_array_equal(got.codes, packet.codes[: got.layers])
    assert len(write(got, layout)) == size


@given(packets(), st.integers(1, 63))
def test_thinning_equals_encoding_with_fewer_layers(
    case: tuple[Packet, CodeLayout], layers: int
) -> None:
    packet, layout = case
    thinned = thin(write(packet, layout), layers, layout)
    few = packet.codes[:layers]
    less = Packet(packet.sequence, few, packet.past, packet.far, packet.noise, packet.reset)
    assert thinned == write(less, layout)
    assert thin(thinned, layers, layout) == thinned


@given(packets(), st.integers(1, 63), st.integers(1, 63))
def test_thinning_twice_is_thinning_to_the_lower(
    case: tuple[Packet, CodeLayout], one: int, two: int
) -> None:
    packet, layout = case
    data = write(packet, layout)
    assert thin(thin(data, one, layout), two, layout) == thin(data, min(one, two), layout)


@given(packets(), st.data())
def test_flipped_bits_never_crash(case: tuple[Packet, CodeLayout], data: st.DataObject) -> None:
    packet, layout = case
    damaged = bytearray(write(packet, layout))
    for bit in data.draw(st.sets(st.integers(0, 8 * len(damaged) - 1), min_size=1, max_size=4)):
        damaged[bit // 8] ^= 128 >> bit % 8
    try:
        got = read(bytes(damaged), layout)
    except PacketError:
        return
    assert all((row < size).all() for row, size in zip(got.codes, layout.books, strict=False))
    assert read_header(bytes(damaged)).frames == got.frames


@given(st.binary(max_size=300), layouts)
def test_any_bytes_are_a_packet_or_an_error(data: bytes, layout: CodeLayout) -> None:
    try:
        got = read(data, layout)
    except PacketError:
        with pytest.raises(PacketError):
            thin(data, layout.layers, layout)
        return
    assert thin(data, layout.layers, layout)
    if got.layers == read_header(data).layers:
        assert write(got, layout) == data


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (Packet(65_536, np.zeros((1, 1), np.int32)), "sequence 65536"),
        (Packet(0, np.zeros((13, 1), np.int32)), "13 layers"),
        (Packet(0, np.full((1, 1), 1024, np.int32)), "codes from 1024"),
        (Packet(0, np.full((1, 1), -1, np.int32)), "codes from -1"),
        (Packet(0, np.zeros((1, 17), np.int32)), "17"),
        (Packet(0, np.zeros((0, 1), np.int32)), "not both or neither"),
        (Packet(0, np.zeros((1, 1), np.int32), noise=Noise(40)), "not both or neither"),
        (Packet(0, np.zeros((1, 2), np.int32), np.zeros((1, 3), np.int32)), "once or twice"),
        (Packet(0, np.zeros((1, 1), np.int32), np.zeros((1, 2), np.int32), True), "second one"),
        (Packet(0, np.zeros((1, 1), np.int64)), "int64"),
    ],
)
def test_what_cannot_be_sent_is_refused(packet: Packet, why: str) -> None:
    with pytest.raises(PacketError, match=why):
        write(packet, OURS)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "0 bytes"),
        (b"\x20\x10\x00", "3 bytes"),
        (b"\x40\x10\x00\x00\x00\x00", "version 2"),
        (b"\x20\x00\x00\x00", "at least one layer"),
        (b"\x28\x10\x00\x00", "silence has no layers"),
        (b"\x28\x00\x00\x00\x01", "silence descriptor of 1"),
        (b"\x28\x00\x00\x00\xff\0\0\0\0", "noise level 255"),
        (b"\x21\xf0\x00\x00" + bytes(40), "31 layers"),
        (b"\x30\x10\x00\x00", "redundancy should begin"),
        (b"\x30\x10\x00\x00\xc1\0\0\0", "reach 3"),
        (b"\x20\x10\x00\x00\x00", "1 bytes is not"),
        (b"\x20\x10\x00\x00\x00\x01", "padding"),
    ],
)
def test_what_was_received_wrong_is_named(data: bytes, why: str) -> None:
    with pytest.raises(PacketError, match=why):
        read(data, OURS)


def test_rates_of_the_built_in_layout() -> None:
    """50 frames of 10-bit layers: half a kilobit each, and 4 bytes of header a packet."""
    packet = Packet(7, np.zeros((6, 1), np.int32))
    assert len(write(packet, OURS)) == 4 + 8  # 60 bits
    assert (OURS.kbps(6), OURS.layers_for(6.0), OURS.layers_for(0.1)) == (3.0, 12, 1)


def test_a_gateway_keeps_redundancy_and_reset() -> None:
    codes = np.arange(12, dtype=np.int32)[:, None]
    data = write(Packet(9, codes, codes[:2], reset=True), OURS)
    got = read(thin(data, 3, OURS), OURS)
    assert (got.layers, got.reset, got.sequence) == (3, True, 9)
    np.testing.assert_array_equal(got.past, codes[:2])
    with pytest.raises(PacketError, match="at least one"):
        thin(data, 0, OURS)


@given(st.lists(st.tuples(st.integers(1, 16), st.integers(0, 65_535)), max_size=300))
def test_bits_come_back_and_equal_text(pairs: list[tuple[int, int]]) -> None:
    widths = [width for width, _ in pairs]
    values = [value % (1 << width) for width, value in pairs]
    word = bits.pack(values, widths)
    text = "".join(f"{v:0{w}b}" for v, w in zip(values, widths, strict=True))
    assert word == int(text or "0", 2)
    assert bits.unpack(word, widths) == values
    assert bits.from_bytes(bits.to_bytes(word, len(text)), len(text)) == (word, 0)


def test_the_compiled_packer_agrees() -> None:
    core = pytest.importorskip("ossicle._core")
    for width in (4, 10, 13):
        values = np.random.default_rng(width).integers(0, 1 << width, 77).astype(np.uint32)
        ours = bits.to_bytes(bits.pack(values.tolist(), [width] * 77), 77 * width)
        assert core.pack_bits(values, width) == ours
        np.testing.assert_array_equal(core.unpack_bits(ours, 77, width), values)
