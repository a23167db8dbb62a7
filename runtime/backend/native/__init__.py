"""Backend ``native``: step graphs lowered to fused steps over planned memory, run in C++."""

from ossicle.runtime.backend.native.backend import NativeBackend, NativeBound, NativeGraph

__all__ = ["NativeBackend", "NativeBound", "NativeGraph"]
