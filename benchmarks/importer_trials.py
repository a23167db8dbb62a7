"""One trial a family: both sides take turns on the same audio, and their outputs are compared."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.importer_peers import Array, LyraTFLite, Watch, YamnetTFLite
from ossicle.export.importers import import_model
from ossicle.runtime.backend import make_backend
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import BackendError
from ossicle.runtime.host import make_host_op
from ossicle.runtime.model import Model

ROUND = 20  # hops of one side before the other has its turn
LYRA_PARTS = ("encoder", "quantise", "dequantise", "decoder")


def lyra(
    folder: Path, bundle: Bundle, audio: Array, hops: int, streams: int, backends: Sequence[str]
) -> dict[str, Any]:
    """Time TFLite and both artefacts on every backend, part by part."""
    watch, theirs = Watch(), [LyraTFLite(folder) for _ in range(streams)]
    sides = {
        f"{kind} {backend}": _lyra_parts(bundle, suffix, backend, streams)
        for kind, suffix in (("QDQ", ""), ("float", "-float"))
        for backend in backends
    }
    same: dict[str, list[float]] = {side: [] for side in sides}
    for start in range(0, hops, ROUND):
        frames = audio[320 * start : 320 * (start + ROUND)].reshape(-1, 1, 1, 320)
        wanted = [_lyra_hop(watch, theirs, frame[0, 0]) for frame in frames]
        for side, steps in sides.items():
            for frame, codes in zip(frames, wanted, strict=True):
                value: Any = np.repeat(frame, streams, 0)
                for name, step in steps:
                    value = watch.run(f"{side} {name}", partial(step, value), streams)
                    if name == "quantise":
                        same[side].append((value[0, :16, 0] == codes.reshape(46)[:16]).mean())
    us = watch.medians()
    for side in ("TFLite", *sides):
        us[f"{side} all"] = round(sum(us[f"{side} {n}"] for n in LYRA_PARTS), 1)
    equal = {side: round(float(np.mean(values)), 4) for side, values in same.items()}
    return {"us": us, "codes_equal_first_16": equal}


def _lyra_hop(watch: Watch, streams: list[LyraTFLite], frame: Array) -> Array:
    """Run one frame through every stream of TFLite and return the codes."""
    for stream in streams:
        features = watch.run("TFLite encoder", partial(stream.features, frame))
        codes = watch.run("TFLite quantise", partial(stream.quantise, features))
        back = watch.run("TFLite dequantise", partial(stream.dequantise, codes))
        watch.run("TFLite decoder", partial(stream.audio, back))
    return np.asarray(codes)


def _lyra_parts(
    bundle: Bundle, suffix: str, backend: str, streams: int
) -> list[tuple[str, Callable[[Array], Array]]]:
    """Return the four parts as functions of one array."""
    encode, decode = (bundle.manifest.programs[p + suffix] for p in ("encode", "decode"))
    loader = make_backend(backend)
    encoder = loader.load(bundle, f"encoder{suffix}").bind(streams)
    decoder = loader.load(bundle, f"decoder{suffix}").bind(streams)
    quantise = make_host_op(encode.ops[1], bundle)
    dequantise = make_host_op(decode.ops[0], bundle)
    return [
        ("encoder", lambda x: encoder.run({"audio": x})["features"]),
        ("quantise", lambda x: quantise.run({}, [x])[0]),
        ("dequantise", lambda x: dequantise.run({}, [x])[0]),
        ("decoder", lambda x: decoder.run({"features": x})["audio"]),
    ]


def stepped(
    bundle: Bundle,
    peer: str,
    make: Callable[[], Any],
    audio: Array,
    hops: int,
    streams: int,
    backends: Sequence[str],
    programs: Sequence[str] = ("step",),
    output: str = "audio_out",
) -> dict[str, Any]:
    """Time a model of one program a side, with ``streams`` streams, and compare what comes out.

    The peer runs its streams one after the other. A backend that refuses the graph is named.
    """
    watch, theirs = Watch(), [make() for _ in range(streams)]
    sides, refused = _sides(bundle, backends, programs, streams)
    size = bundle.manifest.hop
    worst = dict.fromkeys(sides, 0.0)
    hops = min(hops, len(audio) // size)
    for start in range(0, hops, ROUND):
        frames = [audio[size * h : size * (h + 1)] for h in range(start, min(start + ROUND, hops))]
        wanted = [
            [watch.run(peer, partial(stream.step, frame)) for stream in theirs] for frame in frames
        ]
        for side, (model, state) in sides.items():
            for frame, (want, *_) in zip(frames, wanted, strict=True):
                given = {"audio": np.repeat(frame[None, None], streams, 0)}
                got = watch.run(side, partial(model.step, state, given), streams)
                far = float(np.abs(got[output][0].reshape(want.shape) - want).max())
                worst[side] = max(worst[side], far)
    return {
        "us": watch.medians(), "refused": refused,
        "largest_difference": {side: float(f"{far:.2g}") for side, far in worst.items()},
    }  # fmt: skip


def _sides(
    bundle: Bundle, backends: Sequence[str], programs: Sequence[str], streams: int
) -> tuple[dict[str, tuple[Model, Any]], dict[str, str]]:
    """Return, by program and backend, a model with its memory, and why others cannot run."""
    sides, refused = {}, {}
    for backend in backends:
        loader = make_backend("auto" if backend == "native" else backend)
        model = Model.load(bundle, loader)
        reasons = getattr(loader, "reasons", {})  # graphs that the native executor leaves to ORT
        for program in programs:
            ops = bundle.manifest.programs[program].ops
            why = [reasons[op.graph] for op in ops if op.graph in reasons]
            label = backend if program == "step" else f"{program.removeprefix('step-')} {backend}"
            if why:
                refused[label] = why[0]
            else:
                sides[label] = (model, model.open(streams, program))
    return sides, refused


def yamnet(
    folder: Path, bundle: Bundle, audio: Array, hops: int, streams: int, backends: Sequence[str]
) -> dict[str, Any]:
    """Time YAMNet with and without TFLite's rounding."""
    return stepped(
        bundle, "TFLite", lambda: YamnetTFLite(folder), audio, hops, streams, backends,
        ("step", "step-float"), "scores",
    )  # fmt: skip


