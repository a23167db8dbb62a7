"""The first message of a stream: what is wanted, and how the audio is to be read."""

from __future__ import annotations

from typing import Any

from ossicle.runtime.errors import WireError
from ossicle.streaming import messages as m
from ossicle.streaming.proto import ossicle_pb2 as pb
from ossicle.streaming.wire.basics import (
    CLASS_NUMBER,
    CLASSES,
    ENCODINGS,
    MAX_QUERY,
    RUNGS,
    choice,
    short,
    texts_of,
)


def _options_from_pb(kind: str, options: Any) -> dict[str, Any]:
    values = {
        f.name: tuple(getattr(options, f.name)) if f.is_repeated else getattr(options, f.name)
        for f in options.DESCRIPTOR.fields
        if f.is_repeated or not f.has_presence or options.HasField(f.name)
    }
    if kind == "separate":
        short(str(values["query"]), "query", MAX_QUERY)
        texts_of(values["queries"], "queries")
    for name in ("language", "decoder") if kind == "caption" else ():
        _no_place(str(values[name]), f"caption.{name}")
    return values


def _no_place(name: str, field: str) -> None:
    """Refuse a path: what lies on a server's disk is no client's business.

    Raises:
        WireError: it is one.
    """
    if "/" in short(name, field) or name.endswith((".toml", ".ossicle")):
        raise WireError(f"{field} is {name!r}; a name that the server knows expected", field=field)


def _task_from_pb(task: pb.Task, index: int) -> m.TaskSpec:
    at = f"config.tasks[{index}]"
    kind = task.WhichOneof("options")
    if kind is None:
        raise WireError(
            f"{at} has no options; set one of {', '.join(m.KINDS)} (an empty message will do)",
            field=f"{at}.options",
        )
    if len(task.ladder) > 8:
        raise WireError(f"{at}.ladder has {len(task.ladder)} steps; at most 8", field=at)
    return m.TaskSpec(
        kind=kind,
        name=short(task.name, f"{at}.name"),
        model=short(task.model, f"{at}.model", 256),
        latency_class=choice(CLASSES, task.latency_class, f"{at}.latency_class"),
        deadline_ms=float(task.deadline_ms) or None,
        ladder=tuple(_rung_from_pb(s, f"{at}.ladder") for s in task.ladder),
        options=_options_from_pb(kind, getattr(task, kind)),
    )


def _rung_from_pb(step: pb.Step, at: str) -> m.Rung:
    return m.Rung(choice(RUNGS, step.kind, at), step.value, short(step.model, at, 256))


def _step_to_pb(rung: m.Rung) -> pb.Step:
    if rung.kind not in RUNGS:
        known = ", ".join(name for name in RUNGS if name)
        raise WireError(f"ladder step {rung.kind!r}; one of {known} expected", field="ladder")
    kind = RUNGS.index(rung.kind)
    return pb.Step(kind=kind, value=rung.value, model=rung.model)  # type: ignore[arg-type]


def _task_to_pb(spec: m.TaskSpec) -> pb.Task:
    task = pb.Task(
        name=spec.name,
        model=spec.model,
        latency_class=CLASS_NUMBER[spec.latency_class],  # type: ignore[arg-type]
        deadline_ms=round(spec.deadline_ms or 0),
        ladder=[_step_to_pb(rung) for rung in spec.ladder],
    )
    if spec.kind not in m.KINDS:
        raise WireError(f"task kind {spec.kind!r}; one of {', '.join(m.KINDS)} expected")
    options = getattr(task, spec.kind)
    options.SetInParent()
    for name, value in spec.options.items():
        try:
            if isinstance(value, tuple | list):
                getattr(options, name).extend(value)
            else:
                setattr(options, name, value)
        except (AttributeError, TypeError, ValueError) as error:
            known = ", ".join(f.name for f in options.DESCRIPTOR.fields)
            raise WireError(
                f"{spec.kind} option {name}={value!r}: {error}; known: {known}"
            ) from None
    return task


def config_from_pb(config: pb.Config) -> m.Config:
    """Return a config as the session reads it; encodings and paces are names.

    Raises:
        WireError: enum numbers out of range, names too long.
    """
    if len(config.tasks) > 8:
        raise WireError(
            f"config has {len(config.tasks)} tasks; 1 to 8 allowed", field="config.tasks"
        )
    return m.Config(
        sample_rate_hz=config.sample_rate_hz,
        channels=config.channels or 1,
        encoding=choice(ENCODINGS, config.encoding, "config.encoding"),
        tasks=tuple(_task_from_pb(t, i) for i, t in enumerate(config.tasks)),
        pace=choice(("live", "live", "file"), config.pace, "config.pace"),
        output_encoding=choice(ENCODINGS, config.output_encoding or 1, "config.output_encoding"),
        output_rate_hz=config.output_rate_hz,
        credit_ms=config.credit_ms,
        resume_token=config.resume_token,
        capture_unix_ns=config.capture_unix_ns,
        client=short(config.client, "config.client"),
        checkpoints=config.checkpoints,
    )


def config_to_pb(config: m.Config) -> pb.Config:
    """Return a config for the wire."""
    return pb.Config(
        sample_rate_hz=config.sample_rate_hz,
        channels=config.channels,
        encoding=ENCODINGS.index(config.encoding),  # type: ignore[arg-type]
        tasks=[_task_to_pb(t) for t in config.tasks],
        pace=pb.FILE if config.pace == "file" else pb.LIVE,
        output_encoding=ENCODINGS.index(config.output_encoding),  # type: ignore[arg-type]
        output_rate_hz=config.output_rate_hz,
        credit_ms=config.credit_ms,
        resume_token=config.resume_token,
        capture_unix_ns=config.capture_unix_ns,
        client=config.client,
        checkpoints=config.checkpoints,
    )
