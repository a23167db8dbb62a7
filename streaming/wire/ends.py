"""The first and the last answer of a stream."""

from __future__ import annotations

from ossicle.streaming import messages as m
from ossicle.streaming.proto import ossicle_pb2 as pb
from ossicle.streaming.wire.basics import (
    CLASS_NUMBER,
    CLASSES,
    ENCODINGS,
    choice,
    limits_from_pb,
    limits_to_pb,
)


def started_to_pb(started: m.Started) -> pb.Started:
    """Return the first answer for the wire."""
    return pb.Started(
        session=started.session,
        sample_rate_hz=started.sample_rate_hz,
        channels=started.channels,
        output_rate_hz=started.output_rate_hz,
        output_encoding=ENCODINGS.index(started.output_encoding),  # type: ignore[arg-type]
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
                latency_class=CLASS_NUMBER[t.latency_class],  # type: ignore[arg-type]
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
        limits=limits_to_pb(started.limits),
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
        choice(ENCODINGS, s.output_encoding, "started.output_encoding"),
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
                choice(CLASSES, t.latency_class, "started.tasks.latency_class"),
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
        limits_from_pb(s.limits),
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
