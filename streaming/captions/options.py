"""What a reader may ask of the captions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ossicle.runtime import snapshot
from ossicle.runtime.errors import CaptionError

STYLES = ("brackets", "sentence", "clauses", "off")
DECODER, NO_DECODER = "captioner-16k", "none"


@snapshot.record("captions.Options")
@dataclass(frozen=True, slots=True)
class CaptionOptions:
    """What a reader asked for.

    ``style`` is ``brackets`` (each sound, as captioners write it), ``sentence`` (each change of
    the scene in one sentence; alarms at once), ``clauses`` (each sound as part of a sentence) or
    ``off`` (labels without text). ``decoder`` words the sentences; ``none`` leaves them to the
    grammar.

    Raises:
        CaptionError: a style or score that cannot be.
    """

    min_score: float = 0.0  # no sound is believed below this score
    labels: tuple[str, ...] = ()  # only these sounds (keys or labels); empty: all
    alerts_only: bool = False
    lang: str = "en"
    style: str = "brackets"
    live: bool = True  # False: times for a file, from where each sound began
    decoder: str = DECODER

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        if self.style not in STYLES:
            raise CaptionError(f"caption style {self.style!r}; one of {', '.join(STYLES)} expected")
        if not 0.0 <= self.min_score <= 1.0:
            raise CaptionError(f"min_score {self.min_score}; 0 to 1 expected")


def changed(options: CaptionOptions, new: Mapping[str, Any]) -> CaptionOptions:
    """Return ``options`` with ``new`` values.

    Raises:
        CaptionError: an unknown option, or a value that cannot be.
    """
    known = {f.name for f in fields(CaptionOptions)}
    if set(new) - known:
        raise CaptionError(
            f"unknown caption options {sorted(set(new) - known)}; {', '.join(sorted(known))} exist"
        )
    return CaptionOptions(**{**asdict(options), **new})
