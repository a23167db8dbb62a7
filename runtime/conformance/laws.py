"""The laws, one function each: take a subject, return a row that says what was measured.

A law that does not apply (no audio comes out, nothing is remembered) says so and is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ossicle.runtime.audio import Chunk
from ossicle.runtime.conformance.report import Row
from ossicle.runtime.conformance.subject import Hops, Subject, largest_difference
from ossicle.runtime.snapshot import dump, load

# Documented tolerances: float outputs relative to their peak; integer outputs (codes) by share.
# Libraries choose another matrix kernel for another batch size, which moves the last bits, and a
# moved bit may tip a tie between two codes.
BATCH_FLOAT, BATCH_CODES = 2e-4, 0.02
CUT_FLOAT = 0.0  # cuts never change a bit: the model sees the same hops
HOPS = 24

Law = Callable[[Subject], Row]


def shapes(subject: Subject) -> Row:
    """Every program gives what its manifest promises, and nothing but finite values."""
    for name in subject.programs:
        made = subject.run(name, subject.examples(name, 4))
        for out in subject.model.program(name).outputs:
            have = made[out.name]
            fits = len(have.shape) == len(out.shape) + 1 and all(
                w in (-1, h) for w, h in zip(out.shape, have.shape[1:], strict=True)
            )
            if not fits or have.dtype != out.dtype:
                measured = f"{name}.{out.name}: {have.dtype} {have.shape[1:]}"
                return Row("outputs as declared", False, measured, f"{out.dtype} {out.shape}")
            if have.dtype.kind == "f" and not np.isfinite(have).all():
                return Row("outputs as declared", False, f"{name}.{out.name}: not finite", "finite")
    return Row("outputs as declared", True, f"{len(subject.programs)} program(s)", "")


def chunk_invariance(subject: Subject) -> Row:
    """Output does not depend on how the input was cut; samples out == samples in."""
    law = "chunk invariance"
    if subject.stage is None:
        return _hop_only(law, subject)
    rng = np.random.default_rng(subject.seed)
    length = HOPS * subject.manifest.hop + 37
    signal = subject.signal(length)
    whole = _joined(subject.staged(signal, []))
    if whole.shape != signal.shape:
        return Row(law, False, f"{whole.shape[1]} samples out of {length}", "as many as went in")
    limit = min(length, 2 * subject.manifest.sample_rate_hz)
    for size in (1, 7, subject.manifest.hop, limit // 3):
        if size == 1:
            cuts = list(range(1, min(length, 3 * subject.manifest.hop)))
        else:
            cuts = np.unique(rng.integers(1, length, max(1, length // size))).tolist()
        worst = float(np.abs(_joined(subject.staged(signal, cuts)) - whole).max())
        if worst > CUT_FLOAT:
            return Row(law, False, f"cuts of about {size}: {worst:.2g}", "the same bits")
    return Row(law, True, "the same bits for cuts of 1 sample to seconds", "the same bits")


def slot_isolation(subject: Subject) -> Row:
    """Output does not depend on the slot, on neighbours, on joins and leaves."""
    worst_float = worst_codes = 0.0
    for name in subject.programs:
        rows = [subject.examples(name, 6, seed) for seed in range(3)]
        alone = [subject.run(name, row) for row in rows]
        for size in sorted({2, 3, subject.manifest.batch[-1]}):
            filled = [rows[i % 3] for i in range(size)]
            for slot, made in enumerate(subject.run_batch(name, filled)):
                a, b = largest_difference(alone[slot % 3], made)
                worst_float, worst_codes = max(worst_float, a), max(worst_codes, b)
        a, b = _after_neighbour_left(subject, name, rows)
        worst_float, worst_codes = max(worst_float, a), max(worst_codes, b)
    ok = bool(worst_float <= BATCH_FLOAT and worst_codes <= BATCH_CODES)
    measured = f"{worst_float:.1e} of the peak, {100 * worst_codes:.2g} % of codes"
    return Row("slot isolation", ok, measured, f"{BATCH_FLOAT:g}, {100 * BATCH_CODES:g} %")


def reset(subject: Subject) -> Row:
    """A reset row equals a new one, bit for bit, and a second flush is empty."""
    for name in subject.programs:
        hops = subject.examples(name, 5)
        state = subject.model.open(1, name)
        first = subject.run(name, hops, state)
        subject.model.reset(state, 0)
        again = subject.run(name, hops, state)
        for key, value in first.items():
            if not np.array_equal(value, again[key]):
                return Row("reset equals new", False, f"{name}.{key} differs", "the same bits")
    if subject.stage is not None:
        stream = subject.stage.open()
        signal = subject.signal(3 * subject.manifest.hop + 5)
        subject.stage.condition(stream, subject.conditions())
        subject.stage.step(stream, Chunk(signal, 0, subject.format))
        subject.stage.flush(stream)
        if subject.stage.flush(stream):
            return Row("reset equals new", False, "a second flush gives samples", "nothing")
    return Row("reset equals new", True, "the same bits", "the same bits")


def causality(subject: Subject) -> Row:
    """No output depends on samples later than the declared lookahead."""
    law = "causality"
    if not subject.chain:
        return _hop_only(law, subject)
    manifest = subject.manifest
    signal = subject.signal(HOPS * manifest.hop)
    point = (HOPS // 2) * manifest.hop
    changed = signal.copy()
    changed[:, point:] = -0.7 * signal[:, point:][:, ::-1] + 0.01
    one, two = subject.through(signal), subject.through(changed)
    differs = np.flatnonzero(np.abs(one - two).max(axis=0) > 0)
    first = int(differs[0]) if len(differs) else one.shape[1]
    aligned = first - manifest.delay  # the input sample that the first changed output belongs to
    ahead = point - aligned
    allowed = manifest.lookahead
    return Row(law, ahead <= allowed, f"looks {max(ahead, 0)} samples beyond the hop",
               f"{allowed} samples")  # fmt: skip


def latency(subject: Subject) -> Row:
    """Declared latency equals measured latency: the delay at which output matches input best."""
    law = "declared latency"
    manifest = subject.manifest
    if not subject.chain:
        return Row(law, None, f"one frame a hop of {manifest.hop} samples", "")
    hops = max(40, 16_000 // manifest.hop)
    signal = subject.signal(hops * manifest.hop)
    made = subject.through(signal)
    found, strength = _best_lag(signal[0], made[0], manifest.delay + 4 * manifest.hop)
    declared = f"{manifest.delay} + hop {manifest.hop} = {manifest.latency} samples"
    if strength < 0.05:
        return Row(law, None, f"output too unlike the input to tell ({strength:.3f})", declared)
    ok = abs(found - manifest.delay) <= 2
    return Row(law, ok, f"delay {found} (correlation {strength:.2f})", declared)


def continuation(subject: Subject) -> Row:
    """State export, snapshot, import and continue is bit-exact in a new state."""
    for name in subject.programs:
        hops = subject.examples(name, 10)
        whole = subject.run(name, hops)
        state = subject.model.open(1, name)
        subject.run(name, hops[:4], state)
        memory = load(dump(subject.model.export_row(state, 0)))
        other = subject.model.open(2, name)
        subject.model.import_row(other, 1, memory)
        rest = _second_row(subject, name, hops[4:], other)
        worst, unequal = largest_difference({k: v[4:] for k, v in whole.items()}, rest)
        if worst > BATCH_FLOAT or unequal > BATCH_CODES:
            return Row("continues elsewhere", False, f"{name}: row differs by {worst:.2g}", "")
        fresh = subject.model.open(1, name)
        subject.model.import_row(fresh, 0, memory)
        fresh.unset.clear()
        exact = subject.run(name, hops[4:], fresh)
        for key, value in exact.items():
            if not np.array_equal(value, whole[key][4:]):
                return Row("continues elsewhere", False, f"{name}.{key} differs", "the same bits")
    size = subject.model.memory_bytes(subject.programs[0])
    return Row("continues elsewhere", True, f"the same bits; {size} bytes of memory", "")


def far_counters(subject: Subject) -> Row:
    """A stream opened at sample 2^31 - 100, or past 2^53, is the stream opened at 0."""
    law = "64-bit sample counts"
    if subject.stage is None:
        return _hop_only(law, subject)
    signal = subject.signal(6 * subject.manifest.hop + 11)
    cuts = [100, 333]
    near = subject.staged(signal, cuts)
    for start in (2**31 - 100, 2**53 + 7):
        far = subject.staged(signal, cuts, start)
        if [c.start - start for c in far] != [c.start for c in near]:
            return Row(law, False, f"positions drift from sample {start}", "exact")
        if not np.array_equal(_joined(far), _joined(near)):
            return Row(law, False, f"samples differ from {start} on", "the same bits")
    return Row(law, True, "exact at 2^31 - 100 and past 2^53", "exact")


def bad_samples(subject: Subject) -> Row:
    """NaN, Inf, denormals and clipping in: finite out, as if the bad samples had been silent."""
    law = "NaN, Inf, denormals, clipping"
    if subject.stage is None:
        return _raw_extremes(law, subject)
    manifest = subject.manifest
    signal = subject.signal(12 * manifest.hop)
    bad, silent = signal.copy(), signal.copy()
    at = 3 * manifest.hop + 5
    bad[:, at], bad[:, at + 1], bad[:, at + 2] = np.nan, np.inf, -np.inf
    silent[:, at : at + 3] = 0.0
    one, two = _joined(subject.staged(bad, [])), _joined(subject.staged(silent, []))
    if not np.isfinite(one).all():
        return Row(law, False, "NaN or Inf came out", "finite")
    if not np.array_equal(one, two):
        return Row(law, False, "differs from silence in their place", "as if silent")
    for name, extreme in _extremes(signal).items():
        if not np.isfinite(_joined(subject.staged(extreme, []))).all():
            return Row(law, False, f"{name}: not finite", "finite")
    return Row(law, True, "finite, and as if the bad samples were silent", "finite")


def level_sweep(subject: Subject) -> Row:
    """From -30 to +10 dB around -26 dBFS: how much the match between output and input moves."""
    law = "level sweep -30..+10 dB"
    if not subject.chain:
        return _raw_extremes(law, subject)
    signal = subject.signal(40 * subject.manifest.hop)
    scores = []
    for gain_db in (-30, -20, -10, 0, 10):
        made = subject.through(np.asarray(signal * 10 ** (gain_db / 20), np.float32))
        if not np.isfinite(made).all():
            return Row(law, False, f"not finite at {gain_db} dB", "finite")
        made = made[:, subject.manifest.delay :]
        scores.append(si_sdr(signal[0, : made.shape[1]], made[0]))
    span = max(scores) - min(scores)
    declared = subject.manifest.level_range_dbfs
    allowed = "finite" if declared is None else f"finite; declared for {declared} dBFS"
    return Row(law, True, f"SI-SDR to the input spans {span:.1f} dB", allowed)


def silence(subject: Subject) -> Row:
    """Silence in: finite and quiet out."""
    law = "silence"
    if not subject.chain:
        return _raw_extremes(law, subject)
    quiet = np.zeros((subject.manifest.channels, 60 * subject.manifest.hop), np.float32)
    made = subject.through(quiet)
    tail = made[:, made.shape[1] // 2 :]
    level = 10 * np.log10(float(np.mean(tail.astype(np.float64) ** 2)) + 1e-20)
    ok = bool(np.isfinite(made).all() and level < -50)
    return Row(law, ok, f"{level:.0f} dBFS after settling", "below -50 dBFS")


def golden(subject: Subject) -> Row:
    """The vectors in the bundle come out as they did where it was made."""
    if not subject.manifest.golden:
        return Row("golden vectors", None, "the bundle has none", "")
    worst_share = 0.0
    for vector in subject.manifest.golden:
        given = subject.model.bundle.arrays(vector.inputs)
        expected = subject.model.bundle.arrays(vector.outputs)
        count = len(next(iter(given.values())))
        hops: Hops = [{k: v[i] for k, v in given.items()} for i in range(count)]
        made = subject.run(vector.program, hops)
        floats, codes = largest_difference(expected, {k: made[k] for k in expected})
        worst_share = max(worst_share, floats / vector.tolerance)
        if floats > vector.tolerance or codes > BATCH_CODES:
            return Row("golden vectors", False, f"{vector.program}: {floats:.2g} of the peak, "
                       f"{100 * codes:.2g} % of codes", f"{vector.tolerance:g}")  # fmt: skip
    return Row("golden vectors", True, f"{100 * worst_share:.2g} % of the tolerance used", "")


def cost(subject: Subject) -> Row:
    """Median time of one step, one row and the largest batch; a figure, never a judgement."""
    parts = []
    for name in subject.programs:
        for size in sorted({1, subject.manifest.batch[-1]}):
            hops = subject.examples(name, 1)
            state = subject.model.open(size, name)
            inputs = {k: np.stack([v] * size) for k, v in hops[0].items()}
            times = []
            for _ in range(30):
                begin = time.perf_counter_ns()
                subject.model.step(state, inputs)
                times.append(time.perf_counter_ns() - begin)
            parts.append(f"{name} x{size}: {np.median(times) / 1e3:.0f} us")
    return Row("cost of a step", None, "; ".join(parts), "")


LAWS: dict[str, Law] = {
    law.__name__: law
    for law in (
        shapes, chunk_invariance, slot_isolation, reset, causality, latency, continuation,
        far_counters, bad_samples, level_sweep, silence, golden, cost,
    )
}  # fmt: skip


def si_sdr(reference: Any, estimate: Any) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB (Le Roux et al., ICASSP 2019)."""
    r, e = reference.astype(np.float64), estimate.astype(np.float64)
    target = (e @ r) / (r @ r + 1e-12) * r
    noise = e - target
    return float(10 * np.log10((target @ target + 1e-12) / (noise @ noise + 1e-12)))


