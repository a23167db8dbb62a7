"""Run every benchmark of this machine one after another: ``python -m benchmarks``."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

# gpu needs a CUDA device and is run by hand; the last two are parts of serving
SKIP = {"__main__", "gpu", "serving_gil", "serving_worker"}
MAIN = 'if __name__ == "__main__":'  # a file without it is a part of another


def main() -> int:
    """Run each script in a process of its own; return how many failed."""
    failed = []
    for script in sorted(Path(__file__).parent.glob("*.py")):
        if script.stem in SKIP or MAIN not in script.read_text():
            continue
        print(f"== {script.stem}", flush=True)
        begin = time.monotonic()
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{script.stem}"], check=False)
        print(f"   {time.monotonic() - begin:.0f} s, exit {done.returncode}", flush=True)
        if done.returncode:
            failed.append(script.stem)
    print(f"failed: {', '.join(failed)}" if failed else "all benchmarks ran")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
