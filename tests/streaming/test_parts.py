"""The parts of the service and the client on their own: outbox, replay, limits, demo and load."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamtoys import ENHANCE, RATE, load_all, tones

from ossicle.runtime.budget import Ledger
from ossicle.runtime.errors import CapacityError
from ossicle.runtime.model import Model
from ossicle.streaming import messages as m
from ossicle.streaming.client.replay import Replay
from ossicle.streaming.server.admission import Admission
from ossicle.streaming.server.caller import Caller
from ossicle.streaming.server.hopfigures import HopFigures
from ossicle.streaming.server.metrics import Metrics
from ossicle.streaming.server.service import Service
from ossicle.streaming.session.inline import InlineEngine
from ossicle.streaming.session.outbox import MAX_ANSWERS, Outbox
from ossicle.streaming.session.stages import KEPT, StageTimes


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    return load_all(tmp_path_factory.mktemp("bundles"))


def sound(start: int, task: str = "a") -> m.Response:
    return m.Response(m.AudioOut("x", b"", start, 160), task)


async def taken(outbox: Outbox) -> list[Any]:
    outbox.close()
    found = []
    while (response := await outbox.next()) is not None:
        found.append(response.body)
    return found


@given(
    count=st.integers(0, 60),
    limit=st.integers(10, 200),
    notes=st.lists(st.integers(0, 60), max_size=10),
)
def test_a_full_outbox_keeps_the_newest_and_says_what_is_missing(
    count: int, limit: int, notes: list[int]
) -> None:
    async def run() -> None:
        outbox = Outbox(limit, droppable=True)
        for index in range(count):
            span = (160 * index, 160 * (index + 1))
            outbox.put(sound(160 * index), 10.0, span)
            for _ in range(notes.count(index)):
                outbox.put(m.Response(m.Notice("X", str(index))))
        found = await taken(outbox)
        audio = [b for b in found if isinstance(b, m.AudioOut)]
        gaps = [b for b in found if isinstance(b, m.Gap)]
        kept = [b for b in found if isinstance(b, m.Notice)]
        assert len(kept) == len([n for n in notes if n < count])
        assert len(audio) == min(count, limit // 10)
        lost = 160 * (count - len(audio))
        assert [(g.start_sample, g.stop_sample) for g in gaps] == ([(0, lost)] if lost else [])
        assert outbox.dropped_samples == lost
        if gaps:
            assert found.index(gaps[0]) < found.index(audio[0])

    asyncio.run(run())


async def test_tracks_are_bounded_one_by_one() -> None:
    outbox = Outbox(100, droppable=True)
    outbox.put(sound(0, "slow"), 50.0, (0, 800))
    for index in range(30):
        outbox.put(sound(160 * index, "fast"), 10.0, (160 * index, 160 * index + 160))
    found = await taken(outbox)
    assert sum(isinstance(b, m.AudioOut) for b in found) == 11
    assert sum(isinstance(b, m.Gap) for b in found) == 1


async def test_a_file_waits_where_a_live_stream_drops() -> None:
    outbox = Outbox(15, droppable=False)
    outbox.put(sound(0), 10.0, (0, 160))
    assert not outbox.full
    outbox.put(sound(160), 10.0, (160, 320))
    assert outbox.full
    waiting = asyncio.create_task(outbox.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert isinstance((await outbox.next()).body, m.AudioOut)  # type: ignore[union-attr]
    await asyncio.wait_for(waiting, 1)


async def test_too_many_answers_end_the_stream() -> None:
    outbox = Outbox(100, droppable=True)
    for _ in range(MAX_ANSWERS + 1):
        outbox.put(m.Response(m.Notice("X", "")))
    with pytest.raises(CapacityError, match="takes none"):
        await outbox.next()


def test_credit_never_shrinks() -> None:
    async def run() -> None:
        outbox = Outbox(1000, droppable=True, credit=100)
        outbox.put(sound(0), 10.0, (0, 160))
        assert outbox.next_nowait() is None
        outbox.grant(50)
        assert outbox.next_nowait() is None
        outbox.grant(160)
        assert outbox.next_nowait() is not None

    asyncio.run(run())


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=30),
    cuts=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 100)), max_size=6),
)
def test_what_is_replayed_is_what_came_after_the_checkpoint(
    sizes: list[int], cuts: list[tuple[int, int]]
) -> None:
    replay, ends = Replay(True, 10**9), np.cumsum(sizes)
    for index, size in enumerate(sizes):
        replay.add(m.AudioIn(str(index).encode()), size)
        replay.add(m.Query(str(index)))
    safe = 0
    for sends, where in cuts:
        for _ in range(sends):
            replay.take()
        sent = [i for i in range(len(sizes)) if i < (replay._next + _gone(replay, sizes) + 1) // 2]
        reachable = [i for i in sent if i >= safe]
        if reachable:
            point = reachable[where % len(reachable)]
            replay.prune(int(ends[point]), 0)
            safe = point + 1
        replay.rewind()
        again = []
        while (request := replay.take()) is not None:
            again.append(request)
        audio = [int(r.data) for r in again if isinstance(r, m.AudioIn)]
        assert audio == list(range(safe, len(sizes)))
        queries = [int(r.text) for r in again if isinstance(r, m.Query)]
        assert queries == list(range(max(0, safe - 1), len(sizes)))
        replay.rewind()


def _gone(replay: Replay, sizes: list[int]) -> int:
    return 2 * len(sizes) - len(replay._items)


def test_a_live_client_drops_its_oldest_and_says_where_it_goes_on() -> None:
    replay = Replay(False, 10**9)
    for index in range(10):
        replay.add(m.AudioIn(str(index).encode()), 100)
        if index == 2:
            replay.add(m.Query("kept"))
    assert replay.drop_unsent(350) == 700
    found = []
    while (request := replay.take()) is not None:
        found.append(request)
    assert found == [m.Query("kept"), m.AudioIn(b"7", 700), m.AudioIn(b"8"), m.AudioIn(b"9")]


def test_places_are_counted_and_given_back() -> None:
    admission = Admission(3, 2)
    admission.enter("a")
    admission.enter("a")
    with pytest.raises(CapacityError, match="this client"):
        admission.enter("a")
    admission.enter("b")
    with pytest.raises(CapacityError, match="as many as this server takes"):
        admission.enter("c")
    admission.leave("a")
    admission.enter("c")
    for client in ("a", "b", "c"):
        admission.leave(client)
    assert admission.total == 0
    assert not admission.clients


async def test_metrics_show_hops_and_state(models: dict[str, Model]) -> None:
    from streamtoys import config, whole
    from streamtoys import given as requests

    from ossicle.streaming.server.config import Settings

    metrics = Metrics()
    service = Service(InlineEngine(loaded=models), Settings(), metrics=metrics)
    answers = service.stream(requests(whole(config(ENHANCE), tones(0.5))), Caller())
    assert [r async for r in answers]
    text = metrics.text().decode()
    for line in ('ossicle_streams_total{outcome="ended"} 1.0', "ossicle_ready 1.0",
                 "ossicle_samples_total 8000.0", "ossicle_streams_open 0.0"):  # fmt: skip
        assert line in text
    assert 'ossicle_hops_total{task="enhance"}' in text
    readme = (Path(__file__).parents[2] / "streaming" / "README.md").read_text()
    documented = set(re.findall(r"`(ossicle_[a-z_]+)", readme.partition("## Watching")[2]))
    exposed = {f.name for f in metrics.registry.collect()}
    exposed |= {f"{f.name}_total" for f in metrics.registry.collect() if f.type == "counter"}
    assert documented <= exposed
    assert {name.removesuffix("_total") for name in exposed} == {
        name.removesuffix("_total") for name in documented
    }
    metrics.hops("enhance").add(Ledger(compute_us=3, missed=True))
    assert 'ossicle_misses_total{task="enhance"} 1.0' in metrics.text().decode()


@given(st.lists(st.integers(0, 8_000_000), max_size=50))
def test_a_distribution_counts_every_hop_at_or_below_its_bound(spent: list[int]) -> None:
    found = HopFigures()
    for us in spent:
        found.add(Ledger(compute_us=us, queue_us=1))
    rows, total_s = found.distribution("step")
    for bound, count in rows:
        assert count == sum(us <= float(bound) * 1e6 for us in spent)
    assert rows[-1] == ("+Inf", len(spent))
    assert total_s == pytest.approx(sum(spent) / 1e6)
    assert found.distribution("queue")[0][0] == ("0.0005", len(spent))


@pytest.mark.parametrize("hops", [0, 1, 63, 64, 65, 5_000])
def test_stage_times_are_those_of_the_last_hops(hops: int) -> None:
    times = StageTimes()
    for at in range(hops):
        times.add(Ledger(1000 * at, 2, 3, 4, 5))
    found = {p.stage: p for p in times.percentiles()}
    kept = np.arange(hops)[-KEPT:] if hops % 64 == 0 else np.arange(hops)[-KEPT - hops % 64 :]
    assert found["wait"].count == found["total"].count == hops
    if hops:
        assert found["wait"].p50_ms == pytest.approx(np.percentile(kept, 50))
        assert found["total"].p999_ms == pytest.approx(np.percentile(kept, 99.9) + 0.014)


def test_spans_cost_nothing_and_carry_attributes() -> None:
    from ossicle.streaming.server.spans import span

    with span("test", client="a") as note:
        note("session", "b")


def test_the_load_is_open_loop_and_reports(models: dict[str, Model], tmp_path: Path) -> None:
    from streamtoys import ServerProcess

    from ossicle.streaming.cli.options import Remote
    from ossicle.streaming.loadgen import Plan, run_load

    process = ServerProcess(models)
    try:
        remote = Remote(f"127.0.0.1:{process.start()}")
        plan = Plan(("encode",), "toy-codec", streams=2, seconds=2.5, budget_ms=5_000)
        report = run_load(plan, remote, str(tmp_path))
    finally:
        process.stop()
    (step,) = report["steps"]
    assert step["opened"] == 2
    assert step["answers"] >= 2 * 60
    assert step["latency_ms"]["p50"] >= step["ledger_ms"]["total"]["p50"] - 1
    assert (tmp_path / "load.png").stat().st_size > 5_000
    assert json.loads((tmp_path / "load.json").read_text())["kept"]


def test_a_stall_of_the_server_is_not_hidden() -> None:
    from ossicle.streaming.loadgen import Heard, Plan, Player

    class Stalling:
        """Answers on time, but for one second in the middle."""

        async def stream(self, requests: Any) -> Any:
            about = m.TaskStarted("encode", "encode", "x", model_rate_hz=RATE)
            yield m.Response(m.Started("s", RATE, 1, RATE, "pcm_s16", (about,)))
            at = 0
            async for request in requests:
                if isinstance(request, m.AudioIn):
                    at += 320
                    if at == 320 * 75:
                        await asyncio.sleep(0.5)
                    packet = m.WirePacket(b"", at - 320, 320)
                    yield m.Response(m.PacketsOut((packet,), RATE), "encode", ledger=Ledger())

    heard = Heard()
    plan = Plan(seconds=2.5)
    player = Player(plan, Stalling(), heard, [bytes(640)])  # type: ignore[arg-type]
    asyncio.run(player.run(0.0))
    late = [ms for ms in heard.latency_ms if ms > 100]
    assert len(late) >= 15  # every message behind the stall shows it, not only the one
    assert max(late) > 450


def test_the_demo_says_what_was_heard_and_what_came_late(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from ossicle.streaming.demo.summary import show_summary

    total = {"p50": 1.0, "p95": 2.0, "p99": 31.5, "p999": 40.0, "count": 9}
    show_summary(
        tmp_path,
        {
            "truth": [["dog_bark", 1.0, 2.0]],
            "captions": [{"text": "[dog barks]", "start_s": 1.2, "end_s": 2.1}],
            "latency_ms": {"encode": {"budget": 20.0, "algorithmic": 20.0, "late": 0.25,
                                      "total": total}},
            "codec": {"asked_kbps": 3.0, "packet_kbps": 4.8, "wire_kbps": 31.2, "packets": 9},
            "files": ["captions.vtt"],
            "notes": [],
        },
    )  # fmt: skip
    said = capsys.readouterr().out
    for line in ("in the scene: 1.0-2.0 dog bark", "captioned:  1.2-2.1 [dog barks]", "31.5",
                 "encode 25 % of the answers", "4.80 as packets, 31.2 on the wire"):  # fmt: skip
        assert line in said


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_demo_writes_what_it_promises(tmp_path: Path) -> None:
    from ossicle.runtime.bundle import list_bundles

    if "sounds-16k" not in list_bundles():
        pytest.skip("no built-in models in this tree")
    from ossicle.streaming.demo import run_demo

    report = run_demo(None, str(tmp_path), seconds=8.0, view=False)
    for name in report["files"]:
        assert (tmp_path / name).stat().st_size > 0
    assert (tmp_path / "captions.vtt").read_text().startswith("WEBVTT\n\n")
    assert report["streams"]["scene"]["reason"] == "END"
    assert "caption" in report["latency_ms"]
