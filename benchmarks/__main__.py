"""Run every benchmark of this machine one after another: ``python -m benchmarks``."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

# gpu needs a CUDA device and is run by hand; the last are parts of serving
SKIP = {"__init__", "__main__", "machine", "gpu"}
SKIP |= {"serving_gil", "serving_waits", "serving_watch", "serving_worker"}


def main() -> int:
    """Run each script in a process of its own; return how many failed."""
    failed = []
    for script in sorted(Path(__file__).parent.glob("*.py")):
        if script.stem in SKIP:
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
