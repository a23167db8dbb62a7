"""What a kernel raises when its arrays do not fit: the argument, what came, what is allowed."""

from __future__ import annotations


class KernelError(Exception):
    """Any refusal of a kernel."""


class ShapeError(KernelError, ValueError):
    """An array has the wrong number of axes, the wrong sizes, or is empty."""


class LayoutError(KernelError, ValueError):
    """An array is not C-contiguous, or may not be written to."""


class DtypeError(KernelError, TypeError):
    """An array has another dtype than the kernel takes; nothing is cast in silence."""


class RangeError(KernelError, ValueError):
    """A number (a layer count, a code, a position) is outside its range."""


class MissingError(KernelError, RuntimeError):
    """The path asked for is not installed here."""
