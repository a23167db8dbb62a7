"""Laws about what the values are: not finite, too loud, too quiet, nothing at all."""

from __future__ import annotations

from typing import Any

import numpy as np

from ossicle.runtime.conformance.report import Row
from ossicle.runtime.conformance.subject import Subject, joined


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
    one, two = joined(subject.staged(bad, [])), joined(subject.staged(silent, []))
    if not np.isfinite(one).all():
        return Row(law, False, "NaN or Inf came out", "finite")
    if not np.array_equal(one, two):
        return Row(law, False, "differs from silence in their place", "as if silent")
    for name, extreme in _extremes(signal).items():
        if not np.isfinite(joined(subject.staged(extreme, []))).all():
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


def si_sdr(reference: Any, estimate: Any) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB (Le Roux et al., ICASSP 2019)."""
    r, e = reference.astype(np.float64), estimate.astype(np.float64)
    target = (e @ r) / (r @ r + 1e-12) * r
    noise = e - target
    return float(10 * np.log10((target @ target + 1e-12) / (noise @ noise + 1e-12)))


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
