"""Short phrases as sparse vectors: hashed words, word pairs and letter groups.

Shared by the recipe that trains a query encoder and the code that runs it, so that both see the
same features. No vocabulary is stored; two words may share a bucket and rarely do.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_FILLER = (
    "a an the of to in on at is are was be being some any sound sounds noise noises audio please "
    "hear hearing me my i want only just that this there it its from by s and with while as "
    "loud quiet nearby background distance"
)
STOP_WORDS = frozenset(_FILLER.split())
_ENDINGS = ("ings", "ing", "ers", "er", "ies", "es", "ed", "s")


def words_of(text: str) -> list[str]:
    """Lower-case words of ``text`` without accents' variants, marks and filler.

    >>> words_of("The sound of a Dog, barking!")
    ['dog', 'barking']
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = _WORD.findall(folded)
    return [word for word in words if word not in STOP_WORDS] or words


def stem(word: str) -> str:
    """``word`` without a common English ending, at least three letters long.

    >>> stem("barking"), stem("cries"), stem("bus")
    ('bark', 'cri', 'bus')
    """
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def phrase_vector(text: str, size: int) -> NDArray[np.float32]:
    """Unit vector [size] of a phrase; all zero when it has no word."""
    words = words_of(text)
    vector = np.zeros(size, np.float32)
    for word in words:
        vector[_bucket("w:" + stem(word), size)] += 1.0
        padded = f"<{word}>"
        for n in (3, 4):
            for i in range(len(padded) - n + 1):
                vector[_bucket("c:" + padded[i : i + n], size)] += 0.25
    for first, second in pairwise(words):
        vector[_bucket(f"p:{stem(first)} {stem(second)}", size)] += 0.7
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector


def _bucket(feature: str, size: int) -> int:
    return zlib.crc32(feature.encode()) % size
