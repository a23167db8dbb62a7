"""Rows of a batch: many streams' arrays into one array, one array apart again, and NaN looked for.

NumPy takes longer to begin than to copy or look at a hop, so all rows go in one call of the
compiled part. Without it, and where it cannot, the ``reference_`` functions do the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.errors import AudioError

Array = NDArray[Any]
Row = dict[str, Array]


def reference_write_rows(target: Array, values: Sequence[Array], places: Sequence[int]) -> None:
    """Set row ``places[i]`` of ``target`` ``[B, ...]`` to ``values[i]``, all of its kind.

    Raises:
        AudioError: another shape or dtype than a row's.
    """
    for row, value in zip(places, values, strict=True):
        if np.shape(value) != target.shape[1:] or np.asarray(value).dtype != target.dtype:
            raise AudioError(
                f"a hop brings {np.asarray(value).dtype} {np.shape(value)}; "
                f"{target.dtype} {target.shape[1:]} expected"
            )
        target[row] = value


def reference_all_finite(arrays: Sequence[Array]) -> bool:
    """Whether no value of any array is NaN or infinite; False as well for what is not float32."""
    return all(
        isinstance(a, np.ndarray) and a.dtype == np.float32 and bool(np.isfinite(a).all())
        for a in arrays
    )


def write_rows(target: Array, values: list[Array], places: list[int]) -> None:
    """Do what :func:`reference_write_rows` does, in one call."""
    written = 0
    if _core is not None and target.flags.c_contiguous:
        written = _core.write_rows(target, values, places)
    if written < len(values):  # or a row that lies otherwise in memory, or is wrong
        reference_write_rows(target, values[written:], places[written:])


def all_finite(arrays: list[Array]) -> bool:
    """Do what :func:`reference_all_finite` does, in one call; False also means "look closer"."""
    return _core.all_finite(arrays) if _core is not None else reference_all_finite(arrays)


def finite_values(made: Mapping[str, Array]) -> bool:
    """Whether no float of any array is NaN or infinite."""
    floats = [array for array in made.values() if array.dtype.kind == "f"]
    return all_finite(floats) or all(np.isfinite(array).all() for array in floats)


def read_rows(made: Mapping[str, Array], places: Sequence[int]) -> list[Row]:
    """Return a view of each place's row of every array ``[B, ...]``, by name."""
    if len(made) == 1:
        ((name, array),) = made.items()
        column = list(array)
        return [{name: column[row]} for row in places]
    columns = [list(array) for array in made.values()]
    return [dict(zip(made, [column[row] for column in columns], strict=True)) for row in places]


def compiled_part(needed: str) -> Any | None:  # the module, so that a type would not help
    """Return ``ossicle._core`` if it was built, has ``needed`` and is wanted (``OSSICLE_CORE``)."""
    if os.environ.get("OSSICLE_CORE") == "0":
        return None
    try:
        from ossicle import _core
    except ImportError:
        return None
    return _core if hasattr(_core, needed) else None  # an older build is as good as none


_core = compiled_part("write_rows")
