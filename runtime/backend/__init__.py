"""Backends: whatever runs one exported graph. Each heavy library is imported in one file, late."""

from ossicle.runtime.backend.base import Backend, BoundGraph, LoadedGraph, make_backend

__all__ = ["Backend", "BoundGraph", "LoadedGraph", "make_backend"]
