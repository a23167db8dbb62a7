"""The two tasks: as many samples out as in, however cut, batched, moved or mistreated."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossicle.runtime import snapshot
from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import AudioError, BundleError, PacketError
from ossicle.runtime.model import Model
from ossicle.runtime.task import AudioEvent, GapEvent, InlineRun, NoticeEvent, PacketEvent
from ossicle.streaming.codec.layout import identity, layout_of
from ossicle.streaming.codec.loss import BadLink
from ossicle.streaming.codec.packetreader import read, read_header, thin
from ossicle.streaming.codec.resync import resynchronisation
from ossicle.streaming.codec.tasks import DecodeTask, EncodeTask

MONO = AudioFormat(16_000)
HOP = 320


def speechlike(length: int, seed: int = 0) -> np.ndarray:
    """Low tones that come and go, ``[1, T]``."""
    rng = np.random.default_rng(seed)
    time = np.arange(length) / 16_000
    tones = sum(np.sin(2 * np.pi * f * time + rng.random() * 6) for f in (150, 310, 720))
    return (0.15 * tones * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time)))[None].astype(np.float32)


def encode(model: Model, signal: np.ndarray, cuts: list[int] = [], **options: Any) -> list[Any]:  # noqa: B006  (only read)
    run = InlineRun(EncodeTask(model.bundle, **options), model)
    events, at = [], 0
    for size in [*cuts, signal.shape[1]]:
        part = signal[:, at : at + size]
        events += run.feed(Chunk(part, at, MONO))
        at += part.shape[1]
    return events + run.finish()


def packets(events: list[Any]) -> list[bytes]:
    return [e.packet for e in events if isinstance(e, PacketEvent)]


def decode(model: Model, data: list[bytes], **options: Any) -> tuple[np.ndarray, list[Any]]:
    run = InlineRun(DecodeTask(model.bundle, **options), model)
    events = [event for packet in data for event in run.feed(packet)] + run.finish()
    return audio(events), events


def audio(events: list[Any]) -> np.ndarray:
    chunks = [e.chunk for e in events if isinstance(e, AudioEvent)]
    at = chunks[0].start if chunks else 0
    for chunk in chunks:
        assert chunk.start == at or chunk.discont
        at = chunk.stop
    return np.concatenate([np.empty((1, 0), np.float32), *(c.samples for c in chunks)], axis=1)


def notice(events: list[Any], kind: str) -> dict[str, Any]:
    (fields,) = [e.fields for e in events if isinstance(e, NoticeEvent) and e.kind == kind]
    return dict(fields)


@given(length=st.integers(0, 5000), frames=st.integers(1, 5))
@settings(max_examples=25)
def test_as_many_samples_come_out_as_went_in(toy_model: Model, length: int, frames: int) -> None:
    sent = packets(encode(toy_model, speechlike(length), frames=frames))
    heard, _ = decode(toy_model, sent, samples=length)
    assert heard.shape == (1, length)
    assert (len(sent) > 0) is (length > 0)


def test_output_lies_on_the_input(toy_model: Model) -> None:
    signal = speechlike(16_000)
    heard, _ = decode(toy_model, packets(encode(toy_model, signal)), samples=16_000)
    error = np.mean((heard - signal) ** 2) / np.mean(signal**2)
    assert 10 * np.log10(error) < -6
    less, _ = decode(toy_model, packets(encode(toy_model, signal)), samples=16_000, layers=1)
    assert np.mean((less - signal) ** 2) > np.mean((heard - signal) ** 2)


@given(st.lists(st.integers(1, 2000), max_size=12), st.booleans())
@settings(max_examples=25)
def test_packets_do_not_depend_on_the_cut(toy_model: Model, cuts: list[int], dtx: bool) -> None:
    signal = speechlike(12_000)
    signal[:, 4000:9000] *= 1e-4
    options: dict[str, Any] = {"frames": 2, "kbps": 1.5, "silence_dbfs": -50.0 if dtx else None}
    whole = encode(toy_model, signal, **options)
    assert packets(encode(toy_model, signal, cuts, **options)) == packets(whole)
    assert any(read_header(p).silence for p in packets(whole)) is dtx


def test_a_hop_that_is_on_its_way_when_layers_are_added_has_the_old_ones(
    toy_model: Model,
) -> None:
    """Only what will be sent is searched; what was not searched is not sent."""
    layout, signal = layout_of(toy_model.bundle), speechlike(10 * HOP)
    whole = [read(p, layout).codes for p in packets(encode(toy_model, signal))]
    task = EncodeTask(toy_model.bundle, layers=2)
    state, memory = task.open(), toy_model.open(1, "encode")
    sent, waiting, told = [], [], 0
    for i in range(10):
        if i == 5:
            task.update(state, {"layers": layout.layers})
        waiting += task.push(state, Chunk(signal[:, i * HOP : (i + 1) * HOP], i * HOP, MONO))
        told += "layers" in waiting[-1].inputs
        while len(waiting) > (3 if i < 9 else 0):  # an engine that lags three hops behind
            hop = waiting.pop(0)
            made = toy_model.step(memory, {k: v[None] for k, v in hop.inputs.items()})
            sent += packets(task.take(state, hop, {k: v[0] for k, v in made.items()}))
    assert told == 2
    layers = [2] * 5 + [layout.layers] * 5
    for data, codes, count in zip(sent, whole[:10], layers, strict=True):
        np.testing.assert_array_equal(read(data, layout).codes, codes[:count])


@given(st.integers(1, 8))
@settings(max_examples=8)
def test_thinned_packets_equal_those_of_fewer_layers(toy_model: Model, layers: int) -> None:
    layout = layout_of(toy_model.bundle)
    signal = speechlike(4000)
    full = packets(encode(toy_model, signal, frames=3))
    few = packets(encode(toy_model, signal, frames=3, layers=layers))
    assert [thin(p, layers, layout) for p in full] == few
    one, _ = decode(toy_model, few)
    two, _ = decode(toy_model, full, layers=layers)
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("program", ["encode", "decode"])
def test_a_stream_goes_on_from_its_snapshot(toy_model: Model, program: str) -> None:
    signal = speechlike(20_000, 3)
    signal[:, 8000:15_000] *= 1e-4
    sent = packets(encode(toy_model, signal, frames=2, silence_dbfs=-50.0, kbps=2.0))
    if program == "encode":
        task: Any = EncodeTask(toy_model.bundle, frames=2, silence_dbfs=-50.0, kbps=2.0)
        items: list[Any] = [Chunk(signal[:, i : i + 777], i, MONO) for i in range(0, 20_000, 777)]
    else:
        task = DecodeTask(toy_model.bundle, delay=3)
        items = sent[:9] + sent[12:20] + sent[21:23] + [sent[20]] + sent[23:]
    straight = InlineRun(task, toy_model)
    wanted = [e for item in items for e in straight.feed(item)] + straight.finish()
    got: list[Any] = []
    run = InlineRun(task, toy_model)
    for item in items:
        tree = {"state": run.state, "memory": toy_model.export_row(run.memory, 0)}
        tree = snapshot.load(snapshot.dump(tree))
        run = InlineRun(task, toy_model)
        run.state = tree["state"]
        toy_model.import_row(run.memory, 0, tree["memory"])
        got += run.feed(item)
    got += run.finish()
    assert packets(got) == packets(wanted)
    np.testing.assert_array_equal(audio(got), audio(wanted))
    assert [type(e) for e in got] == [type(e) for e in wanted]


@given(st.integers(0, 500), st.sampled_from([0.1, 0.3]))
@settings(max_examples=20)
def test_time_is_kept_through_loss_jitter_and_duplicates(
    toy_model: Model, seed: int, loss: float
) -> None:
    signal = speechlike(24_000)
    sent = packets(encode(toy_model, signal))
    link = BadLink(loss, 1.5, jitter_ms=15, duplicate=0.1, seed=seed)
    arrived = [a.packet for a in link.carry(sent, 20)]
    heard, events = decode(toy_model, arrived, delay=4, samples=24_000)
    counts = notice(events, "decoded")
    assert heard.shape == (1, 24_000)
    assert np.isfinite(heard).all()
    assert np.abs(heard).max() < 1.5
    assert counts["coded"] + counts["lost"] == len(sent)


def test_loss_brings_redundancy_and_redundancy_mends(toy_model: Model) -> None:
    task = EncodeTask(toy_model.bundle, kbps=4.8)
    run = InlineRun(task, toy_model)
    told = run.update({"loss": 0.1})
    assert [e.kind for e in told if isinstance(e, NoticeEvent)] == ["rate"]
    signal = speechlike(32_000)
    sent = packets(run.feed(Chunk(signal, 0, MONO)) + run.finish())
    assert read_header(sent[50]).redundancy
    _, events = decode(toy_model, sent[:30] + sent[32:60] + sent[61:], delay=3)
    counts = notice(events, "decoded")
    assert (counts["lost"], counts["recovered"]) == (0, 3)
    assert [e.fields["loss"] for e in events if isinstance(e, NoticeEvent) and e.kind == "loss"]


def test_after_a_loss_the_output_is_the_same_to_the_bit_again(toy_model: Model) -> None:
    """The toy decoder remembers one frame: one frame after the hole nothing differs."""
    sent = packets(encode(toy_model, speechlike(16_000)))
    whole, _ = decode(toy_model, sent)
    holed, _ = decode(toy_model, sent[:20] + sent[23:])
    differs = np.flatnonzero((whole != holed).any(0))
    assert differs.min() >= 20 * HOP - HOP
    assert differs.max() < 24 * HOP


@pytest.mark.parametrize("lost", [1, 3])
def test_resynchronisation_is_what_the_decoder_remembers(toy_model: Model, lost: int) -> None:
    got = resynchronisation(toy_model, speechlike(320 * 150), lost, after=40)
    assert (got.quiet_frames, got.identical_frames) == (1, 1)
    with pytest.raises(AudioError, match="frames of audio"):
        resynchronisation(toy_model, speechlike(3200))


def test_a_long_hole_is_a_gap_and_the_clock_goes_on(toy_model: Model) -> None:
    signal = speechlike(64_000)
    sent = packets(encode(toy_model, signal))
    whole, _ = decode(toy_model, sent)
    heard, events = decode(toy_model, sent[:40] + sent[140:])
    (gap,) = [e for e in events if isinstance(e, GapEvent)]
    assert (gap.start, gap.stop) == (39 * HOP, 139 * HOP)
    assert heard.shape[1] == whole.shape[1] - 100 * HOP
    np.testing.assert_array_equal(heard[:, -1000:], whole[:, -1000:])


def test_a_decoder_starts_afresh_after_a_jump_and_a_reset(toy_model: Model) -> None:
    sent = packets(encode(toy_model, speechlike(64_000)))
    task = DecodeTask(toy_model.bundle)
    state = task.open()
    hops = [hop for p in sent[:10] + sent[100:] + sent for hop in task.push(state, p)]
    assert [hop.start // HOP for hop in hops if hop.discont] == [0, 100, len(sent)]


def test_silence_costs_nothing_and_sounds_like_what_it_was(toy_model: Model) -> None:
    rng = np.random.default_rng(1)
    signal = speechlike(48_000)
    signal[:, 16_000:40_000] = 1e-3 * rng.standard_normal(24_000)
    sent = encode(toy_model, signal, silence_dbfs=-50.0)
    silent = [read(p, layout_of(toy_model.bundle)) for p in packets(sent)]
    levels = [p.noise.level for p in silent if p.noise is not None]
    assert 3 <= len(levels) <= 6
    assert all(abs(level - 60) <= 2 for level in levels)
    assert len(silent) < 100
    heard, _ = decode(toy_model, packets(sent), samples=48_000)
    rms = 20 * np.log10(np.sqrt(np.mean(heard[:, 24_000:36_000] ** 2)))
    assert rms == pytest.approx(-60, abs=2)


def test_a_codec_may_ask_for_its_last_codes_to_be_repeated(toy_model: Model) -> None:
    extra = {"codec": {"conceal": "repeat"}}
    bundle = toy_model.bundle
    asking = Bundle(bundle.root, msgspec.structs.replace(bundle.manifest, extra=extra))
    sent = packets(encode(toy_model, speechlike(32_000)))
    layout = layout_of(bundle)
    task = DecodeTask(asking)
    state = task.open()
    hops = []
    for packet in sent[:20] + sent[25:]:
        state = snapshot.load(snapshot.dump(state))
        hops += task.push(state, packet)
    codes = [hop.inputs["codes"] for hop in hops]
    last = read(sent[19], layout).codes
    for lost in codes[20:23]:
        np.testing.assert_array_equal(lost, last)
    assert all((lost == -1).all() for lost in codes[23:25])
    np.testing.assert_array_equal(codes[25], read(sent[25], layout).codes)
    odd = msgspec.structs.replace(bundle.manifest, extra={"codec": {"conceal": "sing"}})
    with pytest.raises(BundleError, match="sing"):
        DecodeTask(Bundle(bundle.root, odd))


def test_lost_frames_fade_to_silence_and_come_back(toy_model: Model) -> None:
    sent = packets(encode(toy_model, speechlike(32_000)))
    heard, _ = decode(toy_model, sent[:40] + sent[60:])
    assert np.abs(heard[:, 47 * HOP : 58 * HOP]).max() == 0.0
    assert np.abs(heard[:, 61 * HOP : 70 * HOP]).max() > 0.1


def test_bad_packets_are_counted_or_refused(toy_model: Model) -> None:
    sent = packets(encode(toy_model, speechlike(8000)))
    bad = [*sent[:5], b"\xff" * 9, b"", sent[5][:3], *sent[5:]]
    heard, events = decode(toy_model, bad)
    np.testing.assert_array_equal(heard, decode(toy_model, sent)[0])
    assert notice(events, "decoded")["bad"] == 3
    with pytest.raises(PacketError, match="version 7"):
        decode(toy_model, bad, strict=True)


@pytest.mark.parametrize("kind", ["nan", "inf", "clipped", "dc", "silence", "denormal"])
def test_bad_audio_leaves_finite_sound(toy_model: Model, kind: str) -> None:
    signal = speechlike(9600)
    change = {"nan": np.nan, "inf": np.inf, "clipped": 40.0, "dc": 1.0, "silence": 0.0,
              "denormal": 1e-42}[kind]  # fmt: skip
    signal[:, 3200:6400] = change
    heard, _ = decode(toy_model, packets(encode(toy_model, signal)), samples=9600)
    clean, _ = decode(toy_model, packets(encode(toy_model, np.nan_to_num(signal, posinf=0))))
    assert np.isfinite(heard).all()
    np.testing.assert_array_equal(heard[:, 8000:], clean[:, 8000:9600])


def test_nothing_but_numbers_reaches_the_model(toy_model: Model) -> None:
    task = EncodeTask(toy_model.bundle)
    signal = speechlike(640)
    signal[:, 100:200], signal[:, 300] = np.nan, -np.inf
    hops = task.push(task.open(), Chunk(signal, 0, MONO))
    assert all(np.isfinite(hop.inputs["audio"]).all() for hop in hops)
    assert hops[0].inputs["audio"][0, 50] == signal[0, 50]


def test_short_gaps_are_bridged_and_long_ones_skipped(toy_model: Model) -> None:
    task = EncodeTask(toy_model.bundle)
    signal = speechlike(8000)

    def around(gap: int) -> tuple[list[bytes], np.ndarray, list[Any]]:
        run = InlineRun(task, toy_model)
        events = run.feed(Chunk(signal, 0, MONO))
        events += run.feed(Chunk(signal, 8000 + gap, MONO, discont=True))
        sent = packets(events + run.finish())
        return sent, *decode(toy_model, sent)

    _, heard, _ = around(1000)
    filled = np.concatenate([signal, np.zeros((1, 1000), np.float32), signal], axis=1)
    whole, _ = decode(toy_model, packets(encode(toy_model, filled)))
    np.testing.assert_array_equal(heard, whole)

    sent, _, events = around(80_077)
    assert len(sent) < 55
    (gap,) = [e for e in events if isinstance(e, GapEvent)]
    assert gap.stop <= 88_077 < gap.stop + 2 * HOP
    resumed = [e.chunk for e in events if isinstance(e, AudioEvent) and e.chunk.discont]
    assert [c.start for c in resumed] == [gap.stop]


def test_a_sequence_wraps_without_a_seam(toy_model: Model) -> None:
    task = EncodeTask(toy_model.bundle)
    signal = speechlike(16_000)
    run = InlineRun(task, toy_model)
    run.state.sender.next = 65_520
    sent = packets(run.feed(Chunk(signal, 0, MONO)) + run.finish())
    other = InlineRun(DecodeTask(toy_model.bundle), toy_model)
    other.state.ring.next, other.state.ring.newest = 65_520 + 2**32, 65_519 + 2**32
    heard = audio([e for p in sent for e in other.feed(p)])
    np.testing.assert_array_equal(heard, whole_output(toy_model, signal))


def whole_output(model: Model, signal: np.ndarray) -> np.ndarray:
    """The decoder's output with its delay still in front, as a stream far from its start has."""
    heard, _ = decode(model, packets(encode(model, signal)))
    memory = model.open(1, "decode")
    first = read(packets(encode(model, signal))[0], layout_of(model.bundle)).codes
    lead = model.step(memory, {"codes": first[None]})["audio"][0]
    return np.concatenate([lead, heard], axis=1)


