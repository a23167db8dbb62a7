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

from typing import Final

from ossicle.runtime.errors import AudioError
from ossicle.runtime.scene import beeps, bells, horns
from ossicle.runtime.scene.beeps import Make, Rng
from ossicle.runtime.scene.sound import RATE_HZ, Sound, drive, finish, length


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


VARIANTS: Final[dict[str, dict[str, Make]]] = {
    "smoke_alarm": beeps.SMOKE,
    "co_alarm": beeps.CARBON_MONOXIDE,
    "siren": horns.SIREN,
    "car_horn": horns.HORN,
    "doorbell": bells.DOOR,
    "phone_ring": bells.PHONE,
    "appliance_beep": beeps.APPLIANCE,
    "alarm_clock": {**beeps.CLOCK, **bells.CLOCK},
}

ALARMS: Final = tuple(VARIANTS)
"""Labels this module can make, alerts first."""
