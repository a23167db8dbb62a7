"""EnCodec's layout, eight frames a hop: the same packets, loss and files as every other codec."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from streamtoys import ServerProcess, audio_of, config, given

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ossicle.export.importers import import_model  # noqa: E402
from ossicle.runtime.audio import AudioFormat, Chunk  # noqa: E402
from ossicle.runtime.model import Model  # noqa: E402
from ossicle.runtime.task import AudioEvent, InlineRun, NoticeEvent, PacketEvent  # noqa: E402
from ossicle.streaming import messages as m  # noqa: E402
from ossicle.streaming.cli.app import main as run  # noqa: E402
from ossicle.streaming.codec.commands import decode_file, encode_file  # noqa: E402
from ossicle.streaming.codec.layout import frames_per_hop, layout_of  # noqa: E402
from ossicle.streaming.codec.packetreader import read, thin  # noqa: E402
from ossicle.streaming.codec.playout import Playout  # noqa: E402
from ossicle.streaming.codec.tasks import DecodeTask, EncodeTask  # noqa: E402
from ossicle.streaming.server.caller import Caller  # noqa: E402
from ossicle.streaming.server.config import Settings  # noqa: E402
from ossicle.streaming.server.service import Service  # noqa: E402
from ossicle.streaming.session.inline import InlineEngine  # noqa: E402

RATE, FRAME, PER_HOP = 24_000, 320, 8


def voice(seconds: float) -> np.ndarray:
    """Something voiced, with pauses: ``[1, T]`` at 24 kHz."""
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 1.5 * time)) / RATE
    voiced = sum(np.sin(k * pitch) / k for k in range(1, 20))
    return (0.08 * voiced * (np.sin(2 * np.pi * 1.2 * time) > -0.5))[None].astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Four filters instead of 32, random weights, books drawn from its own features."""
    torch.manual_seed(0)
    config = transformers.EncodecConfig(
        num_filters=4, hidden_size=16, codebook_size=64, target_bandwidths=[2.7]
    )
    theirs = transformers.EncodecModel(config).eval()
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        heard = theirs.encoder(torch.from_numpy(voice(2.0))[None])[0].T
        for index, layer in enumerate(theirs.quantizer.layers):
            rows = heard[torch.randint(len(heard), (64,), generator=rng)]
            layer.codebook.embed.copy_(rows if index == 0 else (rows - heard.mean(0)) * 0.5**index)
    home = tmp_path_factory.mktemp("cache")
    theirs.save_pretrained(home / "checkpoint")
    return Model.load(import_model("encodec", home / "checkpoint", home / "encodec"))


def sent(model: Model, signal: np.ndarray, **options: object) -> list[bytes]:
    run = InlineRun(EncodeTask(model.bundle, **options), model)  # type: ignore[arg-type]
    events = run.feed(Chunk(signal, 0, AudioFormat(RATE))) + run.finish()
    return [e.packet for e in events if isinstance(e, PacketEvent)]


def heard(model: Model, packets: list[bytes], samples: int, delay: int = 0) -> np.ndarray:
    run = InlineRun(DecodeTask(model.bundle, samples=samples, delay=delay), model)
    events = [e for p in packets for e in run.feed(p)] + run.finish()
    return np.concatenate([e.chunk.samples for e in events if isinstance(e, AudioEvent)], axis=1)


