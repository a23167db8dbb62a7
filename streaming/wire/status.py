"""What a server says of its models and of itself."""

from __future__ import annotations

from ossicle.streaming import messages as m
from ossicle.streaming.proto import ossicle_pb2 as pb
from ossicle.streaming.wire.basics import (
    CLASS_NUMBER,
    CLASSES,
    choice,
    limits_from_pb,
    limits_to_pb,
)


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
        latency_class=CLASS_NUMBER[info.latency_class],  # type: ignore[arg-type]
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
        choice(CLASSES, p.latency_class, "latency_class"),
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
        limits=limits_to_pb(status.limits),
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
        limits_from_pb(s.limits),
        s.streams_total,
        s.misses_total,
        s.gaps_total,
    )
