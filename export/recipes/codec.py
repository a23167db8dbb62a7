"""Trains the built-in codec ``codec-16k`` on a folder of audio.

``python -m ossicle.export.recipes.codec --data FOLDER --out RUN --minutes 60`` trains from
scratch; ``--resume`` goes on; ``--bundle DIR`` writes the bundle of the run's last checkpoint.

The quantiser is in the loop from early on: every item of a batch is decoded from its own number
of layers, so one decoder serves every rate. Speech from held-out voices (``common/holdout.py``),
the last of the four training folds of everyday sounds, and one music collection's own validation
split are never trained on.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ossicle.export.models.codec import CodecShape, Decoder, Encoder
from ossicle.export.recipes.common import losses
from ossicle.export.recipes.common.augment import draw, with_speeds
from ossicle.export.recipes.common.corpus import Clip, Corpus, Pool, Samples, pool, read_corpus
from ossicle.export.recipes.common.holdout import voice_clusters
from ossicle.export.recipes.common.loop import Progress, Schedule, train
from ossicle.export.recipes.common.quantiser import ResidualBooks

LAYERS, CODES = 12, 1024
RATES = {3: "1.5", 6: "3", 12: "6"}  # layers: kbps
SPEECH = ("speech_picovoice_sti", "speech_picovoice_wakeword")
EVERYDAY = ("env_esc10_f1-4",)
MUSIC = ("music_slakh", "music_sonic_pi", "music_web_audio_loops")
TUNE_VOICES, TEST_VOICES = frozenset({50, 27, 44}), frozenset({56, 16, 48})
SCALES = ((128, 16), (256, 32), (1024, 80), (2048, 96))  # STFT size, mel bands
DEPTHS = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
DEPTH_SHARE = np.array([4, 6, 22, 6, 6, 22, 4, 5, 4, 5, 3, 13]) / 100
FIRST_QUANTISED = 300  # steps; the books are fitted to the latents of the steps before
BATCH, HOPS = 24, 64


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


class Codec(nn.Module):
    """Encoder, latent norm, books and decoder, as they are trained together."""

    mean: Tensor
    var: Tensor
    fitted: Tensor

    def __init__(self, shape: CodecShape | None = None) -> None:
        super().__init__()
        s = self.shape = shape or CodecShape()
        self.encoder, self.decoder = Encoder(s), Decoder(s)
        self.books = ResidualBooks(LAYERS, CODES, s.latent)
        self.register_buffer("mean", torch.zeros(s.latent))
        self.register_buffer("var", torch.ones(s.latent))
        self.register_buffer("fitted", torch.tensor(False))
        self.seen: list[Tensor] = []  # latents kept until the books are fitted

    def normal(self, latent: Tensor) -> Tensor:
        """The latent with unit variance: by the batch in training, by its average afterwards."""
        if not self.training:
            return (latent - self.mean) / (self.var + 1e-5).sqrt()
        mean, var = latent.mean(dim=(0, 1)), latent.var(dim=(0, 1))
        self.mean.lerp_(mean.detach(), 0.01)
        self.var.lerp_(var.detach(), 0.01)
        return (latent - mean) / (var + 1e-5).sqrt()

    def encode(self, audio: Tensor) -> Tensor:
        """``[B, T hop]`` to normalised latents ``[B, T, D]``."""
        latent, _ = self.encoder(audio[:, None], self.encoder.initial(len(audio)))
        return self.normal(latent.float())

    def decode(self, latent: Tensor) -> Tensor:
        """Normalised (quantised) latents ``[B, T, D]`` to ``[B, T hop]``."""
        out, _ = self.decoder(latent, self.decoder.initial(len(latent)))
        audio: Tensor = out[:, 0].float()
        return audio

    @torch.no_grad()
    def at_layers(self, audio: Tensor, layers: list[int]) -> list[Tensor]:
        """``[B, T hop]`` coded and decoded with each number of layers (0: not quantised)."""
        latent = self.encode(audio)
        _, rests = self.books.encode(latent.reshape(-1, self.shape.latent))
        left = rests.reshape(len(rests), *latent.shape)
        return [self.decode(latent - left[k] if k else latent) for k in layers]


class Objective:
    """The training loss, one call a step; also the owner of the data."""

    def __init__(self, codec: Codec, pools: list[Pool]) -> None:
        self.codec, self.pools = codec, pools
        self.bf16 = torch.device("cpu").type == "cpu"

    def batch(self, rng: np.random.Generator) -> Tensor:
        """Crops ``[BATCH, HOPS * hop]``."""
        crops, _ = draw(self.pools, BATCH, HOPS * self.codec.shape.hop, rng)
        return torch.from_numpy(crops)

    def quantised(self, latent: Tensor, rng: np.random.Generator, step: int) -> Tensor:
        """Each item of ``[B, T, D]`` at its own depth; learns the books on the way."""
        codec, flat = self.codec, latent.detach().reshape(-1, latent.shape[2])
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        if not codec.fitted:
            codec.seen = [*codec.seen[-11:], flat]
            if step < FIRST_QUANTISED:
                return latent
            codec.books.fit(torch.cat(codec.seen), generator)
            codec.fitted.fill_(True)
            codec.seen = []
        codes, rests = codec.books.encode(flat)
        codec.books.learn(codes, rests, generator)
        depth = torch.from_numpy(rng.choice(DEPTHS, len(latent), p=DEPTH_SHARE))
        return codec.books.partial(latent, rests, depth)

    def __call__(
        self, rng: np.random.Generator, progress: Progress
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one step and its terms."""
        audio = self.batch(rng)
        self.codec.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            latent = self.codec.encode(audio)
        coded = self.quantised(latent, rng, progress.step)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            out = self.codec.decode(coded)
        terms = waveform_terms(audio, out, rng)
        terms["commit"] = (latent - coded.detach()).square().mean()
        shares = {"wave": 1.0, "mel": 0.7, "phase": 8.0, "loud": 0.5, "commit": 0.25}
        return torch.stack([shares[k] * v for k, v in terms.items()]).sum(), terms