def ossicle(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run(arguments)
    assert not left.value.code


def test_a_hop_is_several_frames_of_the_layout(model: Model) -> None:
    layout = layout_of(model.bundle)
    assert (frames_per_hop(model.manifest), layout.hop, layout.sample_rate_hz) == (8, 320, RATE)
    assert layout.kbps() == pytest.approx(75 * 6 * layout.layers / 1000)
    assert EncodeTask(model.bundle).latency == PER_HOP * FRAME - 1
    assert EncodeTask(model.bundle, frames=3).latency == 10 * FRAME - 1
    assert EncodeTask(model.bundle, budget_ms=400.0).open().plan.frames % PER_HOP == 0


@pytest.mark.parametrize("frames", [None, 1, 3, 16])
def test_packets_give_what_the_model_gives(model: Model, frames: int | None) -> None:
    signal = voice(1.0)[:, : 7 * PER_HOP * FRAME - 2 * FRAME - 77]
    padded = np.pad(signal, ((0, 0), (0, -signal.shape[1] % (PER_HOP * FRAME))))
    up, down = model.open(1, "encode"), model.open(1, "decode")
    whole = -(-signal.shape[1] // FRAME)
    wanted = []
    for hop in range(padded.shape[1] // (PER_HOP * FRAME)):
        run = padded[None, :, hop * PER_HOP * FRAME : (hop + 1) * PER_HOP * FRAME]
        codes = model.step(up, {"audio": run})["codes"].copy()
        codes[:, :, max(whole - hop * PER_HOP, 0) :] = -1
        wanted.append(model.step(down, {"codes": codes})["audio"][0].copy())
    packets = sent(model, signal, frames=frames)
    layout = layout_of(model.bundle)
    assert sum(read(p, layout).frames for p in packets) == whole
    got = heard(model, packets, signal.shape[1])
    np.testing.assert_array_equal(got, np.concatenate(wanted, axis=1)[:, : signal.shape[1]])


def test_packets_are_thinned_without_it(model: Model) -> None:
    layout = layout_of(model.bundle)
    full = sent(model, voice(0.7))
    assert [thin(p, 2, layout) for p in full] == sent(model, voice(0.7), layers=2)


@pytest.mark.parametrize("frames", [1, 3, 8])
def test_loss_and_order_touch_nothing_before_them(model: Model, frames: int) -> None:
    signal = voice(2.0)
    packets = sent(model, signal, frames=frames)
    whole = heard(model, packets, signal.shape[1])
    first = 60 // frames  # of the packets that go missing
    holed = packets[:first] + packets[first + max(10 // frames, 1) :]
    swapped = [p for i in range(0, len(holed) - 1, 2) for p in (holed[i + 1], holed[i])]
    swapped += holed[len(swapped) :]
    got = heard(model, swapped, signal.shape[1], delay=3 * frames)
    assert got.shape == whole.shape
    assert np.isfinite(got).all()
    clean = first * frames // PER_HOP * PER_HOP * FRAME
    np.testing.assert_array_equal(got[:, :clean], whole[:, :clean])
    assert not np.array_equal(got, whole)


def test_gaps_and_silence_keep_time(model: Model) -> None:
    run = InlineRun(EncodeTask(model.bundle, silence_dbfs=-60.0), model)
    events = run.feed(Chunk(np.zeros((1, RATE), np.float32), 0, AudioFormat(RATE)))
    events += run.feed(Chunk(voice(1.0), 5 * RATE + 123, AudioFormat(RATE), discont=True))
    events += run.finish()
    (totals,) = [e.fields for e in events if isinstance(e, NoticeEvent) and e.kind == "encoded"]
    assert totals["frames"] == -(-(6 * RATE + 123) // FRAME)
    packets = [e.packet for e in events if isinstance(e, PacketEvent)]
    other = InlineRun(DecodeTask(model.bundle, samples=6 * RATE + 123), model)
    out = [e for p in packets for e in other.feed(p)] + other.finish()
    chunks = [e.chunk for e in out if isinstance(e, AudioEvent)]
    assert chunks[-1].stop == 6 * RATE + 123
    assert [c.discont for c in chunks].count(True) == 1
    for one, two in itertools.pairwise(chunks):
        assert two.discont or one.stop == two.start


def test_files_by_its_name(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSSICLE_CACHE", os.fspath(model.bundle.root.parent))
    signal = voice(2.37)[0]
    sf.write(tmp_path / "a.wav", signal, RATE)
    made = encode_file(tmp_path / "a.wav", tmp_path / "a.osc", 1.0, "encodec")
    assert (made.layers, made.frames) == (2, -(-len(signal) // FRAME))
    decode_file(tmp_path / "a.osc", tmp_path / "b.wav", layers=1)
    decode_file(tmp_path / "a.osc", tmp_path / "c.wav", start_s=1.5)
    assert sf.info(tmp_path / "b.wav").frames == len(signal)
    assert sf.info(tmp_path / "c.wav").frames == len(signal) - round(1.5 * RATE)


@pytest.mark.parametrize("seconds", [2.37, 0.0], ids=["speech", "nothing"])
def test_a_server_encodes_and_decodes_it_as_here(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setenv("OSSICLE_CACHE", os.fspath(model.bundle.root.parent))
    sf.write(tmp_path / "a.wav", voice(seconds)[0], RATE, subtype="FLOAT")
    encode_file(tmp_path / "a.wav", tmp_path / "here.osc", 2.0, "encodec")
    decode_file(tmp_path / "here.osc", tmp_path / "here.wav")
    process = ServerProcess({"encodec": model})
    try:
        there = ["--server", f"127.0.0.1:{process.start()}", "-m", "encodec"]
        ossicle(["encode", f"{tmp_path}/a.wav", f"{tmp_path}/there.osc", "--kbps", "2", *there])
        ossicle(["decode", f"{tmp_path}/there.osc", f"{tmp_path}/there.wav", *there])
    finally:
        process.stop()
    if seconds:  # without a packet a server does not say how long a frame is, only how long a hop
        assert (tmp_path / "there.osc").read_bytes() == (tmp_path / "here.osc").read_bytes()
    sound = [sf.read(tmp_path / f"{side}.wav")[0] for side in ("here", "there")]
    assert len(sound[0]) == voice(seconds).shape[1]
    np.testing.assert_array_equal(*sound)


async def test_a_call_in_it_both_ways_in_one_stream(model: Model) -> None:
    mine, theirs = voice(1.1), voice(2.3)
    coming = sent(model, theirs, kbps=2.0)
    stride = PER_HOP * FRAME
    requests: list[m.Request] = [
        config(m.TaskSpec("encode", model="encodec", options={"kbps": 2.0}),
               m.TaskSpec("decode", model="encodec"), sample_rate_hz=RATE),
    ]  # fmt: skip
    for index, at in enumerate(range(0, mine.shape[1], stride)):
        requests.append(m.AudioIn(mine[:, at : at + stride].tobytes()))
        requests.append(
            m.PacketsIn(tuple(m.WirePacket(p, 0, 0) for p in coming[index : index + 1]))
        )
    rest = tuple(m.WirePacket(p, 0, 0) for p in coming[index + 1 :])
    requests += [m.PacketsIn(rest)] if rest else []
    requests.append(m.End())
    service = Service(InlineEngine(loaded={"encodec": model}), Settings())
    answers = [r async for r in service.stream(given(requests), Caller())]
    going = [p.data for r in answers if isinstance(r.body, m.PacketsOut) for p in r.body.packets]
    assert going == sent(model, mine, kbps=2.0)
    out = audio_of(answers, "decode")
    np.testing.assert_array_equal(out, heard(model, coming, len(out))[0])


def test_a_clock_plays_it(model: Model) -> None:
    player = Playout(model, delay=16, estimate=False)
    state, memory = player.open()
    for index, packet in enumerate(sent(model, voice(2.0))):
        player.push(state, memory, packet, index * 106_666_667)
    out = player.pull(state, memory, RATE)
    out = np.concatenate([out, player.pull(state, memory, 3 * RATE)], axis=1)
    assert out.shape == (1, 4 * RATE)
    assert np.isfinite(out).all()
    assert float(np.abs(out[:, :RATE]).max()) > 0.01
    assert float(np.abs(out[:, -RATE:]).max()) < 1e-6  # what has ended fades
