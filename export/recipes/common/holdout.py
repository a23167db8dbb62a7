"""Which clips are never trained on, where a corpus names no speakers.

Speech clips are clustered by long-term spectrum, its spread and the recording's noise floor
(voice, microphone and room together); whole clusters are held out, so that a held-out voice or
its session is unlikely to be in training. This approximates a split by speaker; it is not one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy

from ossicle.export.recipes.common.corpus import Corpus, Samples

CLUSTERS = 60


def voice_print(audio: Samples) -> NDArray[np.float64]:
    """120 numbers on how a clip's speaker and channel sound, whatever is said or how loudly."""
    frames = np.lib.stride_tricks.sliding_window_view(audio, 512)[::160] * np.hanning(512)
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges = np.unique(np.geomspace(3, 256, 41).astype(int))
    bands = np.log(np.add.reduceat(power, edges[:-1], axis=1) + 1e-9)
    level = bands.mean(axis=1)
    loud = bands[level > np.percentile(level, 50)]
    floor = bands[level <= np.percentile(level, 15)]
    mean = loud.mean(axis=0)
    return np.concatenate([mean - mean.mean(), loud.std(axis=0), 0.7 * (floor.mean(axis=0) - mean)])


def voice_clusters(corpora: list[Corpus]) -> list[NDArray[np.int64]]:
    """Cluster number (1..60) of every clip of every corpus, by Ward's method on voice prints."""
    prints = np.array([voice_print(c.audio(k)) for c in corpora for k in c.clips])
    scaled = (prints - prints.mean(axis=0)) / prints.std(axis=0)
    u, s, _ = np.linalg.svd(scaled, full_matrices=False)
    tree = hierarchy.linkage(u[:, :24] * s[:24], "ward")
    number = hierarchy.fcluster(tree, CLUSTERS, "maxclust").astype(np.int64)
    ends = np.cumsum([len(c.clips) for c in corpora])
    return list(np.split(number, ends[:-1]))
