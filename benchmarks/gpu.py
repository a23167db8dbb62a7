"""How fast the GPU kernels are: checked first, then timed against what one would use otherwise.

``python -m benchmarks.gpu --json PLACE``

All kernels are checked before any is timed. Then each that is right is run beside the same operator
in eager PyTorch (whose products are the vendor's libraries, the best present), under
``torch.compile(mode="reduce-overhead")`` and inside a CUDA graph of the eager form; our own is
timed launched eagerly and inside a CUDA graph. Whole steps of the built-in models' graphs, recorded
by the torch backend, come first. Achieved bandwidth and arithmetic are given over
ceilings measured in the same run. It ends after ``--minutes``: cases not reached by then stay
without times, and one way of running that fails is named in its row and stops no other. Without a
CUDA device it says so and exits with 2; ``--dry-run`` then runs every case once at its smallest
size on Triton's interpreter, which proves the script and times nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

if "--dry-run" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported

import torch

from benchmarks.gpu_cases import Action, Case, cases
from benchmarks.gpu_steps import step_cases
from benchmarks.machine import save

TOLERANCE = 2e-3  # against eager PyTorch in the same precision, relative to the largest magnitude


@dataclass(slots=True)
class Row:
    """Microseconds of one case, by way of running it."""

    kernel: str
    size: str
    error: float
    correct: bool
    us: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # ways that did not run, and why
    bandwidth_share: float = 0.0
    flop_share: float = 0.0


def difference(case: Case) -> tuple[float, bool]:
    """How far ours is from eager, and whether that is allowed."""
    case.ours()
    want, got = case.eager(), case.result()
    if case.exact:  # a near tie may fall the other way in fp32: then all later layers differ
        share = float((want != got).float().mean())
        return share, share <= 0.02
    error = float((want - got).abs().max() / want.abs().max().clamp(min=1e-9))
    return error, error <= TOLERANCE


def graphed(action: Action) -> Action:
    """The action captured in a CUDA graph."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            action()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        action()
    return graph.replay


def microseconds(action: Action, repeats: int = 50, rounds: int = 7) -> float:
    """Device time a call: the least over rounds."""
    for _ in range(5):
        action()
    best = float("inf")
    for _ in range(rounds):
        begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        begin.record()
        for _ in range(repeats):
            action()
        end.record()
        end.synchronize()
        best = min(best, begin.elapsed_time(end) * 1e3 / repeats)
    return round(best, 2)


def ceilings() -> dict[str, float]:
    """Measured bytes and fp32 operations a second of this device."""
    a = torch.empty(1 << 28, device="cuda")
    b = torch.empty_like(a)
    copied = microseconds(lambda: b.copy_(a), 10)
    m = torch.randn(4096, 4096, device="cuda")
    product = microseconds(lambda: m @ m, 5)
    return {
        "bytes_per_s": 2 * 4 * (1 << 28) / copied * 1e6,
        "fp32_flops_per_s": 2 * 4096**3 / product * 1e6,
    }


def timed(case: Case, row: Row, top: dict[str, float]) -> None:
    """Fills in the times of a correct case."""
    ways: dict[str, Callable[[], Action]] = {
        "ours": lambda: case.ours,
        **({} if case.recorded else {"ours in a graph": lambda: graphed(case.ours)}),
        "eager": lambda: case.eager,
        "eager in a graph": lambda: graphed(case.eager),
        "compile reduce-overhead": lambda: torch.compile(case.eager, mode="reduce-overhead"),
    }
    for name, make in ways.items():
        try:
            row.us[name] = microseconds(make())
        except Exception as reason:  # compilers and captures fail in many ways; the rest goes on
            row.failed[name] = f"{type(reason).__name__}: {reason}"[:200]
    seconds = row.us.get("ours" if case.recorded else "ours in a graph", 0.0) * 1e-6
    if seconds > 0.0:
        row.bandwidth_share = round(case.bytes_moved / seconds / top["bytes_per_s"], 3)
        row.flop_share = round(case.flops / seconds / top["fp32_flops_per_s"], 3)


def run(device: str, tiny: bool, minutes: float) -> list[Row]:
    """Checks every case; then, on a GPU, times those that are right until the time is over."""
    stop = time.monotonic() + 60.0 * minutes
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    with torch.inference_mode():
        found = [*step_cases(device, tiny), *cases(device, tiny)]
        rows = [Row(case.kernel, case.size, *difference(case)) for case in found]
        for row in rows:
            print(f"{row.kernel:24} {row.size:34} {'equal' if row.correct else 'WRONG'} ")
        if tiny:
            return rows
        top = ceilings()
        for case, row in zip(found, rows, strict=True):
            if row.correct and time.monotonic() < stop:
                timed(case, row, top)
                print(f"{row.kernel:24} {row.size:34} {row.us} {row.failed or ''}", flush=True)
    return rows


def main() -> int:
    """0 if all is right, 1 if a kernel is wrong, 2 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="where the results go")
    parser.add_argument("--dry-run", action="store_true", help="interpreter, tiny sizes, no times")
    parser.add_argument("--minutes", type=float, default=7.0, help="start no case after these")
    options = parser.parse_args()
    if not options.dry_run and not torch.cuda.is_available():
        print("no CUDA device: nothing was measured (--dry-run checks the script without one)")
        return 2
    device = "cpu" if options.dry_run else "cuda"
    rows = run(device, options.dry_run, options.minutes)
    if options.json:
        named = "interpreter" if options.dry_run else torch.cuda.get_device_name()
        save("gpu", {"device": named, "rows": [asdict(row) for row in rows]}, options.json)
    return 0 if all(row.correct for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
