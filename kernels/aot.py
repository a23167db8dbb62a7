"""Cubins of the GPU kernels, compiled ahead of time on a machine that need not have a GPU.

    python -m ossicle.kernels.aot --arch 87 --out cubins

writes one cubin a kernel and a ``manifest.json`` with what a launcher needs: the name of the
function, warps, shared bytes, and the arguments in order. One process serves one architecture. A
kernel that needs the stack or more shared memory than the architecture has is refused.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ossicle.kernels.errors import KernelError, RangeError
from ossicle.kernels.tune import ARCHITECTURES, WARPS, Architecture

POINTERS = {"f": "*fp32", "i": "*i32", "l": "*i64", "d": "*fp64", "h": "*fp16"}


@dataclass(frozen=True, slots=True)
class Build:
    """A kernel with the sizes it is built for."""

    name: str  # of the cubin
    kernel: str  # row of WARPS, and the function to compile
    types: str  # of the run-time arguments: one letter a pointer, "n" for a 32-bit integer
    constants: dict[str, Any] = field(default_factory=dict)


RVQ = {"D": 128, "BT": 16, "BN": 32, "BD": 128}
ASSIGN = {"D": 768, "BT": 16, "BN": 64, "BD": 64}
CONV = {
    "TAPS": 3, "STRIDE": 1, "DILATION": 1, "HISTORY": 2, "BF": 16, "BM": 32, "BC": 32,
    "PRECISION": "ieee",
}  # fmt: skip
HEAD = {"W": 64, "HALF": 32, "BH": 32, "ROTARY": True}
STEP = {"GUIDED": True, "NOISY": False, "KEEPS": True, "ASIDE": True, "BLOCK": 1024}
MEL = {
    "POWER": 2, "OFFSET": 0.0, "FLOOR": 1e-10, "SCALE": 1.0, "BT": 16, "BM": 16, "BF": 32,
}  # fmt: skip
BUILDS = (
    Build("rvq_encode_d128", "rvq.encode", "fffinnn", RVQ),
    Build("rvq_decode_d128", "rvq.decode", "iffnnn", {"D": 128, "BT": 8, "BD": 128}),
    Build("kmeans_assign_d768", "kmeans.assign", "ffffinnn", ASSIGN),
    Build("kmeans_join", "kmeans.join", "filnn", {"BT": 16, "BS": 64}),
    Build("conv_step_k3", "conv.step", "fflfffnnnnn", CONV),
    Build("conv_step_k3_f16", "conv.step", "hhlhhhnnnnn", CONV),
    Build("conv_remember_k3", "conv.remember", "fflnn", {"HISTORY": 2, "BC": 128}),
    Build("attention_write_w64", "attention.write", "ffffldnnn", HEAD),
    Build("attention_read_w64", "attention.read", "fffldfnnnnn", HEAD | {"BK": 32, "SCALE": 0.125}),
    Build("gru_cell", "gru.cell", "fffffffnnn", {"BB": 16, "BH": 16, "BK": 32}),
    Build("snake", "snake", "ffffnn", {"BLOCK": 1024}),
    Build("log_mel", "logmel", "fffnnn", MEL),
    Build("sampler_step", "sampler.step", "ffffffffiffffn", STEP),
)


def kernels() -> dict[str, Any]:
    """The functions to compile, by their row of WARPS."""
    from ossicle.kernels.attention import triton as attention
    from ossicle.kernels.conv import triton as conv
    from ossicle.kernels.gru import triton as gru
    from ossicle.kernels.kmeans import triton as kmeans
    from ossicle.kernels.logmel import triton as logmel
    from ossicle.kernels.rvq import triton as rvq
    from ossicle.kernels.sampler import triton as sampler
    from ossicle.kernels.snake import triton as snake

    return {
        "rvq.encode": rvq.encode_kernel,
        "rvq.decode": rvq.decode_kernel,
        "kmeans.assign": kmeans.assign_kernel,
        "kmeans.join": kmeans.join_kernel,
        "conv.step": conv.step_kernel,
        "conv.remember": conv.remember_kernel,
        "attention.write": attention.write_kernel,
        "attention.read": attention.read_kernel,
        "gru.cell": gru.cell_kernel,
        "snake": snake.snake_kernel,
        "logmel": logmel.log_mel_kernel,
        "sampler.step": sampler.step_kernel,
    }


def signature(build: Build, names: list[str]) -> dict[str, str]:
    """Triton's type of every argument, constants last."""
    free = [name for name in names if name not in build.constants]
    if len(free) != len(build.types):
        raise RangeError(f"{build.name} names {len(build.types)} types for arguments {free}")
    types = {n: "i32" if t == "n" else POINTERS[t] for n, t in zip(free, build.types, strict=True)}
    return {name: types.get(name, "constexpr") for name in names}


