"""Whole steps of the built-in architectures on a GPU: recorded by the torch backend, or not.

Weights are random: a step's time does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_cases import Case
from ossicle.export.bundle import TorchStep
from ossicle.export.models.codec import CodecShape, Decoder, Encoder
from ossicle.export.models.separator import Separator, SeparatorConfig
from ossicle.export.models.tagger import FULL, Tagger
from ossicle.export.recipes.codec_bundle import step_of
from ossicle.export.recipes.separator_bundle import steps_of
from ossicle.runtime.backend.torchgraph import CudaRecorder, RecordedStep
from ossicle.runtime.manifest import Graph, Port, State


class Plain:
    """Where nothing can be recorded: steps run as they are, which proves the script."""

    def warm(self, action: Callable[[], None]) -> None:
        """Run it."""
        action()

    def record(self, action: Callable[[], None]) -> Callable[[], None]:
        """Return it."""
        return action


class Chain(nn.Module):
    """Trunk and head of a separator in one step: spectrum, query and blend in, a spectrum out."""

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(
        self, spectrum: Tensor, query: Tensor, blend: Tensor, *states: Tensor
    ) -> tuple[Tensor, ...]:
        """One hop; three states of the trunk, then two of the head."""
        heard, *kept = self.trunk(spectrum, *states[:3])
        masked, *last = self.head(heard, spectrum, query, blend, *states[3:])
        return (masked, *kept, *last)


def whole_steps() -> dict[str, TorchStep]:
    """Codec, separators and tagger, each hop as one module."""
    shape = CodecShape()
    hop, latent = Port("audio", (1, shape.hop)), Port("latent", (1, shape.latent))
    steps = {
        "codec encoder": step_of(Encoder(shape), hop, latent),
        "codec decoder": step_of(Decoder(shape), latent, hop),
        "tagger": _tagger(),
    }
    for name, config in (
        ("separator, 10 ms", SeparatorConfig()),
        ("separator, 32 ms", SeparatorConfig(hop=256, latency=512)),
    ):
        net = Separator(config).eval()
        parts = steps_of(net)
        trunk, head = parts["trunk"], parts["head"]
        late = tuple(State(f"head_{s.input}", f"head_{s.output}", s.shape) for s in head.states)
        steps[name] = TorchStep(
            Chain(trunk.module, head.module),
            inputs=(*trunk.inputs, *head.inputs[2:]),
            outputs=head.outputs,
            states=(*trunk.states, *late),
        )
    return steps


def _tagger() -> TorchStep:
    net = Tagger(FULL).eval()
    with torch.inference_mode():
        scores, embedding = net(torch.zeros(1, 8, 64), *net.fresh(1))[:2]
    return TorchStep(
        net,
        inputs=(Port("mel", (8, 64)),),
        outputs=(
            Port("scores", tuple(scores.shape[1:])),
            Port("embedding", tuple(embedding.shape[1:])),
        ),
        states=tuple(State(n, f"{n}_next", s) for n, s in net.memory_shapes()),
    )


def step_cases(device: str, tiny: bool) -> Iterator[Case]:
    """Each step for one and for many streams."""
    for name, step in whole_steps().items():
        for streams in (2,) if tiny else (1, 16, 64):
            yield step_case(device, name, step, streams)


def step_case(device: str, name: str, step: TorchStep, streams: int) -> Case:
    """One recorded step, and the module called anew on the states it had before."""
    module = step.module.eval().to(device)
    spec = Graph(name, tuple(step.inputs), tuple(step.outputs), tuple(step.states))
    first = {s.input: torch.zeros(streams, *s.shape, device=device) for s in step.states}
    recorder = CudaRecorder(device) if device == "cuda" else Plain()
    recorded = RecordedStep(module, spec, first, streams, recorder)
    for tensor in recorded.inputs.values():
        tensor.copy_(0.1 * torch.randn_like(tensor))

    def eager() -> Tensor:
        before = recorded.sides[recorded.now ^ 1]
        return _line(module(*recorded.inputs.values(), *before.values()))

    def result() -> Tensor:
        return _line([*recorded.outputs.values(), *recorded.sides[recorded.now].values()])

    weights = sum(p.numel() for p in module.parameters())
    held = sum(tensor.numel() for tensor in first.values())
    with FlopCounterMode(display=False) as counter:
        eager()
    return Case(
        f"step: {name}", f"{streams} streams", recorded.run, eager, result,
        4 * (weights + 2 * held), counter.get_total_flops(), recorded=True,
    )  # fmt: skip


def _line(tensors: Sequence[Any]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
