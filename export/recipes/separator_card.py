"""The model card of a separator bundle, written from what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ossicle.runtime.bundle import Bundle, write_bundle
from ossicle.runtime.manifest import Manifest, Metric

COMMAND = "python -m benchmarks.separation"
_DATA = """\
## Data

| what | licence |
|---|---|
| Picovoice speech-to-intent and wake-word recordings, 79 minutes | Apache-2.0 |
| ESC-10 folds 1-3 (K. Piczak), 20 minutes | CC BY 3.0; each clip CC0 or CC BY (`ATTRIBUTION.tsv`) |
| Slakh2100 stems, Sonic Pi samples, Web Audio loops, 42 minutes | CC BY 4.0, CC0, Apache-2.0 |
| 54 room impulse responses of the Web Audio samples | Apache-2.0 |
| AudioCaps captions, text only, for the query encoder | MIT |
| alarms and background noise | synthesised |
{more}
Mixtures are drawn while training: 1-3 sources and background noise, tape speeds .87, 1, 1.14, rooms
(recorded and synthetic) and coloured microphones on a third, -30 to +10 dB, queries for what is
there, for groups, for several at once, and for what is absent. Never trained on: every tenth
utterance, the keyword "snowboy", ESC-10 fold 4, one song, a seventh of the loops.
"""
_MORE = """\
| clean speech, music and sounds that no query names, {count:,} recordings | free licences of \
{places} public repositories (`CREDITS.tsv`) |

Some of those licences are CC BY-SA or GPL; nothing of a recording is in the bundle, and whoever
reads them more strictly can train without.
"""
_USE = """\
## Use and limits

