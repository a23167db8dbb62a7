"""A folder of audio as seeded batches of float32 crops at 16 kHz.

The folder is laid out as its README says: one sub-folder a corpus, FLAC or WAV inside at any
depth. Decoded samples are cached as one int16 array a corpus, so later epochs touch no codec.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE_HZ = 16000
HOP = 320
Samples = NDArray[np.float32]
PCM = NDArray[np.int16]


def to_float(pcm: PCM) -> Samples:
    """16-bit samples as float32 in [-1, 1)."""
    return np.multiply(pcm, np.float32(1 / 32768), dtype=np.float32)


@dataclass(frozen=True)
class Clip:
    """One file of a corpus and where its samples lie in the corpus's array."""

    path: str  # relative to the corpus folder
    start: int  # samples, a multiple of HOP
    length: int  # samples, a multiple of HOP (zero-padded)


@dataclass(frozen=True)
class Corpus:
    """All clips of one folder, end to end."""

    name: str
    clips: tuple[Clip, ...]
    pcm: PCM  # [samples]

    def audio(self, clip: Clip) -> Samples:
        """The clip as float32 in [-1, 1], `[T]`."""
        return to_float(self.pcm[clip.start : clip.start + clip.length])

    @property
    def minutes(self) -> float:
        """Length of everything in minutes."""
        return len(self.pcm) / RATE_HZ / 60


def read_corpus(folder: Path, cache: Path) -> Corpus:
    """Reads every FLAC and WAV under ``folder`` (mono, 16 kHz), through ``cache``.

    Raises ValueError for a file at another rate.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".flac", ".wav"})
    names = [str(p.relative_to(folder)) for p in files]
    key = hashlib.sha256("\n".join([str(folder.resolve()), *names]).encode()).hexdigest()[:16]
    pcm_file, table = cache / f"{key}.npy", cache / f"{key}-lengths.npy"
    if not table.exists():
        cache.mkdir(parents=True, exist_ok=True)
        parts = [_decode(p) for p in files]
        np.save(pcm_file, np.concatenate(parts) if parts else np.zeros(0, np.int16))
        np.save(table, np.array([len(p) for p in parts], np.int64))
    lengths = np.load(table)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    clips = tuple(
        Clip(n, int(s), int(k)) for n, s, k in zip(names, starts[:-1], lengths, strict=True)
    )
    return Corpus(folder.name, clips, np.load(pcm_file, mmap_mode="r"))


def _decode(path: Path) -> PCM:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if rate != RATE_HZ:
        raise ValueError(f"{path} is at {rate} Hz; the recipe reads {RATE_HZ} Hz, resample it")
    mono = samples.mean(axis=1)
    padded = np.pad(mono, (0, -len(mono) % HOP))
    return np.asarray(np.clip(np.round(padded * 32768), -32768, 32767), np.int16)


@dataclass(frozen=True)
class Pool:
    """Clips of one kind, end to end, to crop from."""

    name: str
    pcm: PCM
    weight: float  # share of the crops

    def crop(self, samples: int, rng: np.random.Generator) -> tuple[Samples, int]:
        """A crop at a multiple of HOP, and where it began."""
        start = int(rng.integers(0, (len(self.pcm) - samples) // HOP)) * HOP
        return to_float(self.pcm[start : start + samples]), start


def pool(name: str, parts: list[tuple[Corpus, list[Clip]]], weight: float) -> Pool:
    """The clips of several corpora as one pool."""
    pieces = [c.pcm[k.start : k.start + k.length] for c, clips in parts for k in clips]
    return Pool(name, np.concatenate(pieces), weight)
