"""Bytes in at the client's rate, chunks out to every lease at its model's rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ossicle.runtime.audio import AudioFormat, Chunk, Samples, scrub
from ossicle.runtime.errors import WireError
from ossicle.runtime.resample import Resampler
from ossicle.streaming.encodings import PCM_WIDTH, PcmReader
from ossicle.streaming.messages import Config, Gap
from ossicle.streaming.session.coded import CodedReader
from ossicle.streaming.session.seam import Lease

MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 48_000
SLICE_MS = 100  # a long message is handed on in pieces of at most this much audio
LAST_SAMPLE = 2**62


Refused = tuple[Lease, Chunk]  # a full lease and what it did not take, in order


@dataclass
class _Branch:
    """One model rate: its resampler (if any) and the leases that drink from it."""

    format: AudioFormat
    leases: list[Lease]
    resampler: Resampler | None = None
    state: Any = None


class Inlet:
    """The input side of one stream. ``position`` is the index of the next sample."""

    def __init__(self, config: Config, restore: dict[str, Any] | None = None) -> None:
        self.encoding = config.encoding
        self.format = AudioFormat(config.sample_rate_hz, config.channels)
        self.position = 0
        self.bad_samples = 0
        self.gaps: list[Gap] = []
        self.arrived = False  # any audio yet
        self._branches: dict[AudioFormat, _Branch] = {}
        self._slice = max(1, config.sample_rate_hz * SLICE_MS // 1000)
        self._finite = config.encoding in ("pcm_s16", "mu_law", "a_law")  # whatever the bytes are
        self._restore = restore or {}
        self._discont = False
        self.coded: CodedReader | None = None
        self._pcm: PcmReader | None = None
        if config.encoding in PCM_WIDTH:
            held = self._restore.get("held", b"")
            self._pcm = PcmReader(config.encoding, config.channels, held)
        else:
            self.coded = CodedReader(config.encoding)
        self.position = int(self._restore.get("position", 0))
        self._again = 0 if self._pcm is not None else self.position

    def connect(self, format: AudioFormat, lease: Lease) -> None:
        """Let ``lease`` drink at ``format``; leases of one format share one conversion."""
        branch = self._branches.get(format)
        if branch is None:
            branch = self._branches[format] = _Branch(format, [])
            if format != self.format:
                branch.resampler = Resampler(self.format, format)
                saved = self._restore.get("resamplers", {}).get(_key(format))
                branch.state = branch.resampler.open() if saved is None else saved
        branch.leases.append(lease)

    def replace(self, old: Lease, new: Lease) -> None:
        """Let ``new`` drink where ``old`` did."""
        for branch in self._branches.values():
            branch.leases = [new if lease is old else lease for lease in branch.leases]

    def place(self, start: int) -> None:
        """Check where audio says it belongs; a jump ahead is a gap at the client.

        Raises:
            WireError: it lies before what came already, or beyond any clock.
        """
        if start == self.position:
            return
        if start < self.position:
            raise WireError(
                f"audio.start_sample is {start}, but samples up to {self.position} came already; "
                "send them once, in order",
                field="audio.start_sample",
            )
        if start >= LAST_SAMPLE or (self._pcm is not None and self._pcm.held):
            raise WireError(
                f"audio.start_sample {start} cannot follow {self.position}: it is past any clock, "
                "or the message before ended inside a sample",
                field="audio.start_sample",
            )
        self.gaps.append(Gap(self.position, start, "CLIENT"))
        self.position, self._discont = start, True

    def chunks(self, samples: Samples) -> list[Chunk]:
        """Cut samples `[C, T]` that follow the ones before into chunks of bounded length."""
        if not self._finite:
            samples, bad = scrub(samples)
            self.bad_samples += bad
        count, step = samples.shape[1], self._slice
        if 0 < count <= step:
            return [self._chunk(samples, count)]
        return [
            self._chunk(samples[:, at : at + step], min(step, count - at))
            for at in range(0, count, step)
        ]

    def _chunk(self, samples: Samples, count: int) -> Chunk:
        chunk = Chunk(samples, self.position, self.format, self._discont)
        self.position += count
        self._discont, self.arrived = False, True
        return chunk

    def read(self, data: bytes) -> Samples:
        """Return the samples of PCM bytes."""
        assert self._pcm is not None
        return self._pcm.feed(data)

    @property
    def repeating(self) -> bool:
        """Whether a resumed coded stream is still being told what it knows."""
        return self._again > 0

    def fresh(self, samples: Samples) -> Samples:
        """Return what is new in decoded samples: a resumed coded stream comes from its start."""
        known = min(self._again, samples.shape[1])
        self._again -= known
        return samples[:, known:] if known else samples

    def adopt_header(self) -> None:
        """Check a coded stream's own header against the config."""
        coded = self.coded
        assert coded is not None
        if (coded.rate_hz, coded.channels) != (self.format.rate_hz, self.format.channels):
            raise WireError(
                f"the {self.encoding} header says {coded.rate_hz} Hz x {coded.channels}, the "
                f"config {self.format.rate_hz} Hz x {self.format.channels}; make them agree "
                "(Ogg Opus is always 48000 Hz)",
                field="config.sample_rate_hz",
            )

    def push(self, chunk: Chunk, arrival_ns: int) -> list[Refused]:
        """Hand a chunk to every lease, converted once per format; return what was refused."""
        refused: list[Refused] = []
        for branch in self._branches.values():
            if branch.resampler is not None:
                converted = branch.resampler.step(branch.state, chunk)
                self._share(branch, converted, arrival_ns, refused)
                continue
            refused += [(a, chunk) for a in branch.leases if not a.push(chunk, arrival_ns)]
        return refused

    def finish(self, arrival_ns: int) -> list[Refused]:
        """Hand over what the resamplers still hold; the stream has ended.

        Raises:
            WireError: it ended inside a sample.
        """
        if self._pcm is not None:
            self._pcm.finish()
        refused: list[Refused] = []
        for branch in self._branches.values():
            if branch.resampler is not None:
                tail = branch.resampler.flush(branch.state)
                self._share(branch, tail, arrival_ns, refused)
        return refused

    def _share(
        self, branch: _Branch, pieces: list[Chunk], arrival_ns: int, refused: list[Refused]
    ) -> None:
        """Push to every lease; once one refused a piece, the ones after it wait behind that."""
        for lease in branch.leases:
            for at, piece in enumerate(pieces):
                if not lease.push(piece, arrival_ns):
                    refused += [(lease, rest) for rest in pieces[at:]]
                    break

    def export(self) -> dict[str, Any]:
        """Return everything this side remembers."""
        return {
            "position": self.position,
            "held": bytes(self._pcm.held) if self._pcm is not None else b"",
            "resamplers": {
                _key(b.format): b.state for b in self._branches.values() if b.resampler is not None
            },
        }

    def close(self) -> None:
        """Stop the decoding thread, if there is one."""
        if self.coded is not None:
            self.coded.close()


