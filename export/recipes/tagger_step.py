"""One training step of the sound tagger: scenes made to differ, the quick way through the trunk.

Nothing here is shipped; what is shipped runs the layers of :mod:`ossicle.export.models.tagger`
with their memories. :func:`features` gives the same numbers from whole scenes, without joining
memories of zeros to them, and computes the 1x1 products in bfloat16 if asked.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ossicle.export.models.tagger import STEP_FRAMES, Separable, Trunk
from ossicle.export.recipes.tagger_teacher import PATCH
from ossicle.runtime.scene.alarms import ALARMS
from ossicle.runtime.scene.labels import ALERTS, LABELS

FLOOR: Final = 0.001  # the offset inside the front end's logarithm
EARLY: Final = 15  # frames of 40 ms after an onset in which a caption is worth most
UNKNOWABLE: Final = 2  # in a truth: neither there nor not
SOON: Final = 2.0  # what those frames count for on top; twice that where a warning sounds
CALM: Final = 2.0  # what a frame of a scene without events counts for
FALSE_ALERT: Final = 2.0  # and on top where a warning would be a false alert
LOUD_ALERT: Final = 3.0  # the same in a course of warnings alone
UNSURE: Final = 2  # frames after an onset in which nobody could know yet
PEAK: Final = 6  # frames that are enough for a false caption
SAME: Final = 1e-5  # largest difference between weights that are taken for one
FIRST, LAST = 3, 23  # frames after an onset between which a caption should come


def features(trunk: Trunk, mel: Tensor, frozen: int = 0, mixed: bool = False) -> list[Tensor]:
    """Every layer's output [B, C, T', F] for whole scenes ``mel`` [B, T, 64] from silence.

    The first ``frozen`` layers are not trained, and cost no backward pass.
    """
    y, outs = mel.unsqueeze(1), []
    for i, layer in enumerate(trunk.layers):
        assert isinstance(layer, Separable)
        with torch.set_grad_enabled(i >= frozen and torch.is_grad_enabled()):
            y = layer_of(layer, y, mixed)
        outs.append(y)
    return outs


def through(trunk: Trunk, x: Tensor, first: int, stop: int, mixed: bool) -> list[Tensor]:
    """The outputs of layers ``first`` to ``stop`` of what came out of the one before."""
    outs = []
    for layer in list(trunk.layers)[first:stop]:
        assert isinstance(layer, Separable)
        x = layer_of(layer, x, mixed)
        outs.append(x)
    return outs


@torch.no_grad()
def apart(one: Trunk, other: Trunk, layers: int) -> float:
    """The largest difference between the first ``layers`` of two trunks."""
    pairs = zip(list(one.layers)[:layers], list(other.layers)[:layers], strict=True)
    return max(
        (
            float((a - b).abs().max())
            for x, y in pairs
            for a, b in zip(x.parameters(), y.parameters(), strict=True)
        ),
        default=0.0,
    )


def layer_of(layer: Separable, x: Tensor, mixed: bool) -> Tensor:
    """What one layer makes of ``x`` [B, C, T, F], without memory."""
    shape, conv = layer.layer, layer.spread
    # x and y in float32: depthwise products are slower in bfloat16
    if shape.stride_f == 1:
        pad = (shape.memory, 1)
        if shape.dilation > 1 and x.shape[2] % shape.dilation == 0:
            y = _apart(layer, x)
        else:
            y = functional.conv2d(
                x, conv.weight, conv.bias, 1, pad, (shape.dilation, 1), groups=shape.cin
            )[:, :, : x.shape[2]]
    else:
        groups = 1 if shape.cin == 1 else shape.cin
        x = functional.pad(x, (0, 1, shape.memory, 0))
        stride = (shape.stride_t, 2)
        y = functional.conv2d(x, conv.weight, conv.bias, stride, 0, 1, groups)
    y = _relu(y)
    if layer.point is not None:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            y = _relu(layer.point(y))
    return y.float()


def _relu(x: Tensor) -> Tensor:
    """In place where nothing is to be learnt."""
    return functional.relu(x, inplace=not x.requires_grad)


def _apart(layer: Separable, x: Tensor) -> Tensor:
    """A dilated look back as so many plain ones over every second (third, ...) frame.

    The gradient of a dilated depthwise product takes eight times as long.
    """
    step, (batch, c, t, f) = layer.layer.dilation, x.shape
    rows = x.reshape(batch, c, t // step, step, f).permute(0, 3, 1, 2, 4)
    rows = rows.reshape(batch * step, c, t // step, f)
    y = functional.conv2d(
        functional.pad(rows, (1, 1, 2, 0)), layer.spread.weight, layer.spread.bias, groups=c
    )
    y = y.reshape(batch, step, c, t // step, f).permute(0, 2, 3, 1, 4)
    return y.reshape(batch, c, t, f)


def vary(rng: np.random.Generator, mel: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Other levels, microphones, pitches and company for a batch, in the log-mel domain.

    A quarter of the scenes gets another scene of the batch on top (powers add); those are false
    in the returned mask [B], for the teacher never heard them.
    """
    batch = len(mel)
    linear = (mel.exp() - FLOOR).clamp(min=0)
    gain = torch.from_numpy(rng.uniform(-8, 8, (batch, 1, 1)).astype(np.float32))
    knots = rng.uniform(-6, 6, (batch, 6)) * (rng.random((batch, 1)) < 0.5)
    at = np.linspace(0, 5, 64)
    curve = np.stack([np.interp(at, np.arange(6), k) for k in knots]).astype(np.float32)
    linear = linear * 10 ** ((gain + torch.from_numpy(curve)[:, None]) / 20)
    alone = torch.from_numpy(rng.random(batch) >= 0.25)
    other = torch.roll(linear, 1, 0)
    factor = torch.from_numpy((10 ** (rng.uniform(-12, 6, (batch, 1, 1)) / 20)).astype(np.float32))
    both = (linear.square() + (other * factor).square()).sqrt()
    linear = torch.where(alone[:, None, None], linear, both)
    truth = torch.where(alone[:, None, None], truth, torch.maximum(truth, torch.roll(truth, 1, 0)))
    mel = (linear + FLOOR).log()
    for b in range(batch):
        if rng.random() < 0.25:
            mel[b] = torch.roll(mel[b], int(rng.integers(-2, 3)), 1)
        for _ in range(int(rng.choice(3, p=[0.6, 0.3, 0.1]))):
            low, wide = int(rng.integers(0, 60)), int(rng.integers(2, 9))
            mel[b, :, low : low + wide] = float(np.log(FLOOR))
        if rng.random() < 0.3:
            start, long = int(rng.integers(0, mel.shape[1])), int(rng.integers(5, 40))
            mel[b, start : start + long] = float(np.log(FLOOR))
    return mel, truth, alone


