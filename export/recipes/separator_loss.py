"""What the separator is taught by, and the scores that say how far it is."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ossicle.export.models.separator import Separator
from ossicle.export.recipes.separator_data import LABELS, Pools
from ossicle.export.recipes.separator_scenes import Batch

LATER = 0.5  # weight of every query of a mixture but the first, which mostly asks for speech
ABSENT = 0.15  # weight of leakage beside the error of what is there
PRESENCE = 0.5  # weight of the gate's own loss, in dB per nat
ACTIVE = 1e-3  # of a source's mean power: quieter hops count as pauses


def separate(net: Separator, mixture: Tensor, query: Tensor) -> Tensor:
    """Aligned estimates [B, Q, T - delay] of ``query`` [B, Q, labels] in ``mixture`` [B, T]."""
    return _separate(net, mixture, query)[0]


def _separate(net: Separator, mixture: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    out, there = net.estimate(net.spectra(mixture), query)
    return out[..., net.config.latency - net.config.hop :], there


def loss_of(net: Separator, batch: Batch, done: float = 1.0) -> tuple[Tensor, dict[str, float]]:
    """Signal-to-error ratio in dB where something was asked for, leakage in dB where not.

    Both saturate, so that no example dominates (Wisdom et al. 2020, eq. 4 and 5): the first at
    30 dB; the second at 20 dB for the first half of the run and at 40 dB after it. Silence is
    easily learned, and a mask that has learned nothing but silence has no gradient left to learn
    more. The gate is also told outright in which hops what was asked for sounds.
    """
    estimate, there = _separate(net, batch.mixture, batch.query)
    size = estimate.shape[-1]
    target, mixture = batch.target[..., :size], batch.mixture[:, None, :size]
    error = (estimate - target).square().mean(-1)
    wanted = target.square().mean(-1)
    whole = mixture.square().mean(-1)
    present = wanted > 1e-4 * whole
    floor = torch.where(present, 1e-3, 1e-2 if done < 0.5 else 1e-4)
    ratio = 10 * torch.log10(error / (torch.where(present, wanted, whole) + 1e-10) + floor)
    weight = torch.where(present, 1.0, 0.1 if done < 0.3 else ABSENT)
    weight[:, 1:] *= LATER
    presence = functional.binary_cross_entropy_with_logits(there, active(net, batch, present))
    loss = (ratio * weight).sum() / weight.sum() + PRESENCE * presence
    with torch.no_grad():
        parts = {
            "present_db": float(ratio[present].mean()) if present.any() else 0.0,
            "absent_db": float(ratio[~present].mean()) if (~present).any() else 0.0,
            "presence": float(presence),
        }
    return loss, parts


def active(net: Separator, batch: Batch, present: Tensor) -> Tensor:
    """1 in the hops [B, Q, T / hop] in which what was asked for sounds, else 0."""
    hop = net.config.hop
    b, q, length = batch.target.shape
    hops = batch.target[..., : length // hop * hop].reshape(b, q, -1, hop)
    power: Tensor = hops.square().mean(-1)
    loud = power > ACTIVE * power.mean(-1, keepdim=True)
    return (loud & present[..., None]).float()


def si_sdr(estimate: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB over the last axis."""
    scale = (estimate * target).sum(-1, keepdim=True) / target.square().sum(-1, keepdim=True)
    wanted = scale * target
    noise = (estimate - wanted).square().sum(-1)
    return 10 * torch.log10(wanted.square().sum(-1) / (noise + 1e-12) + 1e-12)


def _pair(pools: Pools, rng: np.random.Generator, a: str, b: str, snr_db: float) -> Batch:
    x, y = (torch.from_numpy(pools.draw(label, rng)) for label in (a, b))
    x = x * (0.05 / (x.square().mean().sqrt() + 1e-6))
    y = y * (0.05 / (y.square().mean().sqrt() + 1e-6)) * 10 ** (-snr_db / 20)
    absent = str(rng.choice([k for k in LABELS if k not in (a, b)]))
    query = torch.zeros(1, 3, len(LABELS))
    for q, label in enumerate((a, b, absent)):
        query[0, q, LABELS.index(label)] = 1
    return Batch((x + y)[None], query, torch.stack([x, y, torch.zeros_like(x)])[None])


@torch.no_grad()
def validate(net: Separator, pools: Pools, seed: int = 7, pairs: int = 40) -> dict[str, float]:
    """Improvement in dB on held-out pairs: speech in noise, any two classes, and what is absent."""
    rng = np.random.default_rng(seed)
    scores: dict[str, list[float]] = {"speech_si_sdri_db": [], "query_si_sdri_db": [],
                                      "absent_db": []}  # fmt: skip
    others = [label for label in LABELS if label != "speech"]
    for index in range(pairs):
        a = "speech" if index % 2 == 0 else str(rng.choice(others))
        b = str(rng.choice([k for k in others if k != a]))
        batch = _pair(pools, rng, a, b, float(rng.uniform(-2.5, 7.5)) if index % 2 == 0 else 0.0)
        estimate = separate(net, batch.mixture, batch.query)[0]
        size = estimate.shape[-1]
        mixture, target = batch.mixture[0, :size], batch.target[0, :, :size]
        gain = si_sdr(estimate[:2], target[:2]) - si_sdr(mixture.expand(2, -1), target[:2])
        if index % 2 == 0:
            scores["speech_si_sdri_db"].append(float(gain[0]))
        else:
            scores["query_si_sdri_db"] += gain.tolist()
        ratio = estimate[2].square().sum() / mixture.square().sum()
        scores["absent_db"].append(float(10 * torch.log10(ratio + 1e-9)))
    return {name: round(float(np.mean(values)), 3) for name, values in scores.items()}
