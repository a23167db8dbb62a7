"""Train the sentence decoder on human captions and on mixtures as a tagger hears them.

    python -m ossicle.export.recipes.captioner_render --data DIR --out WORK/train --folds 1 2 3
    python -m ossicle.export.recipes.captioner --data DIR --work WORK [--out BUNDLE]

``--data`` holds ``captions/audiocaps_{train,val}.csv``; ``WORK/train`` the tagger's scores over
mixtures. The decoder is told sounds and moments, which is also all that it is told when it runs
behind a tagger. One CPU thread; the checkpoint in ``--work`` is resumed from.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ossicle.export.models.captioner import Captioner, CaptionerShape
from ossicle.export.recipes.captioner_examples import (
    MARKS,
    PAD,
    SHARES,
    Examples,
    Language,
    Told,
    draw,
    examples,
    from_captions,
    from_mixtures,
    made_up,
    memory_of,
)
from ossicle.export.recipes.captioner_heard import eager, rules_of, scenes_told
from ossicle.export.recipes.captioner_text import (
    MAX_SOUNDS,
    SLOTS,
    Pair,
    clauses_of,
    read_pairs,
    reader,
    vocabulary,
)
from ossicle.runtime.bundle import Bundle

BATCH = 384
RATE = 3e-3
POOL = 8  # batches drawn at once
MISREAD = 0.1  # of the words before, while training


def build_language(pairs: list[Pair], clauses: dict[str, list[str]]) -> Language:
    """Return the words of ``pairs`` and of the made-up clauses, and the sounds of both."""
    known = vocabulary(pairs)
    known += sorted({w for forms in clauses.values() for f in forms for w in f.split()} - {*known})
    sounds = {name for name, _ in reader().sounds}
    return Language((*MARKS, *known), tuple(sorted({*sounds, *clauses})))


def gather(
    pairs: list[Pair], heard: Sequence[Told], language: Language, shape: CaptionerShape
) -> dict[str, Examples]:
    """Return the three sources of a batch; without mixtures, their share goes to captions."""
    rng, clauses = random.Random(0), clauses_of()
    found = {
        "captions": from_captions(pairs),
        "made up": made_up(rng, clauses, 40_000),
        "mixtures": from_mixtures(rng, heard, pairs, clauses),
    }
    return {name: examples(rows, language, shape) for name, rows in found.items() if rows}


def batches(
    sources: dict[str, Examples], shape: CaptionerShape, size: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (tokens `[B, N]`, memory `[B, S, features]`) for ever.

    Lines of like length go together, so that little of a batch is padding.
    """
    rng = np.random.default_rng(seed)
    total = sum(SHARES[name] for name in sources)
    while True:
        drawn = [
            draw(of, round(POOL * size * SHARES[name] / total), rng, shape)
            for name, of in sources.items()
        ]
        tokens, memory = (np.concatenate([d[i] for d in drawn]) for i in (0, 1))
        lengths = (tokens != PAD).sum(1)
        cuts = np.array_split(np.argsort(lengths + rng.random(len(lengths)), kind="stable"), POOL)
        for at in rng.permutation(POOL):
            pick = cuts[at]
            line = tokens[pick, : int(lengths[pick].max())]
            yield torch.from_numpy(line), torch.from_numpy(memory[pick])


def loss_of(
    model: Captioner, tokens: Tensor, memory: Tensor, smoothing: float = 0.0, noisy: bool = False
) -> Tensor:
    """Return the mean cross-entropy of the words that follow."""
    goal = tokens[:, 1:]
    before = misread(tokens[:, :-1], model.shape.words) if noisy else tokens[:, :-1]
    hidden = model.hidden(before, memory)[goal != PAD]
    logits = (hidden @ model.embed.weight.T).float()
    return functional.cross_entropy(logits, goal[goal != PAD], label_smoothing=smoothing)


def misread(tokens: Tensor, words: int) -> Tensor:
    """Return ``tokens`` with a tenth of the words exchanged, so that no one word is relied on."""
    other = torch.randint(len(MARKS), words, tokens.shape)
    return torch.where((torch.rand(tokens.shape) < MISREAD) & (tokens >= len(MARKS)), other, tokens)


