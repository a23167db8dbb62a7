r"""A checkpoint out of shipped bundles, so that training can go on where it ended.

    python -m ossicle.export.recipes.tagger_resume --shards work/train --out work/start.pt \
        --small-out work/small.pt

A bundle holds no optimiser and no batch norms: they were folded into the convolutions before
them. They are put back so that each has the statistics of the given scenes and changes nothing.
The small tier comes out of its eight bits, alone and with its own trunk for :mod:`tagger_small`;
for courses of both, its head is put on the larger tier's trunk, which it has to learn to hear
with again. What the larger tier's memory tells of the teacher's view is fitted anew, for it was
never shipped.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ossicle.export.models.tagger import STEP_FRAMES, TINY, Head, Residual, Tagger, Trunk
from ossicle.export.recipes.tagger_pupils import Pupils, Shards, fresh, read_shards, scale
from ossicle.export.recipes.tagger_step import features
from ossicle.export.recipes.tagger_teacher import PATCH
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import ExportError

BATCH: Final = 10
RIDGE: Final = 1e-3  # of the variance, added to it where the teacher's view is fitted


def layers_of(bundle: Bundle) -> dict[str, tuple[Tensor, Tensor]]:
    """Weight and bias of every convolution of a tagger by its name in the network.

    Raises:
        ExportError: the bundle has no graph ``tag``, or its parameters are no constants.
    """
    if (tag := bundle.manifest.graphs.get("tag")) is None:
        raise ExportError(f"{bundle.manifest.name} has no graph 'tag': it is no tagger of ours")
    return convolutions(bundle.read(tag.file))


def convolutions(data: bytes) -> dict[str, tuple[Tensor, Tensor]]:
    """Weight and bias of every convolution of an ONNX graph, in float32 or from eight bits.

    Raises:
        ExportError: a convolution's parameters are no constants of the graph.
    """
    graph = onnx.load_model_from_string(data).graph
    held = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    made = {node.output[0]: node for node in graph.node}
    out = {}
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        name, bias = node.input[1], held.get(node.input[2]) if len(node.input) > 2 else None
        if name in held:
            weight = held[name].astype(np.float32)
        elif (source := made.get(name)) is not None and source.input[0] in held:
            name, weight = source.input[0], _real(*(held[n] for n in source.input))
        else:
            raise ExportError(f"the weight {name} is no constant of the graph")
        if bias is None:
            raise ExportError(f"the convolution of {name} has no constant bias")
        layer = name.removesuffix("_quantized").removesuffix(".weight")
        out[layer] = torch.from_numpy(weight.copy()), torch.from_numpy(bias.astype(np.float32))
    return out


def _real(
    values: NDArray[np.int8], each: NDArray[np.float32], zero: NDArray[np.int8]
) -> NDArray[np.float32]:
    """Weights [C, ...] of eight bits with a scale and a zero point for each channel."""
    shape = (-1, *[1] * (values.ndim - 1))
    return (values.astype(np.float32) - zero.astype(np.float32).reshape(shape)) * each.reshape(
        shape
    )


def norms_of(head: Head) -> Iterator[tuple[str, nn.Module]]:
    """Every batch norm of ``head`` with the name of the convolution before it."""
    for name in ("squeeze", "skip"):
        if (part := getattr(head, name)) is not None:
            yield f"{name}.conv", part.norm
    for name in ("tones", "enter"):
        yield name, getattr(head, f"{name}_norm")
    for i, block in enumerate(head.blocks):
        assert isinstance(block, Residual)
        yield f"blocks.{i}.look", block.norm


@torch.no_grad()
def put_back(head: Head, layers: dict[str, tuple[Tensor, Tensor]]) -> None:
    """The parameters ``layers`` into ``head``, with batch norms that only add the bias."""
    norms = dict(norms_of(head))
    for name, module in head.named_modules():
        if not isinstance(module, nn.Conv1d | nn.Conv2d):
            continue
        weight, bias = layers[f"head.{name}"]
        module.weight.copy_(weight)
        if module.bias is not None:
            module.bias.copy_(bias)
        else:
            norm = norms[name]
            assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
            norm.reset_running_stats()
            norm.weight.fill_((1 + norm.eps) ** 0.5)
            norm.bias.copy_(bias)


@torch.no_grad()
def settle(trunk: Trunk, heads: Sequence[Head], shards: Shards) -> Tensor:
    """Give every batch norm of ``heads`` the statistics of ``shards``, and its output as before.

    Returns the memory [scenes, width, N] of the first one at the end of each of the N patches.
    """
    sums: dict[nn.Module, list[Tensor]] = {}

    def note(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        x = given[0].transpose(0, 1).flatten(1).double()
        one = torch.stack([torch.full((len(x),), float(x.shape[1])), x.sum(1), x.square().sum(1)])
        sums.setdefault(module, []).append(one)

    norms = [norm for head in heads for _, norm in norms_of(head.eval())]
    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    bodies = []
    for i in range(0, len(shards.mel), BATCH):
        mel = torch.from_numpy(shards.mel[i : i + BATCH].astype(np.float32))
        mel = mel[:, : mel.shape[1] // PATCH * PATCH]
        outs = features(trunk, mel)
        made = [h(mel, outs, fresh(h.config, len(mel))[h.config.layers :])[2] for h in heads]
        bodies.append(made[0][:, :, PATCH // STEP_FRAMES - 1 :: PATCH // STEP_FRAMES])
    for hook in hooks:
        hook.remove()
    for norm in norms:
        assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
        count, total, squares = torch.stack(sums[norm]).sum(0)
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=1e-8)
        norm.running_mean, norm.running_var = mean.float(), variance.float()
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.add_(mean.float())
    return torch.cat(bodies)


@torch.no_grad()
def fit(layer: nn.Conv1d, body: Tensor, view: Tensor) -> None:
    """``layer`` as the least squares map from ``body`` [B, width, N] to ``view`` [B, N, 1024]."""
    x, y = body.transpose(1, 2).flatten(0, 1).double(), view.flatten(0, 1).double()
    middle, wanted = x.mean(0), y.mean(0)
    x = x - middle
    square = x.T @ x
    square += RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
    weight = torch.linalg.solve(square, x.T @ (y - wanted)).T
    layer.weight.copy_(weight.float().unsqueeze(2))
    assert layer.bias is not None
    layer.bias.copy_((wanted - weight @ middle).float())


def resume(full: Bundle, tiny: Bundle, shards: Shards) -> Pupils:
    """Both tiers ready to learn together: the larger as it was shipped, the smaller one's head."""
    pupils, larger = Pupils(), layers_of(full)
    pupils.trunk.load_state_dict(trunk_of(larger))
    put_back(pupils.full, larger)
    put_back(pupils.tiny, layers_of(tiny))
    bodies = settle(pupils.trunk, (pupils.full, pupils.tiny), shards)
    centre, spread = scale(shards)
    seen = (shards.embedding.astype(np.float32) - centre) / spread
    fit(pupils.to_teacher, bodies, torch.from_numpy(seen))
    return pupils


