"""Fuzz what strangers send to a server: requests, snapshots, resume tokens.

With atheris (coverage-guided): ``python tests/fuzz/fuzz_service.py -max_total_time=60``.
Without it the same target runs on random and damaged inputs: ``--random SECONDS``.
Anything but one of our own errors is a finding.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ossicle.runtime.errors import OssicleError, SnapshotError

GUIDED = __name__ == "__main__" and importlib.util.find_spec("atheris") is not None
if GUIDED:
    import atheris
with atheris.instrument_imports() if GUIDED else contextlib.nullcontext():
    from ossicle.runtime import snapshot
    from ossicle.streaming import messages as m
    from ossicle.streaming import wire
    from ossicle.streaming.encodings import PcmReader
    from ossicle.streaming.session.inlet import Inlet, check_format
    from ossicle.streaming.session.store import SnapshotStore, Token

MAX_INPUT = 4096


def target(data: bytes) -> None:
    """One input: its first byte says who reads the rest."""
    if not data:
        return
    kind, rest = data[0] % 4, data[1:MAX_INPUT]
    (requests, pcm, snapshots, tokens)[kind](rest)


def requests(data: bytes) -> None:
    """Bytes as a request; a config that passes opens an inlet; what was read can be written."""
    try:
        request = wire.request_from_bytes(data)
        if isinstance(request, m.Config):
            check_format(request)
            Inlet(request).close()
        wire.request_to_pb(request).SerializeToString()
    except OssicleError:
        return


def pcm(data: bytes) -> None:
    """Bytes as audio in pieces: as many samples come out as went in."""
    if len(data) < 2:
        return
    encoding = ("pcm_s16", "pcm_f32", "mu_law", "a_law")[data[0] % 4]
    channels = 1 + data[1] % 2
    reader, fed, got = PcmReader(encoding, channels), 0, 0
    rest = data[2:]
    while rest:
        size = 1 + rest[0] % 33
        piece, rest = rest[:size], rest[size:]
        fed += len(piece)
        got += reader.feed(piece).shape[1]
    width = {"pcm_s16": 2, "pcm_f32": 4}.get(encoding, 1) * channels
    assert got == fed // width
    assert len(reader.held) == fed % width


def snapshots(data: bytes) -> None:
    """Bytes as a snapshot, bare and with a body whose checksum is right."""
    import hashlib
    import struct

    for body in (data, _sealed(data, hashlib, struct)):
        try:
            tree = snapshot.load(body, max_bytes=1 << 20)
        except SnapshotError:
            continue
        snapshot.load(snapshot.dump(tree))


def _sealed(data: bytes, hashlib: object, struct: object) -> bytes:
    """Give ``data`` a head that fits, so that the reader looks inside."""
    digest = hashlib.blake2b(data, digest_size=16).digest()  # type: ignore[attr-defined]
    size = data[0] * 16 % (len(data) + 1) if data else 0
    head = snapshot._HEAD.pack(snapshot.MAGIC, snapshot.VERSION, size, len(data) - size, digest)
    return bytes(head) + data


def tokens(data: bytes) -> None:
    """Bytes as a resume token, and as the file of a checkpoint: neither was made here."""
    store = _store()
    name = "0" * 32
    for attempt in (lambda: store.read_token(data[:64]), lambda: store.read(Token(name, 1))):
        (store.folder / f"{name}.1.snap").write_bytes(data)
        try:
            attempt()
        except SnapshotError:
            continue
        raise AssertionError("something that was not made here was taken")


_made: list[SnapshotStore] = []


def _store() -> SnapshotStore:
    if not _made:
        folder = Path(tempfile.mkdtemp(prefix="ossicle-fuzz-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        _made.append(SnapshotStore(folder / "state"))
    return _made[0]


def seeds() -> list[bytes]:
    """Good inputs, to be damaged."""
    spec = m.TaskSpec("separate", options={"query": "dog barking"})
    config = m.Config(16_000, (spec, m.TaskSpec("caption")), resume_token=b"x" * 40)
    good = [config, m.AudioIn(bytes(range(64)), 9), m.Query("dog"), m.Marker(1), m.End()]
    packets = m.PacketsIn((m.WirePacket(b"abc", 1, 2),), "a")
    made = [b"\0" + wire.request_to_pb(r).SerializeToString() for r in [*good, packets]]
    tree = {"a": [1, 2.5, "x", None, np.arange(9, dtype=np.float32)], "b": (b"y", -(2**70))}
    whole = snapshot.dump(tree)
    return [*made, b"\x02" + whole, b"\x02" + whole[34:], b"\x01\x03" + bytes(99), b"\x03" + whole]


def at_random(seconds: float, seed: int = 0) -> int:
    """Run the target on damaged seeds and noise for a while; return how many inputs it took."""
    rng = np.random.default_rng(seed)
    held, count, limit = seeds(), 0, time.monotonic() + seconds
    while time.monotonic() < limit:
        data = bytearray(held[count % len(held)])
        for _ in range(int(rng.integers(0, 6))):
            at = int(rng.integers(0, len(data)))
            match int(rng.integers(0, 3)):
                case 0:
                    data[at] = int(rng.integers(0, 256))
                case 1:
                    del data[at : at + int(rng.integers(1, 9))]
                case _:
                    data[at:at] = rng.bytes(int(rng.integers(1, 9)))
            if not data:
                data = bytearray(b"\0")
        target(bytes(data))
        count += 1
    return count


def main() -> None:
    """Run guided where atheris is, else at random."""
    if "--random" in sys.argv or not GUIDED:
        seconds = float(sys.argv[sys.argv.index("--random") + 1]) if "--random" in sys.argv else 60
        print(f"{at_random(seconds)} inputs, nothing found")
        return
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
