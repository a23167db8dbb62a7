"""Training scenes for the sound tagger: recordings and synthesised alarms in rooms, with truth.

A folder of audio (``OSSICLE_DATA``) is read once into memory; every scene is then drawn from a
seed. Frame truth comes from energy, because the clips of ESC-10 are padded with silence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from ossicle.runtime.errors import AudioError
from ossicle.runtime.scene import alarms, everyday, speechlike
from ossicle.runtime.scene.labels import ENVIRONMENT
from ossicle.runtime.scene.mix import trim
from ossicle.runtime.scene.sound import (
    RATE_HZ,
    Array,
    Interval,
    Samples1D,
    Sound,
    bridge,
    finish,
    noise,
    shape_spectrum,
)

Rng = np.random.Generator

_SHORT: Final = frozenset({"dog_bark", "baby_cry", "sneeze", "rooster"})
BRIDGE_S: Final = {"smoke_alarm": 1.8, "speech": 0.4, "music": 1.0, "clock_tick": 1.2}
"""Silences up to this long are still the same event; 0.5 s for the labels not named."""

HELD_OUT: Final = frozenset({"cricket", "glass", "applause", "footsteps"})
"""Unknown sounds that training never hears."""

UNHEARD: Final = {
    "": HELD_OUT,
    "tune": frozenset({"cricket", "applause"}),
    "test": frozenset({"glass", "footsteps"}),
}
"""Those of :data:`HELD_OUT` that thresholds are tuned on, and those kept for the test."""


@dataclass(frozen=True)
class Library:
    """Recordings by label, and room responses [R]; ``split`` says which half they are."""

    clips: dict[str, list[Sound]] = field(default_factory=dict)
    rooms: list[Array] = field(default_factory=list)
    hits: list[Samples1D] = field(default_factory=list)  # single notes and drum strokes
    odd: list[Sound] = field(default_factory=list)  # recordings of what has no name here
    held_out: bool = False
    part: str = ""  # of what is held out: "tune", "test", or all of it


def load_library(
    data: Path,
    folds: Sequence[int],
    held_out: bool = False,
    part: str = "",
    more: Path | None = None,
) -> Library:
    """What lies under ``data/train``: ESC-10 ``folds``, and a tenth of the rest if ``held_out``.

    Speech, music and rooms are split by a hash of the file name: one tenth is never trained on.
    ``part`` names one half of all that: thresholds are tuned on one and tested on the other, and
    no source recording of ESC-10 gives clips to both. ``more`` is a folder with ``music``,
    ``speech`` and ``unknown`` in it, none of it trained on; what its ``screened.txt`` names is
    left out.

    Raises:
        AudioError: ``data`` has no folder ``train``.
    """
    train = data / "train"
    if not train.is_dir():
        raise AudioError(f"{data} has no folder 'train'; set OSSICLE_DATA to a folder that has one")
    lib = Library(held_out=held_out, part=part)
    for number, label in enumerate(ENVIRONMENT, start=1):
        paths = sorted((train / "env_esc10_f1-4").glob(f"{number:03d}*/*.flac"))
        chosen = _half([p for p in paths if int(p.name[0]) in folds], part)
        lib.clips[label] = [recorded(label, path) for path in chosen if not _known(path)]
    for folder, label in _FOLDERS.items():
        for path in sorted((train / folder).rglob("*.flac")):
            if _taken(path, held_out, part):
                _add(lib, label, path)
    for path in sorted((train / "ir_web_audio").rglob("*.flac")):
        if _taken(path, held_out, part):
            x, _ = soundfile.read(path, dtype="float64")
            lead = int(np.argmax(np.abs(x)))
            lib.rooms.append(x[max(0, lead - 32) : lead + 24000])
    if more is not None:
        _add_more(lib, more)
    return lib


def _add_more(lib: Library, more: Path) -> None:
    """Recordings of music, speech and nameless things that were not trained on."""
    named = more / "screened.txt"
    left_out = set(named.read_text().split("\n")) if named.exists() else set()
    for kind in ("music", "speech", "unknown"):
        for path in sorted((more / kind).glob("*.flac")):
            code = hashlib.sha256(path.stem.encode()).digest()
            if path.name in left_out or lib.part not in ("", "tune" if code[1] % 2 else "test"):
                continue
            if kind != "unknown":
                _add(lib, kind, path)
            elif (sound := recorded(kind, path)).bursts:
                lib.odd.append(sound)


KNOWN: Final = frozenset({"4-185619", "4-188033"})
"""Sources of ESC-10 that turned up again, under other names, among recordings that were trained on.

