"""Is the exported graph the torch module? Measured, with the figures kept.

Every figure is the largest difference relative to the largest value of the reference (at least 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from ossicle.export.distance import distance
from ossicle.export.onnxfile import kinds_of
from ossicle.export.profiles import PROFILES
from ossicle.export.step import TorchStep, example, initial_states
from ossicle.runtime.errors import ExportError

BATCHES = (1, 2, 7)
HOPS = 8
SILENT = 2  # hops of zeros: where a lost floor of a logarithm shows
LENGTHS = (1, 3, 8, 25)  # hops of a whole run
DRIFT_HOPS = 100
Array = NDArray[Any]


def report(step: TorchStep, data: bytes, *, seed: int = 0) -> dict[str, Any]:
    """Get the parity figures of one exported step; raises ``ExportError`` past its tolerance."""
    session = open_session(data)
    figures: dict[str, Any] = {"tolerance": step.tolerance}
    figures["ort_vs_torch"] = {
        str(batch): _against_torch(step, session, batch, HOPS, seed)[0] for batch in BATCHES
    }
    worst, early, late = _against_torch(step, session, 1, DRIFT_HOPS, seed + 1)
    figures["drift"] = {"hops": DRIFT_HOPS, "first_8": early, "last_8": late, "worst": worst}
    figures["silence"] = _silence(step, session)
    figures["slots"] = _slots(step, session, seed + 2)
    if step.whole is not None:
        by_length = {str(n): _against_whole(step, n, seed + 3) for n in LENGTHS}
        figures["whole_by_hops"] = by_length
        figures["stream_vs_whole"] = max(by_length.values())
    figures |= describe(data)
    _judge(figures, step.tolerance)
    return figures


def describe(data: bytes) -> dict[str, Any]:
    """Get size, operators and the profiles whose operator tables cover the graph."""
    model = onnx.load_from_string(data)
    kinds = kinds_of(model)
    met = sorted(set(kinds))
    covered = [p.name for p in PROFILES.values() if set(met) <= p.operators]
    return {"nodes": len(kinds), "operators": met, "profiles_covered": covered}


def _judge(figures: Mapping[str, Any], tolerance: float) -> None:
    rows = {f"ort_vs_torch, batch {b}": v for b, v in figures["ort_vs_torch"].items()}
    rows["drift"] = figures["drift"]["worst"]
    rows["silence"] = figures["silence"]
    rows["slot isolation"] = figures["slots"]
    if "stream_vs_whole" in figures:
        rows["stream_vs_whole"] = figures["stream_vs_whole"]
    for name, value in rows.items():
        if not value <= tolerance:
            raise ExportError(
                f"parity lost: {name} differs by {value:.3g}, {tolerance:.3g} is allowed; "
                "the bundle was not written"
            )


def open_session(data: bytes) -> Any:
    """Get a single-threaded ONNX Runtime session for these bytes."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.x64quantprecision", "1")  # as the runtime does
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as err:  # onnxruntime raises pybind types of its own
        raise ExportError(f"ONNX Runtime refuses the graph: {str(err).splitlines()[0]}") from err


def _hops(step: TorchStep, batch: int, count: int, seed: int) -> list[tuple[Tensor, ...]]:
    n = len(step.inputs)
    return [example(step, batch, seed * 10_000 + i)[:n] for i in range(count)]


def _stream_torch(step: TorchStep, hops: Sequence[tuple[Tensor, ...]]) -> list[list[Array]]:
    states = initial_states(step, hops[0][0].shape[0] if hops[0] else 1)
    rows = []
    with torch.no_grad():
        for inputs in hops:
            values = step.module(*inputs, *states)
            states = list(values[len(step.outputs) :])
            rows.append([v.numpy() for v in values])
    return rows


def _stream_ort(
    step: TorchStep, session: Any, hops: Sequence[tuple[Tensor, ...]]
) -> list[list[Array]]:
    batch = hops[0][0].shape[0] if hops[0] else 1
    states = [s.numpy() for s in initial_states(step, batch)]
    names = [i.name for i in session.get_inputs()]
    rows = []
    for inputs in hops:
        feed = dict(zip(names, [*(v.numpy() for v in inputs), *states], strict=True))
        values = session.run(None, feed)
        states = values[len(step.outputs) :]
        rows.append(values)
    return rows


def _against_torch(
    step: TorchStep, session: Any, batch: int, count: int, seed: int
) -> tuple[float, float, float]:
    hops = _hops(step, batch, count, seed)
    want, got = _stream_torch(step, hops), _stream_ort(step, session, hops)
    each = _by_hop(got, want)
    return max(each), max(each[:8]), max(each[-8:])


def _by_hop(got: list[list[Array]], want: list[list[Array]]) -> list[float]:
    """Get, for each hop, the largest distance of any value."""
    return [
        max((distance(g, w) for g, w in zip(gs, ws, strict=True)), default=0.0)
        for gs, ws in zip(got, want, strict=True)
    ]


def _silence(step: TorchStep, session: Any) -> float:
    """Compare the two where every input is zero."""
    hops = [tuple(torch.zeros_like(v) for v in hop) for hop in _hops(step, 1, SILENT, 0)]
    want, got = _stream_torch(step, hops), _stream_ort(step, session, hops)
    return max(
        (
            distance(g, w)
            for gs, ws in zip(got, want, strict=True)
            for g, w in zip(gs, ws, strict=True)
        ),
        default=0.0,
    )


def _slots(step: TorchStep, session: Any, seed: int) -> float:
    """Compare row 1 of a batch of 3 with the same stream run alone."""
    hops = _hops(step, 3, 4, seed)
    together = _stream_ort(step, session, hops)
    alone = _stream_ort(step, session, [tuple(v[1:2] for v in hop) for hop in hops])
    return max(
        distance(a, t[1:2])
        for ts, as_ in zip(together, alone, strict=True)
        for t, a in zip(ts, as_, strict=True)
    )


def _against_whole(step: TorchStep, length: int, seed: int) -> float:
    assert step.whole is not None
    hops = _hops(step, 2, length, seed)
    count = len(step.outputs)
    streamed = [np.stack([row[i] for row in _stream_torch(step, hops)]) for i in range(count)]
    with torch.no_grad():
        whole = step.whole(*(torch.stack(list(v)) for v in zip(*hops, strict=True)))
    if len(whole) != count:
        raise ExportError(f"whole gives {len(whole)} outputs; the step has {count}")
    return max(distance(s, w.numpy()) for s, w in zip(streamed, whole, strict=True))
