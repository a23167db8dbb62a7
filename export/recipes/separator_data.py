"""What the separator hears while it learns: labelled pools of sound and rooms.

A folder of audio holds ``train/speech_*``, ``train/env_esc10_*``, ``train/music_*`` and
``train/ir_*`` (mono FLAC at 16 kHz). Alarms and noise are synthesised. Every tenth utterance, one
keyword, ESC-10's fold 4, one song and a seventh of the loops are never trained on.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray

from ossicle.runtime.scene.alarms import ALARMS, synthesise
from ossicle.runtime.scene.labels import ENVIRONMENT as ESC

RATE_HZ = 16_000
Audio = NDArray[np.float32]

MUSIC = ("drums", "bass", "guitar", "piano", "strings", "winds", "other_music")
LABELS = ("speech", *ESC, *MUSIC, *ALARMS, "noise")
GROUPS: Mapping[str, tuple[str, ...]] = {
    "music": MUSIC,
    "alarm": ALARMS,
    "animal": ("dog_bark", "rooster"),
    "water": ("rain", "sea_waves"),
    "engine": ("helicopter", "chainsaw"),
    "everything": LABELS,
}
HELD_OUT_SONG = "Track01501"
HELD_OUT_KEYWORD = "snowboy"

# Instruments of the four songs' stems (their metadata at the same source).
_STEMS: Mapping[str, Mapping[str, str]] = {
    "Track00049": {"S00": "bass", "S02": "guitar", "S03": "strings", "S04": "strings",
                   "S05": "piano"},
    "Track01876": {"S00": "bass", "S03": "guitar", "S04": "guitar", "S05": "winds",
                   "S06": "strings", "S07": "strings", "S09": "piano", "S10": "strings",
                   "S11": "guitar", "S14": "guitar"},
    "Track00001": {"S00": "guitar", "S02": "piano", "S03": "bass", "S04": "strings",
                   "S07": "guitar", "S08": "guitar", "S10": "winds"},
    "Track01501": {"S00": "piano", "S01": "strings", "S02": "other_music", "S04": "bass",
                   "S06": "piano", "S07": "winds", "S08": "guitar", "S10": "winds"},
}  # fmt: skip
_DRUMS = ("bd_", "drum_", "hat_", "sn_", "tabla_", "ride_", "elec_cymbal", "elec_filt_snare",
          "elec_hi_snare", "elec_lo_snare", "elec_mid_snare", "elec_snare", "elec_soft_kick",
          "elec_hollow_kick", "loop_amen", "loop_breakbeat", "loop_compus", "loop_mehackit",
          "loop_tabla", "loop_safari", "loop_mika", "arovane_beat", "break", "kick", "snare",
          "hihat", "tom")  # fmt: skip


def _tenth(name: str, parts: int = 10) -> bool:
    return zlib.crc32(name.encode()) % parts == 0


def files_of(root: Path, held_out: bool) -> dict[str, list[Path]]:
    """The audio files of each label, either those to train on or those never to."""
    train = root / "train"
    found: dict[str, list[Path]] = {label: [] for label in LABELS}
    for path in sorted((train / "speech_picovoice_sti").glob("*.flac")):
        if _tenth(path.name) == held_out:
            found["speech"].append(path)
    for path in sorted((train / "speech_picovoice_wakeword").glob("*/*.flac")):
        if (path.parent.name == HELD_OUT_KEYWORD) == held_out:
            found["speech"].append(path)
    for path in sorted((train / "env_esc10_f1-4").glob("*/*.flac")):
        if (path.name[0] == "4") == held_out:
            found[ESC[int(path.parent.name[:3]) - 1]].append(path)
    for path in sorted((train / "music_slakh").rglob("*.flac")):
        song = path.parts[-3]
        if (song == HELD_OUT_SONG) == held_out:
            found[_STEMS[song][path.stem]].append(path)
    loops = [*(train / "music_sonic_pi").glob("*.flac"),
             *(train / "music_web_audio_loops").rglob("*.flac")]  # fmt: skip
    for path in sorted(loops):
        if _tenth(path.parent.name + path.name, 7) == held_out:
            found[_loop_label(path.stem)].append(path)
    return found


def _loop_label(stem: str) -> str:
    if stem.startswith(_DRUMS):
        return "drums"
    return {"bass": "bass", "guit": "guitar"}.get(stem[:4], "other_music")


def read(path: Path) -> Audio:
    """Mono samples of a file at 16 kHz."""
    samples, rate = sf.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    return mono if rate == RATE_HZ else np.asarray(soxr.resample(mono, rate, RATE_HZ))


@dataclass(frozen=True)
class Pool:
    """One label's sound in a row, with a prefix sum of its energy to find where it sounds."""

    samples: NDArray[np.int16]
    energy: NDArray[np.float64]  # cumulated over pieces of STEP samples

    STEP = 160

    def draw(self, rng: np.random.Generator, length: int, tries: int = 4) -> Audio:
        """A random run of ``length`` samples, the loudest of ``tries`` more or less at random."""
        last = len(self.samples) - length
        best, at = -1.0, 0
        for start in rng.integers(0, last, int(rng.integers(1, tries + 1))):
            a, b = start // self.STEP, (start + length) // self.STEP
            loud = float(self.energy[b] - self.energy[a])
            if loud > best:
                best, at = loud, int(start)
        return self.samples[at : at + length].astype(np.float32) / 32768.0


