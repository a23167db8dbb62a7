"""Train the sentence decoder on human captions, text only, and write its bundle.

    python -m ossicle.export.recipes.captioner --data DIR --work DIR [--out BUNDLE]

``--data`` holds ``captions/audiocaps_{train,val}.csv``. No audio is needed: the decoder is told
sounds and moments, which is also all that it is told when it runs behind a tagger. One CPU thread,
about ten minutes; the checkpoint in ``--work`` is resumed from.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ossicle.export.models.captioner import Captioner, CaptionerShape
from ossicle.export.recipes.captioner_text import (
    MAX_SOUNDS,
    MAX_WORDS,
    SLOTS,
    WORDS,
    Pair,
    read_pairs,
    reader,
    vocabulary,
)

PAD, BEGIN, END = 0, 1, 2
MARKS = ("<pad>", "<s>", "</s>")
JOINS = (
    ("{a} and {b}", 0), ("{a} while {b}", 0), ("{a} as {b}", 0), ("{a} with {b}", 0),
    ("{a} then {b}", 1), ("{a} followed by {b}", 1), ("{a} and then {b}", 1),
)  # fmt: skip


@dataclass(frozen=True)
class Language:
    """What the decoder can say and be told."""

    words: tuple[str, ...]
    sounds: tuple[str, ...]

    def tokens(self, words: Sequence[str]) -> list[int] | None:
        """Return the words as numbers between marks, or None for a word not known."""
        index = {w: i for i, w in enumerate(self.words)}
        if any(w not in index for w in words):
            return None
        return [BEGIN, *(index[w] for w in words), END]


def build_language(pairs: list[Pair], clauses: dict[str, list[str]]) -> Language:
    """Return the words of ``pairs`` and of the made-up clauses, and the sounds of both."""
    known = vocabulary(pairs)
    known += sorted({w for forms in clauses.values() for f in forms for w in f.split()} - {*known})
    return Language((*MARKS, *known), tuple(sorted({*reader_sounds(), *clauses})))


def reader_sounds() -> list[str]:
    """Return the sounds that captions are searched for."""
    return [name for name, _ in reader().sounds]


def made_up(rng: random.Random, clauses: dict[str, list[str]]) -> Pair:
    """Return a sentence of one or two clauses, for sounds that people rarely write about."""
    first, second = rng.sample(sorted(clauses), 2)
    form = rng.randrange(3)
    if rng.random() < 0.35:
        return Pair(((first, 0),), tuple(clauses[first][form].split()))
    join, moment = rng.choice(JOINS)
    if "with" in join:
        words = join.format(a=clauses[first][form], b=clauses[second][2])
    else:
        words = join.format(a=clauses[first][form], b=clauses[second][form])
    return Pair(((first, 0), (second, moment)), tuple(words.split()))


def memory_of(
    sounds: Sequence[tuple[str, int, float]], language: Language, shape: CaptionerShape
) -> Tensor:
    """Return one memory `[S, features]` of sounds with their moment and score."""
    memory = torch.zeros(shape.rows, shape.features)
    for row, (name, moment, score) in enumerate(sounds[: shape.rows]):
        memory[row, language.sounds.index(name)] = 1
        memory[row, len(language.sounds) + min(moment, shape.moments - 1)] = 1
        memory[row, -1] = score
    return memory


def batches(
    pairs: list[Pair], clauses: dict[str, list[str]], language: Language, shape: CaptionerShape,
    size: int, seed: int,
) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """Yield (tokens `[B, N]`, memory `[B, S, features]`) for ever; a quarter is made up.

    Sounds of one moment come in any order, so that the order within a moment means nothing, and
    rare sounds are drawn more often.
    """
    rng = random.Random(seed)
    usable = [(p, t) for p in pairs if (t := language.tokens(p.words)) is not None]
    counts: dict[str, int] = {}
    for pair, _ in usable:
        for name, _moment in pair.sounds:
            counts[name] = counts.get(name, 0) + 1
    weights = [max(counts[n] ** -0.5 for n, _ in p.sounds) for p, _ in usable]
    while True:
        chosen = rng.choices(usable, weights, k=size)
        tokens = torch.full((size, MAX_WORDS + 2), PAD)
        memory = torch.zeros(size, shape.rows, shape.features)
        for i, (pair, line) in enumerate(chosen):
            if rng.random() < 0.25:
                pair = made_up(rng, clauses)
                line = language.tokens(pair.words) or line
            tokens[i, : len(line)] = torch.tensor(line)
            told = [(n, m, rng.uniform(0.4, 1.0)) for n, m in pair.sounds]
            rng.shuffle(told)
            memory[i] = memory_of(sorted(told, key=lambda s: s[1]), language, shape)
        yield tokens[:, : int((tokens != PAD).sum(1).max())], memory


def train(
    pairs: list[Pair], language: Language, shape: CaptionerShape, work: Path, cpu_minutes: float
) -> Captioner:
    """Return the decoder after ``cpu_minutes`` of this process's time; resumes from ``work``."""
    torch.manual_seed(0)
    model = Captioner(shape)
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3, (0.9, 0.98), weight_decay=0.02)
    place, spent, step = work / "captioner.pt", 0.0, 0
    if place.is_file():
        saved = torch.load(place, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        spent, step = saved["spent"], saved["step"]
    stream = batches(pairs, reader_clauses(), language, shape, 128, seed=step)
    begun, budget = time.process_time() - spent, cpu_minutes * 60
    while (now := time.process_time() - begun) < budget:
        done = now / budget
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 200) * max(0.02, 1 - done)
        tokens, memory = next(stream)
        logits = model.whole(tokens[:, :-1], memory)
        loss = functional.cross_entropy(
            logits.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=PAD, label_smoothing=0.03
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        if step % 250 == 0:
            print(f"step {step} cpu {now:.0f} s loss {loss.item():.3f}", flush=True)
            torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(),
                        "spent": now, "step": step}, place)  # fmt: skip
    torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(),
                "spent": budget, "step": step}, place)  # fmt: skip
    return model.eval()


