"""From what a client asks for to the task that does it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from ossicle.runtime.errors import WireError
from ossicle.runtime.model import Model
from ossicle.runtime.task import Task
from ossicle.streaming.messages import KINDS, Rung, TaskSpec

BUILT_IN = {
    "caption": "sounds-16k",
    "encode": "codec-16k",
    "decode": "codec-16k",
    "separate": "separate-16k",
    "enhance": "separate-16k-talk",
}
TASK_OF_BUNDLE = {  # kinds that a bundle of this manifest task can run
    "caption": ("caption",),
    "tag": ("caption",),
    "encode": ("encode", "decode"),
    "decode": ("decode",),
    "separate": ("separate", "enhance"),
    "enhance": ("enhance",),
}


def model_of(spec: TaskSpec) -> str:
    """Return the bundle that ``spec`` asks for."""
    return spec.model or BUILT_IN[spec.kind]


def build(spec: TaskSpec, model: Model, live: bool) -> Task:
    """Return the task for ``spec``.

    Raises:
        WireError: the bundle is for something else, or an option is out of range.
    """
    check_kind(spec, model)
    return _BUILDERS[spec.kind](model, spec.options, live)


def check_kind(spec: TaskSpec, model: Model) -> None:
    """Refuse a bundle that is for something else.

    Raises:
        WireError: with what it does.
    """
    offered = TASK_OF_BUNDLE.get(model.manifest.task, ())
    if spec.kind not in offered:
        raise WireError(
            f"model {model.name} does {', '.join(offered) or model.manifest.task}, not "
            f"{spec.kind}; ListModels says which models do",
            field="config.tasks.model",
        )


def _caption(model: Model, options: Mapping[str, Any], live: bool) -> Task:
    given: dict[str, Any] = {"live": live}
    for name in ("min_score", "style", "decoder"):
        if options.get(name):
            given[name] = options[name]
    if options.get("language"):
        given["lang"] = options["language"]
    given["alerts_only"] = bool(options.get("alerts_only"))
    given["labels"] = tuple(options.get("labels") or ())
    return _load("captions.task", "CaptionTask")(model.manifest, given)


def _encode(model: Model, options: Mapping[str, Any], live: bool) -> Task:
    make = _load("codec.tasks", "EncodeTask")
    settings: dict[str, Any] = {}
    if options.get("kbps"):
        settings["kbps"] = float(options["kbps"])
    if options.get("layers"):
        settings["layers"] = int(options["layers"])
    if options.get("frames_per_packet"):
        settings["frames"] = int(options["frames_per_packet"])
    if options.get("budget_ms"):
        settings["budget_ms"] = float(options["budget_ms"])
    if options.get("wire"):
        onwire = importlib.import_module("ossicle.streaming.codec.onwire")
        settings["wire"] = onwire.wire(options["wire"])
    if options.get("dtx"):
        settings["silence_dbfs"] = -60.0
    return make(model.bundle, **settings)


def _decode(model: Model, options: Mapping[str, Any], live: bool) -> Task:
    make = _load("codec.tasks", "DecodeTask")
    settings: dict[str, Any] = {}
    if options.get("layers"):
        settings["layers"] = int(options["layers"])
    if options.get("samples"):
        settings["samples"] = int(options["samples"])
    if options.get("delay_frames"):
        settings["delay"] = int(options["delay_frames"])
    return make(model.bundle, **settings)


def _separate(model: Model, options: Mapping[str, Any], live: bool) -> Task:
    query, queries = options.get("query") or "", list(options.get("queries") or ())
    if bool(query.strip()) == bool(queries):
        raise WireError(
            'a separate task needs a query, such as "dog barking", or else a list of queries',
            field="separate.query",
        )
    return _load("separation.tasks", "SeparateTask")(
        model,
        queries or query,
        stable=True,
        depth=float(options.get("depth", 1.0)),
        keep_alarms=bool(options.get("keep_alarms")),
        forgiving=live,
    )


def _enhance(model: Model, options: Mapping[str, Any], live: bool) -> Task:
    return _load("separation.tasks", "EnhanceTask")(
        model,
        depth=float(options.get("depth", 1.0)),
        keep_alarms=not options.get("drop_alarms"),
    )


_BUILDERS: dict[str, Callable[[Model, Mapping[str, Any], bool], Task]] = {
    "caption": _caption,
    "encode": _encode,
    "decode": _decode,
    "separate": _separate,
    "enhance": _enhance,
}
assert set(_BUILDERS) == set(KINDS)


def _load(module: str, name: str) -> Callable[..., Task]:
    """Import a task's module when the first stream asks for it."""
    return getattr(importlib.import_module(f"ossicle.streaming.{module}"), name)  # type: ignore[no-any-return]


RUNGS_OF = {
    "caption": ("longer_interval", "smaller_model"),
    "encode": ("fewer_layers",),
    "decode": ("fewer_layers",),
    "separate": ("smaller_model", "bypass"),
    "enhance": ("smaller_model", "bypass"),
}


def check_ladder(spec: TaskSpec) -> None:
    """Refuse a rung that means nothing to this kind of task.

    Raises:
        WireError: with those that do.
    """
    for rung in spec.ladder:
        if rung.kind not in RUNGS_OF[spec.kind]:
            raise WireError(
                f"a {spec.kind} task has no ladder step {rung.kind or 'without a kind'!r}; "
                f"{', '.join(RUNGS_OF[spec.kind])} can be taken",
                field="config.tasks.ladder",
            )


def check_smaller(spec: TaskSpec, model: Model, smaller: Model) -> None:
    """Refuse a rung to a bundle that a running task cannot go over to: audio has to fit both.

    Raises:
        WireError: it does something else, or takes another rate.
    """
    mine, other = model.manifest, smaller.manifest
    check_kind(spec, smaller)
    if (mine.sample_rate_hz, mine.channels) != (other.sample_rate_hz, other.channels):
        raise WireError(
            f"{model.name} takes {mine.sample_rate_hz} Hz x {mine.channels}, {smaller.name} "
            f"{other.sample_rate_hz} Hz x {other.channels}; a smaller model must take the same",
            field="config.tasks.ladder",
        )


def ladder_options(rungs: tuple[Rung, ...]) -> tuple[Mapping[str, Any], ...]:
    """Return a ladder as the options that the engine applies, rung by rung.

    Raises:
        WireError: a rung that no running stream can take.
    """
    return tuple(_rung(rung) for rung in rungs)


def _rung(rung: Rung) -> Mapping[str, Any]:
    match rung.kind:
        case "fewer_layers" if rung.value > 0:
            return {"layers": rung.value}
        case "longer_interval" if rung.value > 0:
            return {}  # nothing for the engine to change: the outlet sees to it
        case "bypass":
            return {"bypass": True}
        case "smaller_model" if rung.model:
            return {}  # nothing for the engine to change: the session sees to the model
    raise WireError(
        f"ladder step {rung.kind or 'without a kind'} with value {rung.value} cannot be taken by a "
        "running stream; fewer_layers and longer_interval (both with a value), smaller_model "
        "(with a model) and bypass can",
        field="config.tasks.ladder",
    )


def codec_facts(model: Model) -> tuple[bytes, tuple[int, ...]]:
    """Return what a reader of a codec's packets has to know; nothing for other models."""
    if model.manifest.task != "encode":
        return b"", ()
    layout = importlib.import_module("ossicle.streaming.codec.layout")
    return layout.identity(model.manifest), layout.layout_of(model.bundle).books
