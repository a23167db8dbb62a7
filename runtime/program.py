"""A program's operators made ready to run, in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from ossicle.runtime.backend.base import Array, BoundGraph, LoadedGraph
from ossicle.runtime.backend.joined import Joinable, Joined
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.host import HostOp, make_host_op
from ossicle.runtime.host.quantise import RvqDecode, RvqEncode
from ossicle.runtime.manifest import Op, Program

Names = tuple[tuple[str, str], ...]  # (port of the graph, value of the program)


@dataclass(frozen=True, slots=True)
class Ready:
    """One operator: a host transform, a graph, or neither: a graph beside it does its work."""

    op: Op
    host: HostOp | None = None
    graph: LoadedGraph | None = None
    takes: Names = ()
    gives: Names = ()
    joined: Joined | None = None

    def open(self, batch: int) -> BoundGraph | dict[str, Array]:
        """Return fresh memory for ``batch`` rows."""
        if self.graph is None:
            return {} if self.host is None else self.host.open(batch)
        if self.joined is None:
            return self.graph.bind(batch)
        assert isinstance(self.graph, Joinable)
        return self.graph.bind_joined(batch, self.joined)


def make_ready(
    line: Program, bundle: Bundle, load: Callable[[str], LoadedGraph]
) -> tuple[Ready, ...]:
    """Return the operators of one program; ``load`` gives a graph by name.

    Raises:
        BackendError: a graph that the backend refuses.
        ManifestError: a host transform that cannot be.
    """
    made = [_ready(op, bundle, load) for op in line.ops]
    for i, (first, second) in enumerate(pairwise(made)):
        both = _behind(first, second) or _before(line, first, second)
        if both is not None:
            made[i : i + 2] = both
    return tuple(made)


def _ready(op: Op, bundle: Bundle, load: Callable[[str], LoadedGraph]) -> Ready:
    if op.op != "graph":
        return Ready(op, host=make_host_op(op, bundle))
    spec = bundle.manifest.graphs[op.graph or ""]
    takes = tuple((p.name, n) for p, n in zip(spec.inputs, op.inputs, strict=True))
    gives = tuple((p.name, n) for p, n in zip(spec.outputs, op.outputs, strict=True))
    return Ready(op, graph=load(op.graph or ""), takes=takes, gives=gives)


def _behind(first: Ready, second: Ready) -> tuple[Ready, Ready] | None:
    """A graph and the search of what it gives, in one step of the graph."""
    op, host = second.op, second.host
    if not isinstance(host, RvqEncode) or not _joinable(first, host):
        return None
    ports = {value: port for port, value in first.gives}
    if op.inputs[0] not in ports:
        return None
    layers = op.inputs[1] if len(op.inputs) > 1 else None
    name = _apart("codes", first)
    joined = Joined(
        ports[op.inputs[0]], name, after=host, layers=layers and _apart("layers", first)
    )
    asked: Names = () if layers is None else ((joined.layers or "", layers),)
    return (
        replace(
            first,
            takes=first.takes + asked,
            gives=(*first.gives, (name, op.outputs[0])),
            joined=joined,
        ),
        replace(second, host=None),
    )


def _before(line: Program, first: Ready, second: Ready) -> tuple[Ready, Ready] | None:
    """What looks codes up and the graph that alone needs the vectors, in one step of the graph."""
    host, value = first.host, first.op.outputs[0]
    if not isinstance(host, RvqDecode) or not _joinable(second, host):
        return None
    ports = [port for port, name in second.takes if name == value]
    uses = sum(op.inputs.count(value) for op in line.ops)
    if len(ports) != 1 or uses != 1 or value in {o.name for o in line.outputs}:
        return None
    name = _apart("codes", second)
    takes = tuple(
        (name, first.op.inputs[0]) if port == ports[0] else (port, n) for port, n in second.takes
    )
    joined = Joined(ports[0], name, before=host)
    return replace(first, host=None), replace(second, takes=takes, joined=joined)


def _joinable(ready: Ready, host: RvqEncode | RvqDecode) -> bool:
    free = ready.joined is None and host.packed.compiled is not None
    return free and isinstance(ready.graph, Joinable)


def _apart(name: str, ready: Ready) -> str:
    """``name``, made different from every port of the graph."""
    while name in {port for port, _ in ready.takes + ready.gives}:
        name += "_"
    return name
