"""Overload: a running task goes over to a smaller model and back, and every law holds."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from streamtoys import CAPTION, ENHANCE, _sibling, audio_of, config, given, load_all, pieces, tones
from toys import write_fir

from ossicle.runtime import snapshot
from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.budget import Budget
from ossicle.runtime.bundle import write_bundle
from ossicle.runtime.engine import Engine, EngineSettings
from ossicle.runtime.errors import CapacityError, WireError
from ossicle.runtime.model import Model
from ossicle.runtime.task import AudioEvent, InlineRun, NoticeEvent
from ossicle.streaming import messages as m
from ossicle.streaming.captions.cue import Cue, Kind, Op, check_feed
from ossicle.streaming.server.caller import Caller
from ossicle.streaming.server.config import Settings
from ossicle.streaming.server.security import Grant
from ossicle.streaming.server.service import Service
from ossicle.streaming.session.bridge import EngineBridge
from ossicle.streaming.session.inline import InlineEngine
from ossicle.streaming.session.numbering import Numbering
from ossicle.streaming.session.session import Session
from ossicle.streaming.session.store import SnapshotStore
from ossicle.streaming.tasks import build

DOWN = NoticeEvent("ladder", "overloaded: step 1 down ()", {"rung": 1})
SMALL_FIR = m.Rung("smaller_model", model="small-fir")
SMALL_TONES = m.Rung("smaller_model", model="small-tones")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    home = tmp_path_factory.mktemp("bundles")
    found = load_all(home)
    write_fir(home / "small-fir", taps=np.array([0.5, 0, 0.4], np.float32))
    captions = _sibling("streaming/captions/conftest.py")
    small = msgspec.structs.replace(captions.tone_manifest(), name="small-tones")
    write_bundle(home / "small-tones", small, {"step.onnx": captions._tone_graph()})
    for name in ("small-fir", "small-tones"):
        found[name] = Model.load(home / name)
    return found


class Pressed(InlineEngine):
    """An engine whose overload the test decides on, and which may refuse some models."""

    def __init__(self, models: dict[str, Model]) -> None:
        super().__init__(loaded=models)
        self.say: list[Callable[[Any], None]] = []
        self.opened: list[str] = []
        self.refused: set[str] = set()

    def open(self, task: Any, budget: Budget, on_events: Any, **rest: Any) -> Any:
        if task.model in self.refused:
            raise CapacityError("no room", reason="load", used=1.0, total=1.0)
        self.say.append(on_events)
        self.opened.append(task.model)
        return super().open(task, budget, on_events, **rest)


async def walk(
    engine: Pressed, spec: m.TaskSpec, samples: Any, acts: dict[int, Callable[[Session], None]]
) -> list[m.Response]:
    """Stream ``samples`` a tenth of a second at a time; at some of the pieces something happens."""
    service = Service(engine, Settings())
    caller = Caller()

    async def requests() -> AsyncIterator[m.Request]:
        yield config(spec)
        for index, piece in enumerate(pieces(samples, 1600)):
            if index in acts:
                assert caller.session is not None
                acts[index](caller.session)
            yield piece
        yield m.End()

    return [response async for response in service.stream(requests(), caller)]


def alone(model: Model, samples: Any, start: int) -> Any:
    """What a model makes of samples that nothing came before or after."""
    run = InlineRun(build(dataclasses.replace(ENHANCE, model=model.name), model, False), model)
    events = run.feed(Chunk(samples, start, AudioFormat(16_000))) + run.finish()
    return np.concatenate([e.chunk.samples[0] for e in events if isinstance(e, AudioEvent)])


async def test_audio_stays_whole_and_aligned_down_and_up(models: dict[str, Model]) -> None:
    engine = Pressed(models)
    x = tones(3.0)
    spec = dataclasses.replace(ENHANCE, ladder=(SMALL_FIR,))
    answers = await walk(
        engine, spec, x, {10: lambda s: engine.say[-1]([(DOWN, None)]), 20: Session.relieve}
    )
    cuts = [(0, 16_000, "fir"), (16_000, 32_000, "small-fir"), (32_000, 48_000, "fir")]
    assert engine.opened == [name for _, _, name in cuts]
    wanted = np.concatenate([alone(models[name], x[:, a:b], a) for a, b, name in cuts])
    np.testing.assert_array_equal(audio_of(answers), wanted)
    told = [r for r in answers if isinstance(r.body, m.Notice)]
    assert [(r.body.kind, r.body.fields["model"], r.body.fields["sample"]) for r in told] == [
        ("LADDER", "small-fir", "16000"),
        ("LADDER", "fir", "32000"),
    ]
    assert {r.task for r in told} == {"enhance"}


async def test_captions_keep_every_promise_of_a_feed(models: dict[str, Model]) -> None:
    engine = Pressed(models)
    spec = dataclasses.replace(CAPTION, ladder=(SMALL_TONES,))
    answers = await walk(
        engine, spec, tones(5.0),
        {8: lambda s: engine.say[-1]([(DOWN, None)]), 40: Session.relieve},
    )  # fmt: skip
    cues = [r.body for r in answers if isinstance(r.body, Cue)]
    check_feed(cues)
    real = [cue for cue in cues if not cue.is_heartbeat]
    assert {c.cue_id for c in real if c.op == "OPEN"} == {c.cue_id for c in real if c.is_final}
    assert {cue.model for cue in real} == {"tones", "small-tones"}
    barks = [c for c in real if c.op == "OPEN" and "bark" in c.text]
    assert len(barks) == 2  # it went on across the change: one closed, one opened anew
    closed = next(c for c in real if c.is_final and c.cue_id == barks[0].cue_id)
    assert closed.end_sample <= 12_800 <= barks[1].start_sample


async def test_where_the_smaller_one_is_refused_the_task_goes_on_as_it_was(
    models: dict[str, Model],
) -> None:
    engine = Pressed(models)
    engine.refused = {"small-fir"}
    spec = dataclasses.replace(ENHANCE, ladder=(SMALL_FIR,))
    x = tones(2.0)
    answers = await walk(engine, spec, x, {10: lambda s: engine.say[-1]([(DOWN, None)])})
    assert engine.opened == ["fir", "fir"]
    assert len(audio_of(answers)) == x.shape[1]


async def test_a_stream_resumes_on_the_model_it_had(
    models: dict[str, Model], tmp_path: Path
) -> None:
    """Killed on the smaller model, it goes on there: not a sample and no caption is lost."""
    store = SnapshotStore(tmp_path)
    x = tones(4.0)
    spec = dataclasses.replace(ENHANCE, ladder=(SMALL_FIR,))
    subtitles = dataclasses.replace(CAPTION, ladder=(SMALL_TONES,))
    asked = config(spec, subtitles, checkpoints=True)

    def service(engine: Pressed) -> Service:
        return Service(engine, Settings(checkpoint_s=0.2, checkpoint_share=1.0), store)

    async def until_killed(engine: Pressed) -> AsyncIterator[m.Request]:
        yield asked
        for index, piece in enumerate(pieces(x, 1600)):
            if index == 10:
                for say in engine.say[:2]:
                    say([(DOWN, None)])
            yield piece
            yield m.Acknowledge(point.number)
            await asyncio.sleep(0.01 if index < 10 else 0.06)
        await asyncio.sleep(20)

    first: list[m.Response] = []
    point = m.Checkpoint(0, b"", 0, 0)
    engine = Pressed(models)
    answers = service(engine).stream(until_killed(engine), Caller())
    async for response in answers:
        first.append(response)
        if isinstance(response.body, m.Checkpoint):
            point = response.body
            if point.sample > 16_000:
                break
    await answers.aclose()
    assert set(engine.opened[2:]) == {"small-fir", "small-tones"}

    engine = Pressed(models)
    rest = [dataclasses.replace(asked, resume_token=point.token)]
    rest += pieces(x[:, point.sample :], 1600)
    more = service(engine).stream(given([*rest, m.End()]), Caller())
    known = {(r.task, r.seq) for r in first if r.seq}  # what came while the snapshot was written
    both = first + [r async for r in more if (r.task, r.seq) not in known]
    assert engine.opened == ["small-fir", "small-tones"]
    wanted = [alone(models["fir"], x[:, :16_000], 0), alone(models["small-fir"], x[:, 16_000:], 0)]
    np.testing.assert_array_equal(audio_of(both), np.concatenate(wanted))
    check_feed([r.body for r in both if isinstance(r.body, Cue)])


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        (m.TaskSpec("encode", model="toy-codec", ladder=(SMALL_FIR,)), WireError),
        (m.TaskSpec("caption", model="tones", ladder=(m.Rung("bypass"),)), WireError),
        (m.TaskSpec("enhance", model="fir", ladder=(m.Rung("longer_interval", 500),)), WireError),
        (m.TaskSpec("enhance", model="fir", ladder=(m.Rung("smaller_model"),)), WireError),
        (m.TaskSpec("enhance", model="fir", ladder=(m.Rung("smaller_model", 0, "toy-codec"),)),
         WireError),
    ],
)  # fmt: skip
async def test_what_no_running_task_can_do_is_refused_at_the_door(
    models: dict[str, Model], spec: m.TaskSpec, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"no ladder step|smaller_model|toy-codec does"):
        await walk(Pressed(models), spec, tones(1.0), {})


async def test_the_token_has_to_allow_the_smaller_model_too(models: dict[str, Model]) -> None:
    service = Service(Pressed(models), Settings())
    caller = Caller(Grant("guest", models=("fir",)))

    async def requests() -> AsyncIterator[m.Request]:
        yield config(dataclasses.replace(ENHANCE, ladder=(SMALL_FIR,)))

    with pytest.raises(Exception, match="does not allow model small-fir"):
        [r async for r in service.stream(requests(), caller)]


async def test_bypass_gives_the_input_out_in_its_place(models: dict[str, Model]) -> None:
    """Once the rung is taken, what comes out is what went in, sample for sample."""
    settings = EngineSettings(
        max_batch=4, calibration_runs=9, ladder_high=2e-9, ladder_low=1e-9, ladder_window_ms=1.0,
        ladder_up_windows=1,
    )  # fmt: skip
    x = tones(2.0)
    spec = dataclasses.replace(ENHANCE, ladder=(m.Rung("bypass"),))
    with Engine(models, settings) as running:
        service = Service(EngineBridge(running), Settings())
        requests = [config(spec), *pieces(x, 160), m.End()]
        answers = [r async for r in service.stream(given(requests), Caller())]
    heard = audio_of(answers)
    assert len(heard) == x.shape[1]
    told = [r.body for r in answers if isinstance(r.body, m.Notice) and r.body.kind == "LADDER"]
    assert told[0].fields["bypass"] == "True"
    np.testing.assert_array_equal(heard[16_000:], x[0, 16_000:])
    assert not np.array_equal(heard[:64], x[0, :64])


def update(revision: int, seen: int, op: str = "UPDATE") -> Cue:
    final = op == "CLOSE"
    return Cue(
        seq=revision, cue_id=1, revision=revision, op=Op(op), kind=Kind.SOUND, text="[rain]",
        stable_chars=0, is_final=final, stability=0.0, sample_rate_hz=16_000, start_sample=0,
        end_sample=0, end_open=not final, display_start_ms=0, display_end_ms=1000,
        audio_seen_sample=seen,
    )  # fmt: skip


def test_a_longer_interval_leaves_changes_out_and_numbers_the_rest() -> None:
    numbering = Numbering()
    ops = ["OPEN", *["UPDATE"] * 9, "CLOSE"]
    given_cues = [update(i, 1600 * i, op) for i, op in enumerate(ops)]
    shown = []
    for cue in given_cues:
        numbering = Numbering(snapshot.load(snapshot.dump(numbering.export())))
        shown.append(numbering.take(cue, 500))
    seen = [cue for cue in shown if cue is not None]
    check_feed(seen)
    assert [cue.audio_seen_sample for cue in seen] == [0, 8000, 16_000]
    assert numbering.take(update(0, 32_000, "OPEN"), 500) is not None


async def test_a_real_engine_under_load_walks_the_ladder(models: dict[str, Model]) -> None:
    """Any work at all counts as overload here: the first window leads down."""
    settings = EngineSettings(
        max_batch=4, calibration_runs=9, ladder_high=2e-9, ladder_low=1e-9, ladder_window_ms=1.0,
        ladder_up_windows=1,
    )  # fmt: skip
    spec = dataclasses.replace(CAPTION, ladder=(SMALL_TONES, m.Rung("longer_interval", 500)))
    answers: list[m.Response] = []

    def told(field: str) -> set[str | None]:
        notices = [r.body for r in answers if isinstance(r.body, m.Notice)]
        return {n.fields.get(field) for n in notices if n.kind == "LADDER"}

    async def requests() -> AsyncIterator[m.Request]:
        yield config(spec)
        for piece in pieces(tones(60.0), 160):  # a stream that ends at once is left as it is
            yield piece
            if "small-tones" in told("model") and "500" in told("interval_ms"):
                break
            await asyncio.sleep(0)
        yield m.End()

    with Engine(models, settings) as running:
        service = Service(EngineBridge(running), Settings())
        async for answer in service.stream(requests(), Caller()):
            answers.append(answer)  # noqa: PERF401 - `told` looks at them as they come
    assert "small-tones" in told("model")
    assert "500" in told("interval_ms")  # the rung behind it, too
    check_feed([r.body for r in answers if isinstance(r.body, Cue)])
