"""The compiled ground; every function has a NumPy twin in ossicle.kernels or beside its user."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

def isa() -> str: ...
def integer_dot() -> bool: ...
def offered() -> list[str]: ...
def choose(name: str) -> None: ...

class Books:
    def __init__(self, rows: NDArray[np.float32], cosine: bool, integer: bool) -> None: ...
    def encode(self, x: NDArray[np.float32], codes: NDArray[np.int32]) -> None: ...
    def encode64(self, x: NDArray[np.float64], codes: NDArray[np.int32]) -> None: ...
    def decode(self, codes: NDArray[np.int32], out: NDArray[np.float32]) -> None: ...
    @property
    def integer(self) -> bool: ...
    def outer(self, k: int) -> int: ...

class Matrix:
    def __init__(
        self,
        rows: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
        kind: int,
        input_scale: float,
    ) -> None: ...
    @property
    def padded(self) -> int: ...
    def conv_step(
        self,
        x: NDArray[np.float32],
        ring: NDArray[Any],
        position: NDArray[np.int64],
        stride: int,
        dilation: int,
        out: NDArray[np.float32],
        /,
    ) -> None: ...
    def conv_any(
        self,
        x: NDArray[np.float32],
        ring: NDArray[Any],
        position: NDArray[np.int64],
        stride: int,
        dilation: int,
        out: NDArray[np.float32],
    ) -> None: ...

def gru_step(
    input: Matrix,
    hidden: Matrix,
    x: NDArray[np.float32],
    h: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None: ...
def attention_step(
    q: NDArray[np.float32],
    k: NDArray[np.float32],
    v: NDArray[np.float32],
    keys: NDArray[np.float32],
    values: NDArray[np.float32],
    position: NDArray[np.int64],
    window: int,
    scale: float,
    base: float,
    interleaved: bool,
    active: NDArray[np.bool_] | None,
    out: NDArray[np.float32],
) -> None: ...
def cross_step(
    q: NDArray[np.float32],
    keys: NDArray[np.float32],
    values: NDArray[np.float32],
    lengths: NDArray[np.int64],
    scale: float,
    out: NDArray[np.float32],
) -> None: ...
def combine(
    terms: list[NDArray[np.float32]],
    weights: NDArray[np.float32],
    outs: list[NDArray[np.float32]],
) -> None: ...
def snake(
    x: NDArray[np.float32],
    alpha: NDArray[np.float32],
    inverse: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None: ...
def log_mel(
    spectrum: NDArray[np.complex64],
    first: NDArray[np.int32],
    length: NDArray[np.int32],
    weights: NDArray[np.float32],
    power: int,
    offset: float,
    floor: float,
    log_scale: float,
    out: NDArray[np.float32],
) -> None: ...
def pack_bits(values: NDArray[np.uint32], width: int) -> bytes: ...
def unpack_bits(data: bytes, count: int, width: int) -> NDArray[np.uint32]: ...
def frame(
    history: NDArray[np.float32], x: NDArray[np.float32], hop: int, out: NDArray[np.float32]
) -> None: ...
def overlap_add(
    tail: NDArray[np.float32], frames: NDArray[np.float32], hop: int, out: NDArray[np.float32]
) -> None: ...
def level(
    x: NDArray[np.float32],
    power: NDArray[np.float32],
    gain: NDArray[np.float32],
    rates: tuple[float, float, float, float, float],
    out: NDArray[np.float32],
    gains: NDArray[np.float32],
) -> None: ...
def unlevel(
    x: NDArray[np.float32],
    gains: NDArray[np.float32],
    past: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None: ...
def write_rows(target: NDArray[Any], values: list[NDArray[Any]], places: list[int]) -> int: ...
def all_finite(arrays: list[NDArray[Any]]) -> bool: ...

class Lane:  # its twin says what each does: ossicle.runtime.engine.lane
    state: Any
    on_events: Any
    closed: bool
    shut: bool
    ending: bool
    bypass: bool
    hops: int
    misses: int
    gaps: int
    bad_hops: int
    latency: int
    deadline_ns: int
    period_ns: int
    group: int
    def attach(
        self, turns: Turns, push: Any, take: Any, on_events: Any, limit: int, live: bool, /
    ) -> None: ...
    def push(self, item: Any, arrival_ns: int | None = None) -> bool: ...
    def put(self, word: Any, arrival_ns: int, /) -> bool: ...
    def add(self, hop: Any, arrival_ns: int, ready_ns: int, deadline_ns: int, /) -> None: ...
    def pop(self) -> tuple[Any, int, int, int, list[Any]]: ...
    def note(self, then: Any, /) -> bool: ...
    def waiting_hops(self) -> list[Any]: ...
    def forget_hops(self) -> None: ...
    def record(self, us: int, /) -> None: ...
    def recorded(self) -> tuple[list[int], int]: ...
    @property
    def hop(self) -> Any: ...
    @property
    def ready(self) -> int: ...
    @property
    def held(self) -> int: ...
    @property
    def dropped(self) -> int: ...

class Turns:  # its twin says what each does: ossicle.runtime.engine.turns
    clock: Any
    awake: bool
    since: int
    hold_ns: int
    @property
    def stale(self) -> bool: ...
    def __new__(cls, *given: Any) -> Turns: ...
    def pause(self) -> bool: ...
    def take_in(self, lanes: list[Any], everything: bool, /) -> None: ...
    def choose(self, lanes: list[Any], /) -> list[Any]: ...
    def gather(
        self,
        targets: dict[str, NDArray[Any]],
        held: dict[str, NDArray[Any]],
        lanes: list[Any],
        places: list[int],
        /,
    ) -> bool: ...
    def deliver(
        self,
        lanes: list[Any],
        made: dict[str, NDArray[Any]],
        places: list[int],
        begun: int,
        batch_us: int,
        compute_us: int,
        /,
    ) -> bool: ...

class SampleRing:
    def __init__(self, samples: int, channels: int) -> None: ...
    def push(self, frames: NDArray[np.float32]) -> int: ...
    def pop(self, out: NDArray[np.float32]) -> int: ...
    def __len__(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    @property
    def dropped(self) -> int: ...

class CubinLauncher:
    def __init__(self, cubin: str, library: str = "libcuda.so.1") -> None: ...
    def launch(
        self,
        function: str,
        grid: tuple[int, int, int],
        warps: int,
        shared: int,
        pointers: list[int],
        integers: list[int],
        stream: int = 0,
    ) -> None: ...

Place = tuple[int, int, list[int], list[int]]  # buffer, offset, shape, strides

class StepPlan:
    def __init__(self) -> None: ...
    def buffer(self, home: int, size: int, place: int, item: int) -> int: ...
    def constant(self, values: NDArray[np.float32]) -> int: ...
    def weights(
        self,
        rows: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
        widths: list[int],
        half: bool,
    ) -> int: ...
    def map(
        self, op: int, first: float, second: float, out: Place, a: Place, b: Place | None
    ) -> None: ...
    def gemm(
        self,
        weights: int,
        parts: list[Place],
        out: Place,
        residual: Place | None,
        act: int,
        alpha: float,
    ) -> None: ...
    def taps(self, out: Place, x: Place, w: Place, bias: Place, act: int, alpha: float) -> None: ...
    def row(
        self, op: int, number: float, out: Place, x: Place, scale: Place | None, bias: Place | None
    ) -> None: ...
    def convert(self, out: Place, x: Place) -> None: ...
    def seal(self) -> None: ...
    @property
    def arena(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...

class StepRun:
    def __init__(
        self,
        plan: StepPlan,
        streams: int,
        inputs: list[NDArray[Any]],
        outputs: list[NDArray[Any]],
        even: list[NDArray[Any]],
        odd: list[NDArray[Any]],
    ) -> None: ...
    def step(self, side: int) -> None: ...
    def look_up(
        self, books: Books, vectors: NDArray[np.float32], codes: NDArray[np.int32]
    ) -> None: ...
    def search(
        self,
        books: Books,
        vectors: NDArray[np.float32],
        codes: NDArray[np.int32],
        layers: NDArray[np.int32] | None,
    ) -> None: ...
    def poison(self) -> None: ...
    def profile(self, side: int) -> list[tuple[int, int]]: ...