def weights_of(truth: Tensor) -> Tensor:
    """What each frame and class of ``truth`` [B, T, K] counts for in the loss.

    A frame that sounds counts twice and more than that soon after its onset, when a caption is
    still in time; the very first frames count little, because nobody could know yet.
    """
    soon = torch.tensor([SOON * (2 if name in ALERTS else 1) for name in LABELS])
    before = functional.pad(truth, (0, 0, 1, 0))[:, :-1]
    onset = ((truth > 0) & (before == 0)).float().transpose(1, 2)  # [B, K, T]
    early = _held(onset, EARLY + UNSURE) * truth
    unsure = _held(onset, UNSURE) * truth
    offset = ((truth == 0) & (before > 0)).float().transpose(1, 2)
    fading = _held(offset, 2 * UNSURE) * (1 - truth)
    return (1 + truth + soon * early) * (1 - 0.8 * unsure) * (1 - 0.5 * fading)


def _held(pulses: Tensor, frames: int) -> Tensor:
    """``pulses`` [B, K, T] stretched ``frames`` long, as [B, T, K]."""
    long = functional.max_pool1d(functional.pad(pulses, (frames - 1, 0)), frames, 1)
    return long.transpose(1, 2)


def loss_of(
    made: tuple[Tensor, Tensor, Tensor],
    truth: Tensor,
    target: Tensor,
    known: Tensor,
    calm: Tensor | None = None,
    ends: Tensor | None = None,
    weigh: float = 0.15,
    events: float = 0.0,
) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of both tiers, the tiny one also towards the full, and the teacher's view.

    ``target`` [B, N, 1024] is the teacher's view of the patches that end with the steps ``ends``
    [B, N]; without them, of patch after patch. ``known`` [B] are the scenes it is known of, and
    ``weigh`` what it counts for. ``calm`` [B]: scenes in which every event would be a false one,
    which count more. ``events``: what :func:`loss_of_events` counts for.
    """
    logits, small, guess = made
    truth, unknown, weight = weighed(truth, calm)
    hard = functional.binary_cross_entropy_with_logits(logits, truth, weight)
    hard_small = functional.binary_cross_entropy_with_logits(small, truth, weight)
    soft = functional.binary_cross_entropy_with_logits(small, torch.sigmoid(logits.detach()))
    if ends is None:
        per = PATCH // STEP_FRAMES
        ends = (torch.arange(target.shape[1]) * per + per - 1).expand(len(target), -1)
    seen = guess.transpose(1, 2)[torch.arange(len(ends))[:, None], ends]
    error = functional.huber_loss(seen, target, reduction="none")
    view = (error.mean((1, 2)) * known).sum() / known.sum().clamp(min=1)
    total = hard + 0.25 * (hard_small + soft) + weigh * view
    parts = {"full": hard.item(), "tiny": hard_small.item(), "view": view.item()}
    if events:
        told = loss_of_events(logits, truth, unknown)
        total = total + events * (told + 0.25 * loss_of_events(small, truth, unknown))
        parts["events"] = told.item()
    return total, parts


def weighed(truth: Tensor, calm: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """``truth`` [B, T, K] without what nobody knows, where that was, and what each frame counts.

    ``calm`` as in :func:`loss_of`.
    """
    unknown = truth == UNKNOWABLE
    truth = truth.masked_fill(unknown, 0)
    weight = weights_of(truth).masked_fill(unknown, 0)
    if calm is not None:
        worse = torch.tensor([FALSE_ALERT if name in ALERTS else 1.0 for name in LABELS])
        weight = weight * torch.where(calm[:, None, None], CALM * worse, 1.0)
    return truth, unknown, weight


def loss_of_small(
    logits: Tensor, truth: Tensor, told: Tensor, calm: Tensor, events: float = 0.1
) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of the smaller tier towards the truth and, as much, towards what it is told.

    ``told`` [B, T, K] are the larger tier's scores, which also say how sure one can be (Hinton et
    al., 2015, "Distilling the knowledge in a neural network"); the rest as in :func:`loss_of`.
    """
    truth, unknown, weight = weighed(truth, calm)
    hard = functional.binary_cross_entropy_with_logits(logits, truth, weight)
    soft = functional.binary_cross_entropy_with_logits(logits, told)
    soft = soft - functional.binary_cross_entropy(told, told)
    whole = loss_of_events(logits, truth, unknown)
    parts = {"tiny": hard.item(), "apart": soft.item(), "events": whole.item()}
    return hard + soft + events * whole, parts


