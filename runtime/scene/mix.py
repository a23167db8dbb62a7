"""Sounds placed in a room at known times and levels: a scene and its truth, from a seed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ossicle.runtime.errors import AudioError
from ossicle.runtime.scene import alarms, everyday, speechlike
from ossicle.runtime.scene.sound import (
    RATE_HZ,
    Array,
    Interval,
    Samples1D,
    Sound,
    band,
    length,
    noise,
)

Rng = np.random.Generator


@dataclass(frozen=True)
class Event:
    """What truly happened: ``label`` from sample ``onset`` until before ``offset``."""

    label: str
    onset: int
    offset: int
    bursts: tuple[Interval, ...]  # where it sounds inside [onset, offset)
    snr_db: float  # its RMS while it sounds, over the bed's RMS


@dataclass(frozen=True)
class Scene:
    """A mixture, its truth, and each event's own signal as it lies in the mixture.

    ``samples == sum(stems) + bed`` before the last limiter; where nothing clipped, to rounding.
    """

    samples: Samples1D  # [T]
    rate_hz: int
    events: tuple[Event, ...]  # ordered by onset
    stems: tuple[Samples1D, ...]  # one [T] per event, same order
    bed: Samples1D  # [T] the background alone


@dataclass(frozen=True)
class Placement:
    """One sound, where it starts in the scene and how loud it is over the background."""

    sound: Sound
    at: int
    snr_db: float
    room: Array | None = None  # impulse response [R]; None is dry


def synthetic_room(rng: Rng, rt60_s: float, rate_hz: int = RATE_HZ) -> Array:
    """An impulse response [R]: a direct sound, a few reflections, a tail that falls 60 dB in rt60.

    The tail is darker than the direct sound, as walls and air make it.
    """
    n = length(max(0.03, 1.1 * rt60_s), rate_hz)
    tail = band(noise(rng, n), 80, float(rng.uniform(2500, 6000)), rate_hz)
    tail *= 10 ** (-3 * np.arange(n) / (rt60_s * rate_hz))
    tail[: round(0.004 * rate_hz)] = 0
    ratio = float(rng.uniform(2, 12))  # direct to reverberant, dB
    tail *= 10 ** (-ratio / 20) / (float(np.sqrt(np.sum(tail**2))) or 1.0)
    for _ in range(int(rng.integers(2, 6))):
        tail[int(rng.integers(round(0.002 * rate_hz), round(0.02 * rate_hz)))] += rng.uniform(
            -0.3, 0.3
        )
    tail[0] = 1.0
    return tail


def reverberate(x: Array, room: Array) -> Array:
    """``x`` [T] heard through ``room`` [R], still [T]: the direct sound keeps its place.

    What comes before the response's largest sample is travel time and is taken out.
    """
    lead = int(np.argmax(np.abs(room)))
    energy = float(np.sqrt(np.sum(room[lead:] ** 2)))
    if energy == 0:
        raise AudioError("an impulse response of silence cannot carry a sound; give another")
    size = 1 << (len(x) + len(room) - 1).bit_length()
    y = np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(room / energy, size), size)
    return y[lead : lead + len(x)]


def loudness(x: Array | Samples1D, bursts: Sequence[Interval]) -> float:
    """RMS of ``x`` over ``bursts``; 0 where it never sounds."""
    total = sum(float(np.sum(np.square(x[a:b], dtype=np.float64))) for a, b in bursts)
    count = sum(b - a for a, b in bursts)
    return float(np.sqrt(total / count)) if count else 0.0


def mix(
    placements: Sequence[Placement],
    bed: Array | Samples1D,
    level_dbfs: float = -20.0,
    rate_hz: int = RATE_HZ,
) -> Scene:
    """``placements`` over ``bed`` [T], the whole then set to an RMS of ``level_dbfs``.

    A silent bed counts as -60 dBFS for the signal-to-noise ratios. Samples beyond full scale are
    clipped, as a microphone would.

    Raises:
        AudioError: a sound starts outside the scene or a level is not finite.
    """
    n = len(bed)
    floor = max(float(np.sqrt(np.mean(np.square(bed, dtype=np.float64)))) if n else 0.0, 1e-3)
    events: list[tuple[Event, Array]] = []
    for p in placements:
        if not 0 <= p.at < n or not np.isfinite(p.snr_db):
            raise AudioError(
                f"{p.sound.label} at sample {p.at} with {p.snr_db} dB in a scene of {n} samples; "
                "it must start inside and its level be finite"
            )
        events.append(_placed(p, n, floor))
    events.sort(key=lambda pair: (pair[0].onset, pair[0].label))
    total = bed.astype(np.float64) + sum((stem for _, stem in events), np.zeros(n))
    rms = float(np.sqrt(np.mean(total**2)))
    gain = 10 ** (level_dbfs / 20) / rms if rms > 0 else 1.0
    return Scene(
        np.clip(total * gain, -1, 1).astype(np.float32),
        rate_hz,
        tuple(event for event, _ in events),
        tuple((stem * gain).astype(np.float32) for _, stem in events),
        (bed * gain).astype(np.float32),
    )


def _placed(p: Placement, n: int, floor: float) -> tuple[Event, Array]:
    stem = np.zeros(n)
    dry = p.sound.samples.astype(np.float64)
    wet = reverberate(dry, p.room) if p.room is not None else dry
    size = min(len(wet), n - p.at)
    rms = loudness(wet, p.sound.bursts)
    if rms > 0:
        stem[p.at : p.at + size] = wet[:size] * (floor * 10 ** (p.snr_db / 20) / rms)
    bursts = tuple((a + p.at, min(b + p.at, n)) for a, b in p.sound.bursts if a + p.at < n)
    first, last = (bursts[0][0], bursts[-1][1]) if bursts else (p.at, p.at)
    return Event(p.sound.label, first, last, bursts, p.snr_db), stem


def quiet_room(rng: Rng, n: int, rate_hz: int = RATE_HZ) -> Array:
    """Room tone [n] at -54 dBFS: dark noise and a trace of mains hum."""
    tone = noise(rng, n, float(rng.uniform(-5, -2)))
    hum = everyday.synthesise("mains_hum", rng, n / rate_hz, rate_hz).samples[:n]
    return np.asarray(2e-3 * tone + 5e-4 * hum)


def demo_scene(seed: int = 0, rate_hz: int = RATE_HZ) -> tuple[Samples1D, Scene]:
    """About 24 s in one room: a voice, a dog, a doorbell, a baby, and last a smoke alarm.

    Returns the samples [T] and the scene with its truth; the same seed gives the same samples.
    """
    rng = np.random.default_rng(seed)
    n = length(24.0, rate_hz)
    room = synthetic_room(rng, float(rng.uniform(0.15, 0.3)), rate_hz)
    plan: list[tuple[Sound, float, float]] = [
        (speechlike.babble(rng, 4.0, rate_hz), 0.8, 24),
        (everyday.synthesise("dog_bark", rng, 2.8, rate_hz), 6.0, 32),
        (alarms.synthesise("doorbell", rng, 2.5, rate_hz, "chime"), 9.5, 28),
        (everyday.synthesise("baby_cry", rng, 3.5, rate_hz), 12.3, 30),
        (alarms.synthesise("smoke_alarm", rng, 8.0, rate_hz, "t3_piezo"), 16.0, 30),
    ]
    placed = [
        Placement(s, round((at + float(rng.uniform(0, 0.4))) * rate_hz), snr, room)
        for s, at, snr in plan
    ]
    scene = mix(placed, quiet_room(rng, n, rate_hz), -24.0, rate_hz)
    return scene.samples, scene


def trim(sound: Sound, start: int, stop: int) -> Sound:
    """``sound`` from sample ``start`` until before ``stop``, its bursts cut to fit."""
    bursts = tuple(
        (max(a, start) - start, min(b, stop) - start)
        for a, b in sound.bursts
        if b > start and a < stop
    )
    return replace(sound, samples=sound.samples[start:stop], bursts=bursts)
