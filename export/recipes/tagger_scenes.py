"""Scenes for the sound tagger, each drawn from a seed, and what can be heard in them.

Training, calibration and benchmark draw from here, from different recordings and seeds. What is
true of a scene is what can be heard of it: a sound that everything else covers begins when it
comes out, and one that never does is not an event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ossicle.export.recipes.tagger_data import (
    BRIDGE_S,
    HELD_OUT,
    UNHEARD,
    Library,
    Rng,
    draw_sound,
    draw_unknown,
    vary,
)
from ossicle.export.recipes.tagger_teacher import log_mel
from ossicle.runtime.scene import alarms, everyday
from ossicle.runtime.scene.labels import ENVIRONMENT, LABELS
from ossicle.runtime.scene.mix import (
    Event,
    Placement,
    Scene,
    mix,
    quiet_room,
    synthetic_room,
    trim,
)
from ossicle.runtime.scene.sound import RATE_HZ, Array, Interval, Samples1D, Sound, bridge, noise

FRAME: Final = 640  # samples per frame of truth: 40 ms
FLOOR: Final = 0.001  # the offset inside the front end's logarithm
BANDS: Final = 2  # of 64 mel bands in which a sound must stand out to be heard
QUIET: Final = ("silence", "white", "pink", "speech", "music", "unknown", "household")
HARD: Final = {
    "sneeze": 2.5, "rain": 1.5, "clock_tick": 1.5, "helicopter": 1.8, "sea_waves": 1.2,
    "doorbell": 2.0, "appliance_beep": 2.0, "alarm_clock": 2.0, "phone_ring": 1.3,
    "dog_bark": 1.3, "co_alarm": 1.3,
}  # fmt: skip
"""How much oftener training hears what is hard to learn."""


def draw_training(rng: Rng, lib: Library) -> Scene:
    """10 s of one of five kinds: a recording, two sounds, a crowd, an alarm at home, or calm."""
    kind = rng.random()
    if kind < 0.14:
        return draw_clip(rng, lib)
    if kind < 0.5:
        return two_events(rng, lib, HARD)
    if kind < 0.78:
        return draw_scene(rng, lib)
    if kind < 0.9:
        scene = household(rng, lib, str(rng.choice(alarms.ALARMS)))
        start = int(rng.integers(0, 2 * RATE_HZ))
        return cut(scene, start, start + 10 * RATE_HZ)
    return calm_scene(rng, lib, str(rng.choice(["speech", "music", "household", "unknown"])), 10)


def draw_scene(rng: Rng, lib: Library, seconds: float = 10.0, most: int = 4) -> Scene:
    """A scene of up to ``most`` events (none in 8 %), unknown sounds and a bed."""
    n = int(seconds * RATE_HZ)
    count = int(min(most, rng.choice(5, p=[0.08, 0.27, 0.35, 0.2, 0.1])))
    room = _room(rng, lib)
    placed = []
    for _ in range(count):
        sound = draw_sound(rng, lib, draw_label(rng), seconds)
        placed.append(_place(rng, sound, n, room, float(rng.uniform(-5, 20))))
    unknown = _unknown(lib)
    for _ in range(int(rng.choice(3, p=[0.6, 0.25, 0.15]))):
        odd = everyday.synthesise(str(rng.choice(unknown)), rng, float(rng.uniform(1, 8)))
        placed.append(_place(rng, odd, n, room, float(rng.uniform(-5, 15))))
    return mix(placed, _bed(rng, n), float(rng.uniform(-46, -10)))


def draw_label(rng: Rng, hard: Mapping[str, float] | None = None) -> str:
    """Environment 54 %, alarms 26 %, speech and music 10 % each; sneezes twice as often.

    ``hard`` says how much oftener than its neighbours a label is drawn instead.
    """
    kind = rng.random()
    if kind < 0.8:
        names = ENVIRONMENT if kind < 0.54 else alarms.ALARMS
        if hard is None and kind >= 0.54:
            return str(rng.choice(names))
        each = {"sneeze": 2.0} if hard is None else hard
        weights = np.array([each.get(name, 1.0) for name in names])
        return str(rng.choice(names, p=weights / weights.sum()))
    return "speech" if kind < 0.9 else "music"


def _place(rng: Rng, sound: Sound, n: int, room: Array | None, snr_db: float) -> Placement:
    if len(sound.samples) >= n:
        sound = trim(sound, 0, n)
    latest = max(1, n - min(len(sound.samples), n // 3))
    return Placement(sound, int(rng.integers(0, latest)), snr_db, room)


def _room(rng: Rng, lib: Library) -> Array | None:
    kind = rng.random()
    if kind < 0.4:
        return None
    if kind < 0.75 and lib.rooms:
        return lib.rooms[int(rng.integers(len(lib.rooms)))]
    return synthetic_room(rng, float(rng.uniform(0.1, 0.7)))


def _bed(rng: Rng, n: int) -> Array:
    kind = rng.random()
    if kind < 0.15:
        return np.zeros(n)
    if kind < 0.45:
        return quiet_room(rng, n)
    return noise(rng, n, float(rng.uniform(-7, 1))) * 10 ** (float(rng.uniform(-60, -20)) / 20)


def frames_of(scene: Scene, labels: Sequence[str] = LABELS) -> NDArray[np.uint8]:
    """Truth [T, classes] per frame of 40 ms: 1 where an event is heard for half of it or more.

    Silences of :data:`BRIDGE_S` inside an event count as the event.
    """
    count = len(scene.samples) // FRAME
    out = np.zeros((count, len(labels)), np.uint8)
    for event in audible(scene):
        if event.label in labels:
            k = list(labels).index(event.label)
            for a, b in joined(event.label, event.bursts):
                out[(a + FRAME // 2) // FRAME : (b + FRAME // 2) // FRAME, k] = 1
    return out


def joined(label: str, bursts: Sequence[Interval]) -> list[Interval]:
    """``bursts`` with the silences that belong to one event of ``label`` filled."""
    return bridge(bursts, round(BRIDGE_S.get(label, 0.5) * RATE_HZ))


def audible(scene: Scene) -> list[Event]:
    """The events of ``scene`` as they can be heard.

    Every burst goes from its first audible frame to its last; those that never come out are left
    out, and events without any too.

    A frame of 40 ms is audible where the sound alone is louder than everything else together in
    at least :data:`BANDS` of the 64 mel bands.
    """
    whole = sum((s.astype(np.float64) for s in scene.stems), scene.bed.astype(np.float64))
    out = []
    for event, stem in zip(scene.events, scene.stems, strict=True):
        own, rest = _power(stem), _power((whole - stem).astype(np.float32))
        heard = np.sum(own > np.maximum(rest, FLOOR**2), axis=1) >= BANDS
        bursts = [b for burst in event.bursts if (b := _heard_part(burst, heard)) is not None]
        if bursts:
            out.append(replace(event, onset=bursts[0][0], offset=bursts[-1][1],
                               bursts=tuple(bursts)))  # fmt: skip
    return out


def _heard_part(burst: Interval, heard: NDArray[np.bool_]) -> Interval | None:
    """``burst`` cut to its audible frames; whole frames move its ends, or none."""
    a, b = burst
    frames = np.flatnonzero(heard[a // FRAME : -(-b // FRAME)]) + a // FRAME
    if len(frames) == 0:
        return None
    return max(a, int(frames[0]) * FRAME), min(b, (int(frames[-1]) + 1) * FRAME)


def _power(x: Samples1D) -> NDArray[np.float64]:
    """Mean power by 40 ms frame and mel band [T, 64]."""
    magnitude = np.exp(log_mel(x).astype(np.float64)) - FLOOR
    count = len(magnitude) // 4
    power: NDArray[np.float64] = (
        np.square(magnitude[: 4 * count]).reshape(count, 4, -1).mean(axis=1)
    )
    return power


def cut(scene: Scene, start: int, stop: int) -> Scene:
    """``scene`` from sample ``start`` until before ``stop``."""
    events, stems = [], []
    for event, stem in zip(scene.events, scene.stems, strict=True):
        bursts = tuple(
            (max(a, start) - start, min(b, stop) - start)
            for a, b in event.bursts
            if b > start and a < stop
        )
        if bursts:
            events.append(replace(event, onset=bursts[0][0], offset=bursts[-1][1], bursts=bursts))
            stems.append(stem[start:stop])
    bed = scene.bed[start:stop]
    return Scene(scene.samples[start:stop], scene.rate_hz, tuple(events), tuple(stems), bed)


def draw_clip(rng: Rng, lib: Library, seconds: float = 10.0) -> Scene:
    """One whole recording of the environment, as it is, in near silence: what a clip test plays."""
    n = int(seconds * RATE_HZ)
    pool = lib.clips[str(rng.choice(ENVIRONMENT))]
    sound = pool[int(rng.integers(len(pool)))]
    if rng.random() < 0.7:
        sound = vary(rng, sound)
    bed = np.zeros(n) if rng.random() < 0.6 else quiet_room(rng, n)
    placed = _place(rng, sound, n, None, float(rng.uniform(15, 45)))
    return mix([placed], bed, float(rng.uniform(-40, -12)))


def two_events(rng: Rng, lib: Library, hard: Mapping[str, float] | None = None) -> Scene:
    """A 10 s scene of two different sounds, each -5 to 20 dB over a bed, in one room."""
    n = 10 * RATE_HZ
    first = second = draw_label(rng, hard)
    while second == first:
        second = draw_label(rng, hard)
    room = None if rng.random() < 0.5 else synthetic_room(rng, float(rng.uniform(0.15, 0.5)))
    if room is not None and lib.rooms and rng.random() < 0.5:
        room = lib.rooms[int(rng.integers(len(lib.rooms)))]
    placed = []
    for label in (first, second):
        sound = draw_sound(rng, lib, label, 8.0)
        sound = trim(sound, 0, min(len(sound.samples), n))
        at = int(rng.integers(0, max(1, n - min(len(sound.samples), n // 2))))
        placed.append(Placement(sound, at, float(rng.uniform(-5, 20)), room))
    bed = noise(rng, n, float(rng.uniform(-6, 0))) * 10 ** (float(rng.uniform(-55, -25)) / 20)
    return mix(placed, bed, float(rng.uniform(-38, -14)))


def calm(rng: Rng, lib: Library, kind: str, seconds: int = 20) -> Samples1D:
    """``seconds`` in which nothing of the classes happens, or nothing but speech or music."""
    return calm_scene(rng, lib, kind, seconds).samples


def calm_scene(rng: Rng, lib: Library, kind: str, seconds: int) -> Scene:
    """The same with its truth: of the classes, speech or music at most."""
    n = seconds * RATE_HZ
    level = 10 ** (float(rng.uniform(-50, -12)) / 20)
    if kind == "silence":
        return _plain(quiet_room(rng, n) * float(rng.choice([0.0, 0.1, 1.0])))
    if kind in ("white", "pink"):
        return _plain(noise(rng, n, 0.0 if kind == "white" else -3.0) * level)
    sounds = []
    at = 0
    unknown = _unknown(lib, everything=kind == "household")
    while at < n - RATE_HZ:
        if kind in ("speech", "music"):
            sound = draw_sound(rng, lib, kind, 10.0)
        else:
            sound = draw_unknown(rng, lib, unknown, float(rng.uniform(2, 8)))
        sound = trim(sound, 0, min(len(sound.samples), n - at))
        sounds.append(Placement(sound, at, float(rng.uniform(5, 30))))
        at += len(sound.samples) + int(rng.uniform(0, 1.5) * RATE_HZ)
    room = synthetic_room(rng, float(rng.uniform(0.15, 0.5)))
    sounds = [replace(p, room=room) for p in sounds]
    return mix(sounds, quiet_room(rng, n), 20 * float(np.log10(level)))


def unclear(lib: Library) -> frozenset[str]:
    """Kinds of calm in which nobody knows whether there is music or a voice.

    Recordings of sounds without a name hold kalimbas and laughter too.
    """
    return frozenset({"unknown", "household"}) if lib.odd else frozenset()


def _plain(bed: Array) -> Scene:
    return Scene(bed.astype(np.float32), RATE_HZ, (), (), bed.astype(np.float32))


def _unknown(lib: Library, everything: bool = False) -> list[str]:
    """Sounds of no class: to train on, or held out; with ``everything`` the test hears both."""
    every = lib.held_out and everything
    names = [k for k in everyday.UNKNOWN if every or (k in HELD_OUT) == lib.held_out]
    return [k for k in names if k not in HELD_OUT or k in UNHEARD[lib.part]]


def household(rng: Rng, lib: Library, label: str) -> Scene:
    """An alarm 0 to 20 dB over a household: unknown sounds, room tone, now and then a voice."""
    n = 12 * RATE_HZ
    room = synthetic_room(rng, float(rng.uniform(0.15, 0.6)))
    odd = _unknown(lib)
    placed = [
        Placement(everyday.synthesise(str(rng.choice(odd)), rng, 10.0), 0, 0.0, room),
        Placement(draw_sound(rng, lib, label, 8.0), int(rng.integers(RATE_HZ, 4 * RATE_HZ)),
                  float(rng.uniform(0, 20)), room),
    ]  # fmt: skip
    if rng.random() < 0.3:
        voice = draw_sound(rng, lib, "speech")
        placed.append(Placement(voice, int(rng.integers(0, 4 * RATE_HZ)), 0.0, room))
    return mix(placed, quiet_room(rng, n) * 8, float(rng.uniform(-36, -14)))
