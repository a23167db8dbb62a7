"""What a tagger's manifest says of its classes: which sounds they are, and when one is heard.

In ``extra``, besides its ``labels``:

- ``thresholds``: by label, ``{"on", "off", "min_on_ms", "min_off_ms", "max_rise_ms", "lag_ms",
  "sure", "enough", "most"}`` of :class:`~ossicle.streaming.captions.tracker.ClassRule`, each
  optional, or ``[on, off]``, or one number; the entry ``"*"`` holds for labels not named;
- ``score_delay``: samples by which a score trails the sound it is about, where that differs from
  the manifest's output delay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.errors import CaptionError, ManifestError
from ossicle.runtime.manifest import Manifest
from ossicle.streaming.captions.cue import Priority
from ossicle.streaming.captions.lines import Group
from ossicle.streaming.captions.options import CaptionOptions
from ossicle.streaming.captions.sounds import SoundKind, known_sounds, sounds_of
from ossicle.streaming.captions.tracker import ClassRule

DEFAULT_RULE = {
    "on": 0.5, "off": 0.25, "min_on_ms": 80, "min_off_ms": 240, "max_rise_ms": 240, "lag_ms": 0,
    "sure": 2, "enough": 0, "most": 20,
}  # fmt: skip
AUDIOSET_RULE = {
    "on": 0.35, "off": 0.15, "min_on_ms": 0, "min_off_ms": 960, "max_rise_ms": 480, "lag_ms": 0,
    "sure": 2, "enough": 0, "most": 20,
}  # fmt: skip
AUDIOSET_CLASSES = 400  # a tagger of more classes is taken for one of AudioSet's


def audio_input(manifest: Manifest, program: str) -> str:
    """Return the name of the tagger's audio input.

    Raises:
        ManifestError: a bundle without scores or labels, or with another number of inputs.
    """
    line = manifest.programs.get(program)
    if line is None or manifest.labels is None or all(o.name != "scores" for o in line.outputs):
        raise ManifestError(
            f"{manifest.name} cannot be captioned from: a program {program!r} with an output "
            "'scores', and labels, are needed"
        )
    sources = [p.name for p in line.inputs if p.kind == "audio"]
    if len(sources) != 1:
        raise ManifestError(f"{manifest.name}.{program} takes {sources}; one audio input expected")
    return sources[0]


def groups_of(manifest: Manifest) -> list[Group]:
    """Return the sounds that the tagger's classes mean, in the order they first appear."""
    labels = manifest.labels or ()
    members: dict[str, list[int]] = {}
    for index, key in enumerate(sounds_of(labels)):
        if key:
            members.setdefault(key, []).append(index)
    return [
        Group(key, labels[ids[0]] if len(ids) == 1 else key, tuple(ids))
        for key, ids in members.items()
    ]


def narrower_of(groups: Sequence[Group]) -> list[tuple[int, int]]:
    """Return (narrow, broad) groups: where the first is heard, the second says nothing more."""
    places, sounds = {g.key: i for i, g in enumerate(groups)}, known_sounds()
    return [
        (places[key], places[broad])
        for key in places
        for broad in (sounds[key].narrows if key in sounds else ())
        if broad in places
    ]


def wanted_of(
    groups: Sequence[Group], kinds: Sequence[SoundKind], manifest: Manifest, options: CaptionOptions
) -> NDArray[np.bool_]:
    """Return which groups a reader wants, `[groups]`.

    Raises:
        CaptionError: a label that the tagger does not know.
    """
    names = [{g.key, g.name, *((manifest.labels or ())[i] for i in g.class_ids)} for g in groups]
    unknown = [name for name in options.labels if not any(name in n for n in names)]
    if unknown:
        raise CaptionError(
            f"{manifest.name} does not know {unknown}; it knows "
            f"{', '.join(sorted(g.key for g in groups))}"
        )
    alert = np.array([k.priority is Priority.ALERT for k in kinds], bool)
    named = np.array([not options.labels or bool(n & set(options.labels)) for n in names], bool)
    return named & (alert if options.alerts_only else True)


def rule_of(manifest: Manifest, group: Group, min_score: float) -> ClassRule:
    """Return the thresholds of a group: those of its first class that the bundle names.

    Raises:
        CaptionError: thresholds that contradict, or that nobody knows.
    """
    table: Mapping[str, Any] = manifest.extra.get("thresholds", {})
    names = [(manifest.labels or ())[i] for i in group.class_ids]
    given: Any = next((table[n] for n in (*names, group.key, "*") if n in table), {})
    if isinstance(given, int | float):
        given = {"on": given, "off": given / 2}
    elif not isinstance(given, Mapping):
        given = dict(zip(("on", "off"), given, strict=False))
    audioset = len(manifest.labels or ()) > AUDIOSET_CLASSES
    values = {**(AUDIOSET_RULE if audioset else DEFAULT_RULE), **given}
    if set(values) - set(DEFAULT_RULE):
        raise CaptionError(
            f"{manifest.name}: thresholds of {group.key} have unknown "
            f"{sorted(set(values) - set(DEFAULT_RULE))}; {', '.join(DEFAULT_RULE)} exist"
        )

    def samples(name: str) -> int:
        return round(float(values[name]) * manifest.sample_rate_hz / 1000)

    on = max(float(values["on"]), min_score)
    return ClassRule(group.name, on, min(float(values["off"]), on), samples("min_on_ms"),
                     samples("min_off_ms"), samples("max_rise_ms"), samples("lag_ms"),
                     max(float(values["sure"]), on), float(values["enough"]),
                     float(values["most"]))  # fmt: skip
