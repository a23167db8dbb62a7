"""The session's own guard: memory that nobody wrote is NaN."""

from __future__ import annotations

import numpy as np
from poison import modules, spoil

from ossicle.runtime.backend import make_backend
from ossicle.runtime.bundle import Bundle


def test_what_a_graph_has_not_written_yet_is_not_a_number() -> None:
    bundle = Bundle.open("separate-16k")
    backend = make_backend("ort", 1)
    for name in bundle.manifest.graphs:
        bound = backend.load(bundle, name).bind(2)
        for array in bound._outputs.values():  # type: ignore[attr-defined]
            assert np.isnan(array).all()


def test_the_modules_that_take_such_memory_are_found() -> None:
    assert "ossicle.runtime.backend.ort" in modules()


def test_integers_are_spoilt_too() -> None:
    assert spoil(np.zeros(3, np.int32)).min() > 1_000_000
    assert np.isnan(spoil(np.zeros(3, np.float32))).all()