def _joined(chunks: list[Chunk]) -> Any:
    parts = [chunk.samples for chunk in chunks]
    return np.concatenate(parts, axis=1) if parts else np.zeros((1, 0), np.float32)


def _hop_only(law: str, subject: Subject) -> Row:
    return Row(law, None, "no aligned audio comes out of one program", "")


def _after_neighbour_left(subject: Subject, name: str, rows: list[Hops]) -> tuple[float, float]:
    """Run two rows, reset one half way, and compare the other with itself alone."""
    state = subject.model.open(2, name)
    made = []
    for index, hop in enumerate(rows[0]):
        if index == 3:
            subject.model.reset(state, 1)
        inputs = {k: np.stack([hop[k], rows[1][index][k]]) for k in hop}
        made.append(subject.model.step(state, inputs))
    kept = {k: np.stack([m[k][0] for m in made]) for k in made[0]}
    return largest_difference(subject.run(name, rows[0]), kept)


def _second_row(subject: Subject, name: str, hops: Hops, state: Any) -> dict[str, Any]:
    state.unset.clear()
    made = []
    for hop in hops:
        inputs = {k: np.stack([np.zeros_like(v), v]) for k, v in hop.items()}
        made.append(subject.model.step(state, inputs))
    return {k: np.stack([m[k][1] for m in made]) for k in made[0]}


