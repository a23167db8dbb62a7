"""How large an edge installation is, and how long ``import ossicle.runtime`` takes in it.

``python -m benchmarks.install_size [--wheel WHEEL] [--json PLACE]``: makes a clean environment in
a temporary folder and installs ``ossicle[cpu,server,audio]`` as an edge image would, with
``--no-compile``; then it lets Python cache its bytecode and weighs again.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import save

BAR_MB, BAR_S = 200, 0.5


def main() -> None:
    """Install, weigh, import."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", default=".")
    parser.add_argument("--json", default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "venv"
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        python = place / "bin" / "python"
        before = _megabytes(place)
        extras = f"{given.wheel}[cpu,server,audio]"
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--no-compile", extras], check=True
        )
        plain = _megabytes(place) - before
        packages = next(place.glob("lib/python*/site-packages"))
        sizes = {p.name: round(_megabytes(p), 1) for p in packages.iterdir() if p.is_dir()}
        subprocess.run([python, "-m", "compileall", "-q", packages], check=False)
        program = (
            "import time; t = time.perf_counter(); import ossicle.runtime.engine, sys; "
            "assert 'torch' not in sys.modules; print(time.perf_counter() - t)"
        )
        runs = [
            float(subprocess.run([python, "-c", program], capture_output=True, text=True,
                                 check=True, cwd=scratch).stdout)
            for _ in range(7)
        ]  # fmt: skip
        results = {
            "installed_mb": round(plain, 1),
            "with_bytecode_mb": round(_megabytes(place) - before, 1),
            "bar_mb": BAR_MB,
            "largest_mb": dict(sorted(sizes.items(), key=lambda kv: -kv[1])[:12]),
            "import_s": round(statistics.median(runs), 3),
            "bar_s": BAR_S,
        }
    print(results)
    print(f"written to {save('install_size', results, given.json)}")


def _megabytes(folder: Path) -> float:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6


if __name__ == "__main__":
    main()
