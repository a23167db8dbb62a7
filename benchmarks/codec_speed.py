"""What one 20 ms frame costs: encode, quantise, decode, for one stream and for sixteen at once.

One core, one thread, medians of the thread's CPU time (equal to the wall's on an idle core);
every model and the peer take turns, twenty hops at a time, in one process, so that whatever else
the machine does falls on all of them alike. The peer is Lyra v2 as its authors run it: TFLite with
XNNPACK for both networks, without it for the quantiser. The quantiser is timed twice: its search
alone, and both ways in a stream, whose networks have pushed its tables out of the near caches, for
each count of layers.

    python -m benchmarks.codec_speed [--models codec-16k lyra] [--backends ort native native-bf16]
                                     [--data FOLDER]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.codec_models import DATA, load_codecs, lyra_weights
from ossicle.runtime import snapshot
from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.host.quantise import RvqDecode, RvqEncode
from ossicle.runtime.model import Model
from ossicle.runtime.task import InlineRun, PacketEvent
from ossicle.streaming.codec.layout import layout_of
from ossicle.streaming.codec.packet import Packet, write
from ossicle.streaming.codec.packetreader import read
from ossicle.streaming.codec.quantiser import make_quantiser
from ossicle.streaming.codec.tasks import DecodeTask, EncodeTask

BARS = {"one stream": 425.0, "sixteen, a stream": 200.0, "quantiser": 12.0, "state": 120.0}
TURN, WARM = 20, 5
Step = Callable[[NDArray[np.float32]], object]


def lyra_peer(folder: Path) -> Step:
    """Return one frame of Lyra in TFLite at 9.2 kbps (46 layers), both ways."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    nets = []
    for name in ("soundstream_encoder", "lyragan"):
        net = Interpreter(str(folder / f"{name}.tflite"), num_threads=1)
        net.allocate_tensors()
        nets.append((net, net.get_input_details()[0], net.get_output_details()[0]))
    books = Interpreter(
        str(folder / "quantizer.tflite"), num_threads=1, experimental_op_resolver_type=plain
    )
    encode, decode = (books.get_signature_runner(n) for n in ("encode", "decode"))

    def run(place: int, array: NDArray[np.float32]) -> NDArray[np.float32]:
        net, given, made = nets[place]
        net.set_tensor(given["index"], array.reshape(given["shape"]))
        net.invoke()
        return np.array(net.get_tensor(made["index"]))

    def step(samples: NDArray[np.float32]) -> object:
        latent = run(0, samples)
        codes = encode(input_frames=latent.reshape(1, 1, 64), num_quantizers=np.int32(46))
        found = decode(encoding_indices=codes["output_0"].reshape(46, 1, 1).astype(np.int32))
        return run(1, found["output_0"])

    return step


def model_step(model: Model, batch: int) -> tuple[Step, Step]:
    """Return one frame of a codec bundle for ``batch`` streams: encode with quantiser, decode."""
    encoder, decoder = model.open(batch, "encode"), model.open(batch, "decode")
    names = [model.program(p) for p in ("encode", "decode")]
    given, coded, heard = names[0].inputs[0].name, names[1].inputs[0].name, names[0].outputs[0].name
    held: dict[str, Any] = {}

    def encode(samples: NDArray[np.float32]) -> object:
        rows = np.repeat(samples[None, None], batch, axis=0)
        held["codes"] = model.step(encoder, {given: rows})[heard]
        return held["codes"]

    def decode(_: NDArray[np.float32]) -> object:
        return model.step(decoder, {coded: held["codes"]})

    return encode, decode


def books_of(model: Model) -> NDArray[np.float32] | None:
    """Return the books ``[K, N, D]`` that the codec searches."""
    for op in model.program("encode").ops:
        if op.op == "rvq_encode":
            return np.ascontiguousarray(model.bundle.array(op.params["books"]), np.float32)
    return None


