"""A TensorRT and a CUDA runtime that only check how they are called, and do a known sum."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

CALLS: list[tuple[Any, ...]] = []


class Cuda:
    """Device memory as numbered arrays of bytes; captured work as a list of calls."""

    def __init__(self) -> None:
        self.memory: dict[int, np.ndarray] = {}
        self.captured: list[list[Any]] = []
        self.recording: list[Any] | None = None

    def capability(self) -> tuple[int, int]:
        return (8, 7)

    def stream(self) -> int:
        return 7

    def allocate(self, size: int) -> int:
        address = 1000 * (len(self.memory) + 1)
        # What nobody has written yet reads as NaN.
        self.memory[address] = np.full(-(-size // 4), np.nan, np.float32).view(np.uint8)
        return address

    def free(self, address: int) -> None:
        del self.memory[address]

    def upload(self, address: int, array: np.ndarray, stream: int) -> None:
        assert array.flags.c_contiguous
        assert stream == 7
        data = array.view(np.uint8).reshape(-1)
        self.memory[address][: data.size] = data

    def download(self, array: np.ndarray, address: int, stream: int) -> None:
        assert array.flags.c_contiguous
        array.view(np.uint8).reshape(-1)[:] = self.memory[address][: array.nbytes]

    def wait(self, stream: int) -> None:
        CALLS.append(("wait", stream))

    def begin_capture(self, stream: int) -> None:
        CALLS.append(("begin_capture", stream))
        self.recording = []

    def end_capture(self, stream: int) -> int:
        CALLS.append(("end_capture", stream))
        assert self.recording is not None
        self.captured.append(self.recording)
        self.recording = None
        return len(self.captured)

    def launch(self, graph: int, stream: int) -> None:
        CALLS.append(("launch", graph))
        for work in self.captured[graph - 1]:
            work()


class Context:
    """Runs ``y = x + state; state' = y`` for the toy bundle, at the addresses it was told."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.addresses: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.profile: int | None = None

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        CALLS.append(("profile", index))
        self.profile = index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self.profile is not None, "a shape was set before a profile was chosen"
        self.shapes[name] = shape
        return name in ("x", "sum")

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in ("x", "y", "sum", "sum_next")

    def execute_async_v3(self, stream: int) -> bool:
        places = dict(self.addresses)
        assert set(places) == {"x", "y", "sum", "sum_next"}
        assert places["sum"] != places["sum_next"], "a state was read and written in one place"
        count = int(np.prod(self.shapes["x"]))

        def work() -> None:
            read = {k: self.cuda.memory[places[k]].view(np.float32)[:count] for k in places}
            total = read["x"] + read["sum"]
            read["y"][:] = total
            read["sum_next"][:] = total

        CALLS.append(("execute", stream))
        if self.cuda.recording is not None:
            self.cuda.recording.append(work)
        else:
            work()
        return True


def module(version: str, cuda: Cuda, *, refuse: str = "") -> Any:
    """Get a stand-in for ``tensorrt`` of ``version``; 11 has no strong typing flag and no FP16."""

    class Logger:
        WARNING = 2

        def __init__(self, level: int) -> None:
            CALLS.append(("logger", level))

    class Config:
        def __init__(self) -> None:
            self.cache: bytes | None = None

        def set_memory_pool_limit(self, pool: str, size: int) -> None:
            CALLS.append(("workspace", pool, size))

        def create_timing_cache(self, data: bytes) -> bytes:
            CALLS.append(("timing_in", len(data)))
            return data

        def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            self.cache = cache
            return True

        def get_timing_cache(self) -> Any:
            assert self.cache is not None
            return SimpleNamespace(serialize=lambda: b"timing")

        def add_optimization_profile(self, profile: Any) -> int:
            CALLS.append(("add_profile", dict(profile.shapes)))
            return 0

        def set_flag(self, flag: Any) -> None:
            raise AssertionError("precision flags are gone in TensorRT 11")

    class Profile:
        def __init__(self) -> None:
            self.shapes: dict[str, tuple[int, ...]] = {}

        def set_shape(self, name: str, low: Any, best: Any, high: Any) -> None:
            assert low == best == high, "time and batch are static within a bucket"
            self.shapes[name] = low

    class Builder:
        def __init__(self, logger: Logger) -> None:
            pass

        def create_network(self, flags: int) -> str:
            CALLS.append(("network", flags))
            return "network"

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: str, config: Config) -> bytes | None:
            assert config.cache is not None
            CALLS.append(("build",))
            return None if refuse == "build" else b"engine"

    class OnnxParser:
        num_errors = 1

        def __init__(self, network: str, logger: Logger) -> None:
            assert network == "network"

        def parse(self, data: bytes) -> bool:
            return refuse != "parse"

        def get_error(self, index: int) -> str:
            return "no importer for operator Fancy"

    class Runtime:
        def __init__(self, logger: Logger) -> None:
            pass

        def deserialize_cuda_engine(self, data: bytes) -> Any:
            assert data == b"engine"
            if refuse == "engine":
                return None
            return SimpleNamespace(
                num_optimization_profiles=3, create_execution_context=lambda: Context(cuda)
            )

    flags = {} if version.startswith("11") else {"STRONGLY_TYPED": 1}
    return SimpleNamespace(
        __version__=version, Logger=Logger, Builder=Builder, OnnxParser=OnnxParser, Runtime=Runtime,
        NetworkDefinitionCreationFlag=SimpleNamespace(**flags),
        MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
    )  # fmt: skip
