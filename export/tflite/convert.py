"""TFLite subgraphs to ONNX steps, with resource variables as explicit states.

Rank-4 tensors, which TFLite keeps as ``[B, H, W, C]``, become ``[B, C, H, W]``. A region of full
int8 arithmetic (trained quantisation) is kept as QDQ pairs, ``uint8`` activations and ``int8``
weights per channel, or is dequantised, as asked. Each module named in ``MODULES`` registers what
converts the operators it knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ossicle.export.graph import StepWriter
from ossicle.export.tflite import arithmetic, moves, products, quantised, spread, states
from ossicle.export.tflite.reader import Operator, Subgraph, TFLite
from ossicle.export.tflite.walk import CONVERSIONS, Walk
from ossicle.runtime.errors import ExportError

MODULES = (arithmetic, moves, products, quantised, spread, states)


@dataclass(frozen=True, slots=True)
class Feed:
    """A tensor given from outside: the ONNX name and shape (without B) it comes under."""

    tensor: int
    name: str
    shape: tuple[int, ...]


def convert(
    model: TFLite,
    subgraph: int,
    name: str,
    inputs: Sequence[Feed],
    outputs: Sequence[Feed],
    *,
    quantised: bool = False,
    eight_bits: bool = True,
    grids: bool = False,
) -> StepWriter:
    """Get the step that makes ``outputs`` of ``inputs``; only what they need is converted.

    ``quantised`` keeps int8 regions as QDQ. ``eight_bits`` rounds float values next to int8 weights
    as TFLite does; without it those layers run in floats, several times faster. ``grids`` keeps
    int8 regions as floats that are rounded where TFLite rounds; without it and ``quantised`` they
    are not. Raises ``ExportError`` naming every operator that has no counterpart here.
    """
    graph = model.subgraphs[subgraph]
    needed = _needed(graph, {f.tensor for f in inputs}, {f.tensor for f in outputs})
    unknown = sorted({op.kind for op in needed} - set(CONVERSIONS))
    if unknown:
        raise ExportError(
            f"{name}: no conversion for TFLite operator {', '.join(unknown)}; "
            f"{', '.join(sorted(CONVERSIONS))} are known"
        )
    try:
        return _walked(Walk(graph, name, quantised, eight_bits, grids), needed, inputs, outputs)
    except (LookupError, ArithmeticError, ValueError, TypeError, AttributeError) as err:
        raise ExportError(
            f"{name}: the TFLite graph contradicts itself ({type(err).__name__}: {err}); the file "
            "is damaged"
        ) from err


def _walked(
    walk: Walk, needed: list[Operator], inputs: Sequence[Feed], outputs: Sequence[Feed]
) -> StepWriter:
    for feed in inputs:
        value = walk.out.input(feed.name, feed.shape)
        walk.values[feed.tensor] = walk.arrived(feed.tensor, value)
    for op in needed:
        CONVERSIONS[op.kind](walk, op)
    for feed in outputs:
        value = walk.left(feed.tensor, feed.shape)
        walk.out.output(feed.name, value, feed.shape)
    return walk.out


def _needed(graph: Subgraph, given: set[int], wanted: set[int]) -> list[Operator]:
    """Get the operators that ``wanted`` and the states depend on, in running order."""
    live = set(wanted)
    kept: list[Operator] = []
    for op in reversed(graph.operators):
        if op.kind == "CALL_ONCE":
            continue
        if op.kind == "ASSIGN_VARIABLE" or any(o in live for o in op.outputs):
            kept.append(op)
            live |= {i for i in op.inputs if i >= 0 and i not in given}
    return kept[::-1]
