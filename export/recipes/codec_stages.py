"""The four trainings of the codec, in order, each a loss for ``common.loop.train``.

1. *Features*: the encoder learns the teacher's features by plain regression.
2. *Stages*: each stage of the decoder learns one stage of the teacher's decoder, fed with the
   teacher's own activations, so that four short regressions run side by side.
3. *Chain*: the decoder's stages feed each other; its audio is compared with the teacher's.
4. *Finish*: the encoder is frozen, its own books are fitted by k-means, and the decoder learns
   from them: phase from the teacher's audio (a function of the codes), spectrum and loudness
   from the recording itself, on augmented audio as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ossicle.export.models.codec import Decoder, States
from ossicle.export.models.codec_layers import leak
from ossicle.export.recipes.common import losses
from ossicle.export.recipes.common.augment import draw
from ossicle.export.recipes.common.corpus import HOP, PCM, Clip, Corpus, Pool, to_float
from ossicle.export.recipes.common.loop import Progress
from ossicle.export.recipes.common.quantiser import ResidualBooks
from ossicle.export.recipes.common.teacher import INSIDE, WIDTH, LyraTeacher

SCALE = 5.2  # about the teacher's standard deviation a feature
LAYERS = (3, 6, 12)
SCALES = ((128, 16), (256, 32), (1024, 80), (2048, 96))  # STFT size, mel bands
DEPTHS = np.arange(1, 13)
DEPTH_SHARE = np.array([4, 6, 22, 6, 6, 22, 4, 5, 4, 5, 3, 13]) / 100
WIDTHS = {"lift": 256, "fine": 256, "finer": 128, "finest": 64}
Terms = dict[str, Tensor]
Half = NDArray[np.float16]
Wide = NDArray[np.float32]


@dataclass(frozen=True)
class Lessons:
    """What the teacher said of clips laid end to end, a row a hop."""

    pcm: PCM  # [N, 320]
    features: Wide  # [N, 64], centred and scaled
    depth: NDArray[np.int64]  # [N], layers the rendition below was made from; 0: none
    coded: Wide  # [N, 64], the features as those layers code them
    inside: dict[str, Half]  # the decoder's activations
    audio: Wide  # [N, 320], the teacher's audio

    def items(self, count: int, hops: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Row numbers ``[count, hops]`` of random crops."""
        starts = rng.integers(0, len(self.pcm) - hops, count)
        return np.asarray(starts[:, None] + np.arange(hops)[None], np.int64)