Asked for by text; `ossicle.streaming.separation.query` describes the language. Levels of -65 to
0 dBFS. It hears one channel of 16 kHz and gives what is below 8 kHz. With 20 minutes of sound
events to learn from, classes outside the list are unknown to it, and rare recordings of a known
class may be missed. Warning sounds are kept by a guard outside the network; it is an aid, not a
safety device. The latency is that of the algorithm; sound cards add theirs.
"""


Credit = tuple[str, str, int]  # repository, licence, number of recordings


def card(
    manifest: Manifest,
    training: Mapping[str, Any],
    results: Mapping[str, Any],
    more: Sequence[Credit] = (),
) -> str:
    """Markdown of the card; ``results`` are those of the separation benchmark, or empty.

    ``more`` are the repositories that further recordings came from.
    """
    ms = 1000 / manifest.sample_rate_hz
    about = manifest.extra["architecture"]
    lines = [
        f"# {manifest.name}",
        "",
        (
            "Separation on request and speech enhancement. Causal; hop "
            f"{manifest.hop * ms:g} ms, algorithmic latency {manifest.latency} samples "
            f"({manifest.latency * ms:g} ms), class `{manifest.latency_class}`, "
            f"{manifest.extra['mmac_per_second']} MMAC/s for one query. Licence "
            f"{manifest.license}."
        ),
        "",
        (
            f"Long analysis window ({about['n_fft']} samples), synthesis window of "
            f"{about['latency']}; level-free log spectrum, LSTM {about['trunk']} shared by all "
            f"queries, FiLM by query, LSTM {about['head']} per query, complex mask. "
            "One more output per query, the gate, says hop by hop whether what was asked for is "
            "there, and scales the whole mask by that; it is trained with the mask and told "
            "outright where each target sounds. Labels: " + ", ".join(manifest.labels or ()) + "."
        ),
        "",
        *training_lines(training),
        *_DATA.format(more=_more(more)).splitlines(),
        "",
        *(figures(manifest.name, results) if results else []),
        *_USE.splitlines(),
    ]
    return "\n".join(lines) + "\n"


def _more(more: Sequence[Credit]) -> str:
    return _MORE.format(count=sum(n for _, _, n in more), places=len(more)) if more else ""


def training_lines(training: Mapping[str, Any]) -> list[str]:
    """Minutes, hardware and the curve of quality over time."""
    lines = ["## Training", "", str(training.get("text", "")), ""]
    history = training.get("history") or []
    if history:
        keys = ("step", "minutes", "speech_si_sdri_db", "query_si_sdri_db", "absent_db")
        lines += [
            "| " + " | ".join(keys) + " |",
            "|" + "---|" * len(keys),
            *("| " + " | ".join(_cell(entry.get(key)) for key in keys) + " |" for entry in history),
            "",
        ]  # fmt: skip
    return lines


def _cell(value: float | None) -> str:
    """A figure; nothing where none was had (a silent target has no ratio).

    >>> _cell(4.5), _cell(float("nan")), _cell(None)
    ('4.5', '', '')
    """
    return "" if value is None or value != value else str(value)


def figures(name: str, results: Mapping[str, Any]) -> list[str]:
    """Every figure of the benchmark that is about this bundle."""
    enhanced = results["enhancement"]
    lines = [
        "## Measured", "",
        f"`{COMMAND}`, held-out recordings. Speech in noise at 0, 5 and 10 dB:", "",
        "| system | SI-SDRi dB | PESQ-WB | STOI | DNSMOS ovr |", "|---|---|---|---|---|",
        *(
            f"| {system} | {row['si_sdri_db']} | {row.get('pesq_wb', '')} | "
            f"{row.get('stoi', '')} | {row.get('dnsmos', {}).get('ovr', '')} |"
            for system, row in enhanced.items()
        ),
        "", "By request, sources at equal level:", "",
        "| sources | SI-SDRi dB, mean over classes | absent, mean dB | absent, median dB |",
        "|---|---|---|---|",
        *(
            f"| {part['sources']} | {part['si_sdri_db']} | {part['absent_db_mean']} | "
            f"{part['absent_db_median']} |"
            for part in results["separation"][name].values()
        ),
        "", "| asked for | two sources, SI-SDRi dB | three |", "|---|---|---|",
    ]  # fmt: skip
    two, three = (results["separation"][name][k]["by_class_si_sdri_db"] for k in ("two", "three"))
    lines += [f"| {label} | {two[label]} | {three[label]} |" for label in two]
    settled, level = results["settle"][name], results["levels"][name]
    lines += [
        "",
        (
            f"Change of query: {settled['settled']} of {settled['changes']} settled, median "
            f"{settled['median_ms']} ms. Input level -30 to +10 dB: SI-SDR spans "
            f"{level['span_db']} dB."
        ),
        "",
        "Alarms are synthesised; the guard's settings were chosen on other draws of the same",
        "synthesiser, so real sounders may differ.",
    ]  # fmt: skip
    lines += alarm_lines(name, results["alarms"])
    lines += ["", "| streams | CPU us a hop | state bytes a stream |", "|---|---|---|"]
    lines += [
        f"| {row['streams']} | {row['cpu_us_per_hop']} | {row['state_bytes_per_stream']} |"
        for row in results["costs"][name]
    ]
    return [*lines, ""]


def alarm_lines(name: str, alarms: Mapping[str, Any]) -> list[str]:
    """What is left of every alarm behind ``name``, and behind the imported enhancers."""
    first = next(iter(alarms.values()))
    others = [key for key in first if not key.startswith("separate-") and key.endswith("guarded")]
    keys = [f"{name}, bare", f"{name}, guarded", *others]
    lines = [
        "",
        "| alarm, dB, mean (worst) | " + " | ".join(keys) + " |",
        "|---|" + "---|" * len(keys),
    ]
    for alarm, row in alarms.items():
        cells = [row[key] for key in keys]
        lines.append(
            f"| {alarm} | "
            + " | ".join(f"{cell['mean_db']} ({cell['worst_db']})" for cell in cells)
            + " |"
        )
    return lines


def metrics(name: str, results: Mapping[str, Any]) -> list[Metric]:
    """The figures that the manifest carries."""
    held = "held-out recordings"
    two = results["separation"][name]["two"]
    made = [
        Metric("speech_si_sdri", results["enhancement"][name]["si_sdri_db"], "dB", held, COMMAND),
        Metric("query_si_sdri", two["si_sdri_db"], "dB", held, COMMAND),
        Metric("absent_level", two["absent_db_mean"], "dB", held, COMMAND),
        Metric("level_span", results["levels"][name]["span_db"], "dB", held, COMMAND),
        Metric("cpu_per_hop", results["costs"][name][0]["cpu_us_per_hop"], "us", "", COMMAND),
    ]
    pesq = results["enhancement"][name].get("pesq_wb")
    return [*made, Metric("pesq_wb", pesq, "", held, COMMAND)] if pesq else made


def joined(runs: Sequence[Sequence[Mapping[str, float]]]) -> list[dict[str, float]]:
    """The histories of runs that began where the one before ended, as one.

    >>> joined([[{"step": 5, "minutes": 2.0}], [{"step": 3, "minutes": 1.5}]])
    [{'step': 5, 'minutes': 2.0}, {'step': 8, 'minutes': 3.5}]
    """
    made: list[dict[str, float]] = []
    for run in runs:
        steps, minutes = (made[-1]["step"], made[-1]["minutes"]) if made else (0, 0.0)
        made += [
            {
                **entry,
                "step": entry["step"] + steps,
                "minutes": round(entry["minutes"] + minutes, 2),
            }
            for entry in run
        ]
    return made


def plot_curve(history: Sequence[Mapping[str, float]], place: Path) -> None:
    """A PNG of the scores on held-out sound over minutes of training."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
    minutes = [entry["minutes"] for entry in history]
    for key, name in (
        ("speech_si_sdri_db", "speech in noise, SI-SDRi"),
        ("query_si_sdri_db", "two sources by request, SI-SDRi"),
        ("absent_db", "what is absent, level"),
    ):
        axis.plot(minutes, [entry[key] for entry in history], marker="o", label=name)
    axis.set_xlabel("minutes of training, wall clock")
    axis.set_ylabel("dB")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(place, dpi=110)
    plt.close(figure)


def write_card(
    place: Path,
    training: Mapping[str, Any],
    results: Mapping[str, Any] | None = None,
    credited: bytes | None = None,
    more: Sequence[Credit] = (),
) -> Bundle:
    """Put card, figures and credits into the bundle at ``place``; nothing else changes."""
    bundle = Bundle.open(place)
    manifest = bundle.manifest
    files = {name: bundle.read(name) for name in manifest.files}
    if credited is not None:
        files["ATTRIBUTION.tsv"] = credited
    if more:
        lines = ["repository\tlicence\trecordings", *(f"{a}\t{b}\t{n}" for a, b, n in more)]
        files["CREDITS.tsv"] = ("\n".join(lines) + "\n").encode()
    files["README.md"] = card(manifest, training, results or {}, more).encode()
    found: Sequence[Metric] = metrics(manifest.name, results) if results else manifest.metrics
    manifest = msgspec.structs.replace(manifest, metrics=tuple(found))
    return write_bundle(place, manifest, files)
