"""An imported enhancer (GTCRN, DTLN) that shows what it would leave of a mixture's speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ossicle.export.recipes.separator_data import LABELS, RATE_HZ
from ossicle.export.recipes.separator_scenes import Batch
from ossicle.runtime.errors import ExportError
from ossicle.runtime.model import Model


class Teacher:
    """Answers for speech by a bundle of task ``enhance``, mixed into the truth.

    The clean source asks for what nobody can hear at the bundle's latency; what a larger model
    leaves is nearer to what can be learnt (Hinton et al. 2015). The teacher's licence belongs into
    the card of what it taught, where ``source`` names it.
    """

    def __init__(self, bundle: Path, share: float = 0.3) -> None:
        """Load the teacher; ``share`` (0..1) of each answer is its own, the rest is the truth.

        Raises:
            ExportError: it is no enhancer of 16 kHz mono sound, or the share is out of range.
        """
        self.model = Model.load(bundle)
        manifest = self.model.manifest
        if (
            manifest.task != "enhance"
            or manifest.sample_rate_hz != RATE_HZ
            or manifest.channels != 1
        ):
            raise ExportError(
                f"{manifest.name} ({manifest.task}, {manifest.sample_rate_hz} Hz) cannot teach "
                "speech; give an imported enhancer: ossicle import gtcrn PATH -o DIR"
            )
        if not 0 <= share <= 1:
            raise ExportError(f"a teacher's share of {share}; it must be from 0 to 1")
        self.share, self.source = share, f"{manifest.name}, {manifest.license}"
        line = self.model.program("step")
        self._given, self._made = line.inputs[0].name, line.outputs[0].name

    def speech(self, mixture: Tensor) -> Tensor:
        """The speech [B, T] that the teacher leaves of ``mixture`` [B, T], in its place in time."""
        manifest = self.model.manifest
        hop, late, size = manifest.hop, manifest.latency - manifest.hop, mixture.shape[-1]
        hops = -(-(size + late) // hop)
        heard = functional.pad(mixture, (0, hops * hop - size)).numpy()[:, None]
        state = self.model.open(len(mixture))
        made = [
            self.model.step(state, {self._given: heard[..., at : at + hop]})[self._made].copy()
            for at in range(0, hops * hop, hop)
        ]
        whole = np.concatenate(made, -1)[:, 0, late : late + size]
        return torch.from_numpy(np.ascontiguousarray(whole))

    def blend(self, batch: Batch) -> Batch:
        """``batch`` with the teacher's share in each answer to a query for speech alone."""
        alone = torch.zeros(len(LABELS))
        alone[LABELS.index("speech")] = 1.0
        present = batch.target.square().mean(-1) > 0
        asked = (batch.query == alone).all(-1) & present
        rows = torch.nonzero(asked.any(-1))[:, 0]
        if not len(rows):
            return batch
        taught = torch.zeros_like(batch.mixture)
        taught[rows] = self.speech(batch.mixture[rows])
        target = batch.target.clone()
        mixed = torch.lerp(target, taught[:, None].expand_as(target), self.share)
        target[asked] = mixed[asked]
        return Batch(batch.mixture, batch.query, target)
