"""Which path a kernel takes on the CPU: compiled, numba or NumPy.

The first one installed is taken, in this order. ``OSSICLE_KERNELS=numba`` (or ``numpy``, ``core``)
or :func:`use` asks for one by name; a path that is not installed is then an error, never a silent
other. ``OSSICLE_CORE=0`` leaves the compiled part aside altogether, as if the wheel had come
without it.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, Final, Literal, get_args

from ossicle.kernels.errors import MissingError

Path = Literal["core", "numba", "numpy"]
PATHS: Final[tuple[Path, ...]] = get_args(Path)


@cache
def _from_environment() -> str | None:
    """Read once: looking it up costs as much as a small kernel."""
    return os.environ.get("OSSICLE_KERNELS")


_asked: ContextVar[Path | None] = ContextVar("ossicle_kernels_path", default=None)


@cache
def core() -> Any | None:  # the module, so that a type would not help
    """The compiled module, or ``None`` where the wheel came without it, which is said once."""
    if os.environ.get("OSSICLE_CORE") == "0":
        return None
    try:
        from ossicle import _core
    except ImportError:
        logging.getLogger("ossicle.kernels").warning(
            "ossicle came without its compiled part: kernels run on %s, several times slower. "
            "Reinstall where a C++20 compiler is found, or take a wheel built for this platform.",
            "numba" if _found("numba") else "NumPy (pip install ossicle[kernels] adds numba)",
        )
        return None
    return _core


def _found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # barred in sys.modules
        return False


@cache
def installed() -> tuple[Path, ...]:
    """The paths that can run here, fastest first."""
    have = {
        "core": core() is not None,
        "numba": _found("numba"),
        "numpy": True,
    }
    return tuple(path for path in PATHS if have[path])


def choose(path: Path | None = None) -> Path:
    """The path to take: ``path``, else the one asked for around us, else the fastest installed.

    Raises:
        MissingError: the path is unknown or not installed.
    """
    asked = path or _asked.get() or _from_environment() or installed()[0]
    if asked not in installed():
        hint = {
            "core": "install a wheel built with a compiler",
            "numba": "pip install ossicle[kernels]",
        }
        raise MissingError(
            f"kernel path {asked!r} cannot run here; installed: {', '.join(installed())}"
            + (f" ({hint[asked]})" if asked in hint else "")
        )
    return asked


@contextmanager
def use(path: Path) -> Iterator[None]:
    """Everything inside the ``with`` takes this path.

    >>> with use("numpy"):
    ...     choose()
    'numpy'
    """
    choose(path)
    token = _asked.set(path)
    try:
        yield
    finally:
        _asked.reset(token)
