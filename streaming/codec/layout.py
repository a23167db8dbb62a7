"""What one frame of a codec is made of: how many codes, how wide, how often."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import msgspec

from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import BundleError, PacketError
from ossicle.runtime.manifest import Manifest, Program

MAX_LAYERS = 63  # six bits of the packet header
MAX_PER_HOP = 16  # frames that a packet holds
MAX_BOOK = 65_536  # codes in one layer: 16 bits


@dataclass(frozen=True, slots=True)
class CodeLayout:
    """The layers of a frame, coarse first, and its place in time.

    >>> layout = CodeLayout(books=(1024,) * 12, hop=320, sample_rate_hz=16_000)
    >>> layout.bits(3), layout.kbps(3), layout.layers_for(3.2)
    (30, 1.5, 6)
    """

    books: tuple[int, ...]  # codes in each layer, 2 to 65536
    hop: int  # samples that one frame stands for
    sample_rate_hz: int
    widths: tuple[int, ...] = field(init=False)  # bits of each layer
    totals: tuple[int, ...] = field(init=False)  # bits of the first 0, 1, 2, ... layers

    def __post_init__(self) -> None:
        if not 1 <= len(self.books) <= MAX_LAYERS:
            raise PacketError(f"{len(self.books)} layers; packets carry 1 to {MAX_LAYERS}")
        for size in self.books:
            if not 2 <= size <= MAX_BOOK:
                raise PacketError(f"a book of {size} codes; packets carry 2 to {MAX_BOOK}")
        if self.hop < 1 or self.sample_rate_hz < 1:
            raise PacketError(f"hop {self.hop} at {self.sample_rate_hz} Hz; both must be positive")
        widths = tuple((n - 1).bit_length() for n in self.books)
        object.__setattr__(self, "widths", widths)
        object.__setattr__(self, "totals", (0, *accumulate(widths)))

    @property
    def layers(self) -> int:
        """How many layers a whole frame has."""
        return len(self.books)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate_hz / self.hop

    def bits(self, layers: int | None = None) -> int:
        """Bits of one frame cut to its first ``layers`` layers (default: all)."""
        return self.totals[self.layers if layers is None else layers]

    def kbps(self, layers: int | None = None) -> float:
        """Rate of the codes alone, without headers."""
        return self.bits(layers) * self.frame_rate / 1000.0

    def layers_for(self, kbps: float) -> int:
        """The most layers whose codes fit into ``kbps``; at least one, at most all."""
        room = kbps * 1000.0 / self.frame_rate + 1e-9
        return max(sum(total <= room for total in self.totals[1:]), 1)

    def check(self, layers: int) -> int:
        """Return ``layers`` if a frame can be cut to that many.

        Raises:
            PacketError: fewer than one, or more than there are.
        """
        if not 1 <= layers <= self.layers:
            raise PacketError(f"{layers} layers asked for; this codec has 1 to {self.layers}")
        return layers


def layout_of(bundle: Bundle) -> CodeLayout:
    """Read the layout of a codec bundle from its ``decode`` program's codebooks.

    ``extra["codec"]["books"]`` overrides, for codecs whose quantiser is inside a graph.

    Raises:
        BundleError: the bundle is not a codec.
    """
    manifest = bundle.manifest
    books = _named_books(manifest.extra) or _op_books(bundle)
    if books is None:
        raise BundleError(
            f"{manifest.name}: no codebooks: neither an rvq_decode operator in the program "
            "'decode' nor extra['codec']['books']; is this a codec bundle?"
        )
    per_hop = frames_per_hop(manifest)
    if codec_program(manifest, "decode").inputs[0].shape[0] != len(books):
        raise BundleError(
            f"{manifest.name}.decode takes codes of shape "
            f"{codec_program(manifest, 'decode').inputs[0].shape}, but has {len(books)} books; "
            "one row of codes a book expected"
        )
    return CodeLayout(books, manifest.hop // per_hop, manifest.sample_rate_hz)


def frames_per_hop(manifest: Manifest) -> int:
    """How many codec frames one step of the model takes or gives: 1, or 8 for EnCodec.

    Raises:
        BundleError: codes that are no whole frames, or more in a hop than a packet holds.
    """
    shape = codec_program(manifest, "decode").inputs[0].shape
    if codec_program(manifest, "encode").outputs[0].shape != shape:
        raise BundleError(
            f"{manifest.name} gives codes of shape "
            f"{codec_program(manifest, 'encode').outputs[0].shape} and takes {shape}"
        )
    if len(shape) != 2 or not 1 <= shape[1] <= MAX_PER_HOP or manifest.hop % shape[1]:
        raise BundleError(
            f"{manifest.name} has codes of shape {shape} for a hop of {manifest.hop} samples; "
            f"[layers, frames] with 1 to {MAX_PER_HOP} frames of whole samples expected"
        )
    return int(shape[1])


def identity(manifest: Manifest) -> bytes:
    """Return 32 bytes that name what turns codes into sound, and nothing else.

    SHA-256 over rates, programs, graphs and the files they use, but not over figures, golden
    vectors or the model card: a corrected card does not orphan an archive.
    """
    used = {graph.file for graph in manifest.graphs.values()}
    used |= {state.init for graph in manifest.graphs.values() for state in graph.states}
    for program in manifest.programs.values():
        used |= {str(value) for op in program.ops for value in op.params.values()}
    core = {
        "rate": manifest.sample_rate_hz,
        "channels": manifest.channels,
        "hop": manifest.hop,
        "latency": manifest.latency,
        "graphs": manifest.graphs,
        "programs": manifest.programs,
        "files": {n: entry.sha256 for n, entry in manifest.files.items() if n in used},
    }
    return hashlib.sha256(msgspec.json.encode(core, order="deterministic")).digest()


def codec_program(manifest: Manifest, name: str) -> Program:
    """Return the program ``encode`` or ``decode``.

    Raises:
        BundleError: the bundle has none, or not with one audio and one frame port.
    """
    program = manifest.programs.get(name)
    if program is None:
        raise BundleError(
            f"{manifest.name} has programs {sorted(manifest.programs)}; a codec has 'encode' and "
            "'decode'. Choose a codec bundle such as codec-16k"
        )
    source, result = ("audio", "frame") if name == "encode" else ("frame", "audio")
    needed = [i.kind for i in program.inputs if i.kind != "condition" or i.default is None]
    if needed != [source] or [o.kind for o in program.outputs] != [result]:
        raise BundleError(f"{manifest.name}.{name}: one {source} input, one {result} output needed")
    return program


def _named_books(extra: dict[str, Any]) -> tuple[int, ...] | None:
    named = extra.get("codec")
    if not isinstance(named, dict) or "books" not in named:
        return None
    return tuple(int(n) for n in named["books"])


def _op_books(bundle: Bundle) -> tuple[int, ...] | None:
    for op in codec_program(bundle.manifest, "decode").ops:
        name = op.params.get("books")
        if op.op == "rvq_decode" and isinstance(name, str):
            count, codes, _ = bundle.array(name).shape
            return (int(codes),) * int(count)
    return None
