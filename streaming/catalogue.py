"""The bundles on this machine: built in, and pulled into the cache."""

from __future__ import annotations

from ossicle.runtime.bundle import Bundle, list_bundles
from ossicle.runtime.errors import BundleError
from ossicle.streaming import messages as m
from ossicle.streaming.service import describe


def installed() -> list[m.ModelInfo]:
    """Return what every readable bundle says of itself, by name."""
    found: list[m.ModelInfo] = []
    for place in list_bundles().values():
        try:
            found.append(describe(Bundle.open(place).manifest, loaded=False))
        except BundleError:
            continue
    return sorted(found, key=lambda info: info.name)
