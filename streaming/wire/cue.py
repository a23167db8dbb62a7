"""Captions on the wire; with ``wire.py`` the only place that knows protobuf."""

from __future__ import annotations

from ossicle.streaming.captions.cue import Cue, Kind, Label, Op, Priority, Relation, RelationKind
from ossicle.streaming.proto import ossicle_pb2 as pb

_OPS = (Op.HEARTBEAT, Op.OPEN, Op.UPDATE, Op.CLOSE, Op.RETRACT, Op.HEARTBEAT)  # by number
_KINDS = (Kind.SYSTEM, Kind.SOUND, Kind.SCENE, Kind.MUSIC, Kind.SPEECH, Kind.SYSTEM)
_PRIORITIES = (Priority.AMBIENT, Priority.AMBIENT, Priority.NOTABLE, Priority.ALERT)


def cue_to_pb(cue: Cue) -> pb.Cue:
    """Return one change of a caption for the wire."""
    out = pb.Cue(
        seq=cue.seq,
        cue_id=cue.cue_id,
        revision=cue.revision,
        op=cue.op.value,
        kind=cue.kind.value,
        text=cue.text,
        stable_chars=cue.stable_chars,
        is_final=cue.is_final,
        stability=cue.stability,
        sample_rate_hz=cue.sample_rate_hz,
        start_sample=cue.start_sample,
        end_sample=cue.end_sample,
        end_open=cue.end_open,
        display_start_ms=cue.display_start_ms,
        display_end_ms=cue.display_end_ms,
        audio_seen_sample=cue.audio_seen_sample,
        relations=[pb.Relation(kind=r.kind.value, cue_id=r.cue_id) for r in cue.relations],
        priority=cue.priority.value,
        language=cue.language,
        model=cue.model,
    )
    for label in cue.labels:
        added = out.labels.add(
            class_id=label.class_id,
            name=label.name,
            score=label.score,
            onset_sample=label.onset_sample,
        )
        if label.offset_sample is not None:
            added.offset_sample = label.offset_sample
    return out


def _label(label: pb.Label) -> Label:
    offset = label.offset_sample if label.HasField("offset_sample") else None
    return Label(label.class_id, label.name, label.score, label.onset_sample, offset)


def cue_from_pb(cue: pb.Cue) -> Cue:
    """Return one change of a caption; an op of a newer server reads as a heartbeat."""
    return Cue(
        seq=cue.seq,
        cue_id=cue.cue_id,
        revision=cue.revision,
        op=_OPS[cue.op] if cue.op < len(_OPS) else Op.HEARTBEAT,
        kind=_KINDS[cue.kind] if cue.kind < len(_KINDS) else Kind.SYSTEM,
        text=cue.text,
        stable_chars=cue.stable_chars,
        is_final=cue.is_final,
        stability=cue.stability,
        sample_rate_hz=cue.sample_rate_hz,
        start_sample=cue.start_sample,
        end_sample=cue.end_sample,
        end_open=cue.end_open,
        display_start_ms=cue.display_start_ms,
        display_end_ms=cue.display_end_ms,
        audio_seen_sample=cue.audio_seen_sample,
        labels=tuple(_label(label) for label in cue.labels),
        relations=tuple(Relation(RelationKind(r.kind), r.cue_id) for r in cue.relations),
        priority=_PRIORITIES[cue.priority] if cue.priority < 4 else Priority.AMBIENT,
        language=cue.language,
        model=cue.model,
    )
