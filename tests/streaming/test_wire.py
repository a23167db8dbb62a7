"""Messages cross the wire and come back the same; field numbers never change their meaning."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from ossicle.runtime.audio import AudioFormat
from ossicle.runtime.budget import LatencyClass, Ledger
from ossicle.runtime.errors import OssicleError, WireError
from ossicle.streaming import encodings, wire
from ossicle.streaming import messages as m
from ossicle.streaming.captions.cue import Cue, Kind, Label, Op, Priority, Relation, RelationKind
from ossicle.streaming.proto import generate
from ossicle.streaming.proto import ossicle_pb2 as pb

U63 = st.integers(0, 2**63 - 1)
U32 = st.integers(0, 2**32 - 1)
names = st.text(max_size=32)
packets = st.lists(st.builds(m.WirePacket, st.binary(max_size=40), U63, U32), max_size=4).map(tuple)
specs = st.builds(
    m.TaskSpec,
    st.sampled_from(["caption", "encode", "decode", "enhance"]),
    names,
    names,
    st.none() | st.sampled_from(list(LatencyClass)),
    st.none() | st.integers(1, 10_000).map(float),
    st.lists(
        st.builds(m.Rung, st.sampled_from(["fewer_layers", "longer_interval", "bypass"]), U32),
        max_size=3,
    ).map(tuple),
)
configs = st.builds(
    m.Config,
    U32,
    st.lists(specs, max_size=4).map(tuple),
    st.integers(1, 9),
    st.sampled_from(m.ENCODINGS),
    st.sampled_from(m.PACES),
    st.sampled_from(["pcm_s16", "pcm_f32", "mu_law", "a_law"]),
    U32,
    U32,
    st.binary(max_size=64),
    U63,
    names,
    st.booleans(),
)
requests = st.one_of(
    configs,
    st.builds(m.AudioIn, st.binary(max_size=99), st.none() | U63, U63),
    st.builds(m.PacketsIn, packets, names),
    st.builds(
        m.Query, names, names, st.none() | st.floats(0, 1), st.lists(names, max_size=16).map(tuple)
    ),
    st.builds(m.Marker, U63, U63),
    st.builds(m.Credit, U63),
    st.builds(m.LossReport, st.sampled_from([0.0, 0.5, 1.0]), st.just(2.0), names),
    st.builds(m.Acknowledge, U63),
    st.just(m.End()),
)


@given(requests)
def test_a_request_comes_back_the_same(request: m.Request) -> None:
    back = wire.request_from_bytes(wire.request_to_pb(request).SerializeToString())
    if isinstance(request, m.Config):
        assert isinstance(back, m.Config)
        assert [t.kind for t in back.tasks] == [t.kind for t in request.tasks]
        plain = tuple(m.TaskSpec(t.kind, t.name, t.model, t.latency_class, t.deadline_ms, t.ladder)
                      for t in back.tasks)  # fmt: skip
        from dataclasses import replace

        back = replace(back, tasks=plain)
    assert back == request


def test_options_cross_and_unknown_ones_are_named() -> None:
    spec = m.TaskSpec("separate", options={"query": "dog", "depth": 0.0, "keep_alarms": True})
    task = wire.config_from_pb(wire.config_to_pb(m.Config(16_000, (spec,)))).tasks[0]
    assert task.options == {"query": "dog", "depth": 0.0, "keep_alarms": True, "queries": ()}
    several = m.TaskSpec("separate", options={"queries": ("dog", "not dog")})
    task = wire.config_from_pb(wire.config_to_pb(m.Config(16_000, (several,)))).tasks[0]
    assert task.options["queries"] == ("dog", "not dog")
    many = m.TaskSpec("separate", options={"queries": ("dog",) * 17})
    with pytest.raises(WireError, match="queries has 17; at most 16"):
        wire.config_from_pb(wire.config_to_pb(m.Config(16_000, (many,))))
    bare = m.TaskSpec("separate", options={"query": "dog"})
    task = wire.config_from_pb(wire.config_to_pb(m.Config(16_000, (bare,)))).tasks[0]
    assert "depth" not in task.options
    wrong = m.TaskSpec("encode", options={"bps": 3})
    with pytest.raises(WireError, match="known: kbps, frames_per_packet"):
        wire.config_to_pb(m.Config(16_000, (wrong,)))


def cue(**changes: Any) -> Cue:
    fields: dict[str, Any] = {
        "seq": 3, "cue_id": 2, "revision": 1, "op": Op.UPDATE, "kind": Kind.SOUND,
        "text": "[dog barking]", "stable_chars": 4, "is_final": False, "stability": 0.1,
        "sample_rate_hz": 16_000, "start_sample": 5, "end_sample": 2**40, "end_open": True,
        "display_start_ms": -4, "display_end_ms": 5, "audio_seen_sample": 2**41,
        "labels": (Label(1, "dog", 0.3, 5), Label(2, "cat", 0.1, 5, 9)),
        "relations": (Relation(RelationKind.WHILE, 1),), "priority": Priority.ALERT, "model": "x",
    }  # fmt: skip
    return Cue(**{**fields, **changes})


ANSWERS = [
    cue(),
    cue(op=Op.HEARTBEAT, cue_id=0, text="", stable_chars=0, labels=(), relations=()),
    cue(op=Op.RETRACT, is_final=True),
    m.AudioOut("target", b"abc", 2**40, 3, 2, True),
    m.PacketsOut((m.WirePacket(b"x", 1, 2),), 16_000, 4),
    m.Gap(1, 2, "RING_FULL", "target"),
    m.Notice("LADDER", "text", {"a": "b"}),
    m.Marker(1, 2, 3),
    m.Checkpoint(4, b"token", 5, 6),
    m.Credit(7),
    m.Started("s", 16_000, 1, 8_000, "pcm_s16", (m.TaskStarted(
        "a", "encode", "codec-16k", "1", 16_000, 320, 0, 640, LatencyClass.TALK, 20, 3.0,
        b"i" * 32, (1024,) * 12, 320),), b"t", True, 9, m.StreamLimits(1, 2, 3, 4, 5), 0.5, 8),
    m.Ended(1, 2, 3, 4, 0.5, 0.25, (m.TaskTotals("a", 1, 2, (
        m.StagePercentiles("wait", 0.5, 1, 2, 4, 9),), 0.5, 0.75),), "END"),
]  # fmt: skip


@pytest.mark.parametrize("body", ANSWERS, ids=lambda b: type(b).__name__)
def test_an_answer_comes_back_the_same(body: Any) -> None:
    ledger = Ledger(1, 2, 3, 4, 5, 6, 7.0)
    sent = m.Response(body, "task", 11, ledger)
    data = wire.response_to_pb(sent).SerializeToString()
    back = wire.response_from_pb(pb.StreamResponse.FromString(data))
    assert (back.body, back.task, back.seq, back.ledger) == (body, "task", 11, ledger)


@given(requests)
def test_a_request_written_into_a_kept_message_is_the_same_bytes(request: m.Request) -> None:
    writer = wire.RequestWriter()
    for sent in (m.AudioIn(b"before", None, 7), request, m.AudioIn(b""), request):
        assert writer.write(sent) == wire.request_to_pb(sent).SerializeToString()


U32 = st.integers(0, 2**32 - 1)
bodies = st.one_of(
    st.builds(m.AudioOut, st.text(max_size=9), st.binary(max_size=9), U63, U32, st.integers(1, 2),
              st.booleans()),
    st.builds(m.PacketsOut, st.lists(st.builds(m.WirePacket, st.binary(max_size=9), U63, U32),
                                     max_size=3).map(tuple), U32, U32),
    st.sampled_from(ANSWERS),
)  # fmt: skip
ledgers = st.one_of(st.none(), st.builds(Ledger, *[st.integers(0, 2**33)] * 6, st.just(0.5)))


@given(st.lists(st.builds(m.Response, bodies, st.sampled_from("ab"), U63, ledgers), max_size=9))
def test_an_answer_written_into_a_kept_message_is_the_same_bytes(answers: list[m.Response]) -> None:
    writer = wire.ResponseWriter()
    for sent in answers:
        assert writer.write(sent) == wire.response_to_pb(sent).SerializeToString()


def test_time_spent_here_is_added_to_post() -> None:
    import time

    sent = m.Response(m.Gap(0, 1, "X"), ledger=Ledger(post_us=5))
    sent.ready_ns = time.monotonic_ns() - 2_000_000
    assert wire.response_to_pb(sent).ledger.post_us >= 2_005
    sent.body = m.AudioOut("a", b"", 0, 0)
    assert wire.response_from_bytes(wire.ResponseWriter().write(sent)).ledger.post_us >= 2_005  # type: ignore[union-attr]


def test_models_and_status_come_back_the_same() -> None:
    info = m.ModelInfo("a", "1", "tag", "MIT", "permissive", 16_000, 1, 320, 0, 640,
                       LatencyClass.CAPTION, ("dog", "cat"), True)  # fmt: skip
    assert wire.model_from_pb(wire.model_to_pb(info)) == info
    model = m.ModelStatus("a", 1, 2, {1: 100.0, 4: 200.0})
    status = m.Status(
        "1", "READY", 1.5, 2, 3, 0.5, (model,), m.StreamLimits(1, 2, 3, 4, 5), 6, 7, 8
    )
    assert wire.status_from_pb(wire.status_to_pb(status)) == status


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_typed_error(data: bytes) -> None:
    with contextlib.suppress(OssicleError):
        wire.request_from_bytes(data)


# -- encodings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", encodings.PCM_WIDTH)
@given(cuts=st.lists(st.integers(1, 50)), channels=st.integers(1, 2))
def test_bytes_may_be_cut_anywhere(encoding: str, cuts: list[int], channels: int) -> None:
    x = np.random.default_rng(1).uniform(-1, 1, (channels, 60)).astype(np.float32)
    data = encodings.encode(x, encoding)
    reader, parts, at = encodings.PcmReader(encoding, channels), [], 0
    for size in [*cuts, len(data)]:
        parts.append(reader.feed(data[at : at + size]))
        at += size
    reader.finish()
    whole = encodings.decode(data, encoding, channels)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_g711_agrees_with_the_tables_of_the_standard() -> None:
    assert encodings.MU_LAW[0xFF] == 0
    assert encodings.MU_LAW[0x80] == np.float32(32124 / 32768)
    assert encodings.MU_LAW[0x00] == np.float32(-32124 / 32768)
    assert encodings.A_LAW[0xD5] == np.float32(8 / 32768)
    assert encodings.A_LAW[0xAA] == np.float32(32256 / 32768)
    assert encodings.A_LAW[0x2A] == np.float32(-32256 / 32768)


@pytest.mark.parametrize("encoding", ["mu_law", "a_law"])
def test_every_code_survives_a_round_trip(encoding: str) -> None:
    table = encodings.MU_LAW if encoding == "mu_law" else encodings.A_LAW
    codes = encodings.encode(table[None], encoding)
    np.testing.assert_array_equal(table[np.frombuffer(codes, np.uint8)], table)


def test_full_scale_is_clipped_not_wrapped() -> None:
    x = np.array([[2.0, -2.0, 1.0]], np.float32)
    assert encodings.encode(x, "pcm_s16") == b"\xff\x7f\x00\x80\xff\x7f"


def test_a_split_sample_says_so() -> None:
    with pytest.raises(WireError, match="split mid-sample"):
        encodings.decode(b"abc", "pcm_s16", 1)


# -- protos -------------------------------------------------------------------------------------


def test_the_stubs_are_up_to_date() -> None:
    pytest.importorskip("grpc_tools")
    assert generate.main(["--check"]) == 0


def test_no_field_number_was_ever_used_again() -> None:
    lock = generate.read_lock((generate.HERE / generate.LOCK).read_text())
    now = generate.numbers()
    assert generate.reused(lock, now) == []
    assert set(now) <= set(lock), "run python -m ossicle.streaming.proto.generate"
    changed = {**now, "ossicle.v1.Gap.1": "reason string"}
    assert len(generate.reused(lock, changed)) == 1


def test_every_field_of_the_proto_is_documented() -> None:
    text = (generate.HERE / "ossicle.proto").read_text()
    bare = []
    lines = text.splitlines()
    for at, line in enumerate(lines):
        code = line.strip()
        is_field = code.endswith(";") and "=" in code and not code.startswith(("//", "syntax"))
        about = at and lines[at - 1].strip().startswith("//")
        if is_field and "//" not in line and not about:
            bare.append(code)
    assert not bare


def test_ranges_are_checked_where_the_enum_is_newer() -> None:
    config = pb.Config(sample_rate_hz=16_000, encoding=77)
    with pytest.raises(WireError, match="newer"):
        wire.config_from_pb(config)
    assert isinstance(config, Message)
    assert AudioFormat(16_000).rate_hz == 16_000
