"""Trains the built-in codec ``codec-16k`` on a folder of audio.

``python -m ossicle.export.recipes.codec --data FOLDER --out RUN --minutes 50`` trains it in the
four parts that ``codec_stages`` describes, with Lyra v2 (``FOLDER/weights/lyra_v2``) as teacher,
and the two of ``codec_weigh``. A short run hears less of the folder from the teacher;
``--resume`` goes on after the last part that was finished and inside the one that was not;
``--bundle DIR`` writes the bundle of what the run has. ``RUN/curve.png`` and ``curve.md`` say how
PESQ and STOI of held-out speech grew with the minutes.

Speech from held-out voices (``common/holdout.py``), the last of the four training folds of
everyday sounds, and one music collection's own validation and test splits are never trained on.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ossicle.export.recipes.codec_bundle import write
from ossicle.export.recipes.codec_curve import curve
from ossicle.export.recipes.codec_stages import Features, Finish, Stages, fit_books, hear
from ossicle.export.recipes.codec_weigh import Weighed, fold, sensitivity
from ossicle.export.recipes.codec_whole import CODES, LAYERS, VERSION, Codec
from ossicle.export.recipes.common.augment import with_speeds
from ossicle.export.recipes.common.corpus import (
    RATE_HZ,
    Clip,
    Corpus,
    Samples,
    pool,
    read_corpus,
)
from ossicle.export.recipes.common.holdout import voice_clusters
from ossicle.export.recipes.common.loop import Loss, Schedule, load_checkpoint, train
from ossicle.export.recipes.common.quantiser import ResidualBooks
from ossicle.export.recipes.common.teacher import LyraTeacher

RATES = {3: "1.5", 6: "3", 12: "6"}  # layers: kbps
SPEECH = ("speech_picovoice_sti", "speech_picovoice_wakeword")
EVERYDAY = ("env_esc10_f1-4",)
MUSIC = ("music_slakh", "music_sonic_pi", "music_web_audio_loops")
TUNE_VOICES, TEST_VOICES = frozenset({50, 27, 44}), frozenset({56, 16, 48})
PARTS = {  # shares of the minutes
    "features": 0.2,
    "stages": 0.08,
    "chain": 0.27,
    "finish": 0.08,
    "weighed": 0.15,
    "again": 0.22,
}
WEIGHINGS = {"weighed": 0.5, "again": 0.25}  # powers of the metric
RATES_OF = {
    "features": 1.5e-3,
    "stages": 1.5e-3,
    "chain": 1.2e-3,
    "finish": 3e-4,
    "weighed": 2.5e-4,
    "again": 2e-4,
}
JUDGED = ("finish", "weighed", "again")  # parts after which the codec is a codec
HEARD_S = 360.0  # of audio that the teacher speaks of, for each minute of the run


@dataclass(frozen=True)
class Split:
    """Clips by purpose: ``train`` to learn from, ``tune`` to decide with, ``test`` to report."""

    train: dict[str, list[tuple[Corpus, list[Clip]]]]
    tune: dict[str, list[tuple[Corpus, Clip]]]
    test: dict[str, list[tuple[Corpus, Clip]]]


def split(folder: Path, cache: Path) -> Split:
    """Reads the folder and says which clip serves what; kinds are speech, everyday, music."""
    out = Split({}, {"speech": [], "everyday": [], "music": []}, {"speech": [], "music": []})
    speech = [read_corpus(folder / name, cache) for name in SPEECH]
    out.train["speech"] = []
    for corpus, voices in zip(speech, voice_clusters(speech), strict=True):
        held = TUNE_VOICES | TEST_VOICES
        pairs = list(zip(corpus.clips, voices.tolist(), strict=True))
        out.train["speech"].append((corpus, [c for c, v in pairs if v not in held]))
        out.tune["speech"] += [(corpus, c) for c, v in pairs if v in TUNE_VOICES]
        out.test["speech"] += [(corpus, c) for c, v in pairs if v in TEST_VOICES]
    sounds = read_corpus(folder / EVERYDAY[0], cache)
    last = [Path(c.path).name.startswith("4") for c in sounds.clips]
    kept = [c for c, held in zip(sounds.clips, last, strict=True) if not held]
    out.train["everyday"] = [(sounds, kept)]
    out.tune["everyday"] = [(sounds, c) for c, h in zip(sounds.clips, last, strict=True) if h]
    out.train["music"] = []
    for name in MUSIC:
        corpus = read_corpus(folder / name, cache)
        parts = {c: Path(c.path).parts[0] for c in corpus.clips}
        out.tune["music"] += [(corpus, c) for c, p in parts.items() if p == "validation"]
        out.test["music"] += [(corpus, c) for c, p in parts.items() if p == "test"]
        rest = [c for c, p in parts.items() if p not in {"validation", "test"}]
        out.train["music"].append((corpus, rest))
    return out


def speech_check(codec: Codec, clips: list[Samples]) -> dict[str, float]:
    """PESQ-WB, STOI and SI-SDR of held-out speech at 1.5, 3 and 6 kbps and not quantised."""
    from pesq import pesq
    from pystoi import stoi

    rows: dict[str, list[float]] = {}
    for clip in clips:
        outs = codec.at_layers(torch.from_numpy(clip)[None], [*RATES, 0])
        for name, out in zip([*RATES.values(), "inf"], outs, strict=True):
            y = out[0].numpy()
            rows.setdefault(f"pesq_{name}", []).append(pesq(16000, clip, y, "wb"))
            rows.setdefault(f"stoi_{name}", []).append(stoi(clip, y, 16000))
            rows.setdefault(f"sisdr_{name}", []).append(si_sdr(clip, y))
    return {k: float(np.mean(v)) for k, v in rows.items()}


def si_sdr(x: Samples, y: Samples) -> float:
    """Scale-invariant signal-to-distortion ratio of ``y`` against ``x``, dB."""
    part = x * (np.dot(x, y) / (np.dot(x, x) + 1e-9))
    return float(10 * np.log10((np.dot(part, part) + 1e-9) / (np.sum((y - part) ** 2) + 1e-9)))


@dataclass
class Run:
    """One training of the codec: where it keeps things, and what it learns from."""

    data: Path
    out: Path
    minutes: float
    seed: int = 0
    resume: bool = False

    def __post_init__(self) -> None:
        self.split = split(self.data / "train", self.out / "cache")
        self.codec = Codec()
        self.teacher = LyraTeacher(self.data / "weights" / "lyra_v2")
        self.heard = [c.audio(k) for c, k in self.split.tune["speech"] if "/" not in k.path][:10]
        self.drawn = min(90, max(12, round(3 * self.minutes)))  # batches that books are fitted to

    def done(self, name: str) -> bool:
        """Whether a resumed run has this part already; its last state is loaded then."""
        last = self.out / name / "last.pt"
        if not (self.resume and last.exists()):
            return False
        spent = load_checkpoint(last, self.codec).spent
        return spent >= self.minutes * PARTS[name] * 60

    def part(self, name: str, loss: Loss) -> None:
        """One part for its share of the minutes; skipped where a resumed run has it already."""
        if self.done(name):
            return
        schedule = Schedule(
            self.minutes * PARTS[name], RATES_OF[name], warm_steps=50, clip=5.0,
            check_minutes=max(0.25, self.minutes * PARTS[name] / 8),
        )  # fmt: skip
        check = (lambda _: speech_check(self.codec, self.heard)) if name in JUDGED else None
        place = self.out / name
        train(
            self.codec, loss, schedule, place, seed=self.seed, check=check, resume=self.resume
        )  # fmt: skip

    def all(self) -> None:
        """The six parts in order."""
        rng = np.random.default_rng(self.seed)
        kinds = [clips for parts in self.split.train.values() for clips in parts]
        kinds = thinned(kinds, self.minutes * HEARD_S, rng)
        cache = self.out / "cache"
        plain = hear(self.teacher, kinds, None, cache)
        self.part("features", Features(self.codec, plain))
        books = ResidualBooks(LAYERS, CODES, self.codec.shape.latent)  # of the teacher's features
        some = torch.from_numpy(
            plain.features[rng.permutation(len(plain.features))[: self.drawn * 1280]]
        )
        books.fit(some, torch.Generator().manual_seed(self.seed))
        lessons = hear(self.teacher, kinds, books, cache, self.seed)
        self.part("stages", Stages(self.codec.decoder, lessons, chained=False))
        self.part("chain", Stages(self.codec.decoder, lessons, chained=True))
        shares = {"speech": 0.7, "everyday": 0.14, "music": 0.16}
        pools = [pool(kind, self.split.train[kind], share) for kind, share in shares.items()]
        if not self.done("finish"):
            fit_books(self.codec, pools, rng, self.drawn)
        self.part("finish", Finish(self.codec, lessons, pools))
        faster = [with_speeds(pools[0]), *pools[1:]]
        for name, power in WEIGHINGS.items():
            if not (self.resume and (self.out / name / "last.pt").exists()):
                heard = sensitivity(self.codec, pools, rng, min(30, self.drawn))
                fold(self.codec, heard, power)
                fit_books(self.codec, pools, rng, self.drawn, sums=True)
            self.part(name, Weighed(self.codec, faster))
        curve([self.out / name / "log.jsonl" for name in JUDGED], self.out)


def thinned(
    parts: list[tuple[Corpus, list[Clip]]], seconds: float, rng: np.random.Generator
) -> list[tuple[Corpus, list[Clip]]]:
    """Clips drawn at random from every corpus, so that all last about ``seconds`` together."""
    whole = sum(c.length for _, clips in parts for c in clips) / RATE_HZ
    share = min(1.0, seconds / max(whole, 1e-9))
    return [
        (corpus, [clips[i] for i in sorted(rng.permutation(len(clips))[: max(1, count)])])
        for corpus, clips in parts
        for count in [round(share * len(clips))]
    ]


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and weights/")
    parser.add_argument("--out", type=Path, required=True, help="checkpoints, logs, plots, cache")
    parser.add_argument("--minutes", type=float, default=50.0, help="CPU minutes (GPU: wall)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--bundle", type=Path, help="write the bundle here at the end")
    a = parser.parse_args(arguments)
    torch.manual_seed(a.seed)
    run = Run(a.data, a.out, a.minutes, a.seed, a.resume)
    run.all()
    if a.bundle:
        write(run.codec, a.bundle, VERSION)


if __name__ == "__main__":
    main()
