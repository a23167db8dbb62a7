"""Laws about time: cuts, positions, latency, and what lies ahead."""

from __future__ import annotations

from typing import Any

import numpy as np

from ossicle.runtime.conformance.report import Row
from ossicle.runtime.conformance.subject import Subject, hop_only, joined

CUT_FLOAT = 0.0  # cuts never change a bit: the model sees the same hops
HOPS = 24


def chunk_invariance(subject: Subject) -> Row:
    """Output does not depend on how the input was cut; samples out == samples in."""
    law = "chunk invariance"
    if subject.stage is None:
        return hop_only(law, subject)
    rng = np.random.default_rng(subject.seed)
    length = HOPS * subject.manifest.hop + 37
    signal = subject.signal(length)
    whole = joined(subject.staged(signal, []))
    if whole.shape != signal.shape:
        return Row(law, False, f"{whole.shape[1]} samples out of {length}", "as many as went in")
    limit = min(length, 2 * subject.manifest.sample_rate_hz)
    for size in (1, 7, subject.manifest.hop, limit // 3):
        if size == 1:
            cuts = list(range(1, min(length, 3 * subject.manifest.hop)))
        else:
            cuts = np.unique(rng.integers(1, length, max(1, length // size))).tolist()
        worst = float(np.abs(joined(subject.staged(signal, cuts)) - whole).max())
        if worst > CUT_FLOAT:
            return Row(law, False, f"cuts of about {size}: {worst:.2g}", "the same bits")
    return Row(law, True, "the same bits for cuts of 1 sample to seconds", "the same bits")


def causality(subject: Subject) -> Row:
    """No output depends on samples later than the declared lookahead."""
    law = "causality"
    if not subject.chain:
        return hop_only(law, subject)
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


def far_counters(subject: Subject) -> Row:
    """A stream opened at sample 2^31 - 100, or past 2^53, is the stream opened at 0."""
    law = "64-bit sample counts"
    if subject.stage is None:
        return hop_only(law, subject)
    signal = subject.signal(6 * subject.manifest.hop + 11)
    cuts = [100, 333]
    near = subject.staged(signal, cuts)
    for start in (2**31 - 100, 2**53 + 7):
        far = subject.staged(signal, cuts, start)
        if [c.start - start for c in far] != [c.start for c in near]:
            return Row(law, False, f"positions drift from sample {start}", "exact")
        if not np.array_equal(joined(far), joined(near)):
            return Row(law, False, f"samples differ from {start} on", "the same bits")
    return Row(law, True, "exact at 2^31 - 100 and past 2^53", "exact")


def _best_lag(x: Any, y: Any, limit: int) -> tuple[int, float]:
    size = 1 << int(np.ceil(np.log2(2 * len(x))))
    a, b = np.fft.rfft(x, size), np.fft.rfft(y, size)
    correlation = np.fft.irfft(np.conj(a) * b, size)[: limit + 1]
    lag = int(np.argmax(np.abs(correlation)))
    norm = float(np.sqrt((x @ x) * (y @ y))) + 1e-12
    return lag, float(abs(correlation[lag])) / norm
