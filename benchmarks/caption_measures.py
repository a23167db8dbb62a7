"""What is measured of a caption feed: pure functions from cues and truth to figures.

A feed is a list of :class:`Heard`: each cue with the sample at which a reader could have it, and
the second at which a reader did, computation included.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
PLAIN = ("then", "while")


@dataclass(frozen=True)
class Heard:
    """One line of a feed and when it came."""

    cue: Any
    sample: int  # end of the audio that had to arrive
    second: float  # the same with the computation of everything before it


@dataclass(frozen=True)
class Event:
    """What truly happened, in samples."""

    label: str
    onset: int
    offset: int


@dataclass(frozen=True)
class Run:
    """One scene: its truth, its feed, its frame scores [T, classes] and its length in samples."""

    truth: tuple[Event, ...]
    feed: tuple[Heard, ...]
    scores: NDArray[np.float32]
    length: int


def found_events(run: Run) -> list[Event]:
    """Every sound that the feed tells of, with its own times, once."""
    ends: dict[tuple[str, int], int] = {}
    for heard in run.feed:
        if heard.cue.op == "RETRACT":
            continue
        for label in heard.cue.labels:
            stop = label.offset_sample
            stop = max(label.onset_sample + 1, heard.cue.end_sample) if stop is None else stop
            key = (label.name, label.onset_sample)
            known = label.offset_sample is not None
            ends[key] = stop if known else max(ends.get(key, 0), stop)
    return [Event(name, onset, stop) for (name, onset), stop in sorted(ends.items())]


def first_cue(run: Run, event: Event) -> Heard | None:
    """The first line that tells of ``event``, if any does before half a second after its end."""
    for heard in run.feed:
        for label in heard.cue.labels:
            stop = label.offset_sample or heard.sample
            near = label.onset_sample < event.offset + RATE // 2 and stop > event.onset
            if label.name == event.label and near and heard.sample >= event.onset:
                return heard
    return None


def on_screen(run: Run, event: Event) -> bool:
    """Whether a cue that tells of the event's sound as going on stood open when it began."""
    open_cues: set[int] = set()
    for heard in run.feed:
        if heard.sample > event.onset:
            break
        if heard.cue.op in ("CLOSE", "RETRACT"):
            open_cues.discard(heard.cue.cue_id)
        elif any(x.name == event.label and x.offset_sample is None for x in heard.cue.labels):
            open_cues.add(heard.cue.cue_id)
    return bool(open_cues)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99, or nothing of nothing."""
    if not values:
        return {}
    return {f"p{p}": round(float(np.percentile(values, p)), 3) for p in (50, 95, 99)}


def latency(
    runs: Sequence[Run],
    labels: Sequence[str],
    on: Mapping[str, float],
    frame: int,
    only: frozenset[str],
) -> dict[str, Any]:
    """Seconds from a true onset to its caption, in parts, over events of the labels ``only``.

    ``evidence`` is until the frame whose score reaches the threshold is complete (the hop's wait
    included), ``belief`` from there to the caption (minimum length, stabiliser), ``compute`` what
    the processor added. An event that begins while its caption stands on the screen is
    captioned and not timed: its reader knows already.
    """
    unaware, aware, evidence, belief, compute = [], [], [], [], []
    missed = standing = 0
    for run in runs:
        for event in run.truth:
            if event.label not in only:
                continue
            if on_screen(run, event):
                standing += 1
                continue
            cue = first_cue(run, event)
            if cue is None:
                missed += 1
                continue
            unaware.append((cue.sample - event.onset) / RATE)
            aware.append(cue.second - event.onset / RATE)
            compute.append(cue.second - cue.sample / RATE)
            score = run.scores[event.onset // frame :, labels.index(event.label)]
            reached = np.flatnonzero(score >= on[event.label])
            if len(reached):
                at = (event.onset // frame + int(reached[0]) + 1) * frame
                rise = min(at, cue.sample) - event.onset
                evidence.append(rise / RATE)
                belief.append((cue.sample - event.onset - rise) / RATE)
    parts = {"unaware": unaware, "aware": aware, "evidence": evidence, "belief": belief}
    return {
        "events": len(unaware) + missed + standing,
        "captioned": len(unaware) + standing,
        "stood_already": standing,
        **{name: percentiles(values) for name, values in {**parts, "compute": compute}.items()},
    }


def duplicates(runs: Sequence[Run]) -> dict[str, float]:
    """Cues opened for a sound already told of, "continues" and "stops" aside, per true event."""
    extra = events = 0
    for run in runs:
        for event in run.truth:
            opened = {
                h.cue.cue_id
                for h in run.feed
                if h.cue.op == "OPEN"
                and all(r.kind in PLAIN for r in h.cue.relations)
                and any(
                    x.name == event.label and event.onset <= x.onset_sample < event.offset
                    for x in h.cue.labels
                )
            }
            extra += max(0, len(opened) - 1)
            events += 1
    return {"duplicates": extra, "events": events, "per_event": round(extra / max(1, events), 4)}


def erasure(runs: Sequence[Run]) -> dict[str, float]:
    """Normalised erasure (Arivazhagan et al., IWSLT 2020): words deleted per word that stayed."""
    deleted = stayed = 0
    for run in runs:
        texts: dict[int, list[str]] = {}
        for heard in run.feed:
            if heard.cue.is_heartbeat:
                continue
            before = texts.get(heard.cue.cue_id, [])
            after = [] if heard.cue.op == "RETRACT" else heard.cue.text.split()
            same = next(
                (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b),
                min(len(before), len(after)),
            )
            deleted += len(before) - same
            texts[heard.cue.cue_id] = after
        stayed += sum(len(words) for words in texts.values())
    return {"deleted": deleted, "final": stayed, "erasure": round(deleted / max(1, stayed), 4)}


def order(runs: Sequence[Run]) -> dict[str, float]:
    """Of scenes whose two sounds were both told of: told in the true order, truly related."""
    pairs = right = related = related_right = 0
    for run in runs:
        spans = _spans(run.truth)
        if len(spans) != 2 or spans[1].onset - spans[0].onset < RATE // 4:
            continue
        cues = [first_cue(run, e) for e in spans]
        if cues[0] is None or cues[1] is None:
            continue
        pairs += 1
        starts = [
            min(x.onset_sample for x in c.cue.labels if x.name == e.label)
            for c, e in zip(cues, spans, strict=True)
            if c is not None
        ]
        right += starts[0] < starts[1]
        kinds = [r.kind for r in cues[1].cue.relations if r.kind in PLAIN]
        if kinds:
            related += 1
            overlap = any(
                e.onset < spans[1].onset < e.offset for e in run.truth if e.label == spans[0].label
            )
            related_right += kinds[0] == ("while" if overlap else "then")
    return {
        "pairs": pairs,
        "order_accuracy": round(right / max(1, pairs), 4),
        "related": related,
        "relation_accuracy": round(related_right / max(1, related), 4),
    }


def _spans(truth: Sequence[Event]) -> list[Event]:
    """Each label's first onset to its last offset, in order of onset."""
    out: dict[str, Event] = {}
    for e in truth:
        known = out.get(e.label, e)
        out[e.label] = Event(e.label, min(known.onset, e.onset), max(known.offset, e.offset))
    return sorted(out.values(), key=lambda e: e.onset)


