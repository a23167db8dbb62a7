"""The workers behind a feed of captions, as a reader's options want them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.manifest import Manifest
from ossicle.streaming.captions.composer import Composer
from ossicle.streaming.captions.feed import Feed
from ossicle.streaming.captions.lines import Group, Timing
from ossicle.streaming.captions.options import CaptionOptions
from ossicle.streaming.captions.rules import rule_of, wanted_of
from ossicle.streaming.captions.scenes import Scenes
from ossicle.streaming.captions.sentences import writer_of
from ossicle.streaming.captions.sounds import SoundKind, known_sounds
from ossicle.streaming.captions.stabiliser import Stabiliser
from ossicle.streaming.captions.tracker import Tracker

HOLD_MS = 80  # non-alerts are held back this long for a second look


@dataclass(frozen=True)
class Desk:
    """The workers for one set of options; built once, shared by all streams that ask so."""

    tracker: Tracker
    composer: Composer
    scenes: Scenes | None  # for whole sentences
    stabiliser: Stabiliser
    feed: Feed
    wanted: NDArray[np.bool_]  # by group
    on: NDArray[np.float32]  # thresholds, by group
    off: NDArray[np.float32]


def desk_of(
    manifest: Manifest, groups: Sequence[Group], timing: Timing, options: CaptionOptions
) -> Desk:
    """Return the workers for one tagger and one set of options.

    Raises:
        CaptionError: options that cannot be met, or thresholds that contradict.
        BundleError: no such sentence decoder.
    """
    rate = manifest.sample_rate_hz
    kinds = [known_sounds().get(g.key, SoundKind(g.key)) for g in groups]
    rules = [rule_of(manifest, g, options.min_score) for g in groups]
    whole = options.style == "sentence"
    return Desk(
        Tracker(rules),
        Composer(groups, timing, rate, options.lang, options.style, live=options.live),
        Scenes(writer_of(options.decoder), groups, rate, options.lang) if whole else None,
        Stabiliser(HOLD_MS * rate // 1000),
        Feed(manifest.name, rate, options.live),
        wanted_of(groups, kinds, manifest, options),
        np.array([max(r.on, 1e-6) for r in rules], np.float32),
        np.array([r.off for r in rules], np.float32),
    )