def _key(format: AudioFormat) -> str:
    return f"{format.rate_hz}x{format.channels}"


def check_format(config: Config) -> None:
    """Refuse rates, channels and encodings that no stream can have.

    Raises:
        WireError: with the field that is wrong.
    """
    if not MIN_RATE_HZ <= config.sample_rate_hz <= MAX_RATE_HZ:
        raise WireError(
            f"sample_rate_hz is {config.sample_rate_hz}; {MIN_RATE_HZ} to {MAX_RATE_HZ} allowed",
            field="config.sample_rate_hz",
        )
    if config.channels not in (1, 2):
        raise WireError(f"channels is {config.channels}; 1 or 2 allowed", field="config.channels")
    if not config.encoding:
        raise WireError(
            "encoding is not given; PCM_S16 is 16-bit little-endian PCM", field="config.encoding"
        )
    if config.output_encoding not in PCM_WIDTH:
        raise WireError(
            f"output_encoding {config.output_encoding!r} cannot be sent; a PCM kind expected",
            field="config.output_encoding",
        )
    rate = config.output_rate_hz
    if rate and not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
        raise WireError(
            f"output_rate_hz is {rate}; 0 or {MIN_RATE_HZ} to {MAX_RATE_HZ} allowed",
            field="config.output_rate_hz",
        )


def silence(channels: int) -> Samples:
    """Return no samples at all, `[C, 0]`."""
    return np.zeros((channels, 0), np.float32)
