"""A tagger that hears pure tones, so that the truth is known; and feeds made to be awkward."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ossicle.runtime.bundle import Bundle, write_bundle
from ossicle.runtime.manifest import (
    Graph,
    Manifest,
    Op,
    Port,
    Program,
    ProgramInput,
    ProgramOutput,
    State,
)
from ossicle.streaming.captions.cue import Cue, Kind, Label, Priority
from ossicle.streaming.captions.cue import Op as CueOp
from ossicle.streaming.captions.feed import Feed
from ossicle.streaming.captions.lines import Draft
from ossicle.streaming.captions.stabiliser import Stable

RATE = 16_000
HOP, FRAME = 640, 320
TONES = {"dog_bark": 400, "rain": 900, "speech": 1400, "music": 1900, "doorbell": 2400,
         "smoke_alarm": 3100}  # fmt: skip
HOSTILE = [
    "a --> b", "<b>bold</b> & more", "line\nbreak\r\n\r\nblank", "🔥🚒 emoji 👩‍👩‍👧", "\ufeffbom",
    "שלום עולם", "صوت إنذار الدخان", "WEBVTT", "NOTE x", "STYLE", "00:00:01.000 --> 00:00:02.000",
    "&amp;&lt;", "x" * 200, "   ", "\x00\x1b[31mred", "日本語の字幕です" * 6, "1", "{\\an8}tag",
    "\u202eevil", "]]>", "cafe\u0301 naïve ½ ♪", '"quotes" \'single\'', "a\\Nb|c",
]  # fmt: skip


def _tone_graph() -> bytes:
    n = np.arange(FRAME) / RATE
    angle = 2 * np.pi * np.outer(n, list(TONES.values()))
    tables = {
        "cos": np.cos(angle).astype(np.float32) * 2 / FRAME,
        "sin": np.sin(angle).astype(np.float32) * 2 / FRAME,
        "frames": np.array([-1, HOP // FRAME, FRAME], np.int64),
        "steep": np.float32(400), "level": np.float32(0.02),
        "from1": np.array([1], np.int64), "to": np.array([1 << 30], np.int64),
        "last": np.array([-1], np.int64), "axis": np.array([1], np.int64),
        "half": np.float32(0.5),
    }  # fmt: skip
    nodes = [
        helper.make_node("Reshape", ["audio", "frames"], ["framed"]),
        helper.make_node("MatMul", ["framed", "cos"], ["re"]),
        helper.make_node("MatMul", ["framed", "sin"], ["im"]),
        helper.make_node("Mul", ["re", "re"], ["re2"]),
        helper.make_node("Mul", ["im", "im"], ["im2"]),
        helper.make_node("Add", ["re2", "im2"], ["power"]),
        helper.make_node("Sub", ["power", "level"], ["over"]),
        helper.make_node("Mul", ["over", "steep"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["now"]),
        helper.make_node("Concat", ["before", "now"], ["joined"], axis=1),
        helper.make_node("Slice", ["joined", "from1", "to", "axis"], ["recent"]),
        helper.make_node("Slice", ["joined", "last", "to", "axis"], ["before_next"]),
        helper.make_node("Slice", ["joined", "zero", "last", "axis"], ["older"]),
        helper.make_node("Add", ["recent", "older"], ["sum"]),
        helper.make_node("Mul", ["sum", "half"], ["scores"]),
    ]
    tables["zero"] = np.array([0], np.int64)
    count, frames = len(TONES), HOP // FRAME

    def value(name: str, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *shape])

    graph = helper.make_graph(
        nodes, "tones", [value("audio", 1, HOP), value("before", 1, count)],
        [value("scores", frames, count), value("before_next", 1, count)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in tables.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def tone_manifest(**extra: Any) -> Manifest:
    count, frames = len(TONES), HOP // FRAME
    graph = Graph(
        "step.onnx", (Port("audio", (1, HOP)),), (Port("scores", (frames, count)),),
        (State("before", "before_next", (1, count)),), opset=17,
    )  # fmt: skip
    program = Program(
        (ProgramInput("audio", "audio", (1, HOP)),),
        (ProgramOutput("scores", "frame", (frames, count)),),
        (Op("graph", ("audio",), ("scores",), "step"),),
    )
    rule = {"on": 0.5, "off": 0.2, "min_on_ms": 40, "min_off_ms": 200, "max_rise_ms": 100}
    return Manifest(
        schema=1, name="tones", version="1", task="tag", license="Apache-2.0",
        license_class="permissive", source="tests", sample_rate_hz=RATE, hop=HOP, latency=HOP,
        graphs={"step": graph}, programs={"step": program}, labels=tuple(TONES),
        extra={"thresholds": {"*": rule}, **extra},
    )  # fmt: skip


def tones(plan: list[tuple[str, float, float]], seconds: float) -> NDArray[np.float32]:
    """Samples `[1, T]` in which each sound of ``plan`` (label, start s, end s) is its tone."""
    t = np.arange(round(seconds * RATE)) / RATE
    x = np.zeros(len(t))
    for label, start, end in plan:
        x += 0.4 * np.sin(2 * np.pi * TONES[label] * t) * ((t >= start) & (t < end))
    return x.astype(np.float32)[None]


@pytest.fixture(scope="session")
def tone_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    place = tmp_path_factory.mktemp("bundles") / "tones"
    return write_bundle(place, tone_manifest(), {"step.onnx": _tone_graph()})


@pytest.fixture(scope="session")
def manifest() -> Manifest:
    return tone_manifest()


@pytest.fixture(scope="session")
def manifest_with() -> Callable[..., Manifest]:
    return tone_manifest


@pytest.fixture(scope="session")
def make_tones() -> Callable[[list[tuple[str, float, float]], float], NDArray[np.float32]]:
    return tones


def wild_feed(
    seed: int, count: int = 60, texts: list[str] | None = None, live: bool = True,
    start_s: float = 0.0, gap_s: float = 2.5,
) -> list[Cue]:  # fmt: skip
    """A valid feed of ``count`` cues that overlap, run late and say awkward things."""
    rng = random.Random(seed)
    feed = Feed("wild", RATE, live)
    state, cues = feed.open(), list[Cue]()
    open_: list[tuple[int, Draft]] = []
    now = round(start_s * RATE)
    texts = texts or [f"[{t}]" for t in HOSTILE]
    for cue_id in range(1, count + 1):
        now += round(rng.expovariate(1 / gap_s) * RATE) + 1
        open_ = _advance(feed, state, cues, open_, now)
        late = rng.choice([0, 0.2, 1.0, 8.0])
        start = max(0, now - round(late * RATE))
        label = Label(0, texts[cue_id % len(texts)], 0.9, start)
        draft = Draft(
            CueOp.OPEN, cue_id, rng.choice(list(Kind)[:4]), rng.choice(list(Priority)),
            texts[cue_id % len(texts)], 0, start, now, True, (label,), (), "en",
        )  # fmt: skip
        cues += feed.step(state, [Stable(draft, 0)], now)
        open_.append((now + round(rng.choice([0, 0.3, 2, 6]) * RATE), draft))
    _advance(feed, state, cues, open_, now + 20 * RATE)
    return cues


def _advance(
    feed: Feed, state: Any, cues: list[Cue], open_: list[tuple[int, Draft]], now: int
) -> list[tuple[int, Draft]]:
    from dataclasses import replace

    for end, draft in sorted((o for o in open_ if o[0] <= now), key=lambda o: o[0]):
        op = CueOp.RETRACT if draft.cue_id % 11 == 0 else CueOp.CLOSE
        final = replace(draft, op=op, end=end, end_open=False)
        seen = max(end, cues[-1].audio_seen_sample)
        cues += feed.step(state, [Stable(final, len(final.text))], seen)
    return [o for o in open_ if o[0] > now]


@pytest.fixture(scope="session")
def make_feed() -> Callable[..., list[Cue]]:
    return wild_feed


@pytest.fixture(scope="session")
def hostile() -> list[str]:
    return HOSTILE


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of audio and weights that OSSICLE_DATA names, or ../shared/data."""
    import os

    root = Path(__file__).resolve().parents[3]
    place = Path(os.environ.get("OSSICLE_DATA", root.parent / "shared" / "data"))
    if not place.is_dir():
        pytest.skip(f"no folder of audio at {place}; set OSSICLE_DATA")
    return place