def compile_one(build: Build, arch: int, function: Any) -> tuple[bytes, dict[str, Any]]:
    """The cubin and its row of the manifest.

    Raises:
        KernelError: the kernel needs the stack, or too much shared memory.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    limits = ARCHITECTURES[arch]
    types = signature(build, list(function.arg_names))
    source = ASTSource(fn=function, signature=types, constexprs=dict(build.constants))
    options = {"num_warps": WARPS[build.kernel], "num_stages": limits.stages}
    made = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    cubin: bytes = made.asm["cubin"]
    used = resources(cubin)
    row = {
        "name": build.name,
        "function": made.metadata.name,
        "warps": made.metadata.num_warps,
        "shared_bytes": made.metadata.shared,
        "arguments": [[n, t] for n, t in types.items() if t != "constexpr"],
        "constants": build.constants,
        "registers": used["REG"],
        "stack_bytes": used["STACK"],
        "local_bytes": used["LOCAL"],
        "sha256": hashlib.sha256(cubin).hexdigest(),
    }
    judge(row, limits)
    return cubin, row


def judge(row: dict[str, Any], limits: Architecture) -> None:
    """Refuses a row that does not fit the architecture."""
    if row["stack_bytes"] or row["local_bytes"]:
        raise KernelError(
            f"{row['name']} spills {row['stack_bytes']} bytes to the stack; allowed: 0"
        )
    if row["shared_bytes"] > limits.shared_bytes:
        raise KernelError(
            f"{row['name']} takes {row['shared_bytes']} shared bytes; {limits.name} has "
            f"{limits.shared_bytes}: use smaller tiles or fewer stages"
        )


def resources(cubin: bytes) -> dict[str, int]:
    """Registers, stack, shared and local bytes, as the vendor's tool reads them from the cubin."""
    import tempfile

    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run(
            [tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = {k: int(v) for k, v in re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", text)}
    if not {"REG", "STACK", "LOCAL"} <= found.keys():
        raise KernelError(f"cuobjdump told nothing of the stack: {text[:200]!r}")
    return found


def build_all(arch: int, out: Path, only: str | None = None) -> dict[str, Any]:
    """Writes every cubin and ``manifest.json`` for one architecture.

    Raises:
        RangeError: the architecture is not one of :data:`ossicle.kernels.tune.ARCHITECTURES`.
        KernelError: a kernel does not fit.
    """
    if arch not in ARCHITECTURES:
        raise RangeError(f"arch is {arch}; it must be one of {', '.join(map(str, ARCHITECTURES))}")
    out.mkdir(parents=True, exist_ok=True)
    functions = kernels()
    rows = []
    for build in BUILDS:
        if only in (None, build.name):
            cubin, row = compile_one(build, arch, functions[build.kernel])
            (out / f"{build.name}.cubin").write_bytes(cubin)
            rows.append(row)
    import triton

    manifest = {
        "schema": 1,
        "arch": f"sm_{arch}",
        "triton": triton.__version__,
        "argument_order": "pointers and integers as listed, then two null scratch pointers",
        "kernels": rows,
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m ossicle.kernels.aot")
    parser.add_argument("--arch", type=int, required=True, help="compute capability, such as 87")
    parser.add_argument("--out", type=Path, required=True, help="folder for cubins and manifest")
    parser.add_argument("--only", help="a single build")
    options = parser.parse_args(arguments)
    try:
        manifest = build_all(options.arch, options.out, options.only)
    except KernelError as problem:
        print(problem, file=sys.stderr)
        return 1
    for row in manifest["kernels"]:
        print(
            f"{row['name']:24} {row['registers']:4} registers {row['shared_bytes']:7} shared bytes"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
