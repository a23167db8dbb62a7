"""How commands speak: JSON for programs, tables for people, exit codes for scripts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from enum import Enum
from typing import Any

import msgspec

from ossicle.runtime import errors as e

EXIT_CODES = {
    0: "done",
    1: "a law does not hold, or a measured bound was missed",
    2: "the command line is wrong",
    3: "audio, packets or captions that cannot be read or written",
    4: "a model that is missing, cannot be trusted, or cannot do this",
    5: "a server that cannot be reached, or refuses",
    6: "no capacity now; try later",
    7: "no sound device",
    8: "a download or an export failed",
    70: "a fault of ours",
    130: "interrupted",
}
_BY_ERROR: tuple[tuple[type[BaseException], int], ...] = (
    (e.CapacityError, 6),
    (e.DeviceError, 7),
    (e.DownloadError, 8),
    (e.ExportError, 8),
    (e.AudioError, 3),
    (e.PacketError, 3),
    (e.CaptionError, 3),
    (e.BundleError, 4),
    (e.BackendError, 4),
    (e.BudgetError, 4),
    (e.QueryError, 2),
    (e.WireError, 2),
    (e.OssicleError, 5),
)

_BY_STATUS = {"RESOURCE_EXHAUSTED": 6, "INVALID_ARGUMENT": 2, "NOT_FOUND": 4}


def exit_code(error: BaseException) -> int:
    """Return the exit code for an error; ``ossicle --help`` lists what they mean."""
    failure = getattr(error, "failure", None)
    if failure is not None:
        return _BY_STATUS.get(failure.code, 5)
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), 70)


def plain(value: Any) -> Any:
    """Return ``value`` as what JSON can hold."""
    if is_dataclass(value) and not isinstance(value, type):
        return {k: plain(v) for k, v in asdict(value).items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, msgspec.Struct):
        return {k: plain(v) for k, v in msgspec.structs.asdict(value).items()}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float | int | str | bool) or value is None:
        return value
    return float(value) if hasattr(value, "__float__") else str(value)


def show(value: Any, as_json: bool, text: Callable[[], Any], quiet: bool = False) -> None:
    """Print a result: JSON on standard output, or what ``text`` gives.

    With ``quiet`` the people's form goes to standard error: standard output carries data.
    """
    if as_json:
        print(
            json.dumps(plain(value), ensure_ascii=False), file=sys.stderr if quiet else sys.stdout
        )
        return
    from rich.console import Console

    Console(stderr=quiet).print(text())


@contextmanager
def errors_as_exits(as_json: bool) -> Iterator[None]:
    """Turn errors into a message that says what to do, and an exit code."""
    try:
        yield
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except e.OssicleError as error:
        say_error(error, as_json)
        raise SystemExit(exit_code(error)) from None
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        hint = _EXTRAS.get(missing)
        if hint is None:
            raise
        say_error(
            e.OssicleError(f"{missing} is not installed; pip install 'ossicle[{hint}]'"), as_json
        )
        raise SystemExit(4) from None


_EXTRAS = {
    "grpc": "server",
    "grpc_health": "server",
    "google": "server",
    "prometheus_client": "server",
    "soundfile": "audio",
    "sounddevice": "audio",
    "onnxruntime": "cpu",
    "matplotlib": "plot",
    "torch": "export",
    "onnx": "import",
    "starlette": "web",
}


def say_error(error: BaseException, as_json: bool) -> None:
    """Print an error on standard error."""
    if as_json:
        line = {"error": str(error), "kind": type(error).__name__, "exit": exit_code(error)}
        print(json.dumps(line), file=sys.stderr)
        return
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text.assemble(("error: ", "bold red"), str(error)))


@contextmanager
def progress_bar(label: str, enabled: bool) -> Iterator[Callable[[float, float | None], None]]:
    """Give a function (seconds done, seconds in all) that moves a bar on a terminal."""
    if not (enabled and sys.stderr.isatty()):
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(label), BarColumn(), TextColumn("{task.completed:.0f} s of audio"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def download_bar(label: str, enabled: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Give a function (file, bytes so far, bytes in all) that moves one bar a file."""
    if not (enabled and sys.stderr.isatty()):
        yield lambda name, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    tasks: dict[str, Any] = {}
    with Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True)) as bar:

        def moved(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(f"{label} {name}", total=total)
            bar.update(tasks[name], completed=done)

        yield moved
