"""The release that runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("ossicle")
except PackageNotFoundError:  # run from a tree that was not installed
    VERSION = "0+tree"
