"""What clients and users are told of bundles, and which are on this machine."""

from __future__ import annotations

from typing import Any

from ossicle.runtime.budget import LatencyClass
from ossicle.runtime.bundle import Bundle, list_bundles
from ossicle.runtime.errors import BundleError
from ossicle.streaming import messages as m


def describe(manifest: Any, loaded: bool = True) -> m.ModelInfo:
    """Return what clients are told of a bundle."""
    return m.ModelInfo(
        manifest.name,
        manifest.version,
        manifest.task,
        manifest.license,
        manifest.license_class,
        manifest.sample_rate_hz,
        manifest.channels,
        manifest.hop,
        manifest.lookahead,
        manifest.latency,
        LatencyClass.parse(manifest.latency_class),
        tuple(manifest.labels or ()),
        loaded,
    )


def installed() -> list[m.ModelInfo]:
    """Return what every readable bundle says of itself, by name."""
    found: list[m.ModelInfo] = []
    for place in list_bundles().values():
        try:
            found.append(describe(Bundle.open(place).manifest, loaded=False))
        except BundleError:
            continue
    return sorted(found, key=lambda info: info.name)
