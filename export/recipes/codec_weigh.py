"""What follows the four trainings: a latent measured by ear, and a decoder that knows its codes.

*Metric*. A residual quantiser spends its bits on squared error, and squared error in features is
not what is heard. The mean outer product of the loss's gradient with respect to the coded latent
(its Fisher matrix ``F``) says how much an error in each direction is heard; in coordinates scaled
by ``F ** 0.5`` squared error is audible error. The change of coordinates is one matrix, taken into
the encoder's last and the decoder's first layer, so the networks keep their shape and function and
only the books see it.

*Weighed*. The decoder learns from these codes, more than half of the time at four layers or fewer,
on augmented recordings. Encoder and books stay: trained along with gradients passed straight
through the quantiser, the latents drifted away from the books and quality fell at every rate.

*Again*. Both once more with the decoder that came of it, at half the metric's power, and with books
of sums, which are searched several times faster.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ossicle.export.recipes.codec_stages import Terms, waveform_terms
from ossicle.export.recipes.common import losses
from ossicle.export.recipes.common.augment import coloured, draw
from ossicle.export.recipes.common.corpus import HOP, Pool
from ossicle.export.recipes.common.loop import Progress

FLOOR = 0.1  # of the mean eigenvalue: directions that this loss does not hear keep some bits
LAYERS = 3  # at which errors are weighed: where bits are scarcest
HOPS, SKIP = 64, 8  # of a crop; the first ones lack history
LEAST_RMS = 4e-3  # of a crop: the gradients of near silence drown all others
LOW = ((1, 2, 3, 4), (0.06, 0.14, 0.7, 0.1))  # layers and their shares
HIGH = ((5, 6, 7, 8, 9, 10, 11, 12), (0.07, 0.4, 0.06, 0.06, 0.05, 0.05, 0.06, 0.25))
SHARES_LOW = {"wave": 0.2, "loud": 1.6, "mel": 0.8, "phase": 2.0, "envelope": 2.0}
SHARES_HIGH = {"wave": 0.7, "loud": 1.2, "mel": 0.6, "phase": 4.0, "envelope": 1.0}


def sensitivity(
    codec: torch.nn.Module, pools: list[Pool], rng: np.random.Generator, batches: int = 30
) -> Tensor:
    """How much errors of the latent are heard: the Fisher matrix ``[D, D]`` at three layers.

    The twentieth part of the frames with the longest gradients (onsets) is shortened to the
    length that the others keep below, lest a few of them speak for all.
    """
    kept = []
    for _ in range(batches):
        audio = torch.from_numpy(draw(pools, 14, HOPS * HOP, rng)[0])
        coded = _coded(codec, audio, LAYERS).requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16):
            out = codec.decode(coded)  # type: ignore[operator]
        want, have, at = audio[:, SKIP * HOP :], out[:, SKIP * HOP :], int(rng.integers(0, 256))
        loss = 1.6 * losses.loudness_distance(want, have)
        for n, mels in ((512, 64), (256, 32)):
            pair = losses.spectral_distances(want[:, at:], have[:, at:], n, n // 2, mels)
            loss = loss + 0.4 * pair[0] + pair[1]
        (given,) = torch.autograd.grad(loss * len(audio), coded)
        kept.append(given[:, SKIP:].reshape(-1, given.shape[2]))
    gradients = torch.cat(kept)
    length = gradients.norm(dim=1, keepdim=True)
    gradients = gradients * (length.clamp(max=float(length.quantile(0.95))) / (length + 1e-12))
    fisher: Tensor = gradients.T @ gradients / len(gradients)
    return fisher


def _coded(codec: torch.nn.Module, audio: Tensor, layers: int) -> Tensor:
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            latent: Tensor = codec.encode(audio)  # type: ignore[operator]
        _, rests = codec.books.encode(latent.reshape(-1, latent.shape[2]))  # type: ignore[union-attr,operator]
        coded: Tensor = latent - rests[layers].reshape(latent.shape)
        return coded


@torch.no_grad()
def fold(codec: torch.nn.Module, fisher: Tensor, power: float = 0.5) -> Tensor:
    """Takes the metric into both networks and returns it: ``z @ matrix`` is the new latent.

    ``power``: of the Fisher matrix. 0.5 makes squared error audible error as far as the decoder
    of now goes; a second metric, measured with a decoder that knows its codes, does best with
    less.

    The books no longer fit and must be fitted again. The encoder adds its level to latent 0
    alone; a mirroring (which no squared error sees) and a common scale keep it so.
    """
    value, vector = torch.linalg.eigh(fisher.double())
    scale = (value / value.mean() + FLOOR) ** power
    matrix: Tensor = vector @ torch.diag(scale) @ vector.T
    first = matrix[0] / matrix[0].norm()
    to = torch.zeros_like(first)
    to[0] = 1.0
    if not torch.allclose(first, to):  # Householder's reflection that takes first to e0
        v = first - to
        mirror = torch.eye(len(v), dtype=v.dtype) - 2 * torch.outer(v, v) / (v @ v)
        matrix = matrix @ mirror
    matrix = matrix / matrix[0, 0]
    encoder, enter = codec.encoder, codec.decoder.enter  # type: ignore[union-attr]
    for layer in (encoder.latent, encoder.direct):  # type: ignore[union-attr]
        layer.weight.copy_(matrix.T @ layer.weight.double())  # type: ignore[union-attr,operator]
    encoder.latent.bias.copy_(matrix.T @ encoder.latent.bias.double())  # type: ignore[union-attr,operator]
    weight: Tensor = enter.linear.weight  # type: ignore[union-attr,assignment]
    taps = weight.double().reshape(len(weight), -1, len(matrix))
    weight.copy_((taps @ torch.linalg.inv(matrix).T).reshape(weight.shape))
    return matrix


class Weighed:
    """Loss 5: the decoder on recordings, crops at few layers and at many side by side."""

    def __init__(self, codec: torch.nn.Module, pools: list[Pool]) -> None:
        self.codec, self.pools = codec, pools
        codec.encoder.requires_grad_(False)
        self.low, self.high = 8, 6  # crops a step

    def __call__(self, rng: np.random.Generator, progress: Progress) -> tuple[Tensor, Terms]:
        codec, count = self.codec, self.low + self.high
        crops = draw(self.pools, count, HOPS * HOP, rng, least_rms=LEAST_RMS)[0]
        audio = torch.from_numpy(coloured(crops, rng))
        depths = [rng.choice(d, n, p=p) for (d, p), n in ((LOW, self.low), (HIGH, self.high))]
        with torch.no_grad():
            with torch.autocast("cpu", torch.bfloat16):
                latent = codec.encode(audio)  # type: ignore[operator]
            _, rests = codec.books.encode(latent.reshape(-1, latent.shape[2]))  # type: ignore[union-attr,operator]
            depth = torch.from_numpy(np.concatenate(depths))
            coded = codec.books.partial(latent, rests, depth)  # type: ignore[union-attr,operator]
        with torch.autocast("cpu", torch.bfloat16):
            out = codec.decode(coded)[:, SKIP * HOP :]  # type: ignore[operator]
        want = audio[:, SKIP * HOP :]
        terms: Terms = {}
        loss = torch.zeros(())
        groups = (("low", SHARES_LOW, slice(0, self.low)),
                  ("high", SHARES_HIGH, slice(self.low, count)))  # fmt: skip
        for name, shares, rows in groups:
            heard = waveform_terms(want[rows], out[rows], rng)
            heard["envelope"] = losses.envelope_distance(want[rows], out[rows])
            part = torch.stack([shares[k] * v for k, v in heard.items()]).sum()
            loss = loss + len(want[rows]) / count * part
            terms |= {f"{name} {k}": v for k, v in heard.items()}
        return loss, terms