def event_scores(runs: Sequence[Run], labels: Sequence[str]) -> dict[str, Any]:
    """F1 by sed_eval: events at 200 ms collars, onsets alone, and segments of a second."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sed_eval

        collar = 0.2 + 1e-6  # an event exactly on the collar is inside, float or not
        kinds = {
            "event": sed_eval.sound_event.EventBasedMetrics(
                list(labels), t_collar=collar, percentage_of_length=0.5
            ),
            "onset": sed_eval.sound_event.EventBasedMetrics(
                list(labels), t_collar=collar, evaluate_offset=False
            ),
            "segment": sed_eval.sound_event.SegmentBasedMetrics(list(labels), time_resolution=1.0),
        }
        for i, run in enumerate(runs):
            pairs = [_listed(run.truth, i), _listed(found_events(run), i)]
            for metric in kinds.values():
                metric.evaluate(*(_container(p) for p in pairs))
        out: dict[str, Any] = {}
        for name, metric in kinds.items():
            overall = metric.results_overall_metrics()["f_measure"]
            each = metric.results_class_wise_metrics()
            out[name] = {
                "f1": _round(overall["f_measure"]),
                "precision": _round(overall["precision"]),
                "recall": _round(overall["recall"]),
                "by_class": {k: _round(v["f_measure"]["f_measure"]) for k, v in each.items()},
            }
        values = [v for v in out["event"]["by_class"].values() if v is not None]
        out["event"]["macro_f1"] = _round(float(np.mean(values))) if values else None
        return out


def by_draw(runs: Sequence[Run], labels: Sequence[str], draws: int) -> list[dict[str, float]]:
    """Segment and event F1 of each draw alone: how far another draw may lie from all of them.

    ``runs`` are those of one draw after another, as many of each.
    """
    size, out = len(runs) // draws, []
    for start in range(0, size * draws, size):
        scores = event_scores(runs[start : start + size], labels)
        out.append({kind: float(scores[kind]["f1"]) for kind in ("segment", "event")})
    return out


def _listed(events: Sequence[Event], scene: int) -> list[dict[str, Any]]:
    return [
        {
            "file": f"{scene}.wav",
            "event_label": e.label,
            "onset": round(e.onset * 1000 / RATE) / 1000,
            "offset": max(round(e.offset * 1000 / RATE), round(e.onset * 1000 / RATE) + 1) / 1000,
        }
        for e in events
    ]


def _container(rows: list[dict[str, Any]]) -> Any:
    import dcase_util

    return dcase_util.containers.MetaDataContainer(rows)


def _round(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 4)


def psds(runs: Sequence[Run], labels: Sequence[str], frame: int) -> dict[str, Any]:
    """PSDS scenarios 1 and 2 of DCASE (Bilen et al., 2020) by sed_scores_eval, if it is there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import pandas
            from sed_scores_eval import intersection_based
        except ImportError as error:
            return {"skipped": str(error)}
        present = sorted({e.label for r in runs for e in r.truth})
        columns = [list(labels).index(name) for name in present]
        tables, truth, lengths = {}, {}, {}
        for i, run in enumerate(runs):
            edges = np.arange(len(run.scores) + 1) * frame / RATE
            data: dict[str, Any] = {"onset": edges[:-1], "offset": edges[1:]}
            data |= {n: run.scores[:, c] for n, c in zip(present, columns, strict=True)}
            tables[str(i)] = pandas.DataFrame(data)
            truth[str(i)] = [(e.onset / RATE, e.offset / RATE, e.label) for e in _merged(run.truth)]
            lengths[str(i)] = len(run.scores) * frame / RATE
        one = intersection_based.psds(
            tables, truth, lengths, dtc_threshold=0.7, gtc_threshold=0.7, alpha_ct=0.0,
            alpha_st=1.0, unit_of_time="hour", max_efpr=100.0,
        )  # fmt: skip
        two = intersection_based.psds(
            tables, truth, lengths, dtc_threshold=0.1, gtc_threshold=0.1, cttc_threshold=0.3,
            alpha_ct=0.5, alpha_st=1.0, unit_of_time="hour", max_efpr=100.0,
        )  # fmt: skip
        return {"psds1": round(float(one[0]), 4), "psds2": round(float(two[0]), 4)}


def _merged(events: Sequence[Event]) -> list[Event]:
    """``events`` of one label that touch or overlap, as one: what the package demands."""
    out: list[Event] = []
    for event in sorted(events, key=lambda e: (e.label, e.onset)):
        if out and out[-1].label == event.label and event.onset <= out[-1].offset:
            out[-1] = Event(event.label, out[-1].onset, max(out[-1].offset, event.offset))
        else:
            out.append(event)
    return out
