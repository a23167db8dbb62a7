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
whatever its header says; a cut anywhere else is an error. :func:`thin` cuts and mends the header.
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
_WORD = struct.Struct(">I")


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
        return _WORD.pack(VERSION << 29 | flags | size | self.sequence)


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


def read_header(data: bytes | memoryview) -> Header:
    """Return the header of a packet, without looking at the payload.

    Raises:
        PacketError: too short, of another version, or of contradicting fields.
    """
    if len(data) < HEADER_BYTES:
        raise PacketError(f"packet of {len(data)} bytes; its header alone is {HEADER_BYTES}")
    (word,) = _WORD.unpack_from(data)
    version, layers = word >> 29, word >> 20 & 63
    if version != VERSION:
        raise PacketError(f"packet of version {version}; this release reads {VERSION}")
    redundancy, silence, reset = bool(word >> 28 & 1), bool(word >> 27 & 1), bool(word >> 26 & 1)
    if silence is not (layers == 0) or (silence and redundancy):
        raise PacketError(
            f"packet of {layers} layers with silence={silence}, redundancy={redundancy}; silence "
            "has no layers and no redundancy, codes have at least one layer"
        )
    return Header(word & 0xFFFF, layers, (word >> 16 & 15) + 1, redundancy, silence, reset)


def write(packet: Packet, layout: CodeLayout) -> bytes:
    """Return the bytes of ``packet``.

    Raises:
        PacketError: codes, layers, frames or sequence out of range.
    """
    header = _header_of(packet)
    if packet.noise is not None:
        return header.to_bytes() + _write_noise(packet.noise)
    _check_codes(packet.codes, layout)
    values, widths = _in_order(packet.codes), _plan(layout.widths[: packet.layers], packet.frames)
    if packet.past is None:
        word, size = bits.pack(values, widths), sum(widths)
    else:
        past = packet.past
        _check_codes(past, layout)
        reach = 2 if packet.far else past.shape[1] // packet.frames - 1
        lead = [reach << 6 | past.shape[0], *_in_order(past), *values]
        lead_widths = (8, *_plan(layout.widths[: past.shape[0]], past.shape[1]), *widths)
        word, size = bits.pack(lead, lead_widths), sum(lead_widths)
    return header.to_bytes() + bits.to_bytes(word, size)


def read(data: bytes | memoryview, layout: CodeLayout) -> Packet:
    """Return the packet in ``data``, whole or cut at a layer boundary.

    Raises:
        PacketError: not a packet of this codec.
    """
    header = read_header(data)
    payload = memoryview(data)[HEADER_BYTES:]
    if header.silence:
        noise = _read_noise(payload)
        empty = np.empty((0, header.frames), np.int32)
        return Packet(header.sequence, empty, noise=noise, reset=header.reset)
    lead_layers, lead_frames, layers = _measure(header, payload, layout)
    lead_widths = _plan(layout.widths[:lead_layers], lead_frames)
    widths = _plan(layout.widths[:layers], header.frames)
    start = 8 if header.redundancy else 0
    size = start + sum(lead_widths) + sum(widths)
    word, padding = bits.from_bytes(payload, size)
    if padding and layers == header.layers:
        raise PacketError("packet whose padding is not zero; its bytes were damaged")
    if start:
        word &= (1 << (size - start)) - 1
    values = bits.unpack(word, lead_widths + widths)
    split = len(lead_widths)
    past = _shaped(values[:split], lead_layers, lead_frames, layout) if header.redundancy else None
    codes = _shaped(values[split:], layers, header.frames, layout)
    far = header.redundancy and payload[0] >> 6 == 2
    return Packet(header.sequence, codes, past, far, reset=header.reset)


