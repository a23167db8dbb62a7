"""The models a server has, and the engine that runs them."""

from __future__ import annotations

import contextlib
import logging

from ossicle.runtime.bundle import find_bundle
from ossicle.runtime.engine import Engine, EngineSettings
from ossicle.runtime.errors import BundleError, WireError
from ossicle.runtime.model import Model
from ossicle.streaming.server.config import BUILT_IN, Settings

log = logging.getLogger("ossicle.server")


def load_models(settings: Settings) -> dict[str, Model]:
    """Return the models that the settings name, or every built-in that is there.

    Raises:
        BundleError: one of those named cannot be read.
        WireError: there is none at all.
    """
    names = list(settings.models)
    if not names:
        for name in BUILT_IN:
            with contextlib.suppress(BundleError):
                find_bundle(name)
                names.append(name)
    if not names:
        raise WireError("no model is installed; name one with --models, or `ossicle pull` one")
    models = [Model.load(name, settings.backend, settings.threads) for name in names]
    for model in models:
        log.info("loaded", extra={"model": model.name, "backend": model.backend.name})
    return {model.name: model for model in models}


def make_engine(models: dict[str, Model], settings: Settings) -> Engine:
    """Return an engine for ``models`` with the limits of ``settings``.

    Carrying a hop through gRPC costs the interpreter more than stepping it does: admission counts
    ``message_us`` for it.
    """
    slots = min(4 * settings.max_streams, 4096)
    limits = EngineSettings(
        max_streams=slots, max_load=settings.max_load, inbox_ms=float(settings.ring_ms),
        around_us=settings.message_us, gather_ms=settings.gather_ms,
    )  # fmt: skip
    return Engine(models, limits)
