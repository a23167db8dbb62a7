"""Backends: whatever runs one exported graph. Each heavy library is imported in one file, late."""

from ossicle.runtime.backend.base import Backend, BoundGraph, LoadedGraph
from ossicle.runtime.backend.choose import BACKENDS, make_backend

__all__ = ["BACKENDS", "Backend", "BoundGraph", "LoadedGraph", "make_backend"]