def test_totals_count_payload_and_wire(toy_model: Model) -> None:
    from ossicle.streaming.codec.onwire import wire

    events = encode(toy_model, speechlike(32_000), layers=5, wire=wire("rtp"))
    fields = notice(events, "encoded")
    assert fields["payload_kbps"] == pytest.approx(5 * 6 * 50 / 1000, rel=0.03)
    assert fields["wire_kbps"] == pytest.approx(8 * 50 * (4 + 4 + 40) / 1000, rel=0.03)


@pytest.mark.parametrize(("budget_ms", "frames"), [(40, 1), (100, 2), (400, 16), (None, 1)])
def test_frames_per_packet_follow_from_the_budget(
    toy_model: Model, budget_ms: float | None, frames: int
) -> None:
    task = EncodeTask(toy_model.bundle, budget_ms=budget_ms)
    assert task.open().plan.frames == frames
    assert task.latency == frames * HOP - 1


@pytest.mark.parametrize(
    ("options", "why"),
    [({"loss": 2.0}, "share"), ({"kbps": -1.0}, "positive"), ({"layers": 99}, "99 layers"),
     ({"frames": 0}, "0 frames"), ({"volume": 1}, "no option")],
)  # fmt: skip
def test_options_out_of_range_are_refused_and_change_nothing(
    toy_model: Model, options: dict[str, Any], why: str
) -> None:
    task = EncodeTask(toy_model.bundle, kbps=1.5)
    state = task.open()
    before = snapshot.dump(state)
    with pytest.raises(PacketError, match=why):
        task.update(state, options)
    assert snapshot.dump(state) == before