A sneeze and a clock that games use too: these clips take no part in anything that is measured.
"""

_FOLDERS: Final = {
    "speech_picovoice_sti": "speech",
    "speech_picovoice_wakeword": "speech",
    "music_slakh": "music",
    "music_sonic_pi": "music",
    "music_web_audio_loops": "music",
}
_NOT_MUSIC: Final = ("misc_", "vinyl_", "perc_door", "mehackit_phone", "elec_beep", "elec_blip")


def _taken(path: Path, held_out: bool, part: str) -> bool:
    code = hashlib.sha256(path.stem.encode()).digest()
    half = "tune" if code[1] % 2 else "test"
    return (code[0] < 26) == held_out and part in ("", half)


def _known(path: Path) -> bool:
    """Whether a clip is one of :data:`KNOWN`."""
    return "-".join(path.stem.split("-")[:2]) in KNOWN


def _half(paths: Sequence[Path], part: str) -> list[Path]:
    """The half ``part`` of the clips ``paths`` of one class; clips of one source stay together."""
    if not part or not paths:
        return list(paths)
    border = paths[(len(paths) - 1) // 2].name.split("-")[1]
    return [p for p in paths if (p.name.split("-")[1] <= border) == (part == "tune")]


def _add(lib: Library, label: str, path: Path) -> None:
    if path.name.startswith(_NOT_MUSIC):
        return
    sound = recorded(label, path)
    if label == "music" and len(sound.samples) < 2 * RATE_HZ:
        lib.hits.append(sound.samples)
    elif sound.bursts:
        lib.clips.setdefault(label, []).append(sound)


def recorded(label: str, path: Path) -> Sound:
    """The recording at ``path`` with its activity by energy."""
    x, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if rate != RATE_HZ:
        raise AudioError(f"{path} is at {rate} Hz; this recipe needs {RATE_HZ} Hz")
    mono = np.ascontiguousarray(x.mean(axis=1), dtype=np.float32)
    return Sound(label, mono, tuple(activity(mono, label)), {"file": path.name})


def activity(x: Samples1D, label: str) -> list[Interval]:
    """Where ``x`` [T] sounds: 20 ms frames within 22 dB (short sounds) or 40 dB of its loud ones.

    Loud is the 95th percentile of the frames that are not digital silence.
    """
    size = 320
    count = len(x) // size
    if count == 0:
        return []
    power = np.mean(np.square(x[: count * size].reshape(count, size), dtype=np.float64), axis=1)
    level = 10 * np.log10(power + 1e-12)
    sounding = level[level > -75]
    if len(sounding) == 0:
        return []
    depth = 22 if label in _SHORT else 40 if label != "speech" else 32
    on = level > max(float(np.percentile(sounding, 95)) - depth, -75.0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], on.view(np.int8), [0]])))
    runs = [(int(a) * size, int(b) * size) for a, b in edges.reshape(-1, 2)]
    joined = bridge(runs, round(0.2 * RATE_HZ))
    return [(a, b) for a, b in joined if b - a >= 3 * size] or joined


def vary(rng: Rng, sound: Sound) -> Sound:
    """``sound`` played up to a sixth slower or faster, and through another microphone."""
    x, bursts = sound.samples.astype(np.float64), sound.bursts
    if rng.random() < 0.7:
        speed = float(np.exp(rng.uniform(-0.16, 0.16)))
        size = max(1, int(len(x) / speed))
        x = np.interp(np.arange(size) * speed, np.arange(len(x)), x)
        bursts = tuple(
            (int(a / speed), min(size, int(b / speed))) for a, b in bursts if a / speed < size
        )
    if rng.random() < 0.7:
        points = [(60.0, 0.0), (250.0, 0.0), (1000.0, 0.0), (3000.0, 0.0), (7500.0, 0.0)]
        x = shape_spectrum(x, [(f, float(rng.uniform(-9, 9))) for f, _ in points], RATE_HZ)
    made = finish(sound.label, x, bursts, sound.recipe)
    return made if rng.random() < 0.5 else trim_some(rng, made)


def trim_some(rng: Rng, sound: Sound) -> Sound:
    """A part of ``sound`` of at least a second, with 10 ms fades at the cuts."""
    n = len(sound.samples)
    if n <= RATE_HZ:
        return sound
    size = int(rng.uniform(1.0, n / RATE_HZ) * RATE_HZ)
    start = int(rng.integers(0, n - size + 1))
    part = trim(sound, start, start + size)
    if not part.bursts:
        return sound
    fade = np.linspace(0, 1, 160, dtype=np.float32)
    part.samples[:160] *= fade
    part.samples[-160:] *= fade[::-1]
    return part


def draw_sound(rng: Rng, lib: Library, label: str, seconds: float = 10.0) -> Sound:
    """One sound of ``label``: a recording varied, or a synthesis."""
    if label == "speech":
        return _utterances(rng, lib) if rng.random() < 0.93 else speechlike.babble(rng, 3.0)
    if label == "music":
        return _music(rng, lib, seconds)
    if label in alarms.ALARMS:
        long = float(rng.uniform(2.5, seconds))
        return alarms.synthesise(label, rng, long)
    if label in everyday.KNOWN and rng.random() < 0.12 and not lib.held_out:
        return everyday.synthesise(label, rng, float(rng.uniform(2, 6)))
    pool = lib.clips[label]
    return vary(rng, pool[int(rng.integers(len(pool)))])


def _utterances(rng: Rng, lib: Library) -> Sound:
    parts: list[Samples1D] = []
    bursts: list[Interval] = []
    at = 0
    for _ in range(int(rng.integers(1, 5))):
        one = vary(rng, lib.clips["speech"][int(rng.integers(len(lib.clips["speech"])))])
        gap = np.zeros(int(rng.uniform(0.05, 1.2) * RATE_HZ), np.float32)
        bursts += [(a + at, b + at) for a, b in one.bursts]
        parts += [one.samples, gap]
        at += len(one.samples) + len(gap)
    return Sound("speech", np.concatenate(parts), tuple(bursts), {})


def draw_unknown(rng: Rng, lib: Library, names: Sequence[str], seconds: float) -> Sound:
    """A sound without a name here: one of ``names`` made, or as often a recording."""
    if lib.odd and rng.random() < 0.5:
        return vary(rng, lib.odd[int(rng.integers(len(lib.odd)))])
    return everyday.synthesise(str(rng.choice(list(names))), rng, seconds)


def _music(rng: Rng, lib: Library, seconds: float) -> Sound:
    n = int(rng.uniform(3, seconds) * RATE_HZ)
    if lib.hits and rng.random() < 0.2:
        return finish("music", _pattern(rng, lib.hits, n), [(0, n)], {})
    x = np.zeros(n)
    for _ in range(int(rng.integers(1, 4))):
        one = lib.clips["music"][int(rng.integers(len(lib.clips["music"])))].samples
        start = int(rng.integers(0, max(1, len(one) - n)))
        part = np.resize(one[start : start + n], n).astype(np.float64)
        rms = float(np.sqrt(np.mean(part**2)))
        x += part / rms * rng.uniform(0.3, 1) if rms > 1e-4 else 0
    x = shape_spectrum(x, [(f, float(rng.uniform(-6, 6))) for f in (60, 300, 1500, 7000)], RATE_HZ)
    made = finish("music", x, [], {})
    return Sound("music", made.samples, tuple(activity(made.samples, "music")), {})


def _pattern(rng: Rng, hits: list[Samples1D], n: int) -> Array:
    """Four voices on a grid of sixteen steps, over and over: a drum machine."""
    step = int(rng.uniform(0.09, 0.18) * RATE_HZ)
    x = np.zeros(n)
    for _ in range(4):
        hit = hits[int(rng.integers(len(hits)))]
        grid = rng.random(16) < rng.uniform(0.15, 0.5)
        for i, at in enumerate(range(0, n, step)):
            if grid[i % 16]:
                y = hit[: n - at]
                x[at : at + len(y)] += y * rng.uniform(0.4, 1)
    return x if np.any(x) else noise(rng, n) * 1e-3
