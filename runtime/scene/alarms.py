"""Warning sounds from a seed: smoke and carbon-monoxide alarms, sirens, horns, bells, beepers.

No two draws are alike: pitch, drift, cadence, harmonics, attack, level ripple and clipping vary
inside what the standards and the devices on sale allow. Sources of the patterns:

- smoke alarm: temporal-three of ISO 8201 / ANSI S3.41 (0.5 s on, 0.5 s off, three times, then
  1.5 s), from a piezo at 2.8-3.6 kHz or the 520 Hz square wave of NFPA 72 for sleeping rooms;
- carbon monoxide: temporal-four of UL 2034 (four beeps of 0.1 s, 0.1 s apart, then 5 s);
- siren: wail and yelp of SAE J1849 (650-1500 Hz, 10-30 and 150-250 sweeps a minute), and the
  two-tone hi-lo of DIN 14610 and its French, British and Dutch cousins;
- car horn: one or two discs at 300-560 Hz, about a third apart (ECE R28);
- doorbell (struck chimes, electronic tunes, buzzer), telephone (bell, warble, tune), appliance
  beeps and alarm clocks as measured from nothing but their data sheets' ranges.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from ossicle.runtime.errors import AudioError
from ossicle.runtime.scene.sound import (
    RATE_HZ,
    Array,
    Interval,
    Sound,
    band,
    bridge,
    cadence,
    drive,
    envelope,
    finish,
    harmonics,
    length,
    noise,
    square_weights,
)

Rng = np.random.Generator


def synthesise(
    label: str,
    rng: Rng,
    seconds: float = 8.0,
    rate_hz: int = RATE_HZ,
    variant: str | None = None,
) -> Sound:
    """An alarm ``label`` of ``seconds``, drawn from ``rng``; ``variant`` fixes its kind.

    Labels and variants are the keys and values of :data:`VARIANTS`.

    Raises:
        AudioError: the label, the variant or the duration is not one that can be made.
    """
    if label not in VARIANTS:
        raise AudioError(f"no alarm is called {label!r}; there are {', '.join(VARIANTS)}")
    kinds = VARIANTS[label]
    if variant is not None and variant not in kinds:
        raise AudioError(f"{label} has no variant {variant!r}; there are {', '.join(kinds)}")
    kind = variant or str(rng.choice(list(kinds)))
    n = length(seconds, rate_hz)
    x, bursts, recipe = kinds[kind](rng, n, rate_hz)
    amount = float(rng.choice([0.0, rng.uniform(0, 6), rng.uniform(6, 20)], p=[0.55, 0.3, 0.15]))
    x = drive(x, amount, hard=bool(rng.random() < 0.5))
    return finish(label, x, bursts, {"variant": kind, "drive_db": amount, **recipe})


Made = tuple[Array, list[Interval], dict[str, float | str]]


def _pitch(rng: Rng, n: int, hz: float, rate_hz: int, wobble: float = 0.002) -> Array:
    """``hz`` with a slow drift of a few parts in a thousand, as crystals and batteries have."""
    t = np.arange(n) / rate_hz
    rate, at = rng.uniform(0.2, 6), rng.uniform(0, 2 * np.pi)
    return np.asarray(hz * (1 + rng.uniform(0, wobble) * np.sin(2 * np.pi * rate * t + at)))


def _piezo(rng: Rng, freq_hz: Array, rate_hz: int) -> Array:
    """A driven piezo disc: strong first partial, some second and third."""
    weights = [1.0, rng.uniform(0, 0.5), rng.uniform(0, 0.4), rng.uniform(0, 0.2)]
    return harmonics(freq_hz, weights, rate_hz)


def _beeps(
    rng: Rng, x: Array, bursts: list[Interval], rate_hz: int, slowest_s: float = 0.02
) -> Array:
    """``x`` gated by ``bursts`` with an attack, a release and a little ripple."""
    gate = envelope(
        len(x), bursts, rng.uniform(0.001, slowest_s), rng.uniform(0.002, slowest_s), rate_hz
    )
    t = np.arange(len(x)) / rate_hz
    ripple = 1 + rng.uniform(0, 0.15) * np.sin(2 * np.pi * rng.uniform(1, 40) * t)
    return x * gate * ripple


def _t3(rng: Rng) -> list[tuple[float, float]]:
    """ISO 8201 within +-10 %; some units' third silence is as short as 1.3 s."""
    on, off = 0.5 * rng.uniform(0.9, 1.1), 0.5 * rng.uniform(0.85, 1.1)
    return [(on, off), (on, off), (on, 1.5 * rng.uniform(0.88, 1.1))]


