"""The names of the sounds that the built-in taggers know, in the order of their scores."""

from typing import Final

from ossicle.runtime.scene.alarms import ALARMS

ENVIRONMENT: Final = (
    "dog_bark",
    "rain",
    "sea_waves",
    "baby_cry",
    "clock_tick",
    "sneeze",
    "helicopter",
    "chainsaw",
    "rooster",
    "fire_crackling",
)
"""The ten classes of ESC-10, in its order."""

LABELS: Final = (*ENVIRONMENT, "speech", "music", *ALARMS)
ALERTS: Final = frozenset({"smoke_alarm", "co_alarm", "siren", "car_horn"})
"""Labels that warn of danger and are told without waiting."""

NOTABLE: Final = frozenset(
    {"doorbell", "phone_ring", "alarm_clock", "appliance_beep", "baby_cry", "dog_bark"}
)
"""Labels that somebody may have to act on."""
