"""A backend by its name; each brings its heavy library along only when it is asked for."""

from __future__ import annotations

import importlib

from ossicle.runtime.backend.base import Backend
from ossicle.runtime.errors import BackendError

BACKENDS = ("ort", "ort-cuda", "native", "native-bf16", "auto", "tensorrt")


def make_backend(name: str, threads: int = 1) -> Backend:
    """Return the backend called ``name``: one of :data:`BACKENDS`."""
    if name in ("ort", "ort-cuda"):
        from ossicle.runtime.backend.ort import OrtBackend

        return OrtBackend(device="cuda" if name == "ort-cuda" else "cpu", threads=threads)
    if name in ("native", "native-bf16"):
        from ossicle.runtime.backend.native import NativeBackend

        return NativeBackend(half=name == "native-bf16")
    if name == "auto":
        from ossicle.runtime.backend.auto import AutoBackend

        return AutoBackend(threads)
    if name == "tensorrt":
        module = importlib.import_module("ossicle.runtime.backend.tensorrt")
        made: Backend = module.TensorRtBackend()
        return made
    raise BackendError(f"backend {name!r}; one of {', '.join(BACKENDS)} expected")
