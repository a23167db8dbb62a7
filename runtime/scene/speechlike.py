"""Speech-like babble from a seed: a glottal source through moving formants, in syllables.

Nobody says anything here, but it has what detectors and separators look for in a voice: a pitch
that declines over each phrase, vowels with three formants, fricatives, stops and pauses. The
formant targets are the averages of Peterson and Barney (1952), scaled to the drawn vocal tract.
"""

from typing import Final

import numpy as np

from ossicle.runtime.scene.sound import (
    RATE_HZ,
    Array,
    Interval,
    Sound,
    band,
    bridge,
    finish,
    length,
    noise,
    phase_of,
)

Rng = np.random.Generator

VOWELS: Final = {
    "i": (270, 2290, 3010),
    "e": (530, 1840, 2480),
    "a": (730, 1090, 2440),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
    "er": (490, 1350, 1690),
}

_PHRASE_GAP_S: Final = 0.3  # silences up to this long are still the same utterance


def babble(
    rng: Rng, seconds: float = 4.0, rate_hz: int = RATE_HZ, pitch_hz: float | None = None
) -> Sound:
    """A voice that babbles for ``seconds``; ``pitch_hz`` fixes its mean pitch.

    Pitch is drawn from 85-260 Hz and the vocal tract is scaled with it. ``bursts`` are the
    utterances: pauses of at most 0.3 s inside a phrase do not end one.
    """
    n = length(seconds, rate_hz)
    mean_hz = float(pitch_hz if pitch_hz is not None else np.exp(rng.uniform(*np.log([85, 260]))))
    tract = 0.92 + 0.25 * (mean_hz - 85) / 175 + float(rng.uniform(-0.04, 0.04))
    x, heard, t = np.zeros(n), [], 0.0
    while t < seconds - 0.25:
        phrase = min(float(rng.uniform(0.7, 2.4)), seconds - t)
        start = round(t * rate_hz)
        y = _phrase(rng, round(phrase * rate_hz), mean_hz, tract, rate_hz)[: n - start]
        x[start : start + len(y)] += y
        heard.append((start, start + len(y)))
        t += phrase + float(rng.uniform(0.15, 0.9))
    bursts = bridge(heard, round(_PHRASE_GAP_S * rate_hz))
    return finish("speech", x, bursts, {"pitch_hz": mean_hz, "tract": tract})


def _phrase(rng: Rng, n: int, mean_hz: float, tract: float, rate_hz: int) -> Array:
    """One breath of syllables [n], loudness falling towards its end."""
    cuts: list[Interval] = []
    at = 0
    while at < n:
        size = round(float(rng.uniform(0.12, 0.28)) * rate_hz)
        cuts.append((at, min(n, at + size)))
        at += size
    formants = np.zeros((3, n))
    voiced, hiss = np.zeros(n), np.zeros(n)
    names = list(VOWELS)
    for start, stop in cuts:
        target = np.array(VOWELS[names[int(rng.integers(len(names)))]]) * tract
        formants[:, start:stop] = target[:, None] * rng.uniform(0.93, 1.07, (3, 1))
        size = stop - start
        onset = round(size * float(rng.uniform(0.12, 0.35)))
        if rng.random() < 0.45:
            hiss[start : start + onset] = float(rng.uniform(0.2, 1.0))
        shape = np.sin(np.pi * np.linspace(0, 1, size - onset, endpoint=False)) ** 0.4
        voiced[start + onset : stop] = shape * rng.uniform(0.5, 1)
    smooth = max(3, round(0.035 * rate_hz))
    formants = np.stack([_smooth(f, smooth) for f in formants])
    voiced, hiss = _smooth(voiced, smooth // 2), _smooth(hiss, smooth // 3)
    bends = np.interp(np.arange(n) / 1600, np.arange(n // 1600 + 2), _bends(rng, n // 1600 + 2))
    pitch = mean_hz * np.linspace(1.15, 0.82, n) * 2 ** (bends / 12)
    return _vowels(rng, pitch, formants, rate_hz) * voiced + _hiss(rng, n, rate_hz) * hiss * 0.15


def _bends(rng: Rng, count: int) -> Array:
    """Semitones that the pitch strays every 0.1 s."""
    return np.clip(rng.standard_normal(count), -2, 2)


def _smooth(x: Array, width: int) -> Array:
    """Moving average with the ends held, so that nothing fades in from zero."""
    if width < 2 or len(x) < 2:
        return x
    padded = np.pad(x, (width // 2, width - 1 - width // 2), mode="edge")
    total = np.cumsum(np.concatenate([[0.0], padded]))
    return np.asarray((total[width:] - total[:-width]) / width)


def _vowels(rng: Rng, pitch: Array, formants: Array, rate_hz: int) -> Array:
    """Partials of ``pitch`` weighted by three resonances that move: additive, so never unstable."""
    phase = phase_of(pitch, rate_hz, float(rng.uniform(0, 6.28)))
    widths = np.array([70.0, 100.0, 140.0])[:, None]
    out = np.zeros_like(pitch)
    most = int(min(5000, 0.45 * rate_hz) / float(pitch.min()))
    for k in range(1, most + 1):
        hz = k * pitch
        gain = np.sum(
            np.array([1.0, 0.6, 0.35])[:, None] / (1 + ((hz - formants) / (1.4 * widths)) ** 2),
            axis=0,
        )
        out += (gain + 0.01) * k**-0.6 * np.sin(k * phase) * (hz < 0.47 * rate_hz)
    return out


def _hiss(rng: Rng, n: int, rate_hz: int) -> Array:
    low = float(rng.uniform(2500, 4500))
    return band(noise(rng, n), low, 0.47 * rate_hz, rate_hz)
