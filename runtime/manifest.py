"""What a bundle says about itself: the schema, and what must hold between its parts.

A program is a straight line of operators over named arrays, every array with a leading batch
axis; shapes here are written without it. There are no loops and no branches: one pass is one hop.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ossicle.runtime.errors import ManifestError

SCHEMA = 1
TASKS = (
    "caption", "tag", "encode", "decode", "separate", "enhance", "embed-text", "generate", "vad",
)  # fmt: skip
LICENSE_CLASSES = ("permissive", "share-alike", "non-commercial", "unknown")
GRAPH_KINDS = ("step", "window", "query", "prefill", "token", "denoise")
EXACTNESS = ("bit", "tolerance", "approximate")
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "mixed")
TARGETS = ("cpu", "cuda", "trt10", "trt11")
DTYPES = ("float32", "float16", "int64", "int32", "int8", "uint8", "bool")
MAX_HOP = 1 << 20
MAX_STATE_VALUES = 1 << 28


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of the bundle, so that it can be checked before it is used."""

    sha256: str
    size: int


class Port(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A graph's named input or output; ``-1`` in ``shape`` is a length known at run time."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input that next hop gets what this hop's ``output`` was; ``init`` is its first value.

    ``init`` is ``zeros``, ``ones`` or the name of an ``.npy`` file in the bundle.
    """

    input: str
    output: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    init: str = "zeros"


class Graph(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One exported step: ``(inputs, states) -> (outputs, states')``."""

    file: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[State, ...] = ()
    kind: str = "step"
    exactness: str = "tolerance"
    opset: int = 20
    precision: str = "fp32"
    target: str = "cpu"


class ProgramInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a caller gives: ``audio`` per hop, a ``frame`` per hop, or a held ``condition``."""

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    default: str | None = None  # for a condition: "zeros", "ones" or an .npy file


class ProgramOutput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a caller gets for each hop."""

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str = "float32"


class Op(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One operator: ``graph`` runs an exported graph, any other is a host transform."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    graph: str | None = None
    params: dict[str, Any] = {}


class Program(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A straight line of operators that makes one hop's outputs of one hop's inputs."""

    inputs: tuple[ProgramInput, ...]
    outputs: tuple[ProgramOutput, ...]
    ops: tuple[Op, ...]


class Metric(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A measured figure, the data it was measured on and the command that measures it again."""

    name: str
    value: float
    unit: str = ""
    data: str = ""
    command: str = ""


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Inputs ``[hops, ...]`` and expected outputs ``[hops, ...]`` as two ``.npz`` files."""

    program: str
    inputs: str
    outputs: str
    tolerance: float = 1e-4


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A streaming model, described; ``latency`` is the hop plus the output's own delay."""

    schema: int
    name: str
    version: str
    task: str
    license: str
    license_class: str
    source: str
    sample_rate_hz: int
    hop: int  # samples
    latency: int  # samples, algorithmic: hop + delay of the output
    graphs: dict[str, Graph]
    programs: dict[str, Program]
    files: dict[str, FileEntry] = {}
    channels: int = 1
    lookahead: int = 0  # samples after the hop that an aligned output still depends on
    latency_class: str = "offline"
    level_range_dbfs: tuple[float, float] | None = None
    batch: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    labels: tuple[str, ...] | None = None
    metrics: tuple[Metric, ...] = ()
    golden: tuple[Golden, ...] = ()
    extra: dict[str, Any] = {}

    @property
    def delay(self) -> int:
        """Samples by which an audio output trails its input."""
        return self.latency - self.hop

    def to_json(self) -> bytes:
        """Return the manifest as indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)


def parse_manifest(data: bytes) -> Manifest:
    """Return the manifest in ``data`` after checking everything that can be checked alone.

    Raises:
        ManifestError: not JSON, unknown keys, or parts that contradict each other.
    """
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.ValidationError as error:
        raise ManifestError(f"manifest breaks its schema: {error}") from error
    except msgspec.DecodeError as error:
        raise ManifestError(f"manifest is not JSON: {error}") from error
    check_manifest(manifest)
    return manifest


def check_manifest(manifest: Manifest) -> None:
    """Raise ManifestError at the first thing that cannot hold."""
    if manifest.schema != SCHEMA:
        raise ManifestError(f"manifest schema {manifest.schema}; this release reads {SCHEMA}")
    _one_of("task", manifest.task, TASKS)
    _one_of("license_class", manifest.license_class, LICENSE_CLASSES)
    _one_of("latency_class", manifest.latency_class, ("hearing", "talk", "caption", "offline"))
    _within("sample_rate_hz", manifest.sample_rate_hz, 8_000, 192_000)
    _within("channels", manifest.channels, 1, 64)
    _within("hop", manifest.hop, 1, MAX_HOP)
    _within("latency", manifest.latency, manifest.hop, 64 * MAX_HOP)
    _within("lookahead", manifest.lookahead, 0, manifest.delay)
    if not manifest.programs:
        raise ManifestError("manifest has no programs; one called 'step' is usual")
    if not manifest.batch or any(b < 1 or b > 4096 for b in manifest.batch):
        raise ManifestError(f"batch buckets {manifest.batch}; sizes of 1 to 4096 expected")
    if list(manifest.batch) != sorted(set(manifest.batch)):
        raise ManifestError(f"batch buckets {manifest.batch} are not ascending and distinct")
    for name, graph in manifest.graphs.items():
        _check_graph(name, graph)
    for name, program in manifest.programs.items():
        _check_program(name, program, manifest)


def _check_graph(name: str, graph: Graph) -> None:
    where = f"graphs.{name}"
    _one_of(f"{where}.kind", graph.kind, GRAPH_KINDS)
    _one_of(f"{where}.exactness", graph.exactness, EXACTNESS)
    _one_of(f"{where}.precision", graph.precision, PRECISIONS)
    _one_of(f"{where}.target", graph.target, TARGETS)
    taken = [p.name for p in graph.inputs] + [s.input for s in graph.states]
    given = [p.name for p in graph.outputs] + [s.output for s in graph.states]
    for side, names in (("inputs", taken), ("outputs", given)):
        if len(set(names)) != len(names):
            raise ManifestError(f"{where}: a name stands twice among its {side}: {sorted(names)}")
    values = 0
    ports: tuple[Port | State, ...] = (*graph.inputs, *graph.outputs, *graph.states)
    for port in ports:
        label = port.input if isinstance(port, State) else port.name
        _one_of(f"{where}.{label}.dtype", port.dtype, DTYPES)
        fixed = isinstance(port, State)
        if any(n < (1 if fixed else -1) or n == 0 for n in port.shape):
            raise ManifestError(f"{where}.{label}: shape {port.shape} has a size that cannot be")
        if fixed:
            count = 1
            for n in port.shape:
                count *= n
            values += count
    if values > MAX_STATE_VALUES:
        raise ManifestError(f"{where}: states of {values} values; at most {MAX_STATE_VALUES}")


def _check_program(name: str, program: Program, manifest: Manifest) -> None:
    where = f"programs.{name}"
    known = set()
    for given in program.inputs:
        _one_of(f"{where}.{given.name}.kind", given.kind, ("audio", "frame", "condition"))
        _one_of(f"{where}.{given.name}.dtype", given.dtype, DTYPES)
        if given.kind == "audio" and given.shape != (manifest.channels, manifest.hop):
            raise ManifestError(
                f"{where}.{given.name}: audio of shape {given.shape}; "
                f"(channels, hop) = {(manifest.channels, manifest.hop)} expected"
            )
        if given.kind == "condition" and -1 in given.shape:
            raise ManifestError(f"{where}.{given.name}: a condition has a fixed shape")
        known.add(given.name)
    for index, op in enumerate(program.ops):
        missing = [n for n in op.inputs if n not in known]
        if missing:
            raise ManifestError(f"{where}.ops[{index}] reads {missing}, which nothing has made yet")
        if op.op == "graph":
            graph = manifest.graphs.get(op.graph or "")
            if graph is None:
                raise ManifestError(f"{where}.ops[{index}] runs graph {op.graph!r}, not listed")
            if len(op.inputs) != len(graph.inputs) or len(op.outputs) != len(graph.outputs):
                raise ManifestError(
                    f"{where}.ops[{index}]: {len(op.inputs)} inputs and {len(op.outputs)} outputs "
                    f"for graph {op.graph!r}, which has {len(graph.inputs)} and "
                    f"{len(graph.outputs)} besides its states"
                )
        known.update(op.outputs)
    for out in program.outputs:
        _one_of(f"{where}.{out.name}.kind", out.kind, ("audio", "frame"))
        if out.name not in known:
            raise ManifestError(f"{where} promises output {out.name!r}, which no operator makes")


def _one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ManifestError(f"{what} is {value!r}; one of {', '.join(allowed)} expected")


def _within(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ManifestError(f"{what} is {value}; {low} to {high} expected")
