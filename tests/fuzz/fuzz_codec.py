"""Fuzz the readers of codec packets and files: anything but a PacketError is a finding.

With atheris (coverage-guided): ``python tests/fuzz/fuzz_codec.py -max_total_time=60``.
Without it the same target runs on random and damaged inputs: ``--random SECONDS``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
import time

import numpy as np

from ossicle.runtime.errors import PacketError

GUIDED = __name__ == "__main__" and importlib.util.find_spec("atheris") is not None
if GUIDED:
    import atheris
with atheris.instrument_imports() if GUIDED else contextlib.nullcontext():
    from ossicle.streaming.codec.container import (
        ContainerReader,
        ContainerWriter,
        read_ends,
    )
    from ossicle.streaming.codec.ends import FileHead
    from ossicle.streaming.codec.jitter import MAX_GAP, JitterRing
    from ossicle.streaming.codec.layout import CodeLayout
    from ossicle.streaming.codec.packet import Noise, Packet, write
    from ossicle.streaming.codec.packetreader import read, thin

LAYOUTS = (
    CodeLayout((1024,) * 12, 320, 16_000),
    CodeLayout((16,) * 46, 320, 16_000),
    CodeLayout((1000, 3, 65_536), 320, 24_000),
)
MAX_INPUT = 4096


def target(data: bytes) -> None:
    """One input: its first byte says which reader gets the rest."""
    if not data:
        return
    kind, rest = data[0] % 4, data[1:MAX_INPUT]
    if kind == 3:
        files(rest, data[0])
    else:
        packets(rest, LAYOUTS[kind])


def packets(data: bytes, layout: CodeLayout) -> None:
    """Bytes as packets of a random length each, read, thinned, written again and put in order."""
    ring = JitterRing(3)
    state = ring.open()
    while data:
        size, data = data[0], data[1:]
        piece, data = data[:size], data[size:]
        try:
            packet = read(piece, layout)
        except PacketError:
            continue
        less = thin(piece, 1, layout)
        assert read(less, layout).codes.shape[0] <= 1
        again = write(packet, layout)
        assert np.array_equal(read(again, layout).codes, packet.codes)
        frames = ring.push(state, packet)
        assert len(frames) <= MAX_GAP + 3 + 32
        assert len(state.waiting) <= ring.capacity
    ring.drain(state)


def files(data: bytes, seed: int) -> None:
    """Bytes as a file in two pieces, and its ends looked at first."""
    reader = ContainerReader()
    half = seed * len(data) // 255
    try:
        records = reader.feed(data[:half]) + reader.feed(data[half:])
        assert all(r.packet in data for r in records)
        assert len(reader.state.buffer) <= len(data)
        reader.finish()
    except PacketError:
        pass
    with contextlib.suppress(PacketError):
        read_ends(io.BytesIO(data))


def seeds() -> list[bytes]:
    """Whole packets and files, to be damaged."""
    rng = np.random.default_rng(0)
    found: list[bytes] = []
    for kind, layout in enumerate(LAYOUTS):
        stream = b""
        for i in range(6):
            top = [[n] * 2 for n in layout.books]
            codes = rng.integers(0, top).astype(np.int32)
            past = codes[:1] if i % 2 else None
            made = write(Packet(2 * i, codes[: 1 + i % layout.layers], past), layout)
            stream += bytes([len(made)]) + made
        silent = write(Packet(12, np.empty((0, 3), np.int32), noise=Noise(60)), layout)
        found.append(bytes([kind]) + stream + bytes([len(silent)]) + silent)
        out: list[bytes] = []
        writer = ContainerWriter(FileHead("m", bytes(32), layout, 320, 44_100), out.append)
        for i in range(3):
            writer.packet(write(Packet(i, np.zeros((1, 1), np.int32)), layout), i)
        samples = 2 * 320
        writer.close(samples, round(samples * 44_100 / layout.sample_rate_hz), 3)
        found.append(bytes([3]) + b"".join(out))
    return found


def random_input(rng: np.random.Generator, corpus: list[bytes]) -> bytes:
    """A damaged seed, or noise."""
    if rng.random() < 0.1:
        return rng.bytes(int(rng.integers(0, 300)))
    data = bytearray(corpus[rng.integers(len(corpus))])
    for _ in range(rng.integers(1, 6)):
        place = int(rng.integers(1, len(data)))
        what = rng.integers(4)
        if what == 0:
            data[place] ^= 1 << int(rng.integers(8))
        elif what == 1:
            data[place] = int(rng.integers(256))
        elif what == 2:
            del data[place : place + int(rng.integers(1, 9))]
        else:
            data[place:place] = rng.bytes(int(rng.integers(1, 9)))
        if len(data) < 2:
            break
    return bytes(data)


def run_random(seconds: float, least: int = 0, seed: int = 0) -> int:
    """Run the target on damaged seeds for ``seconds`` and at least ``least`` inputs."""
    rng, corpus = np.random.default_rng(seed), seeds()
    for data in corpus:
        target(data)
    end, count = time.monotonic() + seconds, 0
    while count < least or time.monotonic() < end:
        target(random_input(rng, corpus))
        count += 1
    return count


def main() -> None:
    """Fuzz with atheris if it is there, else with random damage."""
    if "--random" in sys.argv:
        seconds = float(sys.argv[sys.argv.index("--random") + 1])
        print(f"{run_random(seconds)} inputs, no findings")
        return
    if not GUIDED:
        print("atheris is not installed; running on random damage for 10 s")
        print(f"{run_random(10.0)} inputs, no findings")
        return
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
