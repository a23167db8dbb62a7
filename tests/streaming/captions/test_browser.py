"""Captions in a browser: the event stream as any client sees it, and Chromium's own text track."""

from __future__ import annotations

import io
import json
import shutil
import socket
import subprocess
import threading
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ossicle.streaming.captions.cue import Cue, Op, from_json_line
from ossicle.streaming.captions.feed import Feed
from ossicle.streaming.captions.sinks.sse import PAGE, WAITING, EventHub, web_app

pytest.importorskip("starlette", reason="starlette is not installed")
RATE = 16_000


async def collect(hub: EventHub, after: int = -1) -> list[dict[str, str]]:
    events = []
    async for block in hub.events(after):
        fields = dict(line.split(": ", 1) for line in block.strip().split("\n"))
        events.append(fields)
    return events


def lines_of(events: list[dict[str, str]]) -> list[Cue]:
    return [from_json_line(e["data"]) for e in events if e.get("event") == "cue"]


async def test_every_line_arrives_in_order(make_feed: Callable[..., list[Cue]]) -> None:
    hub, cues = EventHub(), make_feed(seed=1)
    for cue in cues:
        hub.put(cue)
    hub.close()
    events = await collect(hub)
    assert lines_of(events) == cues
    assert events[-1]["event"] == "end"
    assert [int(e["id"]) for e in events if "id" in e] == [c.seq for c in cues]


async def test_a_reader_that_reconnects_gets_what_it_missed(
    make_feed: Callable[..., list[Cue]],
) -> None:
    hub, cues = EventHub(), make_feed(seed=1)
    for cue in cues:
        hub.put(cue)
    hub.close()
    assert lines_of(await collect(hub, after=cues[9].seq)) == cues[10:]


async def test_a_slow_reader_loses_the_oldest_and_is_told(
    make_feed: Callable[..., list[Cue]],
) -> None:
    hub, cues = EventHub(), make_feed(seed=1, count=600)
    stream = hub.events()
    hub.put(cues[0])
    assert (await anext(stream)).startswith("retry")
    assert "id: 0" in await anext(stream)
    for cue in cues[1:]:
        hub.put(cue)
    gap = await anext(stream)
    kept = len(cues) - WAITING
    assert gap == f'event: gap\ndata: {{"first": 1, "last": {kept - 1}}}\n\n'
    assert f"id: {kept}" in await anext(stream)
    await stream.aclose()


def test_page_and_events_over_http(make_feed: Callable[..., list[Cue]]) -> None:
    httpx = pytest.importorskip("httpx", reason="httpx is not installed")
    hub, cues = EventHub(), make_feed(seed=1, count=10)
    for cue in cues:
        hub.put(cue)
    hub.close()
    with serving(web_app(hub)) as base:
        page = httpx.get(base + "/")
        assert page.status_code == 200
        assert "script-src 'self'" in page.headers["content-security-policy"]
        answer = httpx.get(base + "/events", headers={"last-event-id": "4"})
        found = [line[6:] for line in answer.text.split("\n") if line.startswith('data: {"seq')]
        assert [from_json_line(x) for x in found] == cues[5:]
        bad = httpx.get(base + "/events", headers={"last-event-id": "-1; drop"})
        assert bad.status_code == 200


class serving:  # noqa: N801  (used as a with-statement word)
    """Runs an ASGI app on a free port for as long as the block lasts."""

    def __init__(self, app: Any) -> None:
        uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        config = uvicorn.Config(app, port=self.port, log_level="error", lifespan="off", ws="none")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)
        return f"http://127.0.0.1:{self.port}"

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(10)


PROBE = """{
const track = player.textTracks[0], seen = [];
const report = () => fetch("/report", {method: "POST", body: JSON.stringify({
  seen, active: [...track.activeCues].map((c) => c.text), time: player.currentTime,
  all: track.cues.length, state: state.textContent})});
track.addEventListener("cuechange", () => {
  for (const c of track.activeCues) seen.push([c.id, c.getCueAsHTML().textContent]);
});
player.muted = true;
player.play().then(() => fetch("/playing", {method: "POST"}));
setInterval(report, 400);
}"""


def live_cues(make_feed: Callable[..., list[Cue]]) -> Iterator[tuple[float, Cue]]:
    """A crowded feed of hostile texts, squeezed into ten seconds: (when, line)."""
    cues = make_feed(seed=6, count=25, gap_s=0.4)
    for cue in cues:
        at = cue.audio_seen_sample / RATE
        if at < 20:
            yield at / 2, cue


@pytest.mark.slow
def test_chromium_shows_every_cue_of_a_live_feed(
    make_feed: Callable[..., list[Cue]], tmp_path: Path
) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed (Debian package chromium)")
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Mount, Route

    hub, playing, last = EventHub(), threading.Event(), dict[str, Any]()

    async def report(request: Request) -> Response:
        last.update(json.loads(await request.body()))
        return Response()

    async def started(request: Request) -> Response:
        playing.set()
        return Response()

    async def probe(request: Request) -> Response:
        return Response(PROBE, media_type="text/javascript")

    async def page(request: Request) -> Response:
        text = PAGE.read_text("utf-8").replace("</html>", '<script src="probe.js"></script>')
        return Response(text, media_type="text/html")

    async def silence(request: Request) -> Response:
        return Response(silent_wav(60), media_type="audio/wav")

    app = Starlette(routes=[
        Route("/probe", page), Route("/probe.js", probe), Route("/silence.wav", silence),
        Route("/report", report, methods=["POST"]), Route("/playing", started, methods=["POST"]),
        Mount("/", web_app(hub)),
    ])  # fmt: skip
    with serving(app) as base:
        browser = subprocess.Popen(
            [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio",
             "--autoplay-policy=no-user-gesture-required", f"--user-data-dir={tmp_path}",
             f"{base}/probe?media=silence.wav"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert playing.wait(90), "the browser did not begin to play"
            begun, sent = time.monotonic(), []
            for at, cue in live_cues(make_feed):
                time.sleep(max(0.0, begun + at - time.monotonic()))
                hub.put(cue)
                sent.append(cue)
            time.sleep(9)  # longer than any cue stays
        finally:
            browser.terminate()
            browser.wait(20)
    hub.close()
    seen = {tuple(pair) for pair in last["seen"]}
    wanted = {(f"c{c.cue_id}", c.text) for c in sent if c.op is Op.OPEN and c.text.strip()}
    retracted = {f"c{c.cue_id}" for c in sent if c.op is Op.RETRACT}
    missing = {w for w in wanted if w[0] not in retracted} - {(i, t) for i, t in seen}
    assert len(wanted) > 15
    assert {i for i, _ in missing} == set(), missing
    closed = {c.cue_id for c in sent if c.is_final}
    if closed == {c.cue_id for c in sent if not c.is_heartbeat}:
        assert last["active"] == [], "cues stayed on screen"


def silent_wav(seconds: int) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16_000 * seconds))
    return out.getvalue()


def test_heartbeats_reach_the_page() -> None:
    feed = Feed("x", RATE)
    state = feed.open()
    cues = [c for n in range(5) for c in feed.step(state, [], n * RATE)]
    assert [c.op for c in cues] == [Op.HEARTBEAT] * 4
