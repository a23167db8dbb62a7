"""The sentence decoder as a bundle: one word a step, with its words and its names for sounds."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ossicle.export.bundle import TorchStep, export_bundle
from ossicle.export.models.captioner import Captioner
from ossicle.export.recipes.captioner_examples import BEGIN, END, Language
from ossicle.export.recipes.captioner_heard import Tagged, scenes_told
from ossicle.export.recipes.captioner_measure import (
    captions_by_clip,
    faithful,
    memory_about,
    on_captions,
    sayer,
    side_by_side,
)
from ossicle.export.recipes.captioner_text import read_pairs, reader
from ossicle.export.recipes.captioner_timing import fit, outcome, waits_in
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.manifest import (
    SCHEMA,
    Manifest,
    Metric,
    Op,
    Port,
    Program,
    ProgramInput,
    ProgramOutput,
    State,
)
from ossicle.runtime.model import Model
from ossicle.runtime.worddecoder import WEIGHTS, GraphWords, KernelWords

NAME, VERSION = "captioner-16k", "2"
COMMAND = "python -m ossicle.export.recipes.captioner --data DIR --work WORK --out BUNDLE"
CARD = Path(__file__).with_name("captioner_card.md")
CAPTIONS = "AudioCaps validation captions"
MIXTURES = "mixtures of ESC-10 fold 4, held-out speech, music and rooms, synthesised alarms"
UNITS = {"wait_ms": "ms", "wait_p50_ms": "ms"}


def write_captioner(
    place: Path, model: Captioner, language: Language, data: Path, work: Path, tagged: Tagged,
    facts: Mapping[str, Any], figures: Mapping[str, float],
) -> Bundle:  # fmt: skip
    """Write the bundle, measure it as written, and write it again with what was measured.

    ``work`` holds mixtures to fit the timing head on in ``train``, and held-out ones in ``val``.
    """
    _round(model)
    head = fit(waits_in(work / "train", tagged))
    settings = {"weights": head.weights, "bias": head.bias, "cut": head.cut,
                "least_ms": head.least_ms, "most_ms": head.most_ms}  # fmt: skip
    draft = _export(place, model, language, settings, facts, {CAPTIONS: figures})
    found = {
        CAPTIONS: {**figures, **measure_captions(draft, model, language, data)},
        MIXTURES: {
            **measure_mixtures(draft, model, language, work, tagged),
            **outcome(head, waits_in(work / "val", tagged)),
        },
    }
    return _export(place, model, language, settings, facts, found)


def _round(model: Captioner) -> None:
    """Round the weights to what float16 holds, which the bundle stores them in."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half().float())


def measure_captions(
    bundle: Bundle, model: Captioner, language: Language, data: Path
) -> dict[str, float]:
    """Return the figures on people's captions."""
    path = data / "captions" / "audiocaps_val.csv"
    told = [[(n, m, 0.8) for n, m in p.sounds] for p in read_pairs(path)][:600]
    words, found = KernelWords(bundle), dict[str, float]()
    for name, beam in (("greedy", 1), ("beam", 4)):
        say = sayer(words, language, model.shape, beam)
        for figures in (faithful(say, told), on_captions(say, captions_by_clip(path))):
            found |= {f"{key}_{name}": value for key, value in figures.items()}
    for key in ("clips", "cider_d_templates"):
        found[key] = found.pop(f"{key}_greedy")
        del found[f"{key}_beam"]
    memories = [memory_about(t, language, model.shape) for t in told[:60]]
    both = side_by_side(GraphWords(Model.load(bundle)), words, memories)
    return found | {name: both[name] for name in ("parity", "same")}  # a bundle keeps no timings


def measure_mixtures(
    bundle: Bundle, model: Captioner, language: Language, work: Path, tagged: Tagged
) -> dict[str, float]:
    """Return how faithful sentences about held-out mixtures are."""
    told, found = scenes_told(work / "val", tagged, 5000), dict[str, float]()
    deaf = [[row[:3] for row in rows] for rows in told]
    for name, beam in (("greedy", 1), ("beam", 4)):
        say = sayer(KernelWords(bundle), language, model.shape, beam)
        for suffix, rows in (("", told), ("_deaf", deaf)):
            found |= {f"{key}{suffix}_{name}": v for key, v in faithful(say, rows).items()}
    return found


