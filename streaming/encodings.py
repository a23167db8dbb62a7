"""Bytes of a stated encoding to samples and back; bytes may be cut anywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.audio import Samples
from ossicle.runtime.errors import WireError

PCM_WIDTH = {"pcm_s16": 2, "pcm_f32": 4, "mu_law": 1, "a_law": 1}
_S16, _F32 = np.dtype("<i2"), np.dtype("<f4")
_FULL = np.float32(1 / 32768)


def _mu_law_table() -> NDArray[np.float32]:
    """The 256 values of G.711 mu-law, full scale +-1 (ITU-T G.711, table 2a)."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4) & 7, (code & 15).astype(np.int32)
    size = ((mantissa << 3) + 132 << exponent.astype(np.int32)) - 132
    return (np.where(code & 128, -size, size) / 32768).astype(np.float32)


def _a_law_table() -> NDArray[np.float32]:
    """The 256 values of G.711 A-law, full scale +-1 (ITU-T G.711, table 1a)."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent = ((code >> 4) & 7).astype(np.int32)
    size = ((code & 15).astype(np.int32) << 4) + 8
    size = np.where(exponent == 0, size, (size + 256) << np.maximum(exponent - 1, 0))
    return (np.where(code & 128, size, -size) / 32768).astype(np.float32)


MU_LAW = _mu_law_table()
A_LAW = _a_law_table()


def _nearest(table: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the code nearest to each of the 65536 values of 16-bit PCM."""
    order = np.argsort(table, kind="stable")
    values = table[order].astype(np.float64)
    pcm = np.arange(-32768, 32768) / 32768
    edge = np.searchsorted((values[1:] + values[:-1]) / 2, pcm)
    return order[edge].astype(np.uint8)


_tables: dict[str, NDArray[np.uint8]] = {}


def encode(samples: Samples, encoding: str) -> bytes:
    r"""Return ``samples`` `[C, T]` as interleaved bytes; what exceeds full scale is clipped.

    >>> encode(np.array([[0.5, -1.0]], np.float32), "pcm_s16")
    b'\x00@\x00\x80'
    """
    flat = samples.T if samples.shape[0] > 1 else samples[0]
    if encoding == "pcm_f32":
        return bytes(np.ascontiguousarray(flat, "<f4").tobytes())
    pcm = np.rint(np.clip(flat, -1.0, 1.0) * np.float32(32768.0))
    pcm = np.minimum(pcm, np.float32(32767.0)).astype("<i2")
    if encoding == "pcm_s16":
        return bytes(pcm.tobytes())
    if encoding not in _tables:
        if encoding not in ("mu_law", "a_law"):
            raise WireError(
                f"audio cannot be sent as {encoding!r}; one of {', '.join(PCM_WIDTH)} expected",
                field="output_encoding",
            )
        _tables[encoding] = _nearest(MU_LAW if encoding == "mu_law" else A_LAW)
    return bytes(_tables[encoding][pcm.astype(np.int32) + 32768].tobytes())


def decode(data: bytes | memoryview, encoding: str, channels: int) -> Samples:
    r"""Return interleaved PCM as `[C, T]`, full scale +-1.

    >>> decode(b"\x00\x40", "pcm_s16", 1)
    array([[0.5]], dtype=float32)

    Raises:
        WireError: not a whole number of samples for every channel, or no PCM encoding.
    """
    width = PCM_WIDTH.get(encoding, 0) * channels
    if not width:
        raise WireError(f"{encoding!r} is not PCM; one of {', '.join(PCM_WIDTH)} expected")
    if len(data) % width:
        raise WireError(
            f"{encoding} audio of {len(data)} bytes is not a whole number of {width}-byte "
            f"samples ({channels} channel(s)); was it split mid-sample?",
            field="audio.data",
        )
    return _samples(data, encoding, channels)


def _samples(data: bytes | memoryview, encoding: str, channels: int) -> Samples:
    if encoding == "pcm_s16":
        flat = np.frombuffer(data, _S16) * _FULL  # float32: a product with a float32 scalar
    elif encoding == "pcm_f32":
        flat = np.frombuffer(data, _F32).astype(np.float32)
    else:
        flat = (MU_LAW if encoding == "mu_law" else A_LAW)[np.frombuffer(data, np.uint8)]
    if channels == 1:
        return flat[None]
    return np.ascontiguousarray(flat.reshape(-1, channels).T)


class PcmReader:
    """Turns PCM bytes, cut anywhere, into samples; at most one sample's bytes are held."""

    def __init__(self, encoding: str, channels: int, held: bytes = b"") -> None:
        self.encoding = encoding
        self.channels = channels
        self.held = held
        self._width = PCM_WIDTH[encoding] * channels

    def feed(self, data: bytes) -> Samples:
        """Return every sample that is whole by now, `[C, T]`; T may be 0."""
        if self.held:
            data = self.held + data
        rest = len(data) % self._width
        if rest:
            self.held = data[-rest:]
            return _samples(memoryview(data)[:-rest], self.encoding, self.channels)
        self.held = b""
        return _samples(data, self.encoding, self.channels)

    def finish(self) -> None:
        """Check that the stream did not end inside a sample.

        Raises:
            WireError: it did.
        """
        if self.held:
            raise WireError(
                f"the audio ended {len(self.held)} byte(s) into a sample of {self.encoding} with "
                f"{self.channels} channel(s); is the encoding or channel count wrong?",
                field="audio.data",
            )
