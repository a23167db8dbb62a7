"""Ossicle: a low-latency streaming and edge runtime for audio models.

The names below are the public face; each is loaded when it is first asked for, so that
``import ossicle`` costs next to nothing.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ossicle.runtime.audio import AudioFormat, Chunk
    from ossicle.runtime.budget import Budget, LatencyClass, Ledger
    from ossicle.runtime.bundle import Bundle, list_bundles
    from ossicle.runtime.conformance import verify
    from ossicle.runtime.engine import Engine, EngineSettings
    from ossicle.runtime.errors import OssicleError
    from ossicle.runtime.model import Model, load_model
    from ossicle.runtime.modelstage import ModelStage
    from ossicle.runtime.resample import Resampler
    from ossicle.runtime.stage import Pipeline, Stage
    from ossicle.runtime.task import InlineRun
    from ossicle.streaming.client import connect

_WHERE = {
    "AudioFormat": "runtime.audio",
    "Budget": "runtime.budget",
    "Bundle": "runtime.bundle",
    "Chunk": "runtime.audio",
    "Engine": "runtime.engine",
    "EngineSettings": "runtime.engine",
    "InlineRun": "runtime.task",
    "LatencyClass": "runtime.budget",
    "Ledger": "runtime.budget",
    "Model": "runtime.model",
    "ModelStage": "runtime.modelstage",
    "OssicleError": "runtime.errors",
    "Pipeline": "runtime.stage",
    "Resampler": "runtime.resample",
    "Stage": "runtime.stage",
    "connect": "streaming.client",
    "list_bundles": "runtime.bundle",
    "load_model": "runtime.model",
    "verify": "runtime.conformance",
}

__all__ = [
    "AudioFormat",
    "Budget",
    "Bundle",
    "Chunk",
    "Engine",
    "EngineSettings",
    "InlineRun",
    "LatencyClass",
    "Ledger",
    "Model",
    "ModelStage",
    "OssicleError",
    "Pipeline",
    "Resampler",
    "Stage",
    "__version__",
    "connect",
    "list_bundles",
    "load_model",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        try:
            return importlib.metadata.version("ossicle")
        except importlib.metadata.PackageNotFoundError:
            return "0+tree"  # run from the source tree, not installed
    if name in _WHERE:
        return getattr(importlib.import_module(f"ossicle.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'ossicle' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