def _export(
    place: Path, model: Captioner, language: Language, timing: Mapping[str, Any],
    facts: Mapping[str, Any], figures: Mapping[str, Mapping[str, float]],
) -> Bundle:  # fmt: skip
    shape = model.shape
    ports = (Port("token", (1,), "int64"), Port("memory", (shape.rows, shape.features)))
    states = (
        State("cache", "cache_next", (2 * shape.layers, shape.length, shape.width)),
        State("filled", "filled_next", (shape.length,)),
    )
    step = TorchStep(model, ports, (Port("logits", (shape.words,)),), states, kind="token")
    program = Program(
        inputs=(
            ProgramInput("token", "frame", (1,), "int64"),
            ProgramInput("memory", "condition", (shape.rows, shape.features), default="zeros"),
        ),
        outputs=(ProgramOutput("logits", "frame", (shape.words,)),),
        ops=(Op("graph", ("token", "memory"), ("logits",), "word"),),
    )
    manifest = Manifest(
        schema=SCHEMA, name=NAME, version=VERSION, task="caption", license="Apache-2.0",
        license_class="permissive", source="recipe export/recipes/captioner.py; text of AudioCaps",
        sample_rate_hz=16_000, hop=1, latency=1, latency_class="offline", graphs={},
        programs={"step": program}, labels=language.sounds, batch=(1, 2, 4, 8),
        metrics=tuple(
            Metric(name, round(value, 7), UNITS.get(name, ""), data, COMMAND)
            for data, found in figures.items() for name, value in sorted(found.items())
        ),
        extra={"rows": shape.rows, "moments": shape.moments, "length": shape.length,
               "heads": shape.heads, "begin": BEGIN, "end": END, "language": "en",
               "embedding": shape.embedding, "tagger": facts.get("tagger", ""),
               "timing": dict(timing)},
    )  # fmt: skip
    naming = [[name, pattern.pattern] for name, pattern in reader().sounds]
    files = {
        "words.json": json.dumps(language.words).encode(),
        "naming.json": json.dumps(naming).encode(),
        "README.md": card(model, facts, figures).encode(),
        WEIGHTS: _weights(model),
    }
    return export_bundle(place, manifest, {"word": step}, files=files)


def _weights(model: Captioner) -> bytes:
    arrays = {k: v.numpy().astype(np.float16) for k, v in model.state_dict().items()}
    held = io.BytesIO()
    np.savez(held, **arrays)
    return held.getvalue()


def card(
    model: Captioner, facts: Mapping[str, Any], figures: Mapping[str, Mapping[str, float]]
) -> str:
    """Return the model card; a figure that was not measured yet is a dash."""
    on_text, on_mixtures = figures.get(CAPTIONS, {}), figures.get(MIXTURES, {})

    def shown(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    table = {
        "CAPTIONS": facts["captions"], "MIXTURES": facts["mixtures"],
        "LAYERS": model.shape.layers, "WIDTH": model.shape.width, "WORDS": model.shape.words,
        "SOUNDS": model.shape.sounds, "ROWS": model.shape.rows, "MOMENTS": model.shape.moments,
        "PARAMETERS": f"{sum(p.numel() for p in model.parameters()):,}",
    }  # fmt: skip
    text = CARD.read_text(encoding="utf-8")
    for name, value in table.items():
        text = text.replace(f"{{{name}}}", str(value))
    for mark, found in (("text", on_text), ("mix", on_mixtures)):
        for form, key in _slots(text, mark):
            text = text.replace(f"{{{mark}.{key}:{form}}}", shown(found.get(key), form))
    return text


def _slots(text: str, mark: str) -> list[tuple[str, str]]:
    """Return (format, name) of the slots ``{mark.name:format}`` of a card."""
    import re

    return [(form, key) for key, form in re.findall(rf"\{{{mark}\.(\w+):([^}}]+)\}}", text)]