def reader_clauses() -> dict[str, list[str]]:
    """Return the made-up clauses of ``captioner_words.toml``."""
    import tomllib

    table = tomllib.loads(WORDS.read_text(encoding="utf-8"))
    return {name: list(forms) for name, forms in table["clauses"].items()}


@torch.no_grad()
def perplexity(model: Captioner, pairs: list[Pair], language: Language) -> float:
    """Return the perplexity per word on pairs whose words are all known."""
    total, count = 0.0, 0
    for pair in pairs:
        line = language.tokens(pair.words)
        if line is None:
            continue
        told = [(n, m, 0.8) for n, m in pair.sounds]
        memory = memory_of(told, language, model.shape)[None]
        logits = model.whole(torch.tensor([line[:-1]]), memory)[0]
        total += float(functional.cross_entropy(logits, torch.tensor(line[1:]), reduction="sum"))
        count += len(line) - 1
    return float(torch.tensor(total / max(count, 1)).exp())


def main() -> None:
    """Train, measure, and write the bundle."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with captions/")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--out", type=Path, help="where to write the bundle")
    parser.add_argument("--minutes", type=float, default=10.0, help="CPU minutes to train")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    pairs = read_pairs(args.data / "captions" / "audiocaps_train.csv")
    held = read_pairs(args.data / "captions" / "audiocaps_val.csv")
    language = build_language(pairs, reader_clauses())
    shape = CaptionerShape(len(language.words), len(language.sounds), SLOTS, MAX_SOUNDS)
    print(f"{len(pairs)} captions, {len(language.words)} words, {len(language.sounds)} sounds")
    model = train(pairs, language, shape, args.work, args.minutes)
    figures = {"perplexity": perplexity(model, held, language), "captions": len(pairs)}
    (args.work / "captioner.json").write_text(json.dumps({**figures, **asdict(shape)}))
    print(figures)
    if args.out is not None:
        from ossicle.export.recipes.captioner_bundle import write_captioner

        write_captioner(args.out, model, language, held, figures["perplexity"], len(pairs))


if __name__ == "__main__":
    main()