def _smoke_piezo(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.uniform(2850, 3550))
    bursts = cadence(_t3(rng), n, rate_hz)
    freq = _pitch(rng, n, hz, rate_hz)
    if rng.random() < 0.3:  # a sounder whose pitch sags within each beep
        t = np.arange(n) / rate_hz
        freq = freq * (1 + rng.uniform(0.002, 0.02) * np.sin(2 * np.pi * rng.uniform(1, 8) * t))
    return _beeps(rng, _piezo(rng, freq, rate_hz), bursts, rate_hz), bursts, {"pitch_hz": hz}


def _smoke_520(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.uniform(468, 572))
    bursts = cadence(_t3(rng), n, rate_hz)
    roll = rng.uniform(0, 0.8)
    weights = [w * k**-roll for k, w in enumerate(square_weights(15), start=1)]
    weights = [w + rng.uniform(0, 0.06) for w in weights]
    x = harmonics(_pitch(rng, n, hz, rate_hz), weights, rate_hz)
    return _beeps(rng, x, bursts, rate_hz), bursts, {"pitch_hz": hz}


def _t4(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.uniform(2850, 3550))
    on, off = rng.uniform(0.09, 0.12), rng.uniform(0.085, 0.12)
    pause = 5.0 * rng.uniform(0.9, 1.06)
    bursts = cadence([(on, off), (on, off), (on, off), (on, pause)], n, rate_hz)
    x = _beeps(rng, _piezo(rng, _pitch(rng, n, hz, rate_hz), rate_hz), bursts, rate_hz, 0.008)
    return x, bursts, {"pitch_hz": hz}


def _horn_tone(rng: Rng, freq_hz: Array, rate_hz: int, brightness: float) -> Array:
    """A siren or horn driver: many partials, a formant-like bump, slight asymmetry."""
    bump = rng.uniform(1000, 3000)
    mean = float(freq_hz.mean())
    weights = [
        k**-brightness * (1 + 1.5 * float(np.exp(-(((k * mean - bump) / 700) ** 2))))
        for k in range(1, 25)
    ]
    return harmonics(freq_hz, weights, rate_hz)


def _sweep(rng: Rng, n: int, rate_hz: int, per_minute: tuple[float, float]) -> Made:
    low, high = float(rng.uniform(380, 800)), float(rng.uniform(1100, 1800))
    turns = float(rng.uniform(*per_minute))
    at = (np.arange(n) / rate_hz * turns / 60 + rng.random()) % 1.0
    rise = rng.uniform(0.3, 0.65)
    tri = np.where(at < rise, at / rise, (1 - at) / (1 - rise))
    curve = rng.uniform(0.6, 1.6)
    freq = low * (high / low) ** (tri**curve)
    freq *= 1 + rng.uniform(-0.04, 0.04) * np.linspace(-1, 1, n)  # the vehicle passes
    x = _horn_tone(rng, freq, rate_hz, rng.uniform(0.7, 1.8))
    bursts = [(0, n)]
    gate = envelope(n, bursts, rng.uniform(0.01, 0.3), rng.uniform(0.05, 0.4), rate_hz)
    recipe: dict[str, float | str] = {"low_hz": low, "high_hz": high, "sweeps_per_minute": turns}
    return x * gate, bursts, recipe


def _wail(rng: Rng, n: int, rate_hz: int) -> Made:
    return _sweep(rng, n, rate_hz, (10, 35))


def _yelp(rng: Rng, n: int, rate_hz: int) -> Made:
    return _sweep(rng, n, rate_hz, (120, 260))


