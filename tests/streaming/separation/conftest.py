"""The built-in separator, loaded once."""

from __future__ import annotations

import pytest

from ossicle.runtime.model import Model


@pytest.fixture(scope="session")
def separator() -> Model:
    return Model.load("separate-16k")
