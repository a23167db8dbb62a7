"""Building TensorRT engines of a bundle, on the machine that will run them.

Precision is what the graph says (strong typing); there are no FP16 or INT8 flags, which TensorRT 11
no longer has. One optimisation profile per batch bucket, every other axis fixed. What was built
once is not built again: engines lie in the cache under ``engine_key``, beside a timing cache.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from ossicle.export.onnxfile import kinds_of, opset_of
from ossicle.export.operators import TENSORRT_10_3, TENSORRT_10_15
from ossicle.runtime.backend.cudart import Cuda, CudaRuntime
from ossicle.runtime.backend.tensorrt import engine_key, engine_path, import_tensorrt
from ossicle.runtime.bundle import Bundle, cache_folder
from ossicle.runtime.errors import ExportError
from ossicle.runtime.manifest import Graph

WORKSPACE_BYTES = 1 << 30


def static_check(data: bytes) -> dict[str, list[str]]:
    """Get, for each TensorRT release with a table, what in these ONNX bytes it does not run."""
    model = onnx.load_from_string(data)
    met, opset = set(kinds_of(model)), opset_of(model)
    found = {
        "10.3": sorted(met - TENSORRT_10_3),
        "10.15": sorted(met - TENSORRT_10_15),
    }
    for release, newest in (("10.3", 20), ("10.15", 24)):
        if not 9 <= opset <= newest:
            found[release].append(f"opset {opset}")
    unsigned = _unsigned_zero_points(model)
    if unsigned:
        for release in found:
            found[release].append(f"zero points other than 0 ({unsigned} of them)")
    return found


def static_report(bundle: Bundle) -> dict[str, dict[str, list[str]]]:
    """Get ``static_check`` of every graph of a bundle, by graph."""
    graphs = bundle.manifest.graphs.items()
    return {name: static_check(bundle.read(graph.file)) for name, graph in graphs}


def _unsigned_zero_points(model: onnx.ModelProto) -> int:
    """Count QDQ nodes whose zero point TensorRT refuses: it must be 0, of a signed type."""
    weights = {w.name: w for w in model.graph.initializer}
    count = 0
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
            zero = weights.get(node.input[2])
            values = None if zero is None else onnx.numpy_helper.to_array(zero)
            count += values is None or values.dtype != "int8" or bool(values.any())
    return count


def build_engines(
    bundle: Bundle,
    *,
    tensorrt: Any = None,
    cuda: Cuda | None = None,
    rebuild: bool = False,
    graphs: Sequence[str] = (),
) -> dict[str, Path]:
    """Build what is missing in the cache and get the path of each graph's engine.

    ``graphs`` names those to build, all by default; ``tensorrt`` and ``cuda`` can be given for
    tests. Raises ``BackendError`` where TensorRT or a GPU is missing, ``ExportError`` where a graph
    cannot become an engine: then none is built.
    """
    trt = tensorrt if tensorrt is not None else import_tensorrt()
    device: Cuda = cuda if cuda is not None else CudaRuntime()
    chosen = _chosen(bundle, graphs)
    _check_all(bundle, chosen, str(trt.__version__))
    made = {}
    for name, graph in chosen.items():
        data = bundle.read(graph.file)
        key = engine_key(data, trt.__version__, device.capability(), bundle.manifest.batch)
        made[name] = engine_path(key)
        if rebuild or not made[name].is_file():
            _store(made[name], build_engine(data, graph, bundle.manifest.batch, trt))
    return made


def _chosen(bundle: Bundle, graphs: Sequence[str]) -> dict[str, Graph]:
    have = bundle.manifest.graphs
    unknown = sorted(set(graphs) - set(have))
    if unknown:
        raise ExportError(
            f"{bundle.manifest.name} has no graph {', '.join(unknown)}; it has {', '.join(have)}"
        )
    return {name: have[name] for name in graphs or have}


def _check_all(bundle: Bundle, graphs: Mapping[str, Graph], version: str) -> None:
    """Refuse before building what the operator table of this release does not hold."""
    numbers = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    release = "10.15" if tuple(numbers) >= (10, 15) else "10.3"
    bad = {name: static_check(bundle.read(g.file))[release] for name, g in graphs.items()}
    refused = [f"{name} ({', '.join(why)})" for name, why in bad.items() if why]
    others = ", ".join(name for name, why in bad.items() if not why) or "none"
    if refused:
        raise ExportError(
            f"TensorRT {version} does not run {'; '.join(refused)} of {bundle.manifest.name}; name "
            f"the graphs it does run ({others}), or export for profile jetson6 or modern"
        )


def build_engine(data: bytes, graph: Graph, buckets: tuple[int, ...], trt: Any) -> bytes:
    """Get the serialised engine of one graph; ``ExportError`` with the parser's own words."""
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(_creation_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(data):
        errors = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        raise ExportError(f"TensorRT refuses {graph.file}: {'; '.join(errors)}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    cache = config.create_timing_cache(_timing_bytes(trt))
    config.set_timing_cache(cache, False)
    for bucket in buckets:
        profile = builder.create_optimization_profile()
        for label, shape in _shapes(graph):
            size = (bucket, *shape)
            profile.set_shape(label, size, size, size)
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ExportError(f"TensorRT built nothing of {graph.file}; its log says why")
    _store(_timing_path(trt), bytes(config.get_timing_cache().serialize()))
    return bytes(engine)


def _creation_flags(trt: Any) -> int:
    """Ask for strong typing where it is a choice; TensorRT 11 knows nothing else."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _shapes(graph: Graph) -> list[tuple[str, tuple[int, ...]]]:
    free = [p.name for p in graph.inputs if -1 in p.shape]
    if free:
        raise ExportError(f"{graph.file}: input {', '.join(free)} has a free length besides B")
    ports = [(p.name, p.shape) for p in graph.inputs]
    return ports + [(s.input, s.shape) for s in graph.states]


def _timing_path(trt: Any) -> Path:
    return cache_folder() / "engines" / f"timing-{trt.__version__}.cache"


def _timing_bytes(trt: Any) -> bytes:
    path = _timing_path(trt)
    return path.read_bytes() if path.is_file() else b""


def _store(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(data)
        fresh.replace(path)
    except OSError as err:
        fresh.unlink(missing_ok=True)
        raise ExportError(f"{path} cannot be written: {err.strerror or err}") from err
