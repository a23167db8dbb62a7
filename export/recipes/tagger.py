r"""The sound tagger from start to end: render, imitate, train, choose rules, export.

    export OSSICLE_DATA=FOLDER
    step='python -m ossicle.export.recipes'
    $step.tagger_render --out work/train --folds 1 2 3
    $step.tagger_render --out work/val --folds 4 --held-out --shards 6
    $step.tagger_imitate --teacher $OSSICLE_DATA/weights/yamnet/yamnet.tflite \
        --shards work/train --out work/trunk.pt
    $step.tagger_train --shards work/train --val work/val --trunk work/trunk.pt \
        --heads 15 --minutes 30 --out work/run
    $step.tagger_bank --out work/bank
    $step.tagger_bank --out work/bank --name synth --only composed invented
    $step.tagger_screen MORE/train/unknown --teacher ... --names ... --by-label 0.08 > work/odd.tsv
    $step.tagger_bank --out work/bank --name real --more MORE/train --screened work/odd.tsv
    $step.tagger_named --out work/bank --named NAMED --teacher ... --names ...
    $step.tagger_refine --bank work/bank --shards work/train --val work/val --teacher ... \
        --view 0.3 --start work/run/pupils.pt --minutes 90 --out work/run2
    $step.tagger_small --bank work/bank --shards work/train --val work/val \
        --start work/run2/pupils.pt --minutes 75 --out work/small
    $step.tagger_tune --more MORE/val --out work/tune.npz
    $step.tagger --pupils work/run2/pupils.pt --small work/small/pupils.pt --tier tiny \
        --out work/plain
    $step.tagger_tiny --bundle work/plain/sounds-16k-tiny --out work/tiny8
    $step.tagger_choose --pupils work/run2/pupils.pt --tuning work/tune.npz --out work/rules.json
    $step.tagger_choose --pupils work/run2/pupils.pt --tuning work/tune.npz --tier tiny \
        --small work/tiny8 --out work/rules.json
    $step.tagger --pupils work/run2/pupils.pt --small work/small/pupils.pt --rules work/rules.json
    $step.tagger_tiny --bundle runtime/bundles/sounds-16k-tiny --out work/tiny8

To go on from the bundles as they are, instead of all up to the bank::

    $step.tagger_resume --shards work/train --out work/run/pupils.pt --small-out work/small.pt

``MORE`` is a folder of ``music``, ``speech`` and ``unknown`` recordings, and ``NAMED`` one with a
folder of recordings for each label, if there are such. The last step but one, in this file, writes
the two bundles ``sounds-16k`` and ``sounds-16k-tiny``. The teacher is heard, never copied: no layer
starts from or keeps its numbers.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ossicle.export.bundle import TorchStep, export_bundle
from ossicle.export.models.tagger import (
    MELS,
    STEP_FRAMES,
    TINY,
    Residual,
    Tagger,
    TaggerConfig,
    macs_per_second,
)
from ossicle.export.recipes.tagger_pupils import Pupils
from ossicle.export.recipes.tagger_teacher import MEL
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.manifest import (
    Manifest,
    Metric,
    Op,
    Port,
    Program,
    ProgramInput,
    ProgramOutput,
    State,
)
from ossicle.runtime.scene.labels import ALERTS, LABELS, NOTABLE

HOP = STEP_FRAMES * 160  # samples: 80 ms
NAMES = {"full": "sounds-16k", "tiny": "sounds-16k-tiny"}
LICENSE = "Apache-2.0"
SOURCE = (
    "recipe export/recipes/tagger.py; trunk trained from random initialisation to imitate YAMNet "
    "(Apache-2.0) on our audio"
)


def fused(net: Tagger) -> Tagger:
    """``net`` with every batch norm folded into the convolution before it."""
    head = net.eval().head
    for part in (head.squeeze, head.skip):
        if part is not None:
            part.conv, part.norm = fuse_conv_bn_eval(part.conv, _norm(part.norm)), nn.Identity()
    head.tones, head.tones_norm = (
        fuse_conv_bn_eval(head.tones, _norm(head.tones_norm)),
        nn.Identity(),
    )
    head.enter, head.enter_norm = (
        fuse_conv_bn_eval(head.enter, _norm(head.enter_norm)),
        nn.Identity(),
    )
    for block in head.blocks:
        assert isinstance(block, Residual)
        block.look, block.norm = fuse_conv_bn_eval(block.look, _norm(block.norm)), nn.Identity()
    return net.eval()


def _norm(module: nn.Module) -> nn.BatchNorm1d:
    assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    return module  # type: ignore[return-value]


def step_of(net: Tagger) -> TorchStep:
    """The graph ``tag``: one step of log-mel in, two frames of scores and embeddings out."""
    frames, shapes = 2, net.memory_shapes()

    def whole(mel: Tensor) -> tuple[Tensor, ...]:
        hops, batch = mel.shape[:2]
        joined = mel.permute(1, 0, 2, 3).reshape(batch, hops * STEP_FRAMES, -1)
        scores, embedding = net(joined, *net.fresh(batch))[:2]
        return tuple(
            y.reshape(batch, hops, frames, -1).transpose(0, 1) for y in (scores, embedding)
        )

    return TorchStep(
        net,
        inputs=(Port("mel", (STEP_FRAMES, MELS)),),
        outputs=(
            Port("scores", (frames, net.config.classes)),
            Port("embedding", (frames, net.config.embedding)),
        ),
        states=tuple(State(name, f"{name}_next", shape) for name, shape in shapes),
        whole=whole,
    )


def manifest_of(
    tier: str, config: TaggerConfig, rules: Mapping[str, Any], metrics: Sequence[Metric] = ()
) -> Manifest:
    """The manifest without its graph, which the exporter fills in."""
    mel = Op("log_mel", ("audio",), ("mel",), params=dict(MEL))
    tag = Op("graph", ("mel",), ("scores", "embedding"), graph="tag")
    step = Program(
        inputs=(ProgramInput("audio", "audio", (1, HOP)),),
        outputs=(
            ProgramOutput("scores", "frame", (2, config.classes)),
            ProgramOutput("embedding", "frame", (2, config.embedding)),
        ),
        ops=(mel, tag),
    )
    return Manifest(
        schema=1,
        name=NAMES[tier],
        version="6",
        task="tag",
        license=LICENSE,
        license_class="permissive",
        source=SOURCE,
        sample_rate_hz=16_000,
        hop=HOP,
        latency=HOP,
        graphs={},
        programs={"step": step},
        latency_class="caption",
        level_range_dbfs=(-60.0, 0.0),
        labels=LABELS,
        metrics=tuple(metrics),
        extra={
            "frame": HOP // 2,
            "embedding": config.embedding,
            "thresholds": dict(rules.get("thresholds", {})),
            "score_delay": int(rules.get("score_delay", 0)),
            "priority": {
                label: "ALERT" if label in ALERTS else "NOTABLE" if label in NOTABLE else "AMBIENT"
                for label in LABELS
            },
            "macs_per_second": round(macs_per_second(config)),
        },
    )


def trained(tier: str, pupils: Path, small: Path | None = None) -> Tagger:
    """One tier out of a checkpoint of both, or the smaller one out of ``small``, its own."""
    if tier == "tiny" and small is not None:
        net = Tagger(TINY)
        net.load_state_dict(torch.load(small, weights_only=True))
        return net.eval()
    whole = Pupils()
    whole.load_state_dict(torch.load(pupils, weights_only=True))
    return whole.tagger(tier)


def write(
    tier: str,
    net: Tagger,
    rules: Mapping[str, Any],
    place: Path,
    files: Mapping[str, bytes],
    metrics: Sequence[Metric] = (),
) -> Bundle:
    """Write one tier at ``place`` in float32; :mod:`tagger_tiny` makes the int8 one of it."""
    net = fused(net)
    manifest = manifest_of(tier, net.config, rules, metrics)
    return export_bundle(place, manifest, {"tag": step_of(net)}, files=files)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the bundles of a trained checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pupils", type=Path, required=True)
    parser.add_argument("--small", type=Path, help="of tagger_small: the smaller tier alone")
    parser.add_argument("--rules", type=Path, help="JSON: tier -> label -> thresholds")
    parser.add_argument("--out", type=Path, default=Path("runtime/bundles"))
    parser.add_argument("--tier", choices=list(NAMES), action="append")
    parser.add_argument("--card", type=Path, help="folder of sounds-16k.md, sounds-16k-tiny.md")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rules = json.loads(asked.rules.read_text()) if asked.rules else {}
    for tier in asked.tier or list(NAMES):
        files = {}
        if asked.card:
            files["README.md"] = (asked.card / f"{NAMES[tier]}.md").read_bytes()
        place = asked.out / NAMES[tier]
        net = trained(tier, asked.pupils, asked.small)
        bundle = write(tier, net, rules.get(tier, {}), place, files)
        print(bundle.root, bundle.manifest.extra["macs_per_second"])


if __name__ == "__main__":
    main()