def _extremes(signal: Any) -> dict[str, Any]:
    square = np.where(signal > 0, np.float32(1.0), np.float32(-1.0))
    return {
        "clipped": square,
        "denormal": (signal * 1e-39).astype(np.float32),
        "constant": np.full_like(signal, 0.9),
        "huge": signal * np.float32(1e4),
    }


def _raw_extremes(law: str, subject: Subject) -> Row:
    """For programs without aligned audio: extreme but finite inputs give finite outputs."""
    for name in subject.programs:
        for extreme in ("clipped", "denormal", "constant", "huge"):
            hops = subject.examples(name, 6)
            for hop in hops:
                for given in subject.model.program(name).inputs:
                    if given.kind == "audio":
                        hop[given.name] = _extremes(hop[given.name])[extreme]
            made = subject.run(name, hops)
            for key, value in made.items():
                if value.dtype.kind == "f" and not np.isfinite(value).all():
                    return Row(law, False, f"{name}.{key}: not finite for {extreme}", "finite")
    return Row(law, True, "finite for extreme inputs", "finite")


def _best_lag(x: Any, y: Any, limit: int) -> tuple[int, float]:
    size = 1 << int(np.ceil(np.log2(2 * len(x))))
    a, b = np.fft.rfft(x, size), np.fft.rfft(y, size)
    correlation = np.fft.irfft(np.conj(a) * b, size)[: limit + 1]
    lag = int(np.argmax(np.abs(correlation)))
    norm = float(np.sqrt((x @ x) * (y @ y))) + 1e-12
    return lag, float(abs(correlation[lag])) / norm
