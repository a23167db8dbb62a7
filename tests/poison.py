"""Memory that nobody wrote is NaN here, so that a test sees it read.

``numpy.empty`` hands out whatever lay there, often zeros: a bug that reads it passes by luck. In
every module of ours that asks for such memory, outside numba's compiled functions, these two stand
in for the session.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import ossicle

USES = re.compile(r"\bnp\.empty(_like)?\(")
COMPILED = re.compile(r"\bnjit\b")  # numba looks np.empty up by itself
ODD = 0x5A5A5A5A5A5A5A5A  # what integers hold; not a plausible code, count or index


def spoil(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Fill ``array`` with NaN, or with an odd number where there is no NaN, and return it."""
    if array.dtype.kind in "fc":
        array.fill(np.nan)
    elif array.dtype.kind in "iu":
        array.fill(ODD & np.iinfo(array.dtype).max)
    return array


class Poisoned:
    """NumPy, but for the functions that hand out memory as it comes."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def empty(self, *args: Any, **kwargs: Any) -> np.ndarray[Any, Any]:
        return spoil(np.empty(*args, **kwargs))

    def empty_like(self, *args: Any, **kwargs: Any) -> np.ndarray[Any, Any]:
        return spoil(np.empty_like(*args, **kwargs))


def modules() -> list[str]:
    """Our modules, outside export, that take memory as it comes."""
    root = Path(next(iter(ossicle.__path__)))
    found = []
    for folder in ("runtime", "kernels", "streaming"):
        for file in sorted((root / folder).rglob("*.py")):
            text = file.read_text()
            if USES.search(text) and not COMPILED.search(text):
                found.append("ossicle." + ".".join(file.relative_to(root).with_suffix("").parts))
    return [name.removesuffix(".__init__") for name in found]


@contextmanager
def poisoned() -> Iterator[list[str]]:
    """Poison such memory inside the ``with``; yields the modules' names."""
    changed = []
    for name in modules():
        try:
            module = importlib.import_module(name)
        except ImportError:  # an extra that is not installed
            continue
        changed.append((module, module.np))
        module.np = Poisoned()  # type: ignore[attr-defined]
    try:
        yield [module.__name__ for module, _ in changed]
    finally:
        for module, before in changed:
            module.np = before  # type: ignore[attr-defined]