def _hi_lo(rng: Rng, n: int, rate_hz: int) -> Made:
    low = float(rng.uniform(360, 700))
    high = low * float(rng.uniform(1.12, 1.45))
    half = float(rng.uniform(0.35, 0.8))
    t = np.arange(n) / rate_hz + rng.uniform(0, 2 * half)
    step = ((t / half) % 2) < 1
    glide = max(1, round(rng.uniform(0.002, 0.03) * rate_hz))
    freq = np.convolve(np.where(step, low, high), np.ones(glide) / glide, mode="same")
    freq[: glide // 2 + 1] = freq[glide // 2 + 1] if n > glide else low
    freq[-(glide // 2 + 1) :] = freq[-(glide // 2 + 2)] if n > glide else low
    x = _horn_tone(rng, freq, rate_hz, rng.uniform(0.5, 1.5))
    gate = envelope(n, [(0, n)], rng.uniform(0.005, 0.1), rng.uniform(0.02, 0.2), rate_hz)
    return x * gate, [(0, n)], {"low_hz": low, "high_hz": high, "half_s": half}


def _horn(rng: Rng, n: int, rate_hz: int) -> Made:
    low = float(rng.uniform(290, 480))
    ratio = float(rng.uniform(1.15, 1.35))
    kinds = [[(rng.uniform(0.15, 0.6), rng.uniform(0.1, 0.5))] * 2, [(rng.uniform(0.8, 3), 1.0)]]
    pattern = list(kinds[int(rng.integers(2))])
    pattern[-1] = (pattern[-1][0], float(rng.uniform(0.6, 3)))
    bursts = cadence(pattern, n, rate_hz)
    x = np.zeros(n)
    for hz in [low] if rng.random() < 0.3 else [low, low * ratio]:
        freq = _pitch(rng, n, hz, rate_hz, 0.006)
        x += _horn_tone(rng, freq, rate_hz, rng.uniform(0.4, 1.1)) * rng.uniform(0.6, 1)
    return _beeps(rng, x, bursts, rate_hz, 0.04), bursts, {"pitch_hz": low, "ratio": ratio}


def _strike(
    rng: Rng, n: int, at: int, hz: float, decay_s: float, partials: list[float], rate_hz: int
) -> Array:
    """A struck bar or bell [n] from sample ``at``: inharmonic partials, the high ones die first."""
    out = np.zeros(n)
    t = np.arange(n - at) / rate_hz
    for k, ratio in enumerate(partials):
        f = hz * ratio
        if f < 0.47 * rate_hz:
            g = rng.uniform(0.4, 1.0) / (1 + 0.7 * k)
            tone = np.sin(2 * np.pi * f * t + rng.uniform(0, 6.28))
            out[at:] += g * np.exp(-t * (1 + 0.8 * k) / decay_s) * tone
    fade = min(len(t), round(0.002 * rate_hz))
    out[at : at + fade] *= np.linspace(0, 1, fade, endpoint=False)
    return out


_BAR: Final = [1.0, 2.76, 5.4]  # free bar, after Rossing
_BELL: Final = [1.0, 1.5, 2.0, 2.67, 3.4, 4.2]
_STRING: Final = [1.0, 2.0, 3.0, 4.0]


def _tune(
    rng: Rng, n: int, rate_hz: int, notes: list[tuple[float, float]], gap_s: float, decay_s: float
) -> tuple[Array, list[Interval]]:
    """Notes (Hz, seconds until the next), played again after ``gap_s``."""
    partials = [_BAR, _BELL, _STRING][int(rng.integers(3))]
    x, t = np.zeros(n), 0.0
    bursts: list[Interval] = []
    while not bursts or t * rate_hz < n - 0.3 * rate_hz:
        first = round(t * rate_hz)
        for hz, step in notes:
            at = round(t * rate_hz)
            if at < n:
                x += _strike(rng, n, at, hz, decay_s, partials, rate_hz)
            t += step
        heard = round((t + 1.2 * decay_s) * rate_hz)
        bursts.append((first, min(n, heard)))
        t += gap_s
        if rng.random() < 0.4:
            break
    merged = [b for i, b in enumerate(bursts) if i == 0 or b[0] >= bursts[i - 1][1]]
    if len(merged) != len(bursts):
        merged = [(bursts[0][0], bursts[-1][1])]
    return x, merged


def _chime(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.uniform(480, 1050))
    fall = 2 ** (-rng.choice([3, 4, 4, 5, 7]) / 12)
    notes = [(hz, float(rng.uniform(0.35, 0.9))), (hz * fall, 0.6)]
    x, bursts = _tune(
        rng, n, rate_hz, notes, float(rng.uniform(1.0, 4)), float(rng.uniform(0.35, 1.1))
    )
    return x, bursts, {"pitch_hz": hz}


def _door_tune(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.uniform(400, 800))
    steps = [[4, 0, 2, -5], [0, 4, 7, 12], [7, 4, 0], [0, 7, 0, 7]][int(rng.integers(4))]
    beat = float(rng.uniform(0.25, 0.6))
    notes = [(hz * 2 ** (s / 12), beat) for s in steps]
    x, bursts = _tune(rng, n, rate_hz, notes, float(rng.uniform(1.5, 4)), 0.5)
    return x, bursts, {"pitch_hz": hz}


def _door_buzzer(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.choice([50.0, 60.0, 100.0, 120.0])) * float(rng.uniform(0.98, 1.02))
    bursts = cadence([(rng.uniform(0.4, 1.4), rng.uniform(0.3, 2.5))], n, rate_hz)
    weights = [rng.uniform(0.3, 1.0) * k**-0.4 for k in range(1, 60)]
    x = band(harmonics(np.full(n, hz), weights, rate_hz), 250, 5000, rate_hz)
    return _beeps(rng, x, bursts, rate_hz), bursts, {"pitch_hz": hz}


def _ring_cadence(rng: Rng) -> list[tuple[float, float]]:
    """North America 2/4 s, Britain 0.4/0.2/0.4/2 s, continental 1/4 s, mobiles shorter."""
    kinds: list[list[tuple[float, float]]] = [
        [(2.0, 4.0)],
        [(0.4, 0.2), (0.4, 2.0)],
        [(1.0, 4.0)],
        [(rng.uniform(0.7, 1.5), rng.uniform(0.4, 2))],
    ]
    return kinds[int(rng.integers(4))]


def _hammered(
    rng: Rng, n: int, rate_hz: int, bursts: list[Interval], pitches: list[float], per_s: float
) -> Array:
    """Gongs struck in turn ``per_s`` times a second while ``bursts`` last."""
    tail = round(0.5 * rate_hz)
    hits = [
        _strike(rng, tail, 0, hz, float(rng.uniform(0.15, 0.5)), _BELL, rate_hz) for hz in pitches
    ]
    x, turn = np.zeros(n + tail), 0
    for start, stop in bursts:
        at = float(start)
        while at < stop:
            i = int(at)
            x[i : i + tail] += hits[turn % len(hits)] * rng.uniform(0.7, 1)
            turn += 1
            at += rate_hz / per_s * rng.uniform(0.96, 1.04)
    return x[:n]


def _phone_bell(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.uniform(900, 1700))
    bursts = cadence(_ring_cadence(rng), n, rate_hz)
    rate = float(rng.uniform(20, 26))
    x = _hammered(rng, n, rate_hz, bursts, [hz, hz * float(rng.uniform(1.1, 1.35))], rate)
    ring = round(0.3 * rate_hz)  # the gongs are heard on
    heard = bridge([(a, min(n, b + ring)) for a, b in bursts], 0)
    return x, heard, {"pitch_hz": hz, "strikes_per_s": rate}


def _phone_warble(rng: Rng, n: int, rate_hz: int) -> Made:
    hz, ratio = float(rng.uniform(700, 1900)), float(rng.uniform(1.12, 1.35))
    rate = float(rng.uniform(8, 25))
    bursts = cadence(_ring_cadence(rng), n, rate_hz)
    turn = (np.arange(n) / rate_hz * rate % 1.0) < 0.5
    weights = [w * rng.uniform(0.3, 1) for w in square_weights(7)]
    x = harmonics(np.where(turn, hz, hz * ratio), weights, rate_hz)
    return _beeps(rng, x, bursts, rate_hz), bursts, {"pitch_hz": hz, "warble_hz": rate}


def _phone_tune(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.uniform(600, 1200))
    scale = [0, 2, 4, 7, 9, 12, 14, 16]
    beat = float(rng.uniform(0.09, 0.2))
    count = int(rng.integers(6, 14))
    notes = [
        (hz * 2 ** (int(rng.choice(scale)) / 12), beat * int(rng.choice([1, 1, 2])))
        for _ in range(count)
    ]
    x, bursts = np.zeros(n), cadence([(n / rate_hz, 1.0)], n, rate_hz)
    t, i = 0.0, 0
    decay = float(rng.uniform(0.08, 0.25))
    partials = [_BAR, _STRING][int(rng.integers(2))]
    while t * rate_hz < n - 0.1 * rate_hz:
        f, step = notes[i % count]
        x += _strike(rng, n, round(t * rate_hz), f, decay, partials, rate_hz)
        t, i = t + step, i + 1
    return x, bursts, {"pitch_hz": hz, "beat_s": beat}


def _appliance(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.uniform(900, 2650) if rng.random() < 0.8 else rng.uniform(3750, 4300))
    on, off = float(rng.uniform(0.12, 1.0)), float(rng.uniform(0.25, 1.2))
    count = int(rng.integers(1, 7))
    pattern = [(on, off)] * (count - 1) + [(on, float(rng.uniform(2.5, 20)))]
    bursts = cadence(pattern, n, rate_hz)
    weights = [1.0, *[rng.uniform(0, 0.35) for _ in range(4)]]
    x = harmonics(_pitch(rng, n, hz, rate_hz), weights, rate_hz)
    return _beeps(rng, x, bursts, rate_hz), bursts, {"pitch_hz": hz, "beeps": float(count)}


def _clock_digital(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.choice([2048.0, 2731.0, 4096.0, rng.uniform(1800, 4200)]))
    on, off = float(rng.uniform(0.05, 0.085)), float(rng.uniform(0.05, 0.08))
    count = int(rng.integers(2, 5))
    pause = float(rng.uniform(0.3, 0.7))
    bursts = cadence([(on, off)] * (count - 1) + [(on, pause)], n, rate_hz)
    x = harmonics(np.full(n, hz), [1.0, rng.uniform(0, 0.3), rng.uniform(0, 0.4)], rate_hz)
    return _beeps(rng, x, bursts, rate_hz, 0.006), bursts, {"pitch_hz": hz, "beeps": float(count)}


def _clock_buzzer(rng: Rng, n: int, rate_hz: int) -> Made:
    hz = float(rng.uniform(220, 700))
    on, off = float(rng.uniform(0.15, 0.5)), float(rng.uniform(0.12, 0.5))
    bursts = cadence([(on, off)], n, rate_hz)
    weights = [rng.uniform(0.4, 1.0) * k**-0.3 for k in range(1, 24)]
    x = band(harmonics(np.full(n, hz), weights, rate_hz), 300, 6000, rate_hz)
    return _beeps(rng, x, bursts, rate_hz), bursts, {"pitch_hz": hz}


def _clock_bell(rng: Rng, n: int, rate_hz: int) -> Made:
    hz, per_s = float(rng.uniform(1900, 3200)), float(rng.uniform(9, 17))
    x = _hammered(rng, n, rate_hz, [(0, n)], [hz, hz * float(rng.uniform(1.02, 1.2))], per_s)
    x += 0.02 * noise(rng, n, -3) * float(np.max(np.abs(x), initial=1e-9))  # the clockwork
    return x, [(0, n)], {"pitch_hz": hz, "strikes_per_s": per_s}


Make = Callable[[Rng, int, int], Made]

VARIANTS: Final[dict[str, dict[str, Make]]] = {
    "smoke_alarm": {"t3_piezo": _smoke_piezo, "t3_520": _smoke_520},
    "co_alarm": {"t4": _t4},
    "siren": {"wail": _wail, "yelp": _yelp, "hi_lo": _hi_lo},
    "car_horn": {"horn": _horn},
    "doorbell": {"chime": _chime, "tune": _door_tune, "buzzer": _door_buzzer},
    "phone_ring": {"bell": _phone_bell, "warble": _phone_warble, "tune": _phone_tune},
    "appliance_beep": {"beep": _appliance},
    "alarm_clock": {"digital": _clock_digital, "buzzer": _clock_buzzer, "bell": _clock_bell},
}

ALARMS: Final = tuple(VARIANTS)
"""Labels this module can make, alerts first."""