def pool_of(pieces: list[Audio], rng: np.random.Generator, length: int) -> Pool:
    """``pieces`` in a row in random order, all about as loud, with short pauses between."""
    order = rng.permutation(len(pieces))
    row: list[Audio] = []
    for index in order:
        piece = pieces[index]
        loud = float(np.sqrt(np.mean(np.square(piece)))) if len(piece) else 0.0
        if loud < 1e-5:
            continue
        peak = float(np.abs(piece).max())
        row += [piece * min(0.12 / loud, 0.9 / peak),
                np.zeros(int(rng.integers(0, RATE_HZ // 2)), np.float32)]  # fmt: skip
    while sum(map(len, row)) < 4 * length:
        row += row or [np.zeros(length, np.float32)]
    joined = np.concatenate(row)
    samples = np.clip(joined * 32768, -32768, 32767).astype(np.int16)
    whole = samples[: len(samples) // Pool.STEP * Pool.STEP].astype(np.float64)
    energy = np.square(whole).reshape(-1, Pool.STEP).sum(1)
    return Pool(samples, np.concatenate([[0.0], np.cumsum(energy)]))


def coloured_noise(rng: np.random.Generator, length: int) -> Audio:
    """Noise nobody asked for: tilted, banded, fluctuating, sometimes with hum."""
    spectrum = np.fft.rfft(rng.standard_normal(length).astype(np.float32))
    hz = np.maximum(np.fft.rfftfreq(length, 1 / RATE_HZ), 20.0)
    points = np.sort(rng.uniform(np.log(60), np.log(8000), 5))
    bends = rng.normal(0, 8, 5)
    gain = rng.uniform(-6, 1) * np.log2(hz / 500) + np.interp(np.log(hz), points, bends)
    x = np.fft.irfft(spectrum * 10 ** (np.clip(gain, -60, 40) / 20), length)
    if rng.random() < 0.5:
        slow = np.interp(np.arange(length), np.linspace(0, length, 24), rng.normal(0, 4, 24))
        x *= 10 ** (slow / 20)
    x /= np.sqrt(np.mean(np.square(x))) + 1e-9
    if rng.random() < 0.2:
        t = np.arange(length) / RATE_HZ
        base = float(rng.choice([50, 60, 100, 120]))
        for k in range(1, 6):
            x += rng.uniform(0, 0.6) * np.sin(2 * np.pi * base * k * t + rng.uniform(0, 6))
    return np.asarray(x, np.float32) * np.float32(0.12)


class Pools:
    """Everything there is to draw from, by label.

    ``speeds`` are tape speeds (pitch and tempo): more voices and dogs than were recorded.
    """

    def __init__(
        self,
        root: Path,
        *,
        held_out: bool = False,
        seed: int = 0,
        length: int = 39_936,
        speeds: tuple[float, ...] = (0.87, 1.0, 1.14),
        alarms: int = 60,
        cache: Path | None = None,
    ) -> None:
        rng = np.random.default_rng([seed, int(held_out)])
        self.length = length
        self.rooms = [read(p) for p in sorted((root / "train" / "ir_web_audio").rglob("*.flac"))]
        self.by_label: dict[str, Pool] = {} if cache is None else _cached(cache)
        if self.by_label:
            return
        for label, paths in files_of(root, held_out).items():
            if label in ALARMS:
                pieces = [synthesise(label, rng, 6.0).samples for _ in range(alarms)]
            elif label == "noise":
                pieces = [coloured_noise(rng, 6 * RATE_HZ) for _ in range(alarms)]
            else:
                pieces = [p for path in paths for p in varied(read(path), speeds)]
            self.by_label[label] = pool_of(pieces, rng, length)
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)
            for label, pool in self.by_label.items():
                np.save(cache / f"{label}.energy.npy", pool.energy)
                np.save(cache / f"{label}.npy", pool.samples)

    def draw(self, label: str, rng: np.random.Generator) -> Audio:
        """``length`` samples of ``label``."""
        return self.by_label[label].draw(rng, self.length)

    def room(self, rng: np.random.Generator, taps: int) -> Audio:
        """An impulse response [taps] whose direct sound comes first and has gain one."""
        if self.rooms and rng.random() < 0.5:
            room = self.rooms[int(rng.integers(len(self.rooms)))]
            room = room[int(np.argmax(np.abs(room))) :][:taps]
            room = np.pad(room, (0, taps - len(room)))
        else:
            t = np.arange(taps) / RATE_HZ
            tail = rng.standard_normal(taps) * np.exp(-6.9 * t / rng.uniform(0.12, 0.7))
            room = (tail * rng.uniform(0.01, 0.12)).astype(np.float32)
            room[: int(rng.integers(16, 200))] = 0
            room[0] = 1.0
        return np.asarray(room / (np.sqrt(np.sum(np.square(room))) + 1e-9), np.float32)


def _cached(place: Path) -> dict[str, Pool]:
    """Pools that an earlier run left at ``place``, mapped rather than read; else nothing."""
    if not all((place / f"{label}.npy").exists() for label in LABELS):
        return {}
    return {
        label: Pool(
            np.load(place / f"{label}.npy", mmap_mode="r"), np.load(place / f"{label}.energy.npy")
        )
        for label in LABELS
    }


def varied(piece: Audio, speeds: tuple[float, ...]) -> Iterator[Audio]:
    """``piece`` at every tape speed."""
    for speed in speeds:
        if speed == 1.0:
            yield piece
        else:
            yield np.asarray(soxr.resample(piece, RATE_HZ * speed, RATE_HZ, quality="LQ"))
