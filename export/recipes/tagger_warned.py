r"""A course of warning sounds alone: sooner and surer, while all else stays as it was told before.

    python -m ossicle.export.recipes.tagger_warned --bank FOLDER --shards FOLDER --val FOLDER \
        --start work/run2/pupils.pt --keep work/run2/pupils.pt --minutes 45 --out work/run3

Scenes are those of :mod:`tagger_refine` with more warnings over households and more calm. What the
model of ``--keep`` makes of every scene is what this one is to say of all that is no warning, so
rules that were chosen for those stay good. The smaller tier does not learn.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ossicle.export.models.tagger import FULL
from ossicle.export.recipes.tagger_blend import WARNED, Blend
from ossicle.export.recipes.tagger_pupils import Pupils, fresh
from ossicle.export.recipes.tagger_refine import Course, options, train
from ossicle.export.recipes.tagger_step import SAME, apart, loss_of_warnings, through
from ossicle.runtime.errors import ExportError
from ossicle.runtime.scene.alarms import ALARMS
from ossicle.runtime.scene.labels import LABELS

NEVER = -20.0  # the logit of what is not asked for


class Warned(Course):
    """A course whose truth is only about warnings.

    Raises:
        ExportError: the model to keep has other first layers than the one that learns.
    """

    diet = WARNED

    def __init__(self, asked: argparse.Namespace) -> None:
        super().__init__(asked)
        self.kept = Pupils()
        self.kept.load_state_dict(torch.load(asked.keep, weights_only=True))
        self.kept.eval().requires_grad_(False)
        self.kept.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if apart(self.pupils.trunk, self.kept.trunk, asked.freeze) > SAME:
            raise ExportError(
                f"{asked.keep} differs from {asked.start} in its first {asked.freeze} layers, "
                "which both are to share: keep a model that this one came from"
            )

    def lesson(
        self, mel: Tensor, truth: Tensor, view: Tensor, known: Tensor, calm: Tensor
    ) -> tuple[Tensor, dict[str, float], Tensor]:
        """The loss of the warnings, and of what is no longer as it was."""
        mixed, past = not self.asked.float32, fresh(FULL, len(mel))[FULL.layers :]
        with torch.no_grad():
            low = through(self.kept.trunk, mel.unsqueeze(1), 0, self.asked.freeze, mixed)
            x = low[-1] if low else mel.unsqueeze(1)
            high = through(self.kept.trunk, x, self.asked.freeze, FULL.layers, mixed)
            was = torch.sigmoid(self.kept.full(mel, low + high, past)[0])
        outs = low + through(self.pupils.trunk, x, self.asked.freeze, FULL.layers, mixed)
        logits = self.pupils.full(mel, outs, past)[0]
        loss, parts = loss_of_warnings(logits, truth, was, calm, self.asked.events)
        return loss, parts, logits

    def learn_doubt(self, logits: Tensor, truth: Tensor, scenes: list[Blend]) -> float:
        """How surely calm scenes were taken for warnings."""
        rest = [k for k, name in enumerate(LABELS) if name not in ALARMS]
        return super().learn_doubt(logits.index_fill(2, torch.tensor(rest), NEVER), truth, scenes)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and train."""
    parser = options(__doc__)
    parser.add_argument("--keep", type=Path, required=True, help="whose scores of the rest stay")
    parser.set_defaults(rate=4e-4, freeze=5, rendered=1, events=0.1)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    train(asked, Warned)


if __name__ == "__main__":
    main()
