"""The only file that knows protobuf: ``ossicle.v1`` messages to plain values and back.

Four pairs cross here: requests in and out, responses out and in, and the unary calls. A value that
cannot be right for any server (no config kind, a track name of 1 MB) is refused here; what depends
on this server's models and limits is refused by the session.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from ossicle.runtime.budget import LatencyClass, Ledger
from ossicle.runtime.errors import WireError
from ossicle.streaming import messages as m
from ossicle.streaming.proto import ossicle_pb2 as pb
from ossicle.streaming.wire_cue import cue_from_pb, cue_to_pb

_ENCODINGS = ("", *m.ENCODINGS)  # by enum number
_CLASSES: tuple[LatencyClass | None, ...] = (None, *LatencyClass)
_CLASS_NUMBER = {c: i for i, c in enumerate(_CLASSES)}
_RUNGS = ("", "fewer_layers", "smaller_model", "longer_interval", "bypass")
_U32 = 2**32 - 1
MAX_NAME = 64
MAX_QUERY = 1000

# ------------------------------------------------------------------------------- small pieces


def _choice(names: tuple[Any, ...], number: int, field: str) -> Any:
    if not 0 <= number < len(names):
        raise WireError(
            f"{field} is {number}; 0 to {len(names) - 1} are known. Is the client newer than this "
            "server?",
            field=field,
        )
    return names[number]


def _short(text: str, field: str, limit: int = MAX_NAME) -> str:
    if len(text) > limit:
        raise WireError(f"{field} of {len(text)} characters; at most {limit} allowed", field=field)
    return text


def ledger_to_pb(ledger: Ledger, post_us: int = 0) -> pb.Ledger:
    """Return a ledger for the wire, with ``post_us`` more spent since the engine let go."""
    return pb.Ledger(
        wait_us=min(ledger.wait_us, _U32),
        queue_us=min(ledger.queue_us, _U32),
        batch_us=min(ledger.batch_us, _U32),
        compute_us=min(ledger.compute_us, _U32),
        post_us=min(ledger.post_us + post_us, _U32),
        algorithmic_samples=min(ledger.algorithmic_samples, _U32),
        backlog_ms=ledger.backlog_ms,
    )


def ledger_from_pb(ledger: pb.Ledger) -> Ledger:
    """Return a ledger that came over the wire."""
    return Ledger(
        ledger.wait_us,
        ledger.queue_us,
        ledger.batch_us,
        ledger.compute_us,
        ledger.post_us,
        ledger.algorithmic_samples,
        ledger.backlog_ms,
    )


def _options_from_pb(kind: str, options: Any) -> dict[str, Any]:
    values = {
        f.name: tuple(getattr(options, f.name)) if f.is_repeated else getattr(options, f.name)
        for f in options.DESCRIPTOR.fields
        if f.is_repeated or not f.has_presence or options.HasField(f.name)
    }
    if kind == "separate":
        _short(str(values["query"]), "query", MAX_QUERY)
    return values


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
        name=_short(task.name, f"{at}.name"),
        model=_short(task.model, f"{at}.model", 256),
        latency_class=_choice(_CLASSES, task.latency_class, f"{at}.latency_class"),
        deadline_ms=float(task.deadline_ms) or None,
        ladder=tuple(
            m.Rung(_choice(_RUNGS, s.kind, f"{at}.ladder"), s.value, s.model) for s in task.ladder
        ),
        options=_options_from_pb(kind, getattr(task, kind)),
    )


def _task_to_pb(spec: m.TaskSpec) -> pb.Task:
    task = pb.Task(
        name=spec.name,
        model=spec.model,
        latency_class=_CLASS_NUMBER[spec.latency_class],  # type: ignore[arg-type]
        deadline_ms=round(spec.deadline_ms or 0),
        ladder=[
            pb.Step(kind=_RUNGS.index(r.kind), value=r.value, model=r.model)  # type: ignore[arg-type]
            for r in spec.ladder
        ],
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
        encoding=_choice(_ENCODINGS, config.encoding, "config.encoding"),
        tasks=tuple(_task_from_pb(t, i) for i, t in enumerate(config.tasks)),
        pace=_choice(("live", "live", "file"), config.pace, "config.pace"),
        output_encoding=_choice(_ENCODINGS, config.output_encoding or 1, "config.output_encoding"),
        output_rate_hz=config.output_rate_hz,
        credit_ms=config.credit_ms,
        resume_token=config.resume_token,
        capture_unix_ns=config.capture_unix_ns,
        client=_short(config.client, "config.client"),
        checkpoints=config.checkpoints,
    )


def config_to_pb(config: m.Config) -> pb.Config:
    """Return a config for the wire."""
    return pb.Config(
        sample_rate_hz=config.sample_rate_hz,
        channels=config.channels,
        encoding=_ENCODINGS.index(config.encoding),  # type: ignore[arg-type]
        tasks=[_task_to_pb(t) for t in config.tasks],
        pace=pb.FILE if config.pace == "file" else pb.LIVE,
        output_encoding=_ENCODINGS.index(config.output_encoding),  # type: ignore[arg-type]
        output_rate_hz=config.output_rate_hz,
        credit_ms=config.credit_ms,
        resume_token=config.resume_token,
        capture_unix_ns=config.capture_unix_ns,
        client=config.client,
        checkpoints=config.checkpoints,
    )


def packets_from_pb(packets: Any) -> tuple[m.WirePacket, ...]:
    """Return codec packets."""
    return tuple(m.WirePacket(p.data, p.start_sample, p.samples) for p in packets)


def packets_to_pb(packets: tuple[m.WirePacket, ...]) -> list[pb.Packet]:
    """Return codec packets for the wire."""
    return [pb.Packet(data=p.data, start_sample=p.start_sample, samples=p.samples) for p in packets]


# ------------------------------------------------------------------------------- requests


def _audio_from_pb(a: pb.Audio) -> m.AudioIn:
    start = a.start_sample if a.HasField("start_sample") else None
    return m.AudioIn(a.data, start, a.capture_unix_ns)


_REQUEST_FROM: dict[str, Callable[[Any], m.Request]] = {
    "config": config_from_pb,
    "audio": _audio_from_pb,
    "packets": lambda p: m.PacketsIn(packets_from_pb(p.packets), _short(p.task, "packets.task")),
    "query": lambda q: m.Query(_short(q.text, "query.text", MAX_QUERY), _short(q.task, "query")),
    "marker": lambda k: m.Marker(k.id, k.client_ns),
    "credit": lambda c: m.Credit(c.until_sample),
    "end": lambda _: m.End(),
    "loss": lambda r: m.LossReport(r.lost, r.mean_burst, _short(r.task, "loss.task")),
    "acknowledge": lambda a: m.Acknowledge(a.number),
}


def request_from_pb(request: pb.StreamRequest) -> m.Request:
    """Return what a client asked for.

    Raises:
        WireError: an empty request, or values no server can take.
    """
    kind = request.WhichOneof("request")
    if kind is None:
        raise WireError(
            "a request without content; is the client newer than this server?", field="request"
        )
    return _REQUEST_FROM[kind](getattr(request, kind))


def request_from_bytes(data: bytes) -> m.Request:
    """Return what serialised bytes ask for.

    Raises:
        WireError: bytes that are no request.
    """
    try:
        return request_from_pb(pb.StreamRequest.FromString(data))
    except DecodeError as error:
        raise WireError(f"{len(data)} bytes that are no StreamRequest: {error}") from None


def request_to_pb(request: m.Request) -> pb.StreamRequest:
    """Return a request for the wire."""
    match request:
        case m.AudioIn(data, start, capture):
            audio = pb.Audio(data=data, capture_unix_ns=capture)
            if start is not None:
                audio.start_sample = start
            return pb.StreamRequest(audio=audio)
        case m.Config():
            return pb.StreamRequest(config=config_to_pb(request))
        case m.PacketsIn(packets, task):
            return pb.StreamRequest(packets=pb.Packets(task=task, packets=packets_to_pb(packets)))
        case m.Query(text, task):
            return pb.StreamRequest(query=pb.Query(task=task, text=text))
        case m.Marker(id, client_ns):
            return pb.StreamRequest(marker=pb.Marker(id=id, client_ns=client_ns))
        case m.Credit(until):
            return pb.StreamRequest(credit=pb.Credit(until_sample=until))
        case m.LossReport(lost, burst, task):
            return pb.StreamRequest(loss=pb.LossReport(task=task, lost=lost, mean_burst=burst))
        case m.Acknowledge(number):
            return pb.StreamRequest(acknowledge=pb.Acknowledge(number=number))
        case m.End():
            return pb.StreamRequest(end=pb.End())


# ------------------------------------------------------------------------------- responses


def _limits_to_pb(limits: m.StreamLimits) -> pb.Limits:
    return pb.Limits(
        max_message_bytes=limits.max_message_bytes,
        idle_s=limits.idle_s,
        max_duration_s=limits.max_duration_s,
        ring_ms=limits.ring_ms,
        output_ms=limits.output_ms,
    )


def _limits_from_pb(limits: pb.Limits) -> m.StreamLimits:
    return m.StreamLimits(
        limits.max_message_bytes,
        limits.idle_s,
        limits.max_duration_s,
        limits.ring_ms,
        limits.output_ms,
    )


def started_to_pb(started: m.Started) -> pb.Started:
    """Return the first answer for the wire."""
    return pb.Started(
        session=started.session,
        sample_rate_hz=started.sample_rate_hz,
        channels=started.channels,
        output_rate_hz=started.output_rate_hz,
        output_encoding=_ENCODINGS.index(started.output_encoding),  # type: ignore[arg-type]
        tasks=[
            pb.TaskStarted(
                name=t.name,
                kind=t.kind,
                model=t.model,
                model_version=t.model_version,
                model_rate_hz=t.model_rate_hz,
                hop_samples=t.hop_samples,
                lookahead_samples=t.lookahead_samples,
                latency_samples=t.latency_samples,
                latency_class=_CLASS_NUMBER[t.latency_class],  # type: ignore[arg-type]
                deadline_ms=t.deadline_ms,
                kbps=t.kbps,
                codec_identity=t.codec_identity,
                books=t.books,
                delay_samples=t.delay_samples,
            )
            for t in started.tasks
        ],
        resume_token=started.resume_token,
        resumed=started.resumed,
        acknowledged_sample=started.acknowledged_sample,
        limits=_limits_to_pb(started.limits),
        capacity_used=started.capacity_used,
        acknowledged_packets=started.acknowledged_packets,
    )


def started_from_pb(s: pb.Started) -> m.Started:
    """Return the first answer."""
    return m.Started(
        s.session,
        s.sample_rate_hz,
        s.channels,
        s.output_rate_hz,
        _choice(_ENCODINGS, s.output_encoding, "started.output_encoding"),
        tuple(
            m.TaskStarted(
                t.name,
                t.kind,
                t.model,
                t.model_version,
                t.model_rate_hz,
                t.hop_samples,
                t.lookahead_samples,
                t.latency_samples,
                _choice(_CLASSES, t.latency_class, "started.tasks.latency_class"),
                t.deadline_ms,
                t.kbps,
                t.codec_identity,
                tuple(t.books),
                t.delay_samples,
            )
            for t in s.tasks
        ),
        s.resume_token,
        s.resumed,
        s.acknowledged_sample,
        _limits_from_pb(s.limits),
        s.capacity_used,
        s.acknowledged_packets,
    )


def ended_to_pb(ended: m.Ended) -> pb.Ended:
    """Return the totals for the wire."""
    return pb.Ended(
        samples=ended.samples,
        lost_samples=ended.lost_samples,
        bytes_in=ended.bytes_in,
        bytes_out=ended.bytes_out,
        wire_kbps_in=ended.wire_kbps_in,
        wire_kbps_out=ended.wire_kbps_out,
        reason=ended.reason,
        tasks=[
            pb.TaskTotals(
                name=t.name,
                hops=t.hops,
                misses=t.misses,
                payload_kbps=t.payload_kbps,
                packet_kbps=t.packet_kbps,
                stages=[
                    pb.Percentiles(
                        stage=p.stage,
                        p50_ms=p.p50_ms,
                        p95_ms=p.p95_ms,
                        p99_ms=p.p99_ms,
                        p999_ms=p.p999_ms,
                        count=p.count,
                    )
                    for p in t.stages
                ],
            )
            for t in ended.tasks
        ],
    )


def ended_from_pb(e: pb.Ended) -> m.Ended:
    """Return the totals."""
    tasks = tuple(
        m.TaskTotals(
            t.name,
            t.hops,
            t.misses,
            tuple(
                m.StagePercentiles(p.stage, p.p50_ms, p.p95_ms, p.p99_ms, p.p999_ms, p.count)
                for p in t.stages
            ),
            t.payload_kbps,
            t.packet_kbps,
        )
        for t in e.tasks
    )
    return m.Ended(
        e.samples,
        e.lost_samples,
        e.bytes_in,
        e.bytes_out,
        e.wire_kbps_in,
        e.wire_kbps_out,
        tasks,
        e.reason,
    )


def _audio_out_to_pb(a: m.AudioOut) -> pb.AudioOut:
    return pb.AudioOut(
        track=a.track,
        data=a.data,
        start_sample=a.start_sample,
        samples=a.samples,
        channels=a.channels,
        discont=a.discont,
    )


def packets_out_to_pb(p: m.PacketsOut) -> pb.PacketsOut:
    """Return encoded packets for the wire."""
    return pb.PacketsOut(
        packets=packets_to_pb(p.packets), sample_rate_hz=p.sample_rate_hz, layers=p.layers
    )


_BODY_TO: dict[type, tuple[str, Callable[[Any], Any]]] = {
    m.AudioOut: ("audio", _audio_out_to_pb),
    m.PacketsOut: ("packets", packets_out_to_pb),
    m.Started: ("started", started_to_pb),
    m.Ended: ("ended", ended_to_pb),
    m.Gap: ("gap", lambda g: gap_to_pb(g)),
    m.Notice: (
        "notice",
        lambda n: pb.Notice(kind=n.kind, text=n.text, fields=dict(n.fields)),
    ),
    m.Marker: ("marker", lambda k: pb.Marker(id=k.id, client_ns=k.client_ns, sample=k.sample)),
    m.Checkpoint: (
        "checkpoint",
        lambda c: pb.Checkpoint(number=c.number, token=c.token, sample=c.sample, packets=c.packets),
    ),
    m.Credit: ("credit", lambda c: pb.Credit(until_sample=c.until_sample)),
}


def gap_to_pb(gap: m.Gap) -> pb.Gap:
    """Return a gap for the wire."""
    return pb.Gap(
        start_sample=gap.start_sample,
        stop_sample=gap.stop_sample,
        reason=gap.reason,
        track=gap.track,
    )


def response_to_pb(response: m.Response) -> pb.StreamResponse:
    """Return an answer for the wire; the time it waited here is added to its ledger's ``post``."""
    name, convert = _BODY_TO.get(type(response.body), ("cue", cue_to_pb))
    fields: dict[str, Any] = {name: convert(response.body)}
    if response.ledger is not None:
        spent = (time.monotonic_ns() - response.ready_ns) // 1000 if response.ready_ns else 0
        fields["ledger"] = ledger_to_pb(response.ledger, max(0, spent))
    return pb.StreamResponse(task=response.task, seq=response.seq, **fields)