def waveform_terms(audio: Tensor, out: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
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


def speech_check(codec: Codec, clips: list[Samples]) -> dict[str, float]:
    """PESQ-WB, STOI and SI-SDR of held-out speech at 1.5, 3 and 6 kbps and not quantised."""
    from pesq import pesq
    from pystoi import stoi

    codec.eval()
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


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of audio (its train/)")
    parser.add_argument("--out", type=Path, required=True, help="checkpoints, log, plot")
    parser.add_argument("--cache", type=Path, help="decoded audio; default OUT/cache")
    parser.add_argument("--minutes", type=float, default=60.0, help="CPU minutes (GPU: wall)")
    parser.add_argument("--rate", type=float, default=1.2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    a = parser.parse_args(arguments)
    torch.manual_seed(a.seed)
    parts = split(a.data, a.cache or a.out / "cache")
    shares = {"speech": 0.72, "everyday": 0.14, "music": 0.14}
    pools = [pool(kind, parts.train[kind], share) for kind, share in shares.items()]
    pools[0] = with_speeds(pools[0])
    print({p.name: round(len(p.pcm) / 16000 / 60, 1) for p in pools}, flush=True)
    codec = Codec()
    objective = Objective(codec, pools)
    codec.mean, codec.var = calibrate(
        codec.encoder, codec.decoder, objective.batch(np.random.default_rng(a.seed))
    )
    heard = [corpus.audio(clip) for corpus, clip in parts.tune["speech"] if "/" not in clip.path]
    schedule = Schedule(a.minutes, a.rate)
    train(
        codec, objective, schedule, a.out, seed=a.seed, resume=a.resume,
        check=lambda _: speech_check(codec, heard[:12]),
    )  # fmt: skip


if __name__ == "__main__":
    main()
