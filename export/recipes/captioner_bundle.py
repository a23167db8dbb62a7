"""The sentence decoder as a bundle: one word a step, with its words and its names for sounds."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

import numpy as np

from ossicle.export.bundle import TorchStep, export_bundle
from ossicle.export.models.captioner import Captioner
from ossicle.export.recipes.captioner import BEGIN, END, Language
from ossicle.export.recipes.captioner_text import Pair, reader
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
from ossicle.runtime.wording import beam_search, named

NAME, VERSION = "captioner-16k", "1"
COMMAND = "python -m ossicle.export.recipes.captioner --data DIR --work DIR --out BUNDLE"

CARD = """# captioner-16k

Words sounds that a tagger heard, in order, as one English sentence: `a dog barks while rain falls`.
A causal transformer decoder ({layers} layers, width {width}, {words} words, {parameters:,}
parameters) with an explicit key-value cache; it attends to one memory row per sound (which, in
which moment it began, score). One step is one word; nothing in it is a clock.

**What is decoder and what is grammar.** The bracketed captions and the then/while fragments of
`--style sentence` are grammar and lexicon. Only sentences of this bundle are decoded; a decoded
sentence that names a sound it was not told, or leaves one out, is discarded and the grammar's is
used. On silence nothing is decoded.

**Trained on** the text of AudioCaps captions (MIT; {captions:,} of 49,274 kept), no audio. What a
tagger cannot know was taken out first: who speaks, how many, how loud, how far. A quarter of each
batch are made-up sentences for sounds that people rarely caption (alarms, chainsaw, rooster).
Figures on captions are therefore inflated by templates, and no CIDEr is claimed.

**Measured** on the held-out validation captions, greedy and beam 4, see `metrics` in the manifest:
perplexity per word {perplexity:.2f}; sentences that name exactly what they were told: greedy
{greedy:.1%}, beam {beam:.1%}; sentences with a word pair used twice: {repeats:.1%}.

**Limits.** English. At most {rows} sounds and {moments} moments. It knows {sounds} sounds of the
caption vocabulary; others fall back to the grammar.

Licence: Apache-2.0. Credits: AudioCaps (Kim et al., NAACL 2019).
"""


def write_captioner(
    place: Path, model: Captioner, language: Language, held: list[Pair], perplexity: float,
    captions: int,
) -> Bundle:  # fmt: skip
    """Write the bundle, measure it as written, and write it again with what was measured."""
    figures: dict[str, float] = {"perplexity": perplexity}
    draft = _export(place, model, language, figures, captions)
    figures |= measure(Model.load(draft), held)
    return _export(place, model, language, figures, captions)


def measure(model: Model, held: list[Pair], count: int = 300) -> dict[str, float]:
    """Return how faithful the written bundle is on ``count`` held-out pairs."""
    chosen = random.Random(0).sample(held, min(count, len(held)))
    figures = {}
    for name, beam in (("greedy", 1), ("beam", 4)):
        said = [(p, decode(model, p, beam)) for p in chosen]
        names = [named(" ".join(words), reader().sounds) for _, words in said]
        exact = sum(n == {s for s, _ in p.sounds} for n, (p, _) in zip(names, said, strict=True))
        figures[name] = exact / len(said)
        pairs = [list(pairwise(w)) for _, w in said]
        figures["repeats"] = sum(len(set(x)) < len(x) for x in pairs) / len(pairs)
    return figures


def decode(model: Model, pair: Pair, beam: int) -> list[str]:
    """Return the decoder's best words for the sounds of ``pair``, unchecked."""
    extra, sounds = model.manifest.extra, list(model.manifest.labels or ())
    words = json.loads(model.bundle.read("words.json"))
    memory = np.zeros((extra["rows"], len(sounds) + extra["moments"] + 1), np.float32)
    for row, (name, moment) in enumerate(pair.sounds):
        memory[row, sounds.index(name)] = 1
        memory[row, len(sounds) + moment] = 1
        memory[row, -1] = 0.8
    found = beam_search(model, memory, beam)
    return [words[i] for i in found[0]] if found else []


def _export(
    place: Path, model: Captioner, language: Language, figures: dict[str, float], captions: int
) -> Bundle:
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
    naming = [[name, pattern.pattern] for name, pattern in reader().sounds]
    full = {"greedy": 0.0, "beam": 0.0, "repeats": 0.0, **figures}
    card = CARD.format(
        layers=shape.layers, width=shape.width, words=shape.words, rows=shape.rows,
        moments=shape.moments, sounds=shape.sounds, captions=captions,
        parameters=sum(p.numel() for p in model.parameters()), **full,
    )  # fmt: skip
    manifest = Manifest(
        schema=SCHEMA, name=NAME, version=VERSION, task="caption", license="Apache-2.0",
        license_class="permissive", source="recipe export/recipes/captioner.py; text of AudioCaps",
        sample_rate_hz=16_000, hop=1, latency=1, latency_class="offline", graphs={},
        programs={"step": program}, labels=language.sounds, batch=(1, 2, 4, 8),
        metrics=tuple(
            Metric(name, round(value, 4), "", "AudioCaps validation captions", COMMAND)
            for name, value in sorted(figures.items())
        ),
        extra={"rows": shape.rows, "moments": shape.moments, "length": shape.length,
               "begin": BEGIN, "end": END, "language": "en"},
    )  # fmt: skip
    files = {
        "words.json": json.dumps(language.words).encode(),
        "naming.json": json.dumps(naming).encode(),
        "README.md": card.encode(),
    }
    return export_bundle(place, manifest, {"word": step}, files=files)
