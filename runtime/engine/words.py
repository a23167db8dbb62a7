"""Words about a stream that wait in its inbox, in line with the audio around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

FLUSH = object()
"""The stream has ended."""


@dataclass(slots=True)
class Update:
    """Options for a task."""

    options: Mapping[str, Any]


@dataclass(slots=True)
class Note:
    """A call to make once everything before it has been answered."""

    then: Callable[[], None]
