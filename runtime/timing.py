"""When to speak: the chance that another sound is about to be reported.

A sentence about several sounds should wait for those that begin together, and no longer. After
each new sound a small logistic head looks at what the tagger is still making up its mind about;
once it expects nothing more, the sentence is spoken, at the latest after ``most_ms``. Its inputs
are relative to the tagger's own thresholds, so that any tagger will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp
from typing import Any

from ossicle.runtime.errors import ManifestError

INPUTS = 5


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a tagger has in hand, apart from the sounds that are on."""

    rising: int  # classes at or above their off threshold that are not believed yet
    nearest: float  # the highest score over on threshold among classes that are not on, 0 to 1


@dataclass(frozen=True, slots=True)
class TimingHead:
    """Decides, every frame, whether to go on waiting.

    Raises:
        ManifestError: other inputs, or times that contradict.
    """

    weights: tuple[float, ...]
    bias: float
    cut: float  # speak below this chance
    least_ms: float  # never sooner
    most_ms: float  # never later

    def __post_init__(self) -> None:
        if len(self.weights) != INPUTS or not 0 <= self.least_ms <= self.most_ms:
            raise ManifestError(
                f"timing: {len(self.weights)} weights, {self.least_ms} to {self.most_ms} ms; "
                f"{INPUTS} weights and ascending times expected"
            )

    def speaks(self, waited_ms: float, outlook: Outlook) -> bool:
        """Whether ``waited_ms`` after the last new sound, the sentence should be spoken.

        >>> WAIT.speaks(800, Outlook(0, 0.0)), WAIT.speaks(1500, Outlook(2, 0.9))
        (False, True)
        """
        if waited_ms >= self.most_ms:
            return True
        return waited_ms >= self.least_ms and self.chance(waited_ms, outlook) < self.cut

    def chance(self, waited_ms: float, outlook: Outlook) -> float:
        """Return the chance that another sound is reported before ``most_ms``."""
        x = inputs(waited_ms, self.most_ms, outlook)
        total = self.bias + sum(w * v for w, v in zip(self.weights, x, strict=True))
        return 1 / (1 + exp(-max(-30.0, min(30.0, total))))


def inputs(waited_ms: float, most_ms: float, outlook: Outlook) -> tuple[float, ...]:
    """Return what the head weighs; the time left, what rises, how near it is, and both together."""
    left = max(0.0, 1 - waited_ms / most_ms)
    rising = min(outlook.rising, 3) / 3
    return left, rising, outlook.nearest, outlook.nearest**2, left * outlook.nearest


def head_of(extra: Mapping[str, Any]) -> TimingHead:
    """Return the head in a decoder's settings; without one, the plain wait."""
    given = extra.get("timing")
    if given is None:
        return WAIT
    try:
        return TimingHead(tuple(given["weights"]), *(float(given[k]) for k in
                          ("bias", "cut", "least_ms", "most_ms")))  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"timing: {given!r} is no timing head: {error}") from error


WAIT = TimingHead((0.0,) * INPUTS, 0.0, 0.0, 0.0, 1500.0)
"""No head: 1.5 s after the last new sound."""