def resume_small(tiny: Bundle, shards: Shards) -> Tagger:
    """The smaller tier as it was shipped, ready to learn alone."""
    net, layers = Tagger(TINY), layers_of(tiny)
    net.trunk.load_state_dict(trunk_of(layers))
    put_back(net.head, layers)
    settle(net.trunk, (net.head,), shards)
    return net.eval()


def trunk_of(layers: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """The parameters of a trunk out of those of a whole tagger, by their names in it."""
    return {
        f"{name.removeprefix('trunk.')}.{what}": value
        for name, pair in layers.items()
        if name.startswith("trunk.")
        for what, value in zip(("weight", "bias"), pair, strict=True)
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("runtime/bundles/sounds-16k"))
    parser.add_argument("--tiny", type=Path, default=Path("runtime/bundles/sounds-16k-tiny"))
    parser.add_argument("--shards", type=Path, nargs="+", required=True, help="rendered scenes")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--small-out", type=Path, help="where the smaller tier goes, alone")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    tiny, shards = Bundle.open(asked.tiny), read_shards(asked.shards)
    torch.save(resume(Bundle.open(asked.bundle), tiny, shards).state_dict(), asked.out)
    if asked.small_out:
        torch.save(resume_small(tiny, shards).state_dict(), asked.small_out)


if __name__ == "__main__":
    main()
