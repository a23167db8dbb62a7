"""Packets read: whole, or cut where a layer ends; see :mod:`.packet` for what they are."""

from __future__ import annotations

import numpy as np

from ossicle.runtime.errors import PacketError
from ossicle.streaming.codec import bits
from ossicle.streaming.codec.layout import CodeLayout
from ossicle.streaming.codec.packet import (
    HEADER_BYTES,
    NOISE_BANDS,
    NOISE_BYTES,
    VERSION,
    WORD,
    Codes,
    Header,
    Noise,
    Packet,
    all_widths,
)


def read_header(data: bytes | memoryview) -> Header:
    """Return the header of a packet, without looking at the payload.

    Raises:
        PacketError: too short, of another version, or of contradicting fields.
    """
    if len(data) < HEADER_BYTES:
        raise PacketError(f"packet of {len(data)} bytes; its header alone is {HEADER_BYTES}")
    (word,) = WORD.unpack_from(data)
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
    lead_widths = all_widths(layout.widths[:lead_layers], lead_frames)
    widths = all_widths(layout.widths[:layers], header.frames)
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


def _read_noise(payload: memoryview) -> Noise:
    if len(payload) != NOISE_BYTES:
        raise PacketError(
            f"silence descriptor of {len(payload)} bytes; exactly {NOISE_BYTES} expected"
        )
    word, _ = bits.from_bytes(payload, 8 * NOISE_BYTES)
    level, *bands = bits.unpack(word, (8,) + (4,) * NOISE_BANDS)
    return Noise(level, tuple(bands))
