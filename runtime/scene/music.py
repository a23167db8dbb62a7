"""Music from a seed: a key, chords, a bass, a tune and drums, on instruments of that seed's own.

It teaches what music may sound like beyond the recordings at hand. It is no measure of anything.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from ossicle.runtime.scene.sound import (
    RATE_HZ,
    Array,
    Sound,
    drive,
    finish,
    length,
    shape_spectrum,
)
from ossicle.runtime.scene.timbres import INSTRUMENTS, Instrument, drum_kit

Rng = np.random.Generator

SCALES: Final = (
    (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10),
    (0, 2, 4, 7, 9), (0, 3, 5, 7, 10), (0, 1, 4, 5, 7, 8, 11), (0, 2, 4, 6, 8, 10),
)  # fmt: skip
"""Major, minor, Dorian, two pentatonic, harmonic, whole tones: semitones over the key."""

PARTS: Final = {"chords": 0.75, "bass": 0.7, "tune": 0.65, "drums": 0.6, "pad": 0.3}


class Score:
    """One piece: its key, scale, beat and chords, and the notes already heard of each part."""

    def __init__(self, rng: Rng, seconds: float, rate_hz: int) -> None:
        self.rng, self.rate_hz = rng, rate_hz
        self.n = length(seconds, rate_hz)
        self.step = int(60 / rng.uniform(60, 175) / 4 * rate_hz)  # samples of a sixteenth
        self.key = float(rng.uniform(55, 110))
        self.scale = SCALES[int(rng.integers(len(SCALES)))]
        self.chords = rng.integers(0, len(self.scale), int(rng.choice([1, 2, 4, 4, 8]))).tolist()
        self.bar = int(rng.choice([12, 16, 16, 16]))  # sixteenths

    def pitch(self, degree: int, octave: int = 0) -> float:
        """Hertz of a degree of the scale, ``octave`` above the key."""
        turn, place = divmod(degree, len(self.scale))
        return float(self.key * 2 ** (octave + turn + self.scale[place] / 12))

    def chord(self, at: int) -> int:
        """The root's degree at sixteenth ``at``."""
        return int(self.chords[at // self.bar % len(self.chords)])

    def play(self, instrument: Instrument, notes: Sequence[tuple[int, int, float]]) -> Array:
        """``notes`` of (sixteenth, sixteenths, Hz) as one part [n]; each pitch is made once."""
        out, made = np.zeros(self.n), {}
        for at, long, hz in notes:
            start = at * self.step + int(self.rng.normal(0, 0.004) * self.rate_hz)
            if not 0 <= start < self.n or hz > 0.4 * self.rate_hz:
                continue
            key = (long, round(hz, 2))
            if key not in made:
                made[key] = instrument(hz, max(400, int(long * self.step * 1.05)))
            y = made[key][: self.n - start]
            out[start : start + len(y)] += y * self.rng.uniform(0.6, 1)
        return out


def compose(rng: Rng, seconds: float = 8.0, rate_hz: int = RATE_HZ) -> Sound:
    """A piece of music; a fifth of them are one instrument alone."""
    score = Score(rng, seconds, rate_hz)
    parts = [name for name, chance in PARTS.items() if rng.random() < chance]
    if rng.random() < 0.2 or not parts:
        parts = [str(rng.choice(["chords", "tune", "drums", "tune"]))]
    x = np.zeros(score.n)
    for name in parts:
        y = _PLAYERS[name](score)
        peak = float(np.sqrt(np.mean(y**2)))
        x += y / peak * rng.uniform(0.25, 1) if peak > 1e-6 else 0
    x = drive(x, float(rng.choice([0, rng.uniform(0, 12)], p=[0.6, 0.4])), hard=False)
    curve = [(f, float(rng.uniform(-6, 6))) for f in (60.0, 300.0, 1500.0, 7000.0)]
    return finish("music", shape_spectrum(x, curve, rate_hz), [(0, score.n)], {})


def _instrument(score: Score, names: Sequence[str] = tuple(INSTRUMENTS)) -> Instrument:
    return INSTRUMENTS[str(score.rng.choice(list(names)))](score.rng, score.rate_hz)


def _chords(score: Score, held: bool = False) -> Array:
    rng, size = score.rng, int(score.rng.choice([2, 3, 3, 4]))
    octave = int(rng.integers(1, 3))
    broken = not held and rng.random() < 0.4
    beat = score.bar if held else int(rng.choice([1, 2, 4, 8]))
    strum = rng.random(score.bar) < (1.0 if broken else 0.7)
    notes = []
    for i, at in enumerate(range(0, score.n // score.step, beat)):
        if not held and not strum[at % score.bar]:
            continue
        tones = [score.pitch(score.chord(at) + 2 * j, octave) for j in range(size)]
        tones = [tones[i % size]] if broken else tones
        notes += [(at, beat if held else int(rng.choice([1, beat, 2 * beat])), hz) for hz in tones]
    names = ("organ", "synth", "bowed", "sung") if held else tuple(INSTRUMENTS)
    return score.play(_instrument(score, names), notes)


def _pad(score: Score) -> Array:
    return _chords(score, held=True)


def _bass(score: Score) -> Array:
    rng, beat = score.rng, int(score.rng.choice([2, 4, 4, 8]))
    walk = rng.random() < 0.4
    notes = [
        (at, beat, score.pitch(score.chord(at) + (int(rng.integers(0, 5)) if walk else 0)))
        for at in range(0, score.n // score.step, beat)
        if rng.random() < 0.9
    ]
    return score.play(_instrument(score, ("struck", "synth", "bars", "driven")), notes)


def _tune(score: Score) -> Array:
    """A walk along the scale in phrases; a phrase may come again."""
    rng, at, degree = score.rng, 0, int(score.rng.integers(0, 8))
    octave, notes = int(rng.integers(1, 4)), []
    phrase = [(int(rng.choice([1, 2, 2, 3, 4, 8])), int(rng.integers(-3, 4)), rng.random() < 0.85)
              for _ in range(int(rng.integers(4, 14)))]  # fmt: skip
    while at < score.n // score.step:
        for long, move, sounds in phrase:
            degree = int(np.clip(degree + move, 0, 2 * len(score.scale)))
            if sounds:
                notes.append((at, long, score.pitch(degree, octave)))
            at += long
        if rng.random() < 0.5:
            phrase = [(long, int(rng.integers(-3, 4)), s) for long, _, s in phrase]
    return score.play(_instrument(score), notes)


def _drums(score: Score) -> Array:
    """A bar of strokes, over and over, with a fill now and then."""
    rng, kit = score.rng, drum_kit(score.rng, score.rate_hz)
    bar, out = score.bar, np.zeros(score.n)
    grid = {name: rng.random(bar) < rng.uniform(0, 0.25) for name in kit}
    grid["kick"][:: int(rng.choice([4, 8]))] = True
    grid["snare"][4::8] = rng.random() < 0.8
    grid["hat"][:: int(rng.choice([1, 2, 4]))] = True
    for name in kit:
        if rng.random() < 0.3 and name not in ("kick", "hat"):
            grid[name][:] = False
    for at in range(score.n // score.step):
        for name, stroke in kit.items():
            if grid[name][at % bar] or rng.random() < 0.01:
                start = at * score.step
                y = stroke[: score.n - start]
                out[start : start + len(y)] += y * rng.uniform(0.5, 1)
    return out


_PLAYERS: Final = {"chords": _chords, "bass": _bass, "tune": _tune, "drums": _drums, "pad": _pad}
