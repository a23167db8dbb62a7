"""Kill the server in mid-stream: what the client hears is as if nothing had happened."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamtoys import (
    CAPTION,
    DECODE,
    ENCODE,
    ENHANCE,
    RATE,
    ServerProcess,
    load_all,
    tones,
)

from ossicle.runtime.model import Model
from ossicle.streaming import messages as m
from ossicle.streaming.captions.cue import Cue
from ossicle.streaming.client import ServerLost, Sound, Stream, connect
from ossicle.streaming.client.aio import concatenate

TASKS = (ENHANCE, CAPTION, ENCODE)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    return load_all(tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def process(models: dict[str, Model], tmp_path: Path) -> Iterator[ServerProcess]:
    made = ServerProcess(
        models, state_dir=str(tmp_path / "state"), checkpoint_s=0.3, checkpoint_share=1.0
    )
    made.start()
    yield made
    made.stop()


def heard(answers: list[m.Response]) -> tuple[list[Any], Any, list[Any]]:
    """Cues, samples and packets, each checked to come once and in order."""
    cues = [r.body for r in answers if isinstance(r.body, Cue)]
    assert [c.seq for c in cues] == list(range(len(cues)))
    sounds = [r.body for r in answers if isinstance(r.body, Sound)]
    for before, after in pairwise(sounds):
        assert after.start_sample == before.stop_sample
    packets = [p for r in answers if isinstance(r.body, m.PacketsOut) for p in r.body.packets]
    return cues, concatenate(sounds), packets


async def play(stream: Stream, x: Any, kill: Any = None, pace: float = 0.0) -> list[m.Response]:
    """Send ``x`` in 50 ms pieces; ``kill(i)`` may do harm before piece ``i``."""
    step = stream.config.sample_rate_hz // 20

    async def send() -> None:
        for index, at in enumerate(range(0, x.shape[1], step)):
            if kill is not None:
                await kill(index)
            await stream.send(x[:, at : at + step])
            await asyncio.sleep(pace)
        await stream.end()

    sender = asyncio.create_task(send())
    answers = [r async for r in stream]
    await sender
    return answers


@pytest.mark.parametrize("rate", [RATE, 44_100])
async def test_a_killed_server_costs_nothing(process: ServerProcess, rate: int) -> None:
    x = tones(4.0)
    if rate != RATE:
        x = np.repeat(x, 2, axis=0)[:, : 3 * rate]
    settings = {"rate_hz": rate, "channels": x.shape[0]}
    async with connect(f"127.0.0.1:{process.settings['port']}") as client:
        quiet = client.stream(*TASKS, live=False, **settings)
        want = heard(await play(quiet, x))
        assert quiet.reconnects == 0

        async def harm(index: int) -> None:
            if index in (17, 41):
                await asyncio.sleep(0.2)
                await asyncio.to_thread(process.kill)
                await asyncio.to_thread(process.start)

        stream = client.stream(*TASKS, live=False, **settings)
        got = heard(await play(stream, x, harm, pace=0.02))
    assert stream.reconnects >= 2
    assert stream.checkpoint is not None
    assert stream.checkpoint.number >= 2
    assert got[0] == want[0]
    np.testing.assert_array_equal(got[1], want[1])
    assert got[2] == want[2]
    assert len(want[1][0]) == x.shape[1]
    assert '"resumed": true' in process.log or process.stop() == 0


async def test_a_live_stream_goes_on_too(process: ServerProcess) -> None:
    x = tones(3.0)
    async with connect(f"127.0.0.1:{process.settings['port']}") as client:
        want = heard(await play(client.stream(*TASKS, rate_hz=RATE, live=False), x))

        async def harm(index: int) -> None:
            if index == 25:
                await asyncio.to_thread(process.kill)
                await asyncio.to_thread(process.start)

        stream = client.stream(*TASKS, rate_hz=RATE, live=True)
        got = heard(await play(stream, x, harm, pace=0.03))
    assert stream.reconnects >= 1
    np.testing.assert_array_equal(got[1], want[1])
    assert got[2] == want[2]


async def test_a_decode_stream_goes_on_by_packets(process: ServerProcess) -> None:
    x = tones(3.0)
    async with connect(f"127.0.0.1:{process.settings['port']}") as client:
        packets = [p async for p in client.encode(x, 2.0, rate_hz=RATE, model="toy-codec")]
        want = concatenate([s async for s in client.decode(packets, model="toy-codec")])
        stream = client.stream(DECODE, rate_hz=RATE, live=False)

        async def send() -> None:
            for index in range(0, len(packets), 3):
                if index == 90:
                    await asyncio.sleep(0.3)
                    await asyncio.to_thread(process.kill)
                    await asyncio.to_thread(process.start)
                await stream.send_packets(packets[index : index + 3])
                await asyncio.sleep(0.01)
            await stream.end()

        sender = asyncio.create_task(send())
        answers = [r async for r in stream]
        await sender
    assert stream.reconnects >= 1
    assert stream.checkpoint is not None
    np.testing.assert_array_equal(heard(answers)[1], want)


@pytest.mark.parametrize(("encoding", "kind", "rate"), [("flac", "PCM_16", RATE),
                                                        ("ogg_opus", "OPUS", 48_000)])  # fmt: skip
async def test_coded_audio_goes_on_after_a_kill(
    process: ServerProcess, encoding: str, kind: str, rate: int
) -> None:
    """No decoder starts in the middle: the bytes come again, and what they say is not repeated."""
    import io

    import soundfile

    coded = io.BytesIO()
    form = "OGG" if encoding == "ogg_opus" else "FLAC"
    soundfile.write(coded, tones(4.0 * rate / RATE)[0], rate, kind, format=form)
    data = coded.getvalue()
    cuts = [data[at : at + 997] for at in range(0, len(data), 997)]
    settings: dict[str, Any] = {"rate_hz": rate, "live": False, "encoding": encoding,
                                "output_rate_hz": RATE}  # fmt: skip

    async def send(client: Any, harm: bool) -> tuple[Stream, list[m.Response]]:
        stream = client.stream(*TASKS, **settings)

        async def pump() -> None:
            for index, piece in enumerate(cuts):
                if harm and index in (len(cuts) // 2, len(cuts) - 2):
                    while stream.checkpoint is None:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                    await asyncio.to_thread(process.kill)
                    await asyncio.to_thread(process.start)
                await stream.send_bytes(piece)
                await asyncio.sleep(0.02 if harm else 0)
            await stream.end()

        sender = asyncio.create_task(pump())
        answers = [r async for r in stream]
        await sender
        return stream, answers

    async with connect(f"127.0.0.1:{process.settings['port']}", patience_s=240) as client:
        _, quiet = await send(client, False)
        want = heard(quiet)
        stream, answers = await send(client, True)
    got = heard(answers)
    assert stream.reconnects >= 2
    assert stream.checkpoint is not None
    assert stream.checkpoint.sample > 0
    assert got[0] == want[0]
    np.testing.assert_array_equal(got[1], want[1])
    assert got[2] == want[2]
    assert len(want[2]) > 50
    ended = answers[-1].body
    assert isinstance(ended, m.Ended)
    assert ended.bytes_in == len(data)


async def test_without_snapshots_a_lost_server_is_an_error(
    models: dict[str, Model],
) -> None:
    process = ServerProcess(models)
    port = process.start()
    async with connect(f"127.0.0.1:{port}", patience_s=1.0) as client:
        stream = client.stream(ENHANCE, rate_hz=RATE, live=False)
        await stream.opened()
        await stream.send(tones(0.5))
        await asyncio.sleep(0.2)
        process.kill()
        with pytest.raises(ServerLost, match="not kept"):
            async for _ in stream:
                pass


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_built_in_models_go_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    from ossicle.runtime.bundle import list_bundles
    from ossicle.runtime.scene.mix import demo_scene

    names = ["sounds-16k", "codec-16k", "separate-16k"]
    if set(names) - set(list_bundles()):
        pytest.skip("no built-in models in this tree")
    tasks = (
        m.TaskSpec("caption"),
        m.TaskSpec("encode", options={"kbps": 3.0}),
        m.TaskSpec("separate", options={"query": "speech"}),
    )
    state = {"state_dir": str(tmp_path), "checkpoint_s": 0.5, "checkpoint_share": 1.0}
    process = ServerProcess(names, **state)
    samples, scene = demo_scene()
    x = np.asarray(samples, np.float32)[None, : 12 * scene.rate_hz]

    async def harm(index: int) -> None:
        if index in (70, 160):
            await asyncio.to_thread(process.kill)
            await asyncio.to_thread(process.start)

    try:
        port = await asyncio.to_thread(process.start)
        async with connect(f"127.0.0.1:{port}", patience_s=120) as client:
            want = heard(await play(client.stream(*tasks, rate_hz=RATE, live=False), x))
            stream = client.stream(*tasks, rate_hz=RATE, live=False)
            got = heard(await play(stream, x, harm, pace=0.02))
    finally:
        process.stop()
    assert stream.reconnects >= 2
    assert stream.checkpoint is not None
    assert got[0] == want[0]
    np.testing.assert_array_equal(got[1], want[1])
    assert got[2] == want[2]
    assert want[1].shape == x.shape
