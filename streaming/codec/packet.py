"""Packets: a header of four bytes, then codes, coarse layers first.

Header, one 32-bit big-endian word::

    31..29  version      1; anything else is foreign
    28      redundancy   low layers of the frames before this packet come first in the payload
    27      silence      the payload is a noise descriptor, not codes
    26      reset        the encoder's memory was new before this packet's first frame
    25..20  layers       1..63, 0 exactly when silence is set
    19..16  frames - 1   0..15
    15..0   sequence     index of the first frame, counted in frames, modulo 65536

Payload of a silence descriptor: 5 bytes (:class:`Noise`). Payload of codes, as bits, most
significant first, zero-padded to whole bytes at the end::

    with redundancy: reach (2 bits: 0 the packet before, 1 the two packets before, 2 the second
                     packet before alone), layers (6 bits, 1..63), then the first `layers` layers
                     of those packets' frames (each taken to have as many frames as this one),
                     layer by layer, within a layer the oldest frame first
    then             layer 0 of every frame, layer 1 of every frame, and so on

A packet cut after the byte in which a layer ends is a packet of as many layers as it still holds,
whatever its header says; a cut anywhere else is an error. :func:`.packetreader.thin` cuts and mends
the header.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.errors import PacketError
from ossicle.streaming.codec import bits
from ossicle.streaming.codec.layout import MAX_LAYERS, CodeLayout

Codes = NDArray[np.int32]  # [K, T]

VERSION = 1
HEADER_BYTES = 4
MAX_FRAMES = 16
SEQUENCES = 1 << 16
MAX_DEPTH = 2
NOISE_BYTES = 5
NOISE_BANDS = 8
MAX_PACKET_BYTES = HEADER_BYTES + 1 + (1 + MAX_DEPTH) * MAX_LAYERS * MAX_FRAMES * 16 // 8
WORD = struct.Struct(">I")
_HEADER_BITS = 8 * HEADER_BYTES


@dataclass(frozen=True, slots=True)
class Noise:
    """What silence sounds like: a level and the shape of its spectrum."""

    level: int  # 0..127: RMS in dB below full scale; 127 is digital silence
    bands: tuple[int, ...] = (0,) * NOISE_BANDS  # 0..15: 3 dB steps below the loudest band

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 127:
            raise PacketError(f"noise level {self.level}; 0 to 127 dB below full scale allowed")
        if len(self.bands) != NOISE_BANDS or any(not 0 <= b <= 15 for b in self.bands):
            raise PacketError(f"noise bands {self.bands}; {NOISE_BANDS} of 0 to 15 allowed")


@dataclass(frozen=True, slots=True)
class Header:
    """The first four bytes, in range."""

    sequence: int
    layers: int
    frames: int
    redundancy: bool
    silence: bool
    reset: bool

    def to_bytes(self) -> bytes:
        """Return the four bytes."""
        flags = self.redundancy << 28 | self.silence << 27 | self.reset << 26
        size = self.layers << 20 | (self.frames - 1) << 16
        return WORD.pack(VERSION << 29 | flags | size | self.sequence)


@dataclass(frozen=True, slots=True, eq=False)
class Packet:
    """One or more frames that follow each other, and what rides along."""

    sequence: int  # of the first frame, modulo 65536
    codes: Codes  # [K, T], coarse layers first; K = 0 for silence
    past: Codes | None = None  # [K, T] of the frames before: T = 1 or 2 times codes' T
    far: bool = False  # past is of the second packet before, not of the one before
    noise: Noise | None = None  # silence: what to fill these frames with
    reset: bool = False

    @property
    def layers(self) -> int:
        """Layers of the frames."""
        return int(self.codes.shape[0])

    @property
    def frames(self) -> int:
        """How many frames."""
        return int(self.codes.shape[1])


def write(packet: Packet, layout: CodeLayout) -> bytes:
    """Return the bytes of ``packet``.

    Raises:
        PacketError: codes, layers, frames or sequence out of range.
    """
    header = _header_of(packet)
    if packet.noise is not None:
        return header.to_bytes() + _write_noise(packet.noise)
    _check_codes(packet.codes, layout)
    values = _in_order(packet.codes)
    widths = all_widths(layout.widths[: packet.layers], packet.frames)
    if packet.past is None:
        word, size = bits.pack(values, widths), sum(widths)
    else:
        past = packet.past
        _check_codes(past, layout)
        reach = 2 if packet.far else past.shape[1] // packet.frames - 1
        lead = [reach << 6 | past.shape[0], *_in_order(past), *values]
        lead_widths = (8, *all_widths(layout.widths[: past.shape[0]], past.shape[1]), *widths)
        word, size = bits.pack(lead, lead_widths), sum(lead_widths)
    return header.to_bytes() + bits.to_bytes(word, size)


def write_frame(codes: Codes, sequence: int, reset: bool, layout: CodeLayout) -> tuple[bytes, int]:
    """Return what :func:`write` makes of one frame ``[K, 1]`` alone, and the bits of its payload.

    Most packets of a live stream are such; these bytes come in a third of the time.

    Raises:
        PacketError: codes, layers or sequence out of range.
    """
    layers = len(codes)
    word = VERSION << 29 | reset << 26 | layers << 20 | sequence
    fits = codes.dtype == np.int32 and codes.shape == (layers, 1) and 0 <= sequence < SEQUENCES
    if fits and 1 <= layers <= layout.layers:
        values = codes.ravel().tolist()
        for value, book, width in zip(values, layout.books, layout.widths, strict=False):
            if not 0 <= value < book:
                break
            word = word << width | value
        else:
            size = layout.totals[layers]
            return bits.to_bytes(word, _HEADER_BITS + size), size
    packet = Packet(sequence, codes, reset=reset)
    return write(packet, layout), payload_bits(packet, layout)  # which says what is wrong


def payload_bits(packet: Packet, layout: CodeLayout) -> int:
    """Bits of ``packet`` after its header, before padding to bytes."""
    if packet.noise is not None:
        return 8 * NOISE_BYTES
    own = layout.bits(packet.layers) * packet.frames
    if packet.past is None:
        return own
    return 8 + layout.bits(packet.past.shape[0]) * int(packet.past.shape[1]) + own


def _header_of(packet: Packet) -> Header:
    if not 0 <= packet.sequence < SEQUENCES:
        raise PacketError(f"sequence {packet.sequence}; 0 to {SEQUENCES - 1} allowed, then wrap")
    if packet.codes.ndim != 2 or not 1 <= packet.frames <= MAX_FRAMES:
        raise PacketError(f"codes of shape {packet.codes.shape}; [K, 1..{MAX_FRAMES}] expected")
    if (packet.noise is None) is (packet.layers == 0) or (packet.noise and packet.past is not None):
        raise PacketError("a packet carries codes (and redundancy), or noise, not both or neither")
    past = packet.past
    if past is not None and (
        past.ndim != 2 or past.shape[1] not in (packet.frames, MAX_DEPTH * packet.frames)
    ):
        raise PacketError(
            f"redundancy of shape {past.shape} beside {packet.frames} frames; once or twice as "
            "many frames expected"
        )
    if packet.far and (past is None or past.shape[1] != packet.frames):
        raise PacketError("far redundancy is of one packet, the second one before")
    return Header(
        packet.sequence, packet.layers, packet.frames,
        past is not None, packet.noise is not None, packet.reset,
    )  # fmt: skip


def _check_codes(codes: Codes, layout: CodeLayout) -> None:
    layout.check(codes.shape[0])
    if codes.dtype != np.int32:
        raise PacketError(f"codes of dtype {codes.dtype}; int32 expected")
    if (codes.view(np.uint32) >= _limits(layout.books)[: codes.shape[0]]).any():
        raise PacketError(
            f"codes from {codes.min()} to {codes.max()}; 0 to {min(layout.books) - 1} allowed "
            "(a frame with absent layers is cut, not sent)"
        )


@lru_cache(maxsize=64)
def _limits(books: tuple[int, ...]) -> NDArray[np.uint32]:
    return np.array(books, np.uint32)[:, None]


def _in_order(codes: Codes) -> list[int]:
    ordered: list[int] = codes.ravel().tolist()
    return ordered


@lru_cache(maxsize=1024)
def all_widths(widths: tuple[int, ...], frames: int) -> tuple[int, ...]:
    """Widths of all codes of ``frames`` frames in the order they are sent."""
    return tuple(width for width in widths for _ in range(frames))


def _write_noise(noise: Noise) -> bytes:
    word = bits.pack((noise.level, *noise.bands), (8,) + (4,) * NOISE_BANDS)
    return bits.to_bytes(word, 8 * NOISE_BYTES)