def hear(
    teacher: LyraTeacher, parts: list[tuple[Corpus, list[Clip]]], books: ResidualBooks | None,
    cache: Path, seed: int = 0,
) -> Lessons:  # fmt: skip
    """The teacher's features of all clips and, with ``books``, its renditions at random depths."""
    cache.mkdir(parents=True, exist_ok=True)
    file = cache / "features.npz"
    pcm = np.concatenate(
        [c.pcm[k.start : k.start + k.length].reshape(-1, HOP) for c, ks in parts for k in ks]
    )
    raw = np.load(file)["features"] if file.exists() else np.zeros((0, WIDTH), np.float32)
    if len(raw) != len(pcm):  # not heard yet, or another choice of clips
        raw = np.concatenate([teacher.features(c.audio(k)) for c, ks in parts for k in ks])
        np.savez(file, features=raw)
    features = np.asarray((raw - raw.mean(axis=0)) / SCALE, np.float32)
    none = Lessons(pcm, features, np.zeros(len(pcm), np.int64), features, {}, features[:0])
    if books is None:
        return none
    rng = np.random.default_rng(seed)
    depth, coded, audio = none.depth.copy(), features.copy(), np.zeros((len(pcm), HOP), np.float32)
    inside: dict[str, list[Half]] = {k: [] for k in INSIDE}
    at = 0
    for length in (k.length // HOP for _, ks in parts for k in ks):
        rows_now = slice(at, at + length)
        layers = int(rng.choice(LAYERS, p=(0.35, 0.35, 0.3)))
        x = torch.from_numpy(features[rows_now])
        _, rests = books.encode(x)
        coded[rows_now], depth[rows_now] = (x - rests[layers]).numpy(), layers
        made = teacher.render(coded[rows_now] * SCALE + raw.mean(axis=0))
        audio[rows_now] = made.audio
        for name in INSIDE:
            inside[name].append(made.inside[name])
        at += length
    stacked = {k: np.concatenate(v) for k, v in inside.items()}
    return Lessons(pcm, features, depth, coded, stacked, audio)


def relative(error: Tensor, want: Tensor, floor: float = 0.05) -> Tensor:
    """Squared error of ``[B, T, C]`` relative to each item's power, mean over items."""
    return (error.square().mean(dim=(1, 2)) / (want.square().mean(dim=(1, 2)) + floor)).mean()


class Features:
    """Loss 1: the encoder against the teacher's features; the first 8 hops are not judged."""

    def __init__(self, codec: torch.nn.Module, lessons: Lessons) -> None:
        self.codec, self.lessons = codec, lessons

    def __call__(self, rng: np.random.Generator, progress: Progress) -> tuple[Tensor, Terms]:
        rows = self.lessons.items(24, 64, rng)
        audio = torch.from_numpy(to_float(self.lessons.pcm[rows]).reshape(len(rows), -1))
        with torch.autocast("cpu", torch.bfloat16):
            latent = self.codec.encode(audio)  # type: ignore[operator]
        want = torch.from_numpy(self.lessons.features[rows])
        error = (latent - want)[:, 8:].square().mean()
        return error, {"features": error}


class Stages:
    """Losses 2 and 3: the decoder's stages against the teacher's, forced or chained."""

    def __init__(self, decoder: Decoder, lessons: Lessons, chained: bool) -> None:
        self.decoder, self.lessons, self.chained = decoder, lessons, chained
        self.skip = 16  # hops at the start of a crop that lack history
        some = slice(0, 60000, 7)
        self.scale = {
            k: torch.from_numpy(
                lessons.inside[k][some].reshape(-1, w).astype(np.float32).std(axis=0)
            ).clamp(min=1e-3)
            for k, w in WIDTHS.items()
        }

    def target(self, name: str, rows: NDArray[np.int64]) -> Tensor:
        """The teacher's activation, scaled to unit variance a channel."""
        picked = self.lessons.inside[name][rows].reshape(len(rows), -1, WIDTHS[name])
        return torch.from_numpy(picked.astype(np.float32)) / self.scale[name]

    def _states(self, batch: int) -> tuple[Tensor, list[States], Tensor]:
        flat, at, stages = self.decoder.initial(batch), 1, []
        for stage in self.decoder.stages:
            count = 1 + len(stage.units)  # type: ignore[arg-type]
            stages.append(flat[at : at + count])
            at += count
        return flat[0], stages, flat[at]

    def __call__(self, rng: np.random.Generator, progress: Progress) -> tuple[Tensor, Terms]:
        hops = 64
        rows = self.lessons.items(8, hops, rng)
        want = {name: self.target(name, rows) for name in WIDTHS}
        coded = torch.from_numpy(self.lessons.coded[rows])
        enter, states, leave = self._states(len(rows))
        dec, terms = self.decoder, {}

        def judge(name: str, have: Tensor) -> None:
            skip = have.shape[1] * self.skip // hops
            goal = want[name][:, skip:]
            terms[name] = relative(have[:, skip:].float() - goal, goal)

        with torch.autocast("cpu", torch.bfloat16):
            x, _ = dec.enter(coded, enter)
            x, _ = dec.stages[0].lift(x, states[0][0])  # type: ignore[operator]
            judge("lift", x)
            for unit, state in zip(dec.stages[0].units, states[0][1:], strict=True):  # type: ignore[arg-type]
                x, _ = unit(x, state)
            judge("fine", x)
            for i, name, above in ((1, "finer", "fine"), (2, "finest", "finer")):
                x, _ = dec.stages[i](x if self.chained else want[above].bfloat16(), states[i])
                judge(name, x)
            x = x if self.chained else want["finest"].bfloat16()
            out, _ = dec.leave(leak(x), leave)
        heard = out.float().reshape(len(rows), -1)[:, self.skip * HOP :]
        said = torch.from_numpy(self.lessons.audio[rows].reshape(len(rows), -1))
        said = said[:, self.skip * HOP :]
        if not self.chained:
            terms["wave"] = relative((heard - said)[..., None] / 0.085, said[..., None] / 0.085)
            return torch.stack(list(terms.values())).sum(), terms
        inner = torch.stack(list(terms.values())).sum()
        terms |= waveform_terms(said, heard, rng)
        outer = terms["wave"] + 0.5 * terms["mel"] + 8 * terms["phase"] + 0.5 * terms["loud"]
        return 0.2 * inner + outer, terms


def waveform_terms(audio: Tensor, out: Tensor, rng: np.random.Generator) -> Terms:
    """Wave, mel, phase and loudness distances; two STFT sizes and a random offset a step."""
    terms = {"wave": losses.wave_distance(audio, out), "loud": losses.loudness_distance(audio, out)}
    at = int(rng.integers(0, 256))
    other = SCALES[int(rng.integers(len(SCALES)))]
    pairs = [
        losses.spectral_distances(audio[:, at:], out[:, at:], n, n // 2, mels)
        for n, mels in ((512, 64), other)
    ]
    terms["mel"] = torch.stack([mel for mel, _ in pairs]).mean()
    terms["phase"] = torch.stack([phase for _, phase in pairs]).mean()
    return terms


def fit_books(
    codec: torch.nn.Module,
    pools: list[Pool],
    rng: np.random.Generator,
    batches: int = 70,
    sums: bool = False,
) -> None:
    """Fits the codec's books by k-means to its latents of augmented audio; ``sums``: of sums."""
    latents = []
    for _ in range(batches):
        audio = torch.from_numpy(draw(pools, 16, 80 * HOP, rng)[0])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            latents.append(codec.encode(audio))  # type: ignore[operator]
    flat = torch.cat(latents).reshape(-1, latents[0].shape[2])
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    books = codec.books
    (books.fit_sums if sums else books.fit)(flat, generator)  # type: ignore[union-attr,operator]


class Finish:
    """Loss 4: the decoder on the codec's own codes; the encoder and the books stay as they are."""

    def __init__(self, codec: torch.nn.Module, lessons: Lessons, pools: list[Pool]) -> None:
        self.codec, self.lessons, self.pools = codec, lessons, pools
        codec.encoder.requires_grad_(False)
        self.taught, self.free, self.hops, self.skip = 8, 5, 64, 6

    def __call__(self, rng: np.random.Generator, progress: Progress) -> tuple[Tensor, Terms]:
        rows = self.lessons.items(self.taught, self.hops, rng)
        own = to_float(self.lessons.pcm[rows]).reshape(self.taught, -1)
        free, _ = draw(self.pools, self.free, self.hops * HOP, rng)
        audio = torch.from_numpy(np.concatenate([own, free]))
        drawn = rng.choice(DEPTHS, self.free, p=DEPTH_SHARE)
        depth = torch.from_numpy(np.concatenate([self.lessons.depth[rows[:, 0]], drawn]))
        codec = self.codec
        with torch.no_grad():
            with torch.autocast("cpu", torch.bfloat16):
                latent = codec.encode(audio)  # type: ignore[operator]
            _, rests = codec.books.encode(latent.reshape(-1, latent.shape[2]))  # type: ignore[union-attr,operator]
            coded = codec.books.partial(latent, rests, depth)  # type: ignore[union-attr,operator]
        with torch.autocast("cpu", torch.bfloat16):
            out = codec.decode(coded)[:, self.skip * HOP :]  # type: ignore[operator]
        said = torch.from_numpy(self.lessons.audio[rows].reshape(self.taught, -1))
        said, audio = said[:, self.skip * HOP :], audio[:, self.skip * HOP :]
        terms = waveform_terms(audio, out, rng)
        terms["wave"] = losses.wave_distance(said, out[: self.taught])
        at, (n, mels) = int(rng.integers(0, 256)), ((320, 32), (512, 64))[progress.step % 2]
        terms["taught"] = losses.spectral_distances(
            said[:, at:], out[: self.taught, at:], n, n // 2, mels
        )[1]
        shares = {"wave": 1.0, "loud": 1.2, "mel": 0.7, "phase": 3.0, "taught": 5.0}
        return torch.stack([shares[k] * v for k, v in terms.items()]).sum(), terms