def test_options_go_back_to_what_they_were(toy_model: Model) -> None:
    task = EncodeTask(toy_model.bundle, kbps=3.0, frames=2)
    state = task.open()
    first = state.plan
    task.update(state, {"layers": 2, "frames": 4})
    assert (state.plan.layers, state.plan.frames) == (2, 4)
    task.update(state, {"layers": None, "frames": None, "kbps": None, "loss": None})
    assert state.plan == first
    decoder = DecodeTask(toy_model.bundle, layers=7)
    held = decoder.open()
    decoder.update(held, {"layers": 2})
    assert held.layers == 2
    decoder.update(held, {"layers": None, "samples": None})
    assert (held.layers, held.samples) == (7, -1)


def test_what_a_task_cannot_take_is_said(toy_model: Model) -> None:
    task = EncodeTask(toy_model.bundle)
    state = task.open()
    with pytest.raises(AudioError, match="Resampler"):
        task.push(state, Chunk(np.zeros((1, 10), np.float32), 0, AudioFormat(48_000)))
    task.push(state, Chunk(np.zeros((1, 10), np.float32), 0, MONO))
    with pytest.raises(AudioError, match="never repeated"):
        task.push(state, Chunk(np.zeros((1, 10), np.float32), 5, MONO))
    task.flush(state)
    assert task.flush(state) == []
    with pytest.raises(AudioError, match="open a new one"):
        task.push(state, Chunk(np.zeros((1, 10), np.float32), 10, MONO))
    with pytest.raises(PacketError, match="no option"):
        DecodeTask(toy_model.bundle).update(DecodeTask(toy_model.bundle).open(), {"speed": 2})


def test_a_bundle_that_is_no_codec_is_refused(toy: Bundle) -> None:
    manifest = msgspec.structs.replace(toy.manifest, programs={"encode": toy.manifest.programs[
        "encode"]})  # fmt: skip
    with pytest.raises(BundleError, match="codec-16k"):
        DecodeTask(Bundle(toy.root, manifest))
    card = msgspec.structs.replace(toy.manifest, version="2", source="mended")
    assert identity(card) == identity(toy.manifest)
    assert identity(msgspec.structs.replace(toy.manifest, latency=999)) != identity(toy.manifest)