def loss_of_events(logits: Tensor, truth: Tensor, unknown: Tensor) -> Tensor:
    """What a caption is made of, in place of frames: all [B, T, K].

    A class that a scene does not hold is judged by the :data:`PEAK` frames in which it is believed
    most, for a false caption needs no more; one that begins, by the surer half of its frames
    between :data:`FIRST` and :data:`LAST` after the onset, when a caption would be in time.
    """
    never = (truth.amax(1) == 0) & ~unknown.any(1)
    peak = logits.topk(PEAK, dim=1).values.mean(1)
    false = functional.softplus(peak)[never].mean()
    before = functional.pad(truth, (0, 0, 1, 0))[:, :-1]
    onset = (truth > 0) & (before == 0)
    onset[:, truth.shape[1] - LAST :] = False
    scene, start, kind = onset.nonzero(as_tuple=True)
    if not len(scene):
        return false
    at = start[:, None] + torch.arange(FIRST, LAST)
    which = (scene[:, None], at, kind[:, None])
    part, there = logits[which], truth[which]
    surest = part.masked_fill(there == 0, -30.0).topk((LAST - FIRST) // 2, dim=1).values
    taken = surest > -30.0
    mean = (surest * taken).sum(1) / taken.sum(1).clamp(min=1)
    heard = taken.any(1)
    return false + functional.softplus(-mean[heard]).mean() if heard.any() else false


def loss_of_warnings(
    logits: Tensor, truth: Tensor, was: Tensor, calm: Tensor, events: float = 0.1, keep: float = 2.0
) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of the warning sounds alone; all else is to stay as it was.

    ``was`` [B, T, K] are the scores to keep (learning without forgetting: Li and Hoiem, ECCV
    2016), of which the divergence counts for ``keep``; the others are as in :func:`loss_of`.
    """
    sounds = [LABELS.index(name) for name in ALARMS]
    rest = [k for k in range(len(LABELS)) if k not in sounds]
    unknown = truth == UNKNOWABLE
    truth = truth.masked_fill(unknown, 0)
    worse = torch.tensor([LOUD_ALERT if name in ALERTS else 1.0 for name in LABELS])
    weight = weights_of(truth).masked_fill(unknown, 0)
    weight = weight * torch.where(calm[:, None, None], CALM * worse, 1.0)
    hard = functional.binary_cross_entropy_with_logits(
        logits[..., sounds], truth[..., sounds], weight[..., sounds]
    )
    told = loss_of_events(logits[..., sounds], truth[..., sounds], unknown[..., sounds])
    old = was[..., rest]
    kept = functional.binary_cross_entropy_with_logits(logits[..., rest], old)
    kept = kept - functional.binary_cross_entropy(old, old)
    parts = {"warnings": hard.item(), "events": told.item(), "kept": kept.item()}
    return hard + events * told + keep * kept, parts