def thin(data: bytes, layers: int, layout: CodeLayout) -> bytes:
    """Return the packet cut to at most ``layers`` layers, without decoding it.

    What a gateway does between a fast and a slow link. Equal, byte by byte, to what the encoder
    would have written with fewer layers. Redundancy and silence descriptors pass unchanged.

    Raises:
        PacketError: not a packet of this codec, or fewer than one layer asked for.
    """
    if layers < 1:
        raise PacketError(f"thinning to {layers} layers; at least one must stay")
    header = read_header(data)
    payload = memoryview(data)[HEADER_BYTES:]
    if header.silence:
        _read_noise(payload)
        return bytes(data)
    lead_layers, lead_frames, present = _measure(header, payload, layout)
    keep = min(layers, present)
    if keep == header.layers:
        return bytes(data)
    size = _payload_bits(header, lead_layers, lead_frames, keep, layout)
    cut = bytearray(payload[: (size + 7) // 8])
    cut[-1] &= 0xFF << (-size % 8) & 0xFF
    return Header(
        header.sequence, keep, header.frames, header.redundancy, False, header.reset
    ).to_bytes() + bytes(cut)


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
def _plan(widths: tuple[int, ...], frames: int) -> tuple[int, ...]:
    """Widths of all codes of ``frames`` frames in the order they are sent."""
    return tuple(width for width in widths for _ in range(frames))


def _measure(header: Header, payload: memoryview, layout: CodeLayout) -> tuple[int, int, int]:
    """Return layers and frames of the redundancy, and how many layers of codes are present."""
    if header.layers > layout.layers:
        raise PacketError(f"packet of {header.layers} layers; this codec has {layout.layers}")
    lead_layers = lead_frames = 0
    if header.redundancy:
        if not payload:
            raise PacketError("packet ends where its redundancy should begin")
        reach, lead_layers = payload[0] >> 6, payload[0] & 63
        if reach > 2 or not 1 <= lead_layers <= layout.layers:
            raise PacketError(
                f"redundancy of reach {reach} and {lead_layers} layers; 0 to 2 and 1 to "
                f"{layout.layers} layers allowed"
            )
        lead_frames = (2 if reach == 1 else 1) * header.frames
    for layers in range(header.layers, 0, -1):
        size = _payload_bits(header, lead_layers, lead_frames, layers, layout)
        if (size + 7) // 8 == len(payload):
            return lead_layers, lead_frames, layers
        if layers == header.layers and (size + 7) // 8 < len(payload):
            break
    raise PacketError(
        f"packet payload of {len(payload)} bytes is not {header.frames} frames of up to "
        f"{header.layers} layers; a packet may be cut only where a layer ends"
    )


def _payload_bits(
    header: Header, lead_layers: int, lead_frames: int, layers: int, layout: CodeLayout
) -> int:
    lead = 8 + layout.bits(lead_layers) * lead_frames if header.redundancy else 0
    return lead + layout.bits(layers) * header.frames


def _shaped(values: list[int], layers: int, frames: int, layout: CodeLayout) -> Codes:
    codes = np.array(values, np.int32).reshape(layers, frames)
    for k, (size, width) in enumerate(zip(layout.books, layout.widths, strict=True)):
        if k == layers:
            break
        if size != 1 << width and codes[k].max() >= size:
            raise PacketError(f"code {codes[k].max()} in layer {k}, which has {size}; damaged?")
    return codes


def _write_noise(noise: Noise) -> bytes:
    word = bits.pack((noise.level, *noise.bands), (8,) + (4,) * NOISE_BANDS)
    return bits.to_bytes(word, 8 * NOISE_BYTES)


def _read_noise(payload: memoryview) -> Noise:
    if len(payload) != NOISE_BYTES:
        raise PacketError(
            f"silence descriptor of {len(payload)} bytes; exactly {NOISE_BYTES} expected"
        )
    word, _ = bits.from_bytes(payload, 8 * NOISE_BYTES)
    level, *bands = bits.unpack(word, (8,) + (4,) * NOISE_BANDS)
    return Noise(level, tuple(bands))
