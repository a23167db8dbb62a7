"""Run every fuzz target of this folder in turn: ``python tests/fuzz/run.py --seconds 600``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    """Share the seconds among the targets; return the first exit code that is not 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    seconds = parser.parse_args().seconds
    targets = sorted(HERE.glob("fuzz_*.py"))
    for target in targets:
        each = max(1, seconds // len(targets))
        print(f"{target.name}: {each} s", flush=True)
        code = subprocess.run(
            [sys.executable, str(target), f"-max_total_time={each}", "-verbosity=0"], check=False
        ).returncode
        if code:
            print(f"{target.name} found something; the input lies beside, crash-*", flush=True)
            return code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
