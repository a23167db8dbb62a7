"""ONNX graphs as tidy bytes: canonical names, nothing of the machine that made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import GraphProto, ModelProto, NodeProto

from ossicle.export.profiles import Profile, check_operators, check_opset
from ossicle.runtime.errors import ExportError

PRODUCER = "ossicle"
MAX_BYTES = 1 << 30
# IR versions that the runtimes of each opset read.
_IR = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11}


def opset_of(model: ModelProto) -> int:
    """Get the version of the standard operator set that ``model`` imports."""
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            return int(entry.version)
    raise ExportError("the graph imports no standard operator set; is it an ONNX model?")


def kinds_of(model: ModelProto) -> list[str]:
    """Get the operator of every node, with the domain where it is not the standard one."""
    return [_kind(node) for node in model.graph.node]


def tidy(model: ModelProto, name: str) -> ModelProto:
    """Get a copy without metadata, with canonical names, in a canonical order of weights."""
    out = ModelProto()
    out.CopyFrom(model)
    graph = out.graph
    if out.functions:
        raise ExportError(f"graph {name!r} holds local functions; inline them before export")
    keep = {v.name for v in (*graph.input, *graph.output)}
    keep |= {w.name for w in graph.initializer}
    renamed: dict[str, str] = {}
    for index, node in enumerate(graph.node):
        for output in node.output:
            if output and output not in keep:
                renamed[output] = f"v{len(renamed)}"
        node.name = f"n{index}"
        node.doc_string = ""
        del node.metadata_props[:]
    for node in graph.node:
        _rename(node, renamed)
    del graph.value_info[:]
    del graph.metadata_props[:]
    graph.name, graph.doc_string = name, ""
    for value in (*graph.input, *graph.output):
        value.doc_string = ""
        del value.metadata_props[:]
    _settle_weights(graph)
    _settle_header(out)
    return out


def _settle_weights(graph: GraphProto) -> None:
    used = {i for node in graph.node for i in node.input}
    used |= {v.name for v in graph.output}
    weights = sorted((w for w in graph.initializer if w.name in used), key=lambda w: w.name)
    for weight in weights:
        weight.doc_string = ""
        del weight.metadata_props[:]
        if weight.data_location == onnx.TensorProto.EXTERNAL:
            raise ExportError(f"weight {weight.name!r} lies outside the graph; embed it")
    fresh = [onnx.TensorProto.FromString(w.SerializeToString(deterministic=True)) for w in weights]
    del graph.initializer[:]
    graph.initializer.extend(fresh)


def _settle_header(model: ModelProto) -> None:
    version = opset_of(model)
    model.ir_version = _IR.get(version, 11)
    model.producer_name, model.producer_version = PRODUCER, ""
    model.domain, model.model_version, model.doc_string = "", 0, ""
    del model.metadata_props[:]
    used = {node.domain for node in model.graph.node}
    imports = [o for o in model.opset_import if o.domain in ("", "ai.onnx") or o.domain in used]
    fresh = [onnx.helper.make_opsetid("" if o.domain == "ai.onnx" else o.domain, o.version)
             for o in imports]  # fmt: skip
    del model.opset_import[:]
    model.opset_import.extend(fresh)


def _rename(node: NodeProto, names: Mapping[str, str]) -> None:
    for field in (node.input, node.output):
        fresh = [names.get(n, n) for n in field]
        del field[:]
        field.extend(fresh)


def _kind(node: NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def check_graph(model: ModelProto, profile: Profile, what: str) -> None:
    """Refuse a graph that ``profile`` cannot run or that is not a valid ONNX model."""
    check_opset(opset_of(model), profile, what)
    check_operators(kinds_of(model), profile, what)
    try:
        onnx.checker.check_model(model, full_check=False)
    except onnx.checker.ValidationError as err:
        raise ExportError(f"{what} is not a valid ONNX graph: {err}") from err


def check_names(model: ModelProto, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Refuse a graph whose inputs or outputs are not named as asked, in that order."""
    have_in = [v.name for v in model.graph.input]
    have_out = [v.name for v in model.graph.output]
    if have_in != list(inputs) or have_out != list(outputs):
        raise ExportError(
            f"the graph has inputs {have_in} and outputs {have_out}; asked for {list(inputs)} and "
            f"{list(outputs)}. Is an input unused, or does an output pass one through unchanged?"
        )


def to_bytes(model: ModelProto) -> bytes:
    """Get the bytes of ``model``, the same for the same model."""
    data: bytes = model.SerializeToString(deterministic=True)
    if len(data) > MAX_BYTES:
        raise ExportError(f"the graph takes {len(data)} bytes; the limit is {MAX_BYTES}")
    return data