def encodec(hops: int, streams: int, backends: Sequence[str]) -> dict[str, Any]:
    """Time EnCodec against the transformers library on the same batch: random weights, real size.

    The library keeps no memory between calls, so its hops are computed as if each stood alone: the
    times compare, the outputs do not. That the streamed codes are those of a whole run is a test's.
    """
    import torch
    import transformers

    torch.set_num_threads(1)
    torch.manual_seed(0)
    theirs: Any = transformers.EncodecModel(transformers.EncodecConfig())
    theirs.eval()
    with tempfile.TemporaryDirectory() as scratch:
        theirs.save_pretrained(Path(scratch) / "checkpoint")
        bundle = import_model("encodec", Path(scratch) / "checkpoint", Path(scratch) / "bundle")
        sides, refused = {}, {}
        for backend in backends:
            try:
                model = Model.load(bundle, backend)
            except BackendError as error:
                refused[backend] = str(error)
                continue
            sides[backend] = model, model.open(streams, "encode"), model.open(streams, "decode")
    watch, rng = Watch(), np.random.default_rng(0)
    for _ in range(hops):
        audio = (0.1 * rng.standard_normal((streams, 1, bundle.manifest.hop))).astype(np.float32)
        with torch.no_grad():
            x = torch.from_numpy(audio)
            run = partial(theirs.encode, x, bandwidth=24.0)
            codes = watch.run("transformers encode", run, streams).audio_codes
            watch.run("transformers decode", partial(theirs.decode, codes, [None]), streams)
        for side, (model, up, down) in sides.items():
            made = watch.run(f"{side} encode", partial(model.step, up, {"audio": audio}), streams)
            made = {"codes": made["codes"].copy()}
            watch.run(f"{side} decode", partial(model.step, down, made), streams)
    return {"us": watch.medians(), "refused": refused}


def lyra_quality(folder: Path, bundle: Bundle, clips: list[Array], layers: int) -> dict[str, Any]:
    """Return PESQ (wide band) of TFLite and both artefacts, and the differences, clip by clip."""
    from pesq import pesq

    rows, model = [], Model.load(bundle)
    for clip in clips:
        frames = clip[: len(clip) // 320 * 320].reshape(-1, 320)
        line, stream, made = frames.reshape(-1), LyraTFLite(folder), []
        for frame in frames:
            codes = stream.quantise(stream.features(frame)).copy()
            codes.reshape(46)[layers:] = -1
            made.append(stream.audio(stream.dequantise(codes)).reshape(-1))
        scores = [pesq(16000, line, np.concatenate(made), "wb")]
        for suffix in ("", "-float"):
            up, down = model.open(1, f"encode{suffix}"), model.open(1, f"decode{suffix}")
            made = []
            for frame in frames:
                codes = model.step(up, {"audio": frame[None, None]})["codes"]
                codes[:, layers:] = -1
                made.append(model.step(down, {"codes": codes})["audio"][0, 0])
            scores.append(pesq(16000, line, np.concatenate(made), "wb"))
        rows.append(scores)
    table = np.array(rows)
    apart = table[:, 1:] - table[:, :1]
    return {
        "clips": len(rows),
        "mean": _named(("TFLite", "QDQ", "float"), table.mean(0)),
        "difference_mean": _named(("QDQ", "float"), apart.mean(0)),
        "difference_95": _named(  # half the width of the interval that holds the mean in 95 %
            ("QDQ", "float"), 1.96 * apart.std(0, ddof=1) / np.sqrt(len(rows))
        ),
        "difference_lowest": _named(("QDQ", "float"), apart.min(0)),
        "difference_highest": _named(("QDQ", "float"), apart.max(0)),
        "each": table.round(3).tolist(),
    }


def _named(names: Sequence[str], values: Array) -> dict[str, float]:
    return dict(zip(names, values.round(3).tolist(), strict=True))
