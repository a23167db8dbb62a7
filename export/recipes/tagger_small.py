r"""A course of the smaller tier alone, down to a trunk of its own, taught by the larger one.

    python -m ossicle.export.recipes.tagger_small --bank FOLDER --shards FOLDER --val FOLDER \
        --start work/start.pt --minutes 75 --out work/small

In the other courses it is a head on five layers that learn what the larger tier needs, and what
comes oftener is what fools the larger one. Here those layers are a copy that learns too, and what
fools this tier comes oftener. The larger tier of ``--start`` hears every scene beside it and says
how sure it is; it does not learn. ``pupils.pt`` holds the smaller tier alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ossicle.export.models.tagger import FULL, TINY, Tagger, TaggerConfig
from ossicle.export.recipes.tagger_pupils import Clip, Shards, figures, fresh
from ossicle.export.recipes.tagger_refine import Course, options, train
from ossicle.export.recipes.tagger_step import SAME, apart, features, loss_of_small, through


class Small(Course):
    """A course in which only the smaller tier learns."""

    learner: Tagger
    mean: Tagger

    def who_learns(self) -> Tagger:
        """The smaller tier with its own trunk: that of ``--small``, or else as it is so far."""
        self.pupils.eval().requires_grad_(False)
        net = self.pupils.tagger("tiny").requires_grad_(True)
        if self.asked.small:
            net.load_state_dict(torch.load(self.asked.small, weights_only=True))
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return net.train()

    def judged(self, val: Shards, clips: list[Clip]) -> dict[str, object]:
        """Its figures alone."""
        self.mean.eval()

        def hear(mel: Tensor) -> dict[str, Tensor]:
            return {
                "tiny": self.mean.head(mel, features(self.mean.trunk, mel), _past(TINY, mel))[0]
            }

        found = figures(hear, val, clips)
        self.mean.train()
        return found

    @cached_property
    def shared(self) -> int:
        """How many layers do not learn and are those of the larger tier, so that one pass does."""
        same = apart(self.pupils.trunk, self.learner.trunk, self.asked.freeze) <= SAME
        return int(self.asked.freeze) if same else 0

    def lesson(
        self, mel: Tensor, truth: Tensor, view: Tensor, known: Tensor, calm: Tensor
    ) -> tuple[Tensor, dict[str, float], Tensor]:
        """The loss of a batch, its parts, and the smaller tier's logits."""
        mixed, first = not self.asked.float32, self.shared
        with torch.no_grad():
            low = through(self.pupils.trunk, mel.unsqueeze(1), 0, first, mixed)
            x = low[-1] if low else mel.unsqueeze(1)
            outs = low + through(self.pupils.trunk, x, first, FULL.layers, mixed)
            told = torch.sigmoid(self.pupils.full(mel, outs, _past(FULL, mel))[0])
        outs = low + through(self.learner.trunk, x, first, TINY.layers, mixed)
        logits: Tensor = self.learner.head(mel, outs, _past(TINY, mel))[0]
        loss, parts = loss_of_small(logits, truth, told, calm, self.asked.events)
        return loss, parts, logits


def _past(config: TaggerConfig, mel: Tensor) -> list[Tensor]:
    """A head's memory before the first frame of ``mel`` [B, T, 64]."""
    return fresh(config, len(mel))[config.layers :]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and train."""
    parser = options(__doc__)
    parser.add_argument("--small", type=Path, help="where an earlier course of this kind ended")
    parser.set_defaults(rate=1e-3, freeze=3, gentle=0.5, batch=20, rendered=1, events=0.1)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    train(asked, Small)


if __name__ == "__main__":
    main()