def train(
    sources: dict[str, Examples], held: Examples, shape: CaptionerShape, work: Path,
    minutes: float, start: Path | None = None, rate: float = RATE,
) -> Captioner:  # fmt: skip
    """Return the decoder after ``minutes`` of this process's time; resumes from ``work``.

    What is returned is a running mean of the weights, which is calmer than the last of them.
    """
    torch.manual_seed(0)
    model = Captioner(shape)
    mean = copy.deepcopy(model).eval()
    optimiser = torch.optim.AdamW(model.parameters(), rate, (0.9, 0.98), weight_decay=0.02)
    place, spent, step = work / "captioner.pt", 0.0, 0
    if place.is_file():
        saved = torch.load(place, weights_only=True)
        model.load_state_dict(saved["model"])
        mean.load_state_dict(saved["mean"])
        optimiser.load_state_dict(saved["optimiser"])
        spent, step = saved["spent"], saved["step"]
    elif start is not None:
        known = widened(torch.load(start, weights_only=True)["mean"], shape)
        model.load_state_dict(known)
        mean.load_state_dict(known)
    stream = batches(sources, shape, BATCH, seed=step)
    begun, budget, told = time.process_time() - spent, minutes * 60, spent
    while (now := time.process_time() - begun) < budget:
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 200) * max(0.01, 1 - now / budget)
        tokens, memory = next(stream)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, tokens, memory, smoothing=0.03, noisy=True)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        _follow(mean, model, min(0.999, step / (step + 10)))
        if now - told > 60:
            told = now
            strange = perplexity(mean, held, shape)
            print(f"step {step} cpu {now:.0f} s loss {loss.item():.3f} held-out {strange:.3f}",
                  flush=True)  # fmt: skip
            _save(place, model, mean, optimiser, now, step)
    _save(place, model, mean, optimiser, budget, step)
    return mean


def widened(held: dict[str, Tensor], shape: CaptionerShape) -> dict[str, Tensor]:
    """Return the weights of a decoder without embeddings as those of one that ignores them."""
    weight = held["remember.weight"]
    missing = shape.features - weight.shape[1]
    return {**held, "remember.weight": functional.pad(weight, (0, missing))}


def _follow(mean: Captioner, model: Captioner, keep: float) -> None:
    with torch.no_grad():
        for old, new in zip(mean.parameters(), model.parameters(), strict=True):
            old.lerp_(new, 1 - keep)


def _save(
    place: Path, model: Captioner, mean: Captioner, optimiser: torch.optim.Optimizer, spent: float,
    step: int,
) -> None:  # fmt: skip
    part = place.with_suffix(".part")
    parts: dict[str, Any] = {"model": model, "mean": mean, "optimiser": optimiser}
    saved = {name: item.state_dict() for name, item in parts.items()}
    torch.save({**saved, "spent": spent, "step": step}, part)
    part.replace(place)


@torch.no_grad()
def perplexity(model: Captioner, held: Examples, shape: CaptionerShape) -> float:
    """Return the perplexity per word on held-out captions, told with a score of 0.8."""
    scores = np.where(held.sounds >= 0, np.float32(0.8), np.float32(0))
    memory = torch.from_numpy(memory_of(held.sounds, held.moments, scores, shape))
    tokens = torch.from_numpy(held.tokens.astype(np.int64))
    return float(loss_of(model.eval(), tokens, memory).exp())


def main() -> None:
    """Train, measure, and write the bundle."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with captions/")
    parser.add_argument("--work", type=Path, required=True, help="checkpoints, and mixtures")
    parser.add_argument("--tagger", default="sounds-16k", help="bundle that heard the mixtures")
    parser.add_argument("--out", type=Path, help="where to write the bundle")
    parser.add_argument("--minutes", type=float, default=20.0, help="CPU minutes to train")
    parser.add_argument("--start", type=Path, help="a checkpoint, with or without embeddings")
    parser.add_argument("--rate", type=float, default=RATE)
    args = parser.parse_args()
    torch.set_num_threads(1)
    pairs = read_pairs(args.data / "captions" / "audiocaps_train.csv")
    held = read_pairs(args.data / "captions" / "audiocaps_val.csv")
    language = build_language(pairs, clauses_of())
    tagger = Bundle.open(args.tagger).manifest
    shape = CaptionerShape(len(language.words), len(language.sounds), SLOTS, MAX_SOUNDS,
                           embedding=int(tagger.extra.get("embedding", 0)))  # fmt: skip
    tagged = rules_of(tagger)
    heard = [
        told for rules in (tagged, eager(tagged, 0.6)) for settle_ms in (1500, 5000)
        for told in scenes_told(args.work / "train", rules, settle_ms)
    ]  # fmt: skip
    sources = gather(pairs, heard, language, shape)
    print({name: len(of.weights) for name, of in sources.items()}, len(language.words), flush=True)
    known = examples(from_captions(held), language, shape)
    model = train(sources, known, shape, args.work, args.minutes, args.start, args.rate)
    figures = {"perplexity": perplexity(model, known, shape)}
    facts = {"captions": len(sources["captions"].weights), "mixtures": len(heard),
             "tagger": tagger.name, **asdict(shape)}  # fmt: skip
    (args.work / "captioner.json").write_text(json.dumps({**figures, **facts}))
    print(figures)
    if args.out is not None:
        from ossicle.export.recipes.captioner_bundle import write_captioner

        write_captioner(args.out, model, language, args.data, args.work, tagged, facts, figures)


if __name__ == "__main__":
    main()
