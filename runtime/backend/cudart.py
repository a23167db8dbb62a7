"""The few calls of the CUDA runtime that the TensorRT adapter needs, through ctypes."""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any, Protocol

from ossicle.runtime.backend.base import Array
from ossicle.runtime.errors import BackendError

_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind
_THREAD_LOCAL = 1  # cudaStreamCaptureModeThreadLocal
_MAJOR, _MINOR = 75, 76  # cudaDevAttrComputeCapability*


class Cuda(Protocol):
    """Device memory, one stream, and captured graphs; addresses and handles are integers."""

    def capability(self) -> tuple[int, int]:
        """Return the compute capability of device 0."""
        ...

    def stream(self) -> int:
        """Make a stream."""
        ...

    def allocate(self, size: int) -> int:
        """Return the address of ``size`` bytes on the device."""
        ...

    def free(self, address: int) -> None:
        """Give device memory back."""
        ...

    def upload(self, address: int, array: Array, stream: int) -> None:
        """Copy a contiguous array to the device, in stream order."""
        ...

    def download(self, array: Array, address: int, stream: int) -> None:
        """Copy device memory into a contiguous array, in stream order."""
        ...

    def wait(self, stream: int) -> None:
        """Return when everything in the stream is done."""
        ...

    def begin_capture(self, stream: int) -> None:
        """Record what follows in the stream instead of running it."""
        ...

    def end_capture(self, stream: int) -> int:
        """Return the recorded work, ready to launch."""
        ...

    def launch(self, graph: int, stream: int) -> None:
        """Run recorded work."""
        ...


class CudaRuntime:
    """``Cuda`` on ``libcudart``."""

    def __init__(self) -> None:
        self._library = _load()

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            self._library.cudaGetErrorString.restype = ctypes.c_char_p
            text = self._library.cudaGetErrorString(code)
            raise BackendError(f"{name} failed: {(text or b'').decode()} (CUDA error {code})")

    def capability(self) -> tuple[int, int]:
        """Return the compute capability of device 0."""
        found = []
        for attribute in (_MAJOR, _MINOR):
            value = ctypes.c_int()
            self._call("cudaDeviceGetAttribute", ctypes.byref(value), attribute, 0)
            found.append(value.value)
        return found[0], found[1]

    def stream(self) -> int:
        """Make a stream that does not wait for the default one."""
        handle = ctypes.c_void_p()
        self._call("cudaStreamCreateWithFlags", ctypes.byref(handle), 1)
        return int(handle.value or 0)

    def allocate(self, size: int) -> int:
        """Return the address of ``size`` bytes on the device."""
        address = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(max(size, 1)))
        return int(address.value or 0)

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._call("cudaFree", ctypes.c_void_p(address))

    def upload(self, address: int, array: Array, stream: int) -> None:
        """Copy a contiguous array to the device, in stream order."""
        self._copy(address, array.ctypes.data, array.nbytes, _TO_DEVICE, stream)

    def download(self, array: Array, address: int, stream: int) -> None:
        """Copy device memory into a contiguous array, in stream order."""
        self._copy(array.ctypes.data, address, array.nbytes, _TO_HOST, stream)

    def _copy(self, target: int, source: int, size: int, kind: int, stream: int) -> None:
        pointer, count = ctypes.c_void_p, ctypes.c_size_t(size)
        self._call(
            "cudaMemcpyAsync", pointer(target), pointer(source), count, kind, pointer(stream)
        )

    def wait(self, stream: int) -> None:
        """Return when everything in the stream is done."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def begin_capture(self, stream: int) -> None:
        """Record what follows in the stream instead of running it."""
        self._call("cudaStreamBeginCapture", ctypes.c_void_p(stream), _THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """Return the recorded work, ready to launch."""
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cudaStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
        self._call("cudaGraphInstantiate", ctypes.byref(ready), graph, ctypes.c_ulonglong(0))
        return int(ready.value or 0)

    def launch(self, graph: int, stream: int) -> None:
        """Run recorded work."""
        self._call("cudaGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(stream))


def _load() -> ctypes.CDLL:
    names = ["libcudart.so.13", "libcudart.so.12", ctypes.util.find_library("cudart")]
    for name in names:
        if name:
            try:
                return ctypes.CDLL(name)
            except OSError:
                continue
    raise BackendError("the CUDA runtime (libcudart) was not found; TensorRT needs it")