_BODY_FROM: dict[str, Callable[[Any], Any]] = {
    "audio": lambda a: m.AudioOut(
        a.track, a.data, a.start_sample, a.samples, a.channels, a.discont
    ),
    "packets": lambda p: m.PacketsOut(packets_from_pb(p.packets), p.sample_rate_hz, p.layers),
    "cue": cue_from_pb,
    "started": started_from_pb,
    "ended": ended_from_pb,
    "gap": lambda g: m.Gap(g.start_sample, g.stop_sample, g.reason, g.track),
    "notice": lambda n: m.Notice(n.kind, n.text, dict(n.fields)),
    "marker": lambda k: m.Marker(k.id, k.client_ns, k.sample),
    "checkpoint": lambda c: m.Checkpoint(c.number, c.token, c.sample, c.packets),
    "credit": lambda c: m.Credit(c.until_sample),
}


def response_from_pb(response: pb.StreamResponse) -> m.Response:
    """Return what a server answered.

    Raises:
        WireError: an answer of a kind this client does not know.
    """
    kind = response.WhichOneof("response")
    if kind is None:
        raise WireError("an answer without content; is the server newer than this client?")
    ledger = ledger_from_pb(response.ledger) if response.HasField("ledger") else None
    body = _BODY_FROM[kind](getattr(response, kind))
    return m.Response(body, response.task, response.seq, ledger)