def latents(books: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 64 vectors that the books describe but for a tenth of noise."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, books.shape[1], (64, len(books)))
    rows: NDArray[np.float32] = books[np.arange(len(books)), codes].sum(1).astype(np.float32)
    rows += 0.1 * rows.std() * rng.standard_normal(rows.shape).astype(np.float32)
    return rows


def quantiser_step(books: NDArray[np.float32]) -> Step:
    """Return the search of one frame, alone: its tables lie in the near caches."""
    quantiser, rows, turn = make_quantiser(books), latents(books), iter(range(10**9))
    return lambda _: quantiser.encode(rows[next(turn) % 64 :][:1])


def quantiser_in_stream(model: Model, layers: int) -> Step:
    """Return a whole frame both ways of which the quantiser alone is timed, where it runs.

    A native model searches and looks codes up inside its steps: those parts are timed by the
    executor, in frames of real codes, after the networks have read several megabytes of weights.
    Elsewhere the host transforms are timed behind a frame. The step returns its nanoseconds.
    """
    line = model.program("encode")
    given, heard = line.inputs[0].name, line.outputs[0].name
    coded = model.program("decode").inputs[0].name
    encoder, decoder = model.open(1, "encode"), model.open(1, "decode")
    counted = any(port.name == "layers" for port in line.inputs)
    wanted = {"layers": np.full((1, 1), layers, np.int32)} if counted else {}
    inside = [p for s in (encoder, decoder) for p in s.parts if hasattr(p, "profile")]
    books = books_of(model)
    assert books is not None
    to_codes, to_rows = RvqEncode(books), RvqDecode(books)
    rows, turn = latents(books), iter(range(10**9))

    def step(samples: NDArray[np.float32]) -> object:
        codes = model.step(encoder, {given: samples[None, None], **wanted})[heard]
        codes[:, layers:] = -1
        model.step(decoder, {coded: codes})
        if len(inside) == 2:
            return sum(ns for part in inside for kind, ns in part.profile() if kind < 0)
        latent = rows[next(turn) % 64 :][None, :1]
        begin = time.thread_time_ns()
        codes = to_codes.run({}, [latent, np.full((1, 1), layers, np.int32)])[0]
        to_rows.run({}, [codes])
        return time.thread_time_ns() - begin

    return step


def packet_step(model: Model) -> Step:
    """Return writing and reading the packet of one frame."""
    layout = layout_of(model.bundle)
    top = np.array(layout.books)[:, None]
    codes = np.random.default_rng(0).integers(0, top).astype(np.int32)
    return lambda _: read(write(Packet(7, codes), layout), layout)


def task_step(model: Model) -> Step:
    """Return one frame through both tasks, packets between them: what a duplex call costs."""
    sender = InlineRun(EncodeTask(model.bundle), model)
    receiver = InlineRun(DecodeTask(model.bundle, delay=2), model)
    form = AudioFormat(model.manifest.sample_rate_hz)
    at = iter(range(0, 10**12, model.manifest.hop))

    def step(samples: NDArray[np.float32]) -> object:
        for event in sender.feed(Chunk(samples[None], next(at), form)):
            if isinstance(event, PacketEvent):
                receiver.feed(event.packet)
        return None

    return step


def state_kb(model: Model) -> dict[str, float]:
    """Return what one stream remembers, both ways, after two seconds."""
    hop, form = model.manifest.hop, AudioFormat(model.manifest.sample_rate_hz)
    sender = InlineRun(EncodeTask(model.bundle), model)
    receiver = InlineRun(DecodeTask(model.bundle, delay=2), model)
    noise = (np.random.default_rng(0).standard_normal((1, 100 * hop)) / 10).astype(np.float32)
    for event in sender.feed(Chunk(noise, 0, form)):
        if isinstance(event, PacketEvent):
            receiver.feed(event.packet)
    networks = sum(model.memory_bytes(p) for p in ("encode", "decode"))
    tasks = sum(len(snapshot.dump(run.state)) for run in (sender, receiver))
    return {"networks": round(networks / 1024, 1), "tasks": round(tasks / 1024, 1)}


def measure(steps: dict[str, Step], hop: int, hops: int) -> dict[str, dict[str, float]]:
    """Return CPU microseconds of every step, taken in turns of ``TURN`` hops after ``WARM``."""
    rng = np.random.default_rng(1)
    audio = (0.1 * rng.standard_normal((TURN + WARM, hop))).astype(np.float32)
    spent: dict[str, list[int]] = {name: [] for name in steps}
    for _ in range(-(-hops // TURN)):
        for name, step in steps.items():
            for i, samples in enumerate(audio):
                begin = time.thread_time_ns()
                own = step(samples)  # a number: the nanoseconds of the part that counts
                if i >= WARM:
                    taken = time.thread_time_ns() - begin
                    spent[name].append(own if isinstance(own, int) else taken)
    return {
        name: {
            "median_us": round(float(np.median(times)) / 1e3, 1),
            "p10_us": round(float(np.percentile(times, 10)) / 1e3, 1),
            "p99_us": round(float(np.percentile(times, 99)) / 1e3, 1),
        }
        for name, times in spent.items()
    }


def label_of(model: Model) -> str:
    """Return what rows of this model are called."""
    return f"{model.name} ({model.backend.name})"


def steps_of(model: Model) -> dict[str, Step]:
    """Return everything that is timed of one model on one backend."""
    label, steps = label_of(model), {}
    for batch in (1, 16):
        steps[f"{label} encode x{batch}"], steps[f"{label} decode x{batch}"] = model_step(
            model, batch
        )
    books = books_of(model)
    if books is not None:
        steps[f"{label} quantise"] = quantiser_step(books)
        for layers in sorted({min(k, len(books)) for k in (3, 6, 12, len(books))}):
            name = f"{label} quantise in stream, {layers} layers"
            steps[name] = quantiser_in_stream(model, layers)
    steps[f"{label} packet"] = packet_step(model)
    steps[f"{label} both tasks"] = task_step(model)
    return steps


def report(model: Model, table: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Return one model's figures beside the bars, and as a share of Lyra's in TFLite."""
    label, peer = label_of(model), table.get("lyra in TFLite", {}).get("median_us")
    one, many = (
        sum(table[f"{label} {way} x{batch}"]["median_us"] for way in ("encode", "decode"))
        for batch in (1, 16)
    )
    return {
        "one stream, us a frame": round(one, 1),
        "one stream, share of TFLite": round(one / peer, 3) if peer else None,
        "sixteen streams, us a frame and stream": round(many / 16, 1),
        "quantiser, us": table.get(f"{label} quantise", {}).get("median_us"),
        "quantiser in a stream, us by layers": {
            name.split()[-2]: row["median_us"]
            for name, row in table.items()
            if name.startswith(f"{label} quantise in stream")
        },
        "state, KB": state_kb(model),
    }


def main() -> int:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["codec-16k", "lyra"])
    parser.add_argument("--backends", nargs="+", default=["ort", "native", "native-bf16"])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with weights/lyra_v2")
    parser.add_argument("--hops", type=int, default=400)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    machine.one_thread()
    models = [m for b in args.backends for m in load_codecs(args.models, args.data, b)]
    steps: dict[str, Step] = {}
    for model in models:
        steps.update(steps_of(model))
    weights = lyra_weights(args.data)
    if weights is not None:
        steps["lyra in TFLite"] = lyra_peer(weights)
    if any(m.manifest.hop != 320 for m in models) or not steps:
        print("codecs of 320 samples a hop are compared here; none was found, or another one")
        return 0
    table = measure(steps, 320, args.hops)
    found = {label_of(model): report(model, table) for model in models}
    for name, figures in found.items():
        print(name, figures)
    for name, row in table.items():
        print(f"{name:40s} median {row['median_us']:8.1f} us   p99 {row['p99_us']:9.1f}")
    machine.save("codec_speed", {"bars": BARS, "models": found, "steps": table}, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