# ------------------------------------------------------------------------------- models, status


def model_to_pb(info: m.ModelInfo) -> pb.ModelInfo:
    """Return a model's description for the wire."""
    return pb.ModelInfo(
        name=info.name,
        version=info.version,
        task=info.task,
        license=info.license,
        license_class=info.license_class,
        sample_rate_hz=info.sample_rate_hz,
        channels=info.channels,
        hop_samples=info.hop_samples,
        lookahead_samples=info.lookahead_samples,
        latency_samples=info.latency_samples,
        latency_class=_CLASS_NUMBER[info.latency_class],  # type: ignore[arg-type]
        labels=info.labels,
        loaded=info.loaded,
    )


def model_from_pb(p: pb.ModelInfo) -> m.ModelInfo:
    """Return a model's description."""
    return m.ModelInfo(
        p.name,
        p.version,
        p.task,
        p.license,
        p.license_class,
        p.sample_rate_hz,
        p.channels,
        p.hop_samples,
        p.lookahead_samples,
        p.latency_samples,
        _choice(_CLASSES, p.latency_class, "latency_class"),
        tuple(p.labels),
        p.loaded,
    )


def status_to_pb(status: m.Status) -> pb.GetStatusResponse:
    """Return a server's status for the wire."""
    return pb.GetStatusResponse(
        version=status.version,
        state=status.state,
        uptime_s=status.uptime_s,
        streams=status.streams,
        max_streams=status.max_streams,
        capacity_used=status.capacity_used,
        models=[
            pb.ModelStatus(
                name=s.name,
                slots_used=s.slots_used,
                slots_total=s.slots_total,
                step_costs=[pb.StepCost(batch=b, step_us=us) for b, us in s.step_us.items()],
            )
            for s in status.models
        ],
        limits=_limits_to_pb(status.limits),
        streams_total=status.streams_total,
        misses_total=status.misses_total,
        gaps_total=status.gaps_total,
    )


def status_from_pb(s: pb.GetStatusResponse) -> m.Status:
    """Return a server's status."""
    models = tuple(
        m.ModelStatus(
            p.name, p.slots_used, p.slots_total, {c.batch: c.step_us for c in p.step_costs}
        )
        for p in s.models
    )
    return m.Status(
        s.version,
        s.state,
        s.uptime_s,
        s.streams,
        s.max_streams,
        s.capacity_used,
        models,
        _limits_from_pb(s.limits),
        s.streams_total,
        s.misses_total,
        s.gaps_total,
    )
